#!/usr/bin/python3
"""Verbs of a session's workspace: patch, commit, discard, fork, snapshots, export. Needs http.conf's fork_max."""
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile

import client
from client import b64, create, delete, eq, ok, request, run, tar

PLAIN = {"a.txt": b"one\ntwo\n", "d/b.txt": b"bee\n", "d/e/c.txt": b"sea\n", "link": ("link", "a.txt"), "x.sh": (b"#!/bin/sh\n", 0o755)}
OVER = client.conf("plain_entries_max")


def large(more=None):
    """An archive of more entries than the plain form takes."""
    files = dict(PLAIN)
    for k in range(OVER + 50):
        files["many/%d/f%d" % (k % 10, k)] = b"file %d\n" % k
    files.update(more or {})
    return tar(files)


def session(archive=None, command="true", **spec):
    sid = create(**spec)
    a = run(sid, command, **({"archive": b64(archive)} if archive else {}))
    if a.status != 200:
        ok(False, "a session with an archive", a)
        client.done()
    return sid


def out(sid, command):
    a = run(sid, command)
    return a.json["results"][0]["output"] if a.status == 200 else repr(a)


def url(sid, verb):
    return "/session/%s/%s" % (sid, verb)


def post(sid, verb, body=None):
    return request("POST", url(sid, verb), body)


def patch(sid, since=None):
    a = request("GET", url(sid, "patch" + ("?since=" + since if since else "")))
    return b"" if a.status == 204 else a.body if a.status == 200 else repr(a).encode()


def export(sid, query="format=tar"):
    a = request("GET", url(sid, "export?" + query))
    return a


def unpack(data, where):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        t.extractall(where, filter="fully_trusted") if sys.version_info >= (3, 12) else t.extractall(where)


MANIFEST = r'''
import os, hashlib, sys
rows = []
for d, dirs, files in os.walk(b".", topdown=True):
    for f in sorted(files + [x for x in dirs if os.path.islink(os.path.join(d, x))]):
        p = os.path.join(d, f)
        if os.path.islink(p): rows.append("l %r %r" % (p, os.readlink(p)))
        elif os.path.isfile(p): rows.append("f %r %d %s" % (p, os.stat(p).st_mode & 0o100, hashlib.sha1(open(p, "rb").read()).hexdigest()))
print("\n".join(sorted(rows)))
'''


def manifest(where):
    return subprocess.run([sys.executable, "-c", MANIFEST], cwd=where, stdout=subprocess.PIPE).stdout.decode()


def check_apply(base, sid, diff, what):
    """The tar `base` with `diff` applied by git is the tar that the session exports now."""
    with tempfile.TemporaryDirectory() as t:
        one, two = os.path.join(t, "one"), os.path.join(t, "two")
        os.mkdir(one), os.mkdir(two)
        unpack(base, one)
        unpack(export(sid).body, two)
        if diff:
            p = subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=diff, cwd=one, stderr=subprocess.PIPE,
                               env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": t, "HOME": "/nonexistent"})
            if p.returncode:
                ok(False, what, p.stderr.decode(), diff[:1500])
                return
        a, b = manifest(one), manifest(two)
        ok(a == b, what, "with the patch: " + a, "export: " + b, diff[:1500])


CHANGE = ("echo three >> a.txt; rm d/b.txt; mkdir n; echo new > n/f; chmod -x x.sh; rm link; mkdir link; echo in > link/in; "
          "rm -r d/e; echo now-a-file > d/e")


