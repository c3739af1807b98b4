#!/usr/bin/python3
"""kill -9 of workers, keeper, main and supervisor under load: nothing made up, nothing lost.

What was in flight gets 502 or 503 (500 from mod_fcgid, which knows no other), never a false 200;
sessions on disk stay as they are; 2 seconds later all is answered again.
"""
import base64
import os
import random
import signal
import threading
import time

import client
from client import STATE, b64, create, delete, eq, ok, request, run, skip, tar

ROUNDS = int(os.environ.get("CGIBOX_TEST_KILLS", "12"))
GONE = (500, 502, 503) if client.SERVER == "fcgid" else (502, 503)
if not STATE or os.environ.get("CGIBOX_TEST_PID") is None:
    skip("not on the service's machine")
    client.done()
ROOT = int(os.environ["CGIBOX_TEST_PID"])
seed = int(os.environ.get("CGIBOX_TEST_SEED", str(random.randrange(1 << 30))))
client.note("CGIBOX_TEST_SEED=%d" % seed)
random.seed(seed)


def is_service(pid):
    c = client.cmdline(pid)
    return STATE in c and os.path.basename(c[0]) == "cgibox.fcgi"


def tree():
    """What runs below scripts/serve (or was started on demand for this state directory)."""
    all_ = client.processes()
    mine = {ROOT} | {p for p in all_ if is_service(p)}
    below = mine
    while below:
        below = {p for p, v in all_.items() if v[0] in mine} - mine
        mine |= below
    return {p: all_[p] for p in mine if p in all_ and p != ROOT}


def victims():
    """role -> pids, by who is whose child: the keeper and its helpers have names of their own."""
    ours = {p: v for p, v in tree().items() if is_service(p)}
    keepers = {p for p, v in ours.items() if v[2] == "cgibox-keeper"}
    rest = {p: v[0] for p, v in ours.items() if p not in keepers and v[0] not in keepers and v[2] != "cgibox-tree"}
    depth = {}
    for p in rest:
        d, q = 0, p
        while rest.get(q) in rest:
            d, q = d + 1, rest[q]
        depth[p] = d
    names = ("main", "worker") if client.SELF_STARTING else ("supervisor", "main", "worker")
    roles = {"keeper": list(keepers)}
    for p, d in depth.items():
        if d < len(names):
            roles.setdefault(names[d], []).append(p)
    return {k: v for k, v in roles.items() if v}


stop = threading.Event()
codes, wrong, lock = {}, [], threading.Lock()


def load(n):
    r = random.Random(seed + n)
    while not stop.is_set():
        token = "t%d-%d" % (n, r.randrange(1 << 60))
        try:
            a = request("POST", "/session/", {"base_image": client.IMAGE, "extract_patch": True}, timeout=60)
            with lock:
                codes[a.status] = codes.get(a.status, 0) + 1
            if a.status != 200:
                if a.status not in GONE:
                    wrong.append(("create", a))
                time.sleep(0.05)
                continue
            sid = a.json["session_id"]
            a = run(sid, ["sleep 0.%02d" % r.randrange(30), "echo %s | tee -a f" % token], archive=b64(tar({"f": b"1\n"})), timeout_s=60)
            with lock:
                codes[a.status] = codes.get(a.status, 0) + 1
            if a.status == 200:
                got = [(x["output"], x["exit_code"]) for x in a.json["results"]]
                patch = base64.b64decode(a.json["patch"] or "").decode()
                if got != [("", 0), (token + "\n", 0)] or "+%s\n" % token not in patch:
                    wrong.append(("a false 200", a))
            elif a.status not in GONE:
                wrong.append(("run", a))
            a = delete(sid)
            with lock:
                codes[a.status] = codes.get(a.status, 0) + 1
            if a.status not in GONE + (204,):
                wrong.append(("delete", a))
        except Exception as e:
            wrong.append(("exception", repr(e)))
            time.sleep(0.05)


kept = {}
for i in range(5):
    sid = create(extract_patch=True)
    a = run(sid, "echo kept-%d > mine; echo more >> f" % i, archive=b64(tar({"f": b"%d\n" % i})))
    if a.status == 200:
        kept[sid] = i
eq(len(kept), 5, "five sessions to keep")
roles = victims()
client.note("roles: %s" % {k: len(v) for k, v in roles.items()})
need = ("main", "keeper", "worker") if client.SELF_STARTING else ("supervisor", "main", "keeper", "worker")
if not ok(all(k in roles for k in need), "control: the processes are found", {p: v for p, v in tree().items()}):
    client.done()

threads = [threading.Thread(target=load, args=(n,)) for n in range(6)]
for t in threads:
    t.start()
slowest, plan = {}, [need[i % len(need)] for i in range(ROUNDS)]
for role in plan:
    time.sleep(random.uniform(0.3, 1.2))
    pids = victims().get(role, [])
    if not pids:
        pids = client.wait_for(lambda: victims().get(role), 3) or []
    if not ok(pids, "a %s is there to be killed" % role):
        continue
    pid = random.choice(pids)
    killed = time.monotonic()
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        continue

    def answered():
        sid, i = random.choice(list(kept.items()))
        try:
            a = run(sid, "cat mine", timeout_s=10)
        except Exception as e:
            wrong.append(("web server", repr(e)))
            return False
        if a.status == 200:
            if a.json["results"][0]["output"] != "kept-%d\n" % i:
                wrong.append(("kept session", a))
            return True
        if a.status not in GONE:
            wrong.append(("kept session", a))
        return False
    client.wait_for(answered, 10, 0.02)
    took = time.monotonic() - killed
    slowest[role] = max(slowest.get(role, 0), took)
stop.set()
for t in threads:
    t.join()
client.note("answers: %s" % codes)
client.note("longest until answered again, s: %s" % {k: round(v, 2) for k, v in slowest.items()})
for role, s in sorted(slowest.items()):
    # The supervisor takes the socket with it, and lighttpd asks a refused one again by the second.
    most = 3 if role == "supervisor" else 2
    ok(s < most, "%s killed: answering again within %d s" % (role, most), s)
ok(not wrong, "no wrong answer under load", len(wrong), *wrong[:5])
ok(codes.get(200, 0) > 20, "control: requests were served meanwhile", codes)
for sid, i in kept.items():
    a = run(sid, "cat mine f")
    ok(a.status == 200 and a.json["results"][0]["output"] == "kept-%d\n%d\nmore\n" % (i, i), "kept session %d is intact" % i, a)
    eq(delete(sid).status, 204, "and can be deleted")
eq(request("GET", "/-/health/", key=None).status, 200, "healthy")
client.done()
