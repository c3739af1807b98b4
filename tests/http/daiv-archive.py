#!/usr/bin/python3
"""Archives: formats, hostile ones, limits."""
import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile

import client
from client import b64, conf, create, delete, eq, ok, request, run, skip, tar

files = {"a.txt": b"alpha\n", "bin/tool": (b"#!/bin/sh\necho tool\n", 0o755), "d/e/f": b"\0\1\2" * 1000, "l": ("link", "a.txt"),
         "\u00fc": b"umlaut", "n" * 90 + "/" + "m" * 90: b"long"}
plain = tar(files)
SUM = "find . -type f | sort | xargs -d '\\n' sha256sum | sha256sum; ./bin/tool; readlink l; stat -c '%u %g %a' a.txt bin/tool"


def once(data, command=SUM):
    sid = create()
    a = run(sid, command, archive=b64(data))
    delete(sid)
    return a


forms = {"plain": plain, "gzip": gzip.compress(plain), "bzip2": bz2.compress(plain), "xz": lzma.compress(plain),
         "GNU tar": tar(files, tarfile.GNU_FORMAT), "./ names": tar({"./" + k: v for k, v in files.items()}),
         "two gzip members": gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])}
try:
    forms["zstd"] = subprocess.run(["zstd", "-q", "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout
except OSError:
    skip("no zstd here")
want = None
for name, data in forms.items():
    a = once(data)
    if not ok(a.status == 200 and a.json["results"][0]["exit_code"] == 0, "%s is unpacked" % name, a):
        continue
    got = a.json["results"][0]["output"]
    want = want or got
    eq(got, want, "%s: the same files" % name)
ok(want and "tool\na.txt\n1000 1000 644\n1000 1000 755\n" in want, "owner, modes, links", want)

# base64 with line breaks is what many encoders write
sid = create()
text = b64(plain)
broken = "\r\n".join(text[i:i + 76] for i in range(0, len(text), 76)) + "\n"
a = run(sid, "./bin/tool", archive=broken)
ok(a.status == 200 and a.json["results"][0]["output"] == "tool\n", "base64 with line breaks", a)
delete(sid)

# --- hostile ones: a 422 with its text, and nothing is left ---


def entry(name, kind=tarfile.REGTYPE, link="", data=b""):
    ti = tarfile.TarInfo(name)
    ti.type, ti.linkname, ti.size, ti.mode = kind, link, len(data), 0o644
    return ti, data


def raw_tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as t:
        for ti, data in entries:
            t.addfile(ti, io.BytesIO(data))
    return out.getvalue()


good = entry("good.txt", data=b"good")
noise = bytes((i * 7919 + (i >> 8) * 31) & 255 for i in range(3000))
bad = {
    "parent directory": (raw_tar(good, entry("../x", data=b"x")), "Archive contains a parent-directory traversal path: '../x'"),
    "inner parent": (raw_tar(good, entry("a/../../x", data=b"x")), "traversal"),
    "absolute": (raw_tar(good, entry("/x", data=b"x")), "Archive contains an absolute path: '/x'"),
    "cut tar": (plain[:1400], "Invalid or truncated archive"),
    "cut gzip": (gzip.compress(plain)[:150], "Invalid or truncated archive"),
    "cut xz": (lzma.compress(plain)[:150], "Invalid or truncated archive"),
    "text": (b"this is no archive at all, " * 100, "Invalid or truncated archive"),
    "noise": (noise, "Invalid or truncated archive"),
    "a zip file": (b"PK\x03\x04" + noise, "Invalid or truncated archive"),
    "checksum": (plain[:20] + b"Z" + plain[21:], "Invalid or truncated archive"),
    "bomb": (gzip.compress(raw_tar(entry("zero", data=bytes(60 << 20)))), "archive_ratio_max"),
    "bomb in a bomb": (gzip.compress(gzip.compress(raw_tar(entry("zero", data=bytes(60 << 20))))), ""),
    "too large unpacked": (lzma.compress(raw_tar(entry("big", data=bytes(conf("archive_unpacked_max_bytes") + 4096))), preset=0), "archive_unpacked_max_bytes"),
    "bomb of entries": (gzip.compress(raw_tar(*[entry("f%06d" % i) for i in range(10000)])), "archive_ratio_max"),
    "too many entries": (gzip.compress(raw_tar(*[entry("f%d" % i + os.urandom(12).hex()) for i in range(conf("archive_entries_max") + 1)])), "archive_entries_max"),
}
sid = create(extract_patch=True)
run(sid, "echo before > before; echo keep > a.txt")
for name, (data, text) in bad.items():
    a = run(sid, "ls", archive=b64(data))
    # Over a limit it is too large (413), else it is wrong (422).
    ok(a.status == (413 if "_max" in text else 422) and text in str(a.detail), "%s: refused, with its text" % name, a)
    a = run(sid, "ls; cat a.txt")
    ok(a.status == 200 and a.json["results"][0]["output"] == "a.txt\nbefore\nkeep\n", "%s: /repo is as before" % name, a)
delete(sid)
sid = create()
a = run(sid, "ls", archive=b64(bad["absolute"][0]))
eq(a.status, 422, "into an empty session")
a = run(sid, "ls -A")
eq(a.json["results"][0]["output"] if a.status == 200 else a, "", "nothing is left")
delete(sid)

# --- odd ones that are taken, less what is not safe ---
links = raw_tar(good, entry("out", tarfile.SYMTYPE, "/etc"), entry("up", tarfile.SYMTYPE, "../../../etc/passwd"),
                entry("in", tarfile.SYMTYPE, "good.txt"), entry("dev", tarfile.CHRTYPE), entry("fifo", tarfile.FIFOTYPE),
                entry("hard", tarfile.LNKTYPE, "good.txt"))
a = once(links, "ls; cat in hard; test -L out || test -L up || echo clean")
ok(a.status == 200 and "dev" not in a.json["results"][0]["output"].split() and "fifo" not in a.json["results"][0]["output"].split(),
   "devices and FIFOs are left out", a)
ok(a.status == 200 and "goodgood" in a.json["results"][0]["output"] and "clean" in a.json["results"][0]["output"],
   "links inside are kept, links that leave the tree are not", a)
through = raw_tar(entry("d", tarfile.SYMTYPE, "/tmp"), entry("d/planted", data=b"x"))
a = once(through, "ls /tmp; cat d/planted; test -L d || echo directory")
ok(a.status in (200, 422) and (a.status == 422 or "planted" not in a.json["results"][0]["output"].split("\n")[0]),
   "nothing is written through a link", a)
setid = entry("s", data=b"x")
setid[0].mode = 0o6777
a = once(raw_tar(setid), "stat -c %a s")
ok(a.status == 200 and a.json["results"][0]["output"] in ("777\n", "755\n"), "set-id bits are removed", a)
shut = entry("shut", tarfile.DIRTYPE)
shut[0].mode = 0
inner = entry("shut/f", data=b"in")
inner[0].mode = 0
a = once(raw_tar(shut, inner), "cat shut/f && echo more >> shut/f")
ok(a.status == 200 and a.json["results"][0]["exit_code"] == 0, "what came in shut can be read and written", a)
a = once(raw_tar(entry("f", data=b"1"), entry("f", data=b"22")), "cat f")
ok(a.status == 200 and a.json["results"][0]["output"] == "22", "of two entries of a name the later one counts", a)
a = once(raw_tar(entry("x", data=b"1"), entry("x/y", data=b"2")), "ls")
ok(a.status in (200, 422), "a file where a directory is needed: an answer", a)

# --- 413 ---
most = conf("body_max_bytes")
sid = create()
H = {"Content-Type": "application/json"}
body = b'{"commands":[],"archive":"' + b"A" * most + b'"}'
a = request("POST", "/session/%s/" % sid, body, headers=H)
ok(a.status == 413 and a.detail, "a body over the limit: 413 with our text", a)
a = request("POST", "/session/%s/" % sid, (body[i:i + 65536] for i in range(0, len(body), 65536)), headers=H, chunked=True)
ok(a.status in (413, 411), "the same, chunked", a)
a = request("POST", "/session/%s/" % sid, b'{"commands":["' + b"x" * conf("json_max_bytes") + b'"]}', headers=H)
ok(a.status in (413, 422), "JSON over its own limit", a)
a = run(sid, "echo fine")
ok(a.status == 200, "the session works on", a)
delete(sid)
client.done()
