#!/usr/bin/python3
"""kill -9 of the keeper while a session is forked, snapshotted, committed, discarded or restored: what is found
afterwards is the state of before or that of after, and nothing is left when all sessions are gone.

CGIBOX_TEST_KILLS rounds (default 50)."""
import io
import os
import random
import signal
import tarfile
import threading
import time

import client
from client import STATE, b64, create, delete, eq, ok, request, run, skip, tar

ROUNDS = int(os.environ.get("CGIBOX_TEST_KILLS", "50"))
if not STATE:
    skip("not on the service's machine")
    client.done()
seed = int(os.environ.get("CGIBOX_TEST_SEED", str(random.randrange(1 << 30))))
client.note("CGIBOX_TEST_SEED=%d" % seed)
random.seed(seed)


def keepers():
    return [p for p, v in client.processes().items() if v[2] == "cgibox-keeper" and STATE in client.cmdline(p)]


def kill_keeper():
    for p in keepers():
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


def read(sid):
    """The file v; waits for a keeper. None: the session does not answer."""
    def ask():
        a = run(sid, "cat v")
        return a if a.status not in (502, 503, 409) else None
    a = client.wait_for(ask, 60, 0.02)
    return a.json["results"][0]["output"].strip() if a and a.status == 200 else None


def sessions():
    return [s for s in os.listdir(os.path.join(STATE, "sessions")) if not s.startswith(".")]


def archive(kind):
    files = {"v": b"archive\n", "dir/x": b"x\n"}
    if kind == "overlay":
        files.update({"m%d" % k: b"m\n" for k in range(client.conf("plain_entries_max") + 1)})
    return b64(tar(files))


ok(keepers(), "control: the keeper is found")
verbs, odd, lost, found = {}, [], [], {"before": 0, "after": 0}
for n in range(ROUNDS):
    if n % 10 == 0:
        kind = "plain" if n % 20 == 0 else "overlay"
        sid = create()
        run(sid, "true", archive=archive(kind))
        base, marks = {"archive"}, {}
    a = run(sid, "echo %d > v; rm -rf dir; mkdir dir; echo %d > dir/%d" % (n, n, n))
    now = str(n)
    if a.status != 200:
        ok(False, "round %d: a command" % n, a)
        break
    verb = random.choice(["fork", "fork", "snapshot", "commit", "discard", "restore"])
    mark = random.choice(sorted(marks)) if marks else None
    if verb == "restore" and not mark:
        verb = "snapshot"
    if verb == "snapshot" and len(marks) >= client.conf("snapshots_max") - 1:
        verb = "commit"
    path, body = {"fork": ("fork", {"count": 5}), "snapshot": ("snapshots", {"name": "s%d" % n}), "commit": ("commit", {}),
                  "discard": ("discard", {}), "restore": ("snapshots/%s/restore" % mark, {})}[verb]
    verbs[verb] = verbs.get(verb, 0) + 1
    t = threading.Thread(target=lambda: request("POST", "/session/%s/%s" % (sid, path), body))
    t.start()
    time.sleep(random.choice((0, 0.002, 0.005, 0.01, 0.02, 0.04)) * random.random())
    kill_keeper()
    t.join()
    allowed = {now} | (base if verb == "discard" else marks[mark] if verb == "restore" else set())
    got = read(sid)
    if got is None:
        lost.append((n, kind, verb))
        continue
    found["before" if got == now else "after"] += 1
    if got not in allowed:
        odd.append((n, kind, verb, got, allowed))
    if verb == "commit":
        base = base | {now}
    if verb == "restore":                                   # the baseline is that of the mark then, or not
        base = base | {"archive"} | {str(x) for x in range(n + 1)}
    names = request("GET", "/session/%s/snapshots" % sid).json["snapshots"]
    if verb == "snapshot" and any(s["name"] == "s%d" % n for s in names):
        marks["s%d" % n] = {now}
    for s in sessions():                                    # children that came to be are whole
        if s != sid and verb == "fork" and n % 10 == 0 or random.random() < .2:
            if read(s) is None:
                lost.append((n, kind, "child", s))
    for s in sessions():
        if s != sid:
            delete(s)
    a = request("GET", "/session/%s/export" % sid)
    with tarfile.open(fileobj=io.BytesIO(a.body)) as f:
        if f.extractfile("v").read().decode().strip() != got:
            odd.append((n, kind, "export"))
    if request("GET", "/session/%s/patch" % sid).status not in (200, 204):
        odd.append((n, kind, "patch"))
client.note("verbs: %s; found: %s" % (verbs, found))
ok(not lost, "%d kills: every session answers afterwards" % ROUNDS, lost)
ok(not odd, "with the files of before or of after", odd[:5])
for s in sessions():
    delete(s)
kill_keeper()
client.wait_for(lambda: request("GET", "/-/health/", key=None).status == 200, 60)
ok(client.wait_for(lambda: not [x for d in ("layers", "sessions", "trash") for x in os.listdir(os.path.join(STATE, d))], 120),
   "when all sessions are gone nothing is left of them", [os.listdir(os.path.join(STATE, d)) for d in ("layers", "sessions", "trash")])
client.done()