def test_patch_and_marks(kind, archive):
    sid = session(archive)
    eq(request("GET", url(sid, "patch")).status, 204, kind + ": nothing changed is a 204")
    base = export(sid).body
    out(sid, CHANGE)
    a = request("GET", url(sid, "patch"))
    eq((a.status, a.headers["Content-Type"]), (200, "text/x-diff; charset=utf-8"), kind + ": a patch since the archive")
    check_apply(base, sid, a.body, kind + ": it applies to the export of then")
    j = request("GET", url(sid, "patch?format=json")).json
    eq(j and j["patch"].encode(), a.body, kind + ": the same as JSON")
    eq(post(sid, "snapshots", {"name": "one"}).status, 201, kind + ": a snapshot")
    eq(patch(sid), a.body, kind + ": after a snapshot the patch since the archive is the same")
    eq(patch(sid, "one"), b"", kind + ": and nothing since the snapshot")
    at_one = export(sid).body
    out(sid, "echo four >> a.txt; rm -r n; mkdir n; echo other > n/g; rm -r link; ln -s x link; mv x.sh y.sh; rm -rf many/3; mkdir -p many/3; echo k > many/3/f3")
    check_apply(at_one, sid, patch(sid, "one"), kind + ": the patch since the snapshot")
    check_apply(base, sid, patch(sid), kind + ": the patch since the archive, across layers")
    eq(post(sid, "commit", {"name": "two"}).status, 204, kind + ": a commit with a name")
    eq(patch(sid), b"", kind + ": it is the baseline")
    at_two = export(sid).body
    out(sid, "echo five >> a.txt; rm y.sh")
    check_apply(at_two, sid, patch(sid), kind + ": the patch since the commit")
    check_apply(at_one, sid, patch(sid, "one"), kind + ": the patch since the first mark")
    eq(patch(sid, "two"), patch(sid), kind + ": by the commit's name")
    names = request("GET", url(sid, "snapshots")).json
    eq(sorted(s["name"] for s in names["snapshots"]), ["one", "two"], kind + ": both are listed")
    eq(post(sid, "discard").status, 204, kind + ": discard")
    eq(patch(sid), b"", kind + ": goes back to the commit")
    eq(manifest_of(export(sid).body), manifest_of(at_two), kind + ": to its files")
    eq(post(sid, "snapshots/one/restore").status, 204, kind + ": restore")
    eq(manifest_of(export(sid).body), manifest_of(at_one), kind + ": gives the files of then")
    check_apply(at_two, sid, patch(sid, "two"), kind + ": the patch between two snapshots, backwards")
    check_apply(base, sid, patch(sid), kind + ": and the baseline is that of then")
    eq(request("DELETE", url(sid, "snapshots/one")).status, 204, kind + ": a snapshot is deleted")
    eq(request("DELETE", url(sid, "snapshots/one")).status, 404, kind + ": once")
    eq(request("GET", url(sid, "patch?since=one")).status, 404, kind + ": an unknown mark is a 404")
    eq(out(sid, "cat d/e"), "now-a-file\n", kind + ": the session works on")
    eq(post(sid, "discard").status, 204, kind + ": discard once more")
    eq(manifest_of(export(sid).body), manifest_of(base), kind + ": to the archive's files")
    eq(patch(sid), b"", kind + ": no patch then")
    eq(out(sid, "cat a.txt"), "one\ntwo\n", kind + ": the archive's contents")
    delete(sid)


def manifest_of(data):
    with tempfile.TemporaryDirectory() as t:
        unpack(data, t)
        return manifest(t)


def test_discard(kind, archive):
    sid = session(archive)
    base = manifest_of(export(sid).body)
    for what in ("rm -r d", "mv d dd || cp -r d dd; rm -r d", "rm -r d; echo file > d", "rm a.txt; mkdir a.txt; touch a.txt/in", "rm link; mkfifo link",
                 "chmod 0 d; chmod 0 a.txt", "rm -rf * .??*", "mkdir -p q/w; touch q/w/e; chmod 0 q/w q", "true"):
        out(sid, what)
        if not eq(post(sid, "discard").status, 204, "%s: discard after: %s" % (kind, what)):
            break
        eq(manifest_of(export(sid).body), base, "%s: undone: %s" % (kind, what))
        eq(patch(sid), b"", "%s: no patch after: %s" % (kind, what))
    delete(sid)


