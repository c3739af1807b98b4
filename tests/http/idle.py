#!/usr/bin/python3
"""Idle connections, waiters on one session and drip-fed requests do not stop /-/health/."""
import os
import resource
import socket
import threading
import time

import client
import runs
from client import KEY, create, delete, eq, ok, request, run

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
HOST, PORT = client._at.hostname, client._at.port or 80
# A copy started by the web server handles one request at a time: waiters take copies.
WAITERS = 8 if client.SELF_STARTING else 50
DRIPS = 4 if client.SELF_STARTING else 10
# There /-/health/ may stand behind a waiter, who stands behind the holder.
SLOWEST_S = 7 if client.SELF_STARTING else 2


def health(what, times=15):
    slow, bad = 0.0, []
    for _ in range(times):
        try:
            a = request("GET", "/-/health/", key=None, timeout=20)
        except OSError as e:
            bad.append(repr(e))
            continue
        slow = max(slow, a.seconds)
        if a.status != 200:
            bad.append(a)
        time.sleep(0.1)
    ok(not bad and slow < SLOWEST_S, "/-/health/ answers: %s" % what, "slowest %.3f s" % slow, bad[:3])
    client.note("%s: slowest /-/health/ %.3f s" % (what, slow))


def pss_kib():
    """Memory of the service's own processes, shared pages by share; None where it may not be read."""
    total = 0
    for p in client.processes():
        try:
            if client.STATE not in client.cmdline(p) or "cgibox.fcgi" not in client.cmdline(p)[0]:
                continue
            with open("/proc/%d/smaps_rollup" % p) as f:
                total += int([x for x in f if x.startswith("Pss:")][0].split()[1])
        except (OSError, IndexError):
            return None
    return total


IDLE_MAX_KIB = 24 << 10
health("control", 5)
if client.STATE and os.geteuid() == 0:
    client.wait_for(lambda: len([1 for p, v in client.processes().items() if v[2] == "cgibox-worker" and client.STATE in client.cmdline(p)]) <= 4, 10)
    kib = pss_kib()
    ok(kib and kib < IDLE_MAX_KIB, "the idle service takes less than 24 MiB", kib)
    client.note("idle: %s KiB of memory" % kib)
else:
    client.skip("not root: the memory of undumpable processes cannot be read")
live = runs.session()
took = min(runs.first_byte(live) for _ in range(2))
ok(took < 0.05, "the first output of a command arrives within 50 ms (median of 7: %.1f ms)" % (1000 * took))
request("DELETE", live + "/")
idle = [socket.create_connection((HOST, PORT), timeout=60) for _ in range(200)]
eq(len(idle), 200, "200 idle connections")
health("200 idle connections")

half = [socket.create_connection((HOST, PORT), timeout=60) for _ in range(20)]
for s in half:
    s.sendall(b"POST /session/ HTTP/1.1\r\nHost: x\r\nX-API-K")
health("and 20 that stopped within their headers")

sid = create()
first, answers = [], []
t = threading.Thread(target=lambda: first.append(run(sid, "sleep 4; echo first", timeout_s=60)))
t.start()
time.sleep(0.7)
waiters = [threading.Thread(target=lambda: answers.append(run(sid, "echo waiter", timeout_s=60))) for _ in range(WAITERS)]
for w in waiters:
    w.start()
health("and %d waiters on one session" % WAITERS)

stop = threading.Event()
ended = []


def drip():
    s = socket.create_connection((HOST, PORT), timeout=60)
    try:
        s.sendall(("POST %s/session/%s/ HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n"
                   "Content-Length: 100000\r\n\r\n{" % (client.PREFIX, sid, KEY)).encode())
        while not stop.is_set():
            s.sendall(b" ")
            time.sleep(0.2)
    except OSError:
        pass
    ended.append(1)
    s.close()


drips = [threading.Thread(target=drip) for _ in range(DRIPS)]
for d in drips:
    d.start()
health("and %d drip-fed requests" % DRIPS, 25)
other = create()
a = run(other, "echo through")
ok(a.status == 200 and a.json["results"][0]["output"] == "through\n" and a.seconds < 5, "another session works meanwhile", a, a.seconds)
stop.set()
for x in [t] + waiters + drips:
    x.join()
eq(first[0].json["results"][0]["output"] if first[0].status == 200 else first[0], "first\n", "the holder was not harmed")
eq(len(answers), WAITERS, "every waiter got an answer")
ok(all(x.status == 409 and x.json == {"detail": "Session is busy"} or x.status == 200 and
       x.json["results"][0]["output"] == "waiter\n" for x in answers), "each 200 or 409", sorted({x.status for x in answers}),
   [x for x in answers if x.status not in (200, 409)][:3])
ok(sum(x.status == 409 for x in answers) >= WAITERS // 2, "most of them 409", sorted(x.status for x in answers))
for s in idle + half:
    s.close()
health("after all have gone", 5)
a = run(sid, "echo on")
eq(a.status, 200, "the session is free again")
delete(sid)
delete(other)
client.done()
