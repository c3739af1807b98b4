#!/usr/bin/python3
"""Files and folders over the API: raw, in pieces, by ranges, as archives; and what a tenant lays in the way."""
import hashlib
import http.client
import io
import os
import stat
import tarfile
import threading
import time
import uuid
import zipfile

import client
from client import KEY, b64, create, delete, eq, ok, request, run, skip, tar

BIG = int(os.environ.get("CGIBOX_TEST_BIG_MIB", "256")) << 20
SERVICE = int(os.environ.get("CGIBOX_TEST_PID", "0"))


def f(method, sid, path, body=None, query="", **headers):
    return request(method, "/session/%s/files%s%s" % (sid, path, query), body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def out(sid, command):
    return run(sid, command).json["results"][0]["output"]


sid = create()

# --- up and down ---
a = f("PUT", sid, "/repo/a.bin", b"\0\1\2hello")
eq((a.status, a.json["path"], a.json["size"], a.json["mode"]), (201, "/repo/a.bin", 8, "0644"), "PUT makes a file")
tag = a.json["etag"]
eq(out(sid, "od -An -c a.bin").split(), ["\\0", "001", "002", "h", "e", "l", "l", "o"], "as a command sees it")
a = f("GET", sid, "/repo/a.bin")
eq((a.status, a.body, a.headers["ETag"], a.headers["Content-Type"]), (200, b"\0\1\2hello", tag, "application/octet-stream"), "GET")
ok(a.headers["Content-Security-Policy"] == "sandbox" and a.headers["Content-Disposition"] == "attachment", "no page of ours")
a = f("HEAD", sid, "/repo/a.bin")
# Apache leaves the length out of what it passes on for HEAD
length = a.headers["Content-Length"] if client.SERVER != "apache" else a.headers["Content-Length"] or "8"
eq((a.status, a.body, length, a.headers["ETag"]), (200, b"", "8", tag), "HEAD")
eq(f("GET", sid, "/repo/a.bin", If_None_Match=tag).status, 304, "not modified")
a = f("PUT", sid, "/repo/a.bin", b"other", query="?mode=755")
eq((a.status, a.json["mode"], a.json["etag"] != tag), (200, "0755", True), "PUT replaces, and the tag is another")
eq(f("GET", sid, "/repo/a.bin", If_None_Match=tag).status, 200, "modified")
eq(f("PUT", sid, "/repo/a.bin", b"x", query="?create=true").status, 409, "not when it must be new")
eq(f("PUT", sid, "/repo/a.bin", b"x", If_None_Match="*").status, 409, "in either spelling")
eq(f("PUT", sid, "/home/daiv-sandbox/deep/er/f", b"1").status, 201, "parents are made, outside /repo too")
eq(f("GET", sid, "/repo/none").status, 404, "GET of nothing")
eq(f("GET", str(uuid.uuid4()), "/repo/a.bin").status, 404, "of no session")
eq(f("GET", "x", "/repo/a.bin").status, 404, "of what is no id")
eq(request("GET", "/session/%s/files/repo/a.bin" % sid, key=None).status, 403, "without a key")
eq(request("PUT", "/session/%s/files/repo/a.bin" % sid, b"z", key="wrong").status, 403, "with a wrong one")
eq(f("GET", sid, "/repo/a.bin").body, b"other", "nothing was written by those")
eq(f("PUT", sid, "/repo/z", b"", query="?mode=888").status, 422, "a bad mode")
eq(f("PUT", sid, "/repo/empty", b"").status, 201, "an empty file")
eq(f("GET", sid, "/repo/empty").body, b"", "is read")

# --- ranges ---
f("PUT", sid, "/repo/r", bytes(range(100)))
for h, status, body, cr in (("bytes=0-9", 206, bytes(range(10)), "bytes 0-9/100"), ("bytes=90-", 206, bytes(range(90, 100)), "bytes 90-99/100"),
                            ("bytes=-5", 206, bytes(range(95, 100)), "bytes 95-99/100"), ("bytes=95-200", 206, bytes(range(95, 100)), "bytes 95-99/100"),
                            ("bytes=0-0", 206, b"\0", "bytes 0-0/100"), ("bytes=-200", 206, bytes(range(100)), "bytes 0-99/100"),
                            ("bytes=x", 200, bytes(range(100)), None), ("bytes=5-1", 200, bytes(range(100)), None),
                            ("bytes=1-2,5-6", 200, bytes(range(100)), None)):
    a = f("GET", sid, "/repo/r", Range=h)
    eq((a.status, a.body, a.headers["Content-Range"]), (status, body, cr), "Range " + h)
for h in ("bytes=100-", "bytes=100-200"):
    a = f("GET", sid, "/repo/r", Range=h)
    eq((a.status, a.headers["Content-Range"]), (416, "bytes */100"), "Range " + h)
tag = f("HEAD", sid, "/repo/r").headers["ETag"]
eq(f("GET", sid, "/repo/r", Range="bytes=0-1", If_Range=tag).status, 206, "If-Range with the tag")
eq(f("GET", sid, "/repo/r", Range="bytes=0-1", If_Range='"other"').status, 200, "with another")

# --- names ---
for name in ("a b", "\u00e4\u4e2d", "x" * 255, "q?u#o%te", "-rf", ".hidden", "a\\b"):
    from urllib.parse import quote
    a = f("PUT", sid, "/repo/names/" + quote(name, safe=""), name.encode())
    b = f("GET", sid, "", query="?path=" + quote("/repo/names/" + name))
    eq((a.status, b.status, b.body), (201, 200, name.encode()), "a name like %r" % name[:20])
a = f("PUT", sid, "", b"bytes", query="?path=/repo/names/%ff%fe")
LIGHTTPD = client.SERVER.startswith("lighttpd")  # which refuses such a URL itself
if LIGHTTPD:
    eq(a.status, 400, "a name that is no UTF-8 is refused by the web server")
else:
    eq((a.status, f("GET", sid, "", query="?path=/repo/names/%ff%fe").body), (201, b"bytes"), "a name that is no UTF-8")
out(sid, "echo bytes > $(printf '/tmp/\\377\\376')")
with tarfile.open(fileobj=io.BytesIO(f("GET", sid, "/tmp", query="?format=tar").body)) as t:
    eq([t.extractfile(m).read() for m in t.getmembers() if m.isfile()], [b"bytes\n"], "but comes in a tar")
out(sid, "rm /tmp/*")
eq(f("PUT", sid, "/repo/names/" + "x" * 256, b"").status, 422, "a name of 256 bytes")
deep = "/repo/" + "/".join(["d"] * 50) + "/f"
eq((f("PUT", sid, deep, b"deep").status, f("GET", sid, deep).body), (201, b"deep"), "50 directories deep")
for bad in ("?path=relative", "?path=/repo/../etc/passwd", "?path=/repo/..", "?path=%00", "?path=/" + "a" * 5000):
    ok(f("GET", sid, "", query=bad).status in (400, 422), "refused: " + bad[:40])

# --- folders ---
a = f("GET", sid, "/repo/names")
ok(a.status == 200 and a.json["type"] == "directory" and len(a.json["entries"]) == 8 - LIGHTTPD and not a.json["truncated"], "a listing", a)
eq([(e["name"], e["type"], e["size"]) for e in f("GET", sid, "/home/daiv-sandbox/deep/er").json["entries"]], [("f", "file", 1)], "its entries")
a = f("GET", sid, "/repo", query="?format=tar")
with tarfile.open(fileobj=io.BytesIO(a.body)) as t:
    eq(t.extractfile("d/" * 50 + "f").read(), b"deep", "a folder as tar")
eq(a.headers["Content-Type"], "application/x-tar", "its type")
eq(f("PUT", sid, "/repo/newdir/sub", query="?type=directory").status, 201, "a directory is made")
eq(f("PUT", sid, "/repo/newdir", b"x").status, 409, "no file takes its place")
eq(f("DELETE", sid, "/repo/newdir").status, 409, "it is not deleted by chance")
r = f("DELETE", sid, "/repo/newdir", query="?recursive=please")
eq((r.status, r.json), (422, {"detail": "recursive: true or false"}), "a word that is neither yes nor no")
eq(f("PUT", sid, "/repo/a.bin", b"x", query="?create=True").status, 409, "yes in capitals")
for query in "?create=maybe", "?type=dir":
    eq(f("PUT", sid, "/repo/a.bin", b"lost", query=query).status, 422, "nothing is written with %s" % query)
ok(f("GET", sid, "/repo/a.bin").body != b"lost", "it is as it was")
eq(f("GET", sid, "/repo", query="?format=zip").status, 422, "a format that there is not")
eq(f("DELETE", sid, "/repo/newdir", query="?recursive=1").status, 204, "but when asked")
eq(f("DELETE", sid, "/repo/newdir", query="?recursive=true").status, 404, "then it is gone")
eq(f("DELETE", sid, "/repo/a.bin").status, 204, "a file is deleted")
eq(f("DELETE", sid, "/repo", query="?recursive=true").status, 409, "the workspace itself stays")
ok(f("GET", sid, "/repo/r").status == 200, "with what is in it")
a = f("PUT", sid, "/usr/bin/x", b"")
own = client.IMAGE != "host" and client.can("keep_root")  # of an image the session may have a changed copy
eq(a.status, 201 if own else 403, "the machine's own files cannot be changed")
other = client.create()
eq(f("GET", other, "/usr/bin/x").status, 404, "nor anything that another session sees")
client.delete(other)

# --- archives ---
T = tar({"x/y.txt": b"why", "run": (b"#!/bin/sh\necho ran\n", 0o755), "l": ("link", "x/y.txt")})
a = request("POST", "/session/%s/upload?path=/repo/up" % sid, T, headers={"Content-Type": "application/x-tar"})
eq((a.status, a.json["entries"]), (200, 3), "a tar is unpacked")
eq(out(sid, "cat up/l; up/run"), "whyran\n", "and laid out")
z = io.BytesIO()
with zipfile.ZipFile(z, "w", zipfile.ZIP_DEFLATED) as t:
    t.writestr("zipped/file.txt", "from a zip\n" * 1000)
    i = zipfile.ZipInfo("zipped/tool")
    i.external_attr = 0o100755 << 16
    t.writestr(i, "#!/bin/sh\necho zip\n")
a = request("POST", "/session/%s/upload?path=/repo/up" % sid, z.getvalue(), headers={"Content-Type": "application/zip"})
eq((a.status, out(sid, "up/zipped/tool; wc -l < up/zipped/file.txt; cat up/l")), (200, "zip\n1000\nwhy"), "a zip, beside what is there")
for name, data, status in (("junk", b"junk", 422), ("../x", tar({"../x": b""}), 422), ("/x", tar({"/x": b""}), 422),
                           ("half a zip", z.getvalue()[:200], 422), ("nothing", b"", 422)):
    a = request("POST", "/session/%s/upload?path=/repo/bad" % sid, data)
    eq(a.status, status, "a bad archive: " + name)
z = io.BytesIO()
with zipfile.ZipFile(z, "w", zipfile.ZIP_DEFLATED) as t:
    t.writestr("bomb", b"\0" * (client.conf("archive_unpacked_max_bytes") + 1))
eq(request("POST", "/session/%s/upload?path=/repo/bad" % sid, z.getvalue()).status, 413, "a zip bomb")
z = io.BytesIO()
with zipfile.ZipFile(z, "w") as t:
    t.writestr("../../escape", "x")
eq(request("POST", "/session/%s/upload?path=/repo/bad" % sid, z.getvalue()).status, 422, "a zip that climbs")
z = io.BytesIO()
with zipfile.ZipFile(z, "w") as t:
    i = zipfile.ZipInfo("device")
    i.external_attr = (stat.S_IFCHR | 0o666) << 16
    t.writestr(i, "")
    t.writestr("file", "x")
eq(request("POST", "/session/%s/upload?path=/repo/up" % sid, z.getvalue()).json, {"path": "/repo/up", "entries": 1, "skipped": 1},
   "a device in a zip is left out, and counted")
z = io.BytesIO()
zipfile.ZipFile(z, "w").close()
eq(request("POST", "/session/%s/upload?path=/repo/up" % sid, z.getvalue()).json, {"path": "/repo/up", "entries": 0, "skipped": 0},
   "a zip of nothing")
eq(request("POST", "/session/%s/upload?path=/repo/up" % sid, z.getvalue() + b"x").status, 422, "and more behind it is none")
eq(out(sid, "ls -A bad; ls -A /repo | grep -c cgibox"), "0\n", "nothing of those is left")

# --- forms ---
B = "----x"
form = b"".join(("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%s\"\r\n\r\n" % (B, n)).encode() + d + b"\r\n"
                for n, d in (("one.txt", b"1\r\n--" + B[:-1].encode()), ("dir/../two.txt", b"2"))) + ("--%s--\r\n" % B).encode()
a = request("POST", "/session/%s/upload?path=/repo/form" % sid, form, headers={"Content-Type": "multipart/form-data; boundary=" + B})
eq((a.status, a.json), (200, {"files": [{"path": "/repo/form/one.txt", "size": 9}, {"path": "/repo/form/two.txt", "size": 1}]}), "a form")
eq(out(sid, "od -An -c form/one.txt").split(), ["1", "\\r", "\\n"] + ["-"] * 6, "to the byte")
eq(request("POST", "/session/%s/upload" % sid, form[:-10], headers={"Content-Type": "multipart/form-data; boundary=" + B}).status, 400, "one that breaks off")

# --- pieces ---
data = os.urandom(300000)


def piece(path, first, last, total, body):
    return f("PUT", sid, path, body, Content_Range="bytes %d-%d/%d" % (first, last, total))


a = piece("/repo/p", 0, 99999, 300000, data[:100000])
eq((a.status, a.json, a.headers["Upload-Offset"]), (202, {"offset": 100000, "size": 300000}, "100000"), "a first piece")
eq(f("GET", sid, "/repo/p").status, 404, "is no file yet")
a = piece("/repo/p", 200000, 299999, 300000, data[200000:])
eq((a.status, a.json["offset"], a.json["code"]), (409, 100000, "invalid_offset"), "a gap: where it stands")
a = f("PUT", sid, "/repo/p", b"", Content_Range="bytes */300000")
eq((a.status, a.json["offset"]), (202, 100000), "asking where it stands")
piece("/repo/p", 100000, 199999, 300000, data[100000:200000])
eq(piece("/repo/p", 100000, 199999, 300000, data[100000:200000]).status, 409, "the same piece twice")
a = piece("/repo/p", 200000, 299999, 300000, data[200000:])
eq((a.status, a.json["size"]), (201, 300000), "the last one")
eq(f("GET", sid, "/repo/p").body == data, True, "all of it, to the byte")
eq(out(sid, "ls -A /repo | grep -c part"), "0\n", "and no part is left")
piece("/repo/q", 0, 9, 20, b"0123456789")
piece("/repo/q", 0, 4, 20, b"abcde")
a = f("PUT", sid, "/repo/q", b"", Content_Range="bytes */20")
eq(a.json["offset"], 5, "offset 0 begins again")
for h in ("bytes 5-1/10", "bytes 0-9/5", "items 0-9/10", "bytes 0-9/*", "bytes 0-9"):
    eq(f("PUT", sid, "/repo/q", b"0123456789", Content_Range=h).status, 422, "Content-Range " + h)
eq(piece("/repo/q", 5, 9, 20, b"too long for it").status, 422, "a body of another length")
out(sid, "rm -f .cgibox-part-*; for f in q; do mkfifo .x; done; ls -A")
eq(f("PUT", sid, "/repo/q", b"", Content_Range="bytes */20").json["offset"], 0, "a part that the tenant took away")

# --- what a tenant lays in the way ---
out(sid, "mkfifo fifo; ln -s loop loop; ln -s /proc/self/root/etc/shadow magic; ln -s /proc/1/environ env; mkdir m; echo in > m/f; chmod 000 m; "
         "truncate -s 1G sparse; ln -s ../../../../../../etc/hostname up1; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'")
begin = time.monotonic()
for name, status in (("fifo", 409), ("loop", 422), ("magic", 404), ("env", 404), ("sock", 409), ("sparse", 413)):
    a = f("GET", sid, "/repo/" + name)
    eq(a.status, status, "GET of " + name)
ok(time.monotonic() - begin < 100, "none of them waits")
eq(f("GET", sid, "/repo/sparse", Range="bytes=1073741818-").body, b"\0" * 6, "the end of a file of 1 GiB")
eq(f("GET", sid, "/repo/m/f").body, b"in\n", "below a directory of mode 000")
host = open("/etc/hostname").read()
ok(host.encode() not in f("GET", sid, "/repo/up1").body or out(sid, "cat up1") == host, "a link stays in the session's root")
eq(f("PUT", sid, "/repo/fifo", b"now a file").status, 200, "a FIFO is replaced, not written to")
eq(f("GET", sid, "/repo/fifo").body, b"now a file", "by a file")
out(sid, "rm -rf /repo/*; ln -s /tmp/elsewhere d; mkdir /tmp/elsewhere")
f("PUT", sid, "/repo/d/f", b"through a link")
eq(out(sid, "cat /tmp/elsewhere/f"), "through a link", "links inside are followed, as by a command")
other = create()
f("PUT", other, "/repo/secret", b"theirs")
out(sid, "ln -s ../../%s/ws/tree/secret s1; ln -s /../../../sessions/%s/ws/tree/secret s2; ln -s /proc/self/cwd/../%s s3" % (other, other, other))
for name in ("s1", "s2", "s3"):
    a = f("GET", sid, "/repo/" + name)
    ok(a.status in (404, 422) and b"theirs" not in a.body, "another session's file by " + name, a)
delete(other)

# --- names that change while they are looked at ---
stop = []


def swap():
    while not stop:
        run(sid, "for i in $(seq 200); do rm -f /repo/w; ln -s /etc/passwd /repo/w; rm -f /repo/w; mkdir /repo/w; rmdir /repo/w; "
                 "echo mine > /repo/w; done")


out(sid, "rm -rf /repo/*; echo mine > /repo/w")
t = threading.Thread(target=swap)
t.start()
seen = set()
for _ in range(12):
    a = f("GET", sid, "/repo/w")
    seen.add(a.status)
    if a.status == 200 and not (a.body in (b"mine\n", b"") or b"root:" in a.body or a.json):
        ok(False, "what is read is one of them", a)
stop.append(1)
t.join()
ok(seen <= {200, 404, 409, 422}, "reads beside a busy session: %s" % sorted(seen))

# --- beside a sandbox that stays ---
live = create(live=True)
out(live, "(while :; do date > /repo/clock.new; mv /repo/clock.new /repo/clock; done) > /dev/null 2>&1 & echo $! > /tmp/pid; echo in > /repo/a")
eq(f("GET", live, "/repo/a").body, b"in\n", "a file of a live session")
eq(f("PUT", live, "/repo/b", b"from outside").status, 201, "one more")
eq(out(live, "cat b; kill -0 $(cat /tmp/pid) && echo ' alive'"), "from outside alive\n", "its processes see it, and live on")
codes = {f("GET", live, "/repo/clock").status for _ in range(30)}
ok(codes <= {200, 404, 409}, "a file that is replaced all the time: %s" % sorted(codes))
for path in ("/proc/self/status", "/proc/1/environ", "/dev/null", "/sys/kernel/notes"):
    ok(f("GET", live, path).status in (403, 404, 409, 422), "no file: " + path)
eq(f("PUT", live, "/proc/sys/kernel/hostname", b"x").status in (403, 404, 409, 422), True, "nor a place for one")
eq(request("DELETE", "/session/%s/?force=false" % live).status, 204, "stopped")
eq(out(live, "grep -qs 'c[l]ock.new' /proc/$(cat /tmp/pid)/cmdline || echo dead; cat b"), "dead\nfrom outside", "its processes are gone, its files are not")
a = request("POST", "/session/%s/fs/ls" % live, {"path": "/workspace/repo"})
ok("/workspace/repo/b" in [e["path"] for e in a.json["entries"]], "and move to /workspace when that is asked for", a)
eq(out(live, "pwd"), "/workspace/repo\n", "where commands run from then on")
delete(live)

# --- memory ---


def workers():
    table = client.processes()
    mine = {SERVICE}
    for _ in range(6):
        mine |= {p for p, (parent, _, _, _) in table.items() if parent in mine}
    return [p for p in mine if p in table and table[p][2] == "cgibox-worker"]


def peak():
    worst = 0
    for p in workers():
        try:
            with open("/proc/%d/status" % p) as s:
                worst = max([worst] + [int(x.split()[1]) for x in s if x.startswith("VmHWM")])
        except OSError:
            pass
    return worst


def stream(method, path, body=None, size=0):
    c = client.connect(300)
    h = {"X-API-Key": KEY}
    if body is not None:
        h["Content-Length"] = str(size)
    c.request(method, client.PREFIX + path, body, h)
    r = c.getresponse()
    digest, n = hashlib.sha256(), 0
    while True:
        step = r.read(1 << 20)
        if not step:
            break
        digest.update(step)
        n += len(step)
    c.close()
    return r.status, n, digest.hexdigest()


def blocks():
    block = os.urandom(1 << 20)
    for i in range(BIG >> 20):
        yield i.to_bytes(8, "big") + block[8:]


if SERVICE and workers():
    block_list = list(blocks()) if BIG <= 64 << 20 else None
    want = hashlib.sha256()
    src = os.path.join(os.environ.get("TMPDIR", "/tmp"), "cgibox-files-%d" % os.getpid())
    with open(src, "wb") as s:
        for b in blocks():
            s.write(b)
            want.update(b)
    before = peak()
    with open(src, "rb") as s:
        status, n, _ = stream("PUT", "/session/%s/files/tmp/big" % sid, s, BIG)
    eq(status, 201, "%d MiB go up" % (BIG >> 20))
    status, n, digest = stream("GET", "/session/%s/files/tmp/big" % sid)
    eq((status, n, digest), (200, BIG, want.hexdigest()), "and come down, to the byte")
    status, n, _ = stream("GET", "/session/%s/files/tmp?format=tar" % sid)
    ok(status == 200 and n > BIG, "and in a tar")
    after = peak()
    client.note("peak of a worker: %d KiB before, %d KiB after" % (before, after))
    ok(after < before + 4096, "no worker grew by more than 4 MiB")
    os.unlink(src)
else:
    skip("the workers cannot be found: CGIBOX_TEST_PID", 4)
delete(sid)
client.done()