def test_fork(kind, archive):
    sid = session(archive, CHANGE + "; echo root > /tmp/in-root")
    before, base = manifest_of(export(sid).body), patch(sid)
    a = post(sid, "fork", {"count": 3})
    kids = (a.json or {}).get("session_ids", [])
    if not eq((a.status, len(set(kids))), (200, 3), kind + ": three forks"):
        client.note(a)
        return
    for k in kids:
        eq(manifest_of(export(k).body), before, kind + ": a fork has the parent's files")
    eq(patch(kids[0]), base, kind + ": and its patch")
    eq(out(kids[0], "cat /tmp/in-root n/f"), "root\nnew\n", kind + ": the root's files too")
    out(sid, "echo parent > a.txt; echo p > parent; rm n/f; echo p > /tmp/in-root")
    eq(out(kids[0], "cat a.txt; ls parent; cat n/f /tmp/in-root"), "one\ntwo\nthree\nls: cannot access 'parent': No such file or directory\nnew\nroot\n",
       kind + ": what the parent writes later is not in a fork")
    out(kids[0], "echo kid > a.txt; rm -r d; echo kid > kid")
    eq(out(sid, "cat a.txt; ls kid d/e"), "parent\nls: cannot access 'kid': No such file or directory\nd/e\n", kind + ": nor the other way round")
    eq(manifest_of(export(kids[1]).body), before, kind + ": nor in another fork")
    a = post(kids[0], "fork")
    grand = (a.json or {}).get("session_ids", [None])[0]
    eq(out(grand, "cat a.txt kid"), "kid\nkid\n", kind + ": a fork of a fork")
    eq(delete(sid).status, 204, kind + ": the parent is deleted")
    eq(delete(kids[0]).status, 204, kind + ": and the fork between")
    eq(manifest_of(export(kids[1]).body), before, kind + ": the other forks live on")
    eq(out(grand, "cat a.txt; ls d 2>&1; cat n/f"), "kid\nls: cannot access 'd': No such file or directory\nnew\n", kind + ": the fork of a fork, too")
    eq(patch(kids[1]), base, kind + ": with the patch since the archive")
    eq(post(kids[1], "discard").status, 204, kind + ": a fork goes back to the archive")
    eq(out(kids[1], "cat a.txt d/b.txt"), "one\ntwo\nbee\n", kind + ": which has the first contents")
    a = run(kids[2], "cat fresh; ls a.txt n", archive=b64(tar({"fresh": b"second\n", "n/z": b"z\n"})), extract_patch=True)
    eq(a.json["results"][0]["output"].splitlines()[0], "second", kind + ": a fork takes another archive")
    eq(out(kids[2], "cat a.txt n/z n/f"), "one\ntwo\nthree\nz\nnew\n", kind + ": over its files")
    for k in kids + [grand]:
        delete(k)


def layers():
    d = os.path.join(client.STATE, "layers")
    return {x for x in os.listdir(d) if not x.startswith(".")}


def test_edges():
    sid = session(tar(PLAIN))
    top = client.conf("fork_max")
    for count, status in ((0, 422), (-1, 422), (top + 1, 422), ("x", 422), (1.5, 422), (1, 200), (top, 200)):
        a = post(sid, "fork", {"count": count})
        eq(a.status, status, "fork with count %r" % (count,))
        for k in (a.json or {}).get("session_ids", []):
            delete(k)
    for name in ("", ".", "..", "../x", "a/b", ".hidden", "-x", "x" * 65, "caf\u00e9", "a b", "a\nb", "a\0b", None, 7):
        eq(post(sid, "snapshots", {"name": name}).status, 422, "no snapshot is called %r" % (name,))
    eq(post(sid, "snapshots", {}).status, 422, "a snapshot needs a name")
    eq(post(sid, "snapshots").status, 422, "and a body")
    for name in ("a", "x" * 64, "A.b_c-9"):
        eq(post(sid, "snapshots", {"name": name}).status, 201, "but one is called %r" % name)
    eq(post(sid, "snapshots", {"name": "a"}).status, 409, "a name is used once")
    eq(post(sid, "commit", {"name": "a"}).status, 409, "by a commit, too")
    for n in range(client.conf("snapshots_max") - 3):
        post(sid, "snapshots", {"name": "n%d" % n})
    a = post(sid, "snapshots", {"name": "one-more"})
    ok(a.status == 413 and "snapshots_max" in (a.detail or ""), "more than snapshots_max are refused by name", a)
    eq(post(sid, "snapshots/nope/restore").status, 404, "restore of an unknown name")
    eq(post(sid, "snapshots/%2e%2e/restore").status, 404, "or of none that could be one")
    eq(request("GET", url(sid, "patch?since=..%2fspec")).status, 404, "patch since no name")
    eq(request("GET", url(sid, "patch?format=x")).status, 422, "an unknown form of a patch")
    eq(request("GET", url(sid, "patch?stop=maybe")).status, 422, "a flag that is none")
    none = "00000000-0000-4000-8000-000000000000"
    for method, verb in (("GET", "patch"), ("POST", "commit"), ("POST", "discard"), ("POST", "fork"), ("GET", "snapshots"), ("POST", "snapshots/a/restore"),
                         ("DELETE", "snapshots/a"), ("GET", "export")):
        eq(request(method, url(none, verb)).status, 404, "%s %s of no session" % (method, verb))
        eq(request(method, url("x", verb)).status, 404, "%s %s of no id" % (method, verb))
        eq(request(method, url(sid, verb), key=None).status, 403, "%s %s without a key" % (method, verb))
        eq(request("PUT", url(sid, verb)).status, 405, "PUT %s" % verb)
    delete(sid)


