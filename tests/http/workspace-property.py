#!/usr/bin/python3
"""Random trees, random edits inside a sandbox, random verbs between them: the patch since any mark, applied by git
to the files of that mark, gives the files of now. CASES sessions (default 12), SEED."""
import io
import os
import random
import sys
import tarfile
import tempfile

import client
from client import b64, create, delete, eq, ok, request, run

sys.path.insert(0, os.path.join(client.HERE, "../cli/lib"))
import trees  # noqa: E402

CASES = int(os.environ.get("CASES", "12"))
seed = int(os.environ.get("SEED", str(random.randrange(1 << 30))))
client.note("SEED=%d CASES=%d" % (seed, CASES))
r = random.Random(seed)
with open(os.path.join(client.HERE, "../cli/lib/trees.py")) as f:
    SOURCE = f.read().split("\nclass Judge")[0]
EDIT = "python3 - <<'END_OF_EDIT'\n%s\nedit('.', %d)\nunlock(b'.')\nEND_OF_EDIT"


def tree_of(sid):
    a = request("GET", "/session/%s/export" % sid)
    t = trees.Tree()
    with tarfile.open(fileobj=io.BytesIO(a.body), errors="surrogateescape") as tf:
        for m in tf.getmembers():
            p = os.fsencode(m.name)
            if m.issym():
                t[p] = ("l", os.fsencode(m.linkname))
            elif m.islnk() or m.isfile():
                t[p] = ("f", tf.extractfile(m).read(), m.mode)
    return t


def differ(want, got):
    return "; ".join("%r: %.60r, not %.60r" % (p, got.get(p), want.get(p)) for p in set(want) | set(got) if want.get(p) != got.get(p))


def patch(sid, since=None):
    a = request("GET", "/session/%s/patch%s" % (sid, "?since=" + since if since else ""))
    return b"" if a.status == 204 else a.body if a.status == 200 else repr(a).encode()


def archive(tree, big):
    with tempfile.NamedTemporaryFile() as f:
        trees.write_tar(r, tree, f.name)
        data = open(f.name, "rb").read()
    if not big:
        return data
    plain = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as one, tarfile.open(fileobj=plain, mode="w") as two:
        for m in one.getmembers():
            two.addfile(m, one.extractfile(m) if m.isfile() else None)
        for k in range(client.conf("plain_entries_max") + 1):
            two.addfile(tarfile.TarInfo("zz%d/f%d" % (k % 9, k)))
    return plain.getvalue()


def case(n, judge):
    big = n % 2 == 1
    sid, old, checks = create(), [], 0
    a = run(sid, "true", archive=b64(archive(trees.make(r), big)))
    if a.status != 200:
        return None
    marks = {None: tree_of(sid)}
    for step in range(r.randrange(2, 6)):
        run(sid, EDIT % (SOURCE, r.randrange(1 << 30)))
        what = r.choice(("snapshot", "snapshot", "commit", "fork", "discard", "restore", "nothing"))
        name = "m%d" % step
        if what == "snapshot" and request("POST", "/session/%s/snapshots" % sid, {"name": name}).status == 201:
            marks[name] = tree_of(sid)
        elif what == "commit" and request("POST", "/session/%s/commit" % sid, {"name": name}).status == 204:
            marks[name] = marks[None] = tree_of(sid)
        elif what == "fork" and len(marks) == 1:            # marks stay with the parent
            old.append(sid)
            sid = request("POST", "/session/%s/fork" % sid).json["session_ids"][0]
        elif what == "discard":
            request("POST", "/session/%s/discard" % sid)
            if tree_of(sid) != marks[None]:
                return "discard is not the baseline: " + differ(marks[None], tree_of(sid))
        elif what == "restore" and len(marks) > 1 and marks[None] is not None:
            name = r.choice([m for m in marks if m])
            request("POST", "/session/%s/snapshots/%s/restore" % (sid, name))
            if tree_of(sid) != marks[name]:
                return "restore is not the mark: " + differ(marks[name], tree_of(sid))
            marks.pop(None, None)                           # the baseline is that of then
            run(sid, EDIT % (SOURCE, r.randrange(1 << 30)))
        now = tree_of(sid)
        for m in sorted(marks, key=str):
            wrong, _ = judge.verdict(marks[m], now, patch(sid, m))
            checks += 1
            if wrong:
                return "step %d, %s, since %s: %s" % (step, what, m, wrong)
        if None not in marks:
            break
    for s in old + [sid]:
        delete(s)
    return checks


with tempfile.TemporaryDirectory() as top:
    judge, total = trees.Judge(top), 0
    for n in range(CASES):
        got = case(n, judge)
        if not isinstance(got, int):
            ok(False, "case %d" % n, got)
            break
        total += got
    ok(total >= CASES, "%d random sessions: %d patches since marks, applied by git, give the files of now" % (CASES, total))
client.done()