def test_empty():
    sid = create()
    eq(patch(sid), b"", "a session without an archive has no patch")
    out(sid, "echo x > f; mkdir d; echo y > d/g")
    base = tar({})
    check_apply(base, sid, patch(sid), "then everything is new")
    eq(post(sid, "fork").status, 200, "it forks")
    check_apply(base, sid, patch(sid), "and the patch is the same")
    eq(post(sid, "discard").status, 204, "discard")
    eq(out(sid, "ls -A"), "", "empties it")
    eq(post(sid, "commit").status, 204, "commit of nothing")
    out(sid, "echo x > f")
    eq(post(sid, "commit").status, 204, "commit of something")
    out(sid, "echo y >> f")
    ok(b"+y" in patch(sid) and b"-" not in [x[:1] for x in patch(sid).splitlines()[4:]], "the patch is since the commit", patch(sid))
    delete(sid)


def test_busy():
    sid = session(tar(PLAIN))
    got, mark = [], client.some_seconds()
    t = threading.Thread(target=lambda: got.append(run(sid, "touch started; sleep %s; echo done" % mark, timeout=600, timeout_s=700)))
    t.start()
    ok(client.sleeping(mark), "control: a command runs")
    for method, verb in (("GET", "patch"), ("POST", "commit"), ("POST", "discard"), ("POST", "fork"), ("GET", "export")):
        a = request(method, url(sid, verb))
        ok(a.status == 409 and "request runs commands" in (a.detail or ""), "%s while a command runs" % verb, a)
    a = post(sid, "fork", {"count": 1, "stop": True})
    eq(a.status, 200, "stop=true ends it first")
    t.join()
    eq(got[0].json["results"][0]["verdict"], "killed", "the command was killed, and its answer says so")
    ok(a.seconds < 300, "at once", a.seconds)
    eq(out(a.json["session_ids"][0], "ls started"), "started\n", "and the fork has what it wrote")
    delete(sid)


HOSTILE = r'''
import os
os.mkdir("m0"); open("m0/f", "w").write("zero\n"); os.symlink("../../etc/passwd", "m0/up"); os.symlink("/etc/shadow", "abs")
open(b"\xff\xfe", "w").write("bytes\n"); open("new\nline", "w").write("n\n"); open(" -rf", "w").write("d\n"); open("c:\\x", "w").write("w\n")
open("hard1", "w").write("hard\n"); os.link("hard1", "hard2"); os.mkfifo("fifo"); open("big", "wb").truncate(1 << 20)
open("secret", "w").write("s\n"); os.chmod("secret", 0); os.chmod("m0/f", 0); os.chmod("m0", 0)
'''


def test_export():
    sid = session(tar(PLAIN))
    a = run(sid, "python3 - <<'X'\n%s\nX" % HOSTILE)
    eq(a.json["results"][0]["exit_code"], 0, "a tree of mode 000 and hostile names")
    with tempfile.TemporaryDirectory() as t:
        for fmt in ("tar", "tar.gz"):
            a = export(sid, "format=" + fmt)
            ok(a.status == 200 and "workspace." + fmt in a.headers["Content-Disposition"], "export as " + fmt, a.status)
            with tarfile.open(fileobj=io.BytesIO(a.body)) as f:
                m = {x.name: x for x in f.getmembers()}
            eq((m["m0"].mode, m["m0/f"].mode, m["m0/f"].size), (0, 0, 5), fmt + ": modes as they are, contents all the same")
            eq((m["abs"].linkname, m["m0/up"].linkname, m["link"].linkname), ("/etc/shadow", "../../etc/passwd", "a.txt"), fmt + ": links stay links")
            eq(sorted((m["hard1"].islnk(), m["hard2"].islnk())), [False, True], fmt + ": hard links stay links")
            ok("\udcff\udcfe" in m and "new\nline" in m and "c:\\x" in m and " -rf" in m, fmt + ": names are bytes", sorted(m))
            ok(not any(n.startswith("/") or ".." in n.split("/") for n in m) and "fifo" not in m, fmt + ": none leads out")
            eq((m["a.txt"].uid, m["big"].size), (1000, 1 << 20), fmt + ": owner, and a sparse file")
        a = export(sid, "format=zip")
        with zipfile.ZipFile(io.BytesIO(a.body)) as z:
            eq((z.testzip(), z.read("m0/f"), z.read("d/b.txt")), (None, b"zero\n", b"bee\n"), "export as zip")
            eq(z.read("abs"), b"/etc/shadow", "zip: a link is its target")
        a = export(sid, "path=d/e")
        with tarfile.open(fileobj=io.BytesIO(a.body)) as f:
            eq(f.getnames(), ["d/e", "d/e/c.txt"], "a subtree")
        a = export(sid, "path=m0/f")
        with tarfile.open(fileobj=io.BytesIO(a.body)) as f:
            eq(f.getnames(), ["m0/f"], "a file below a directory of mode 000")
    for path, status in (("nope", 404), ("../x", 422), ("/etc", 422), ("d/../a.txt", 422), ("abs/x", 404), ("link/x", 404), ("d//e", 422), (".", 422), ("%00", 400),
                         ("x" * 5000, 422)):
        eq(export(sid, "path=" + path).status, status, "export of %s" % path[:20])
    eq(export(sid, "format=rar").status, 422, "an unknown format")
    eq(post(sid, "fork").status, 200, "fork")
    b = export(sid).body
    with tarfile.open(fileobj=io.BytesIO(b)) as f:
        m = {x.name: x for x in f.getmembers()}
    eq((m["m0/f"].mode, m["m0"].mode), (0, 0), "modes below shared layers")
    # git apply cannot do modes of 0; the patch has to be there
    ok(b"m0/f" in patch(sid), "a patch of a tree of mode 000, across layers")
    eq(post(sid, "discard").status, 204, "discard of it")
    eq(manifest_of(export(sid).body), manifest_of(tar(PLAIN)), "leaves the archive")
    delete(sid)


def test_export_disconnect():
    sid = session(tar(PLAIN), "head -c 60000000 /dev/urandom > big")
    for _ in range(3):
        c = client.connect()
        c.request("GET", client.PREFIX + url(sid, "export"), headers={"X-API-Key": client.KEY})
        r = c.getresponse()
        r.read(100000)
        r.close()
        c.sock and c.sock.close()
        c.close()
    a = client.wait_for(lambda: (lambda x: x if x.status == 204 or x.status == 200 else None)(request("GET", url(sid, "patch"))), 60)
    ok(a, "a client that goes away ends the export: the session is free again")
    delete(sid)


def test_fork_many():
    n, files = 100, int(os.environ.get("CGIBOX_TEST_FORK_FILES", "20000"))
    if client.conf("fork_max") < n:
        client.skip("fork_max is below %d" % n)
        return
    data = {"d%d/f%d" % (k % 100, k): b"file %d\n" % k for k in range(files)}
    for kind, sid in (("overlay", session(tar(data))), ("plain", None)):
        if sid is None:
            sid = session(tar(PLAIN), "for d in $(seq 100); do mkdir d$d; for f in $(seq %d); do echo $f > d$d/f$f; done; done" % (files // 100))
        client.wait_for(lambda: usage() == usage(), 60, 0.2)  # what the tests before have deleted is going
        before = usage()
        begin = time.monotonic()
        a = post(sid, "fork", {"count": n})
        took = time.monotonic() - begin
        kids = (a.json or {}).get("session_ids", [])
        eq(len(set(kids)), n, "%s: %d forks" % (kind, n))
        after = usage()
        ok(after["file_inodes"] - before["file_inodes"] <= 3 * n + 10, "%s: no file was copied: %d new ones, all of them records" % (
            kind, after["file_inodes"] - before["file_inodes"]))
        ok(after["file_bytes"] - before["file_bytes"] < n * 4096, "%s: %d bytes of records for %d forks" % (
            kind, after["file_bytes"] - before["file_bytes"], n))
        ok(not (before["tenant"] ^ after["tenant"]), "%s: the %d files are the same inodes as before" % (kind, len(before["tenant"])))
        client.note("%s: %d forks of %d files: %.0f ms with HTTP" % (kind, n, files, took * 1000))
        eq(out(kids[-1], "find . -type f | wc -l"), "%d\n" % (files + (4 if kind == "plain" else 0)), kind + ": the last one has them all")
        for k in kids:
            delete(k)
        delete(sid)


def usage():
    """Regular files of sessions and layers, by inode; those that a tenant can see."""
    all_, tenant = {}, set()
    for top in ("sessions", "layers"):
        for d, dirs, files in os.walk(os.path.join(client.STATE, top)):
            seen = any(x in d + "/" for x in ("/fs/", "/ws/tree/", "/ws/layer-", "/ws/upper-", "/root/upper"))
            for f in files:
                try:
                    st = os.lstat(os.path.join(d, f))
                except FileNotFoundError:
                    continue  # it is being deleted
                all_[st.st_ino] = st.st_size
                if seen:
                    tenant.add(st.st_ino)
    return {"file_inodes": len(all_), "file_bytes": sum(all_.values()), "tenant": tenant}


LAYERS = 140                                                # twice what may lie on each other


def test_many_layers():
    """More freezes than layers may lie on each other."""
    sid = session(tar(PLAIN), "mkdir gone; echo x > gone/x; echo keep > keep")
    for k in range(LAYERS):
        run(sid, "echo %d > f%d; rm -f f%d; echo %d >> a.txt; rm -rf gone/*; rm -rf re; mkdir re; echo %d > re/%d; echo %d > /tmp/n%d; rm -f /tmp/n%d" % (
            k, k, k - 3, k, k, k, k, k, k - 2))
        a = post(sid, "commit", {"name": "m%d" % k} if k in (3, 71) else None) if k % 2 else post(sid, "fork")
        if a.status not in (200, 204):
            ok(False, "freeze %d" % k, a)
            break
        if k % 2 == 0:
            delete(a.json["session_ids"][0])
    eq(out(sid, "ls; ls re gone /tmp; wc -l < a.txt"), "a.txt\nd\nf137\nf138\nf139\ngone\nkeep\nlink\nre\nx.sh\n/tmp:\nn138\nn139\n\ngone:\n\nre:\n139\n142\n",
       "140 layers joined: what was deleted stays deleted")
    ok(len(layers()) < 200, "they were joined: %d are left" % len(layers()))
    at = patch(sid, "m3")
    eq(post(sid, "fork").status, 200, "fork")
    eq(patch(sid, "m3"), at, "the patch since an old mark does not depend on the layers")
    eq(post(sid, "snapshots/m71/restore").status, 204, "restore of a mark from before the joining")
    eq(out(sid, "cat re/*; ls f*"), "71\nf69\nf70\nf71\n", "its files")
    a = run(sid, "ls", archive=b64(tar({"again": b"x"})))
    ok(a.status == 200 and "again" in a.json["results"][0]["output"], "and one more archive")
    delete(sid)


def test_nothing_left(before):
    gone = client.wait_for(lambda: not layers() - before, 120)
    ok(gone, "no shared layer is left behind", os.listdir(os.path.join(client.STATE, "layers")))


def main():
    before = layers()
    for kind, archive in (("plain", tar(PLAIN)), ("overlay", large())):
        test_patch_and_marks(kind, archive)
        test_discard(kind, archive)
        test_fork(kind, archive)
    test_empty()
    test_edges()
    test_busy()
    test_export()
    test_export_disconnect()
    test_fork_many()
    test_many_layers()
    for s in os.listdir(os.path.join(client.STATE, "sessions")):
        delete(s)
    test_nothing_left(before)
    client.done()


main()
