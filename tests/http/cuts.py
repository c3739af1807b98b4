#!/usr/bin/python3
"""Streams that are cut: by the client anywhere, by SIGKILL of the worker. Zero lost, zero doubled bytes.

CGIBOX_TEST_CUTS (default 100) cuts of streams of one run, each resumed from the last whole event; then
200 streams at once, while other requests are answered.
"""
import base64
import hashlib
import http.client
import json
import os
import random
import signal
import threading
import time

import client
from client import STATE, eq, ok, request

CUTS = int(os.environ.get("CGIBOX_TEST_CUTS", "100"))
STREAMS = 200
# A copy that a web server has started is its own main, and the number of copies is the web server's.
KILLS = bool(STATE) and not client.SELF_STARTING
# Two streams, lines of changing length, for as long as there are cuts to be made.
WRITER = """n=0
while [ ! -e /tmp/stop ]; do
	echo "out $n $RANDOM"; n=$((n+1))
	[ $((n % 3)) != 0 ] || echo "err $n \u20ac\u20ac" >&2
	[ $((n % 5)) != 0 ] || read -t 0.004 x <> /tmp/never
done
echo last $n
"""
seed = int(os.environ.get("CGIBOX_TEST_SEED", str(random.randrange(1 << 30))))
client.note("CGIBOX_TEST_SEED=%d" % seed)
random.seed(seed)


def create():
    return "/session/%s" % request("POST", "/session/", {"base_image": client.IMAGE, "live": True}).json["session_id"]


def connect(path):
    c = client.connect()
    c.request("GET", client.PREFIX + path, headers={"X-API-Key": client.KEY, "Accept": "application/x-ndjson"})
    return c, c.getresponse()


class Reader:
    """Goes on where it was cut. got: bytes of each stream; at: the offset behind the last whole event."""

    def __init__(self, path):
        self.path, self.at, self.wrong, self.end, self.expired = path, 0, 0, None, 0
        self.got = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
        self.bytes = self.retries = 0

    def take(self, e):
        if e["type"] == "output":
            data = base64.b64decode(e["data"]) if "encoding" in e else e["data"].encode()
            self.wrong += e["offset"] != self.at or e["next"] != self.at + len(data)
            self.got[e["stream"]].update(data)
            self.bytes += len(data)
            self.at = e["next"]
        elif e["type"] == "exit":
            self.end = e
        elif e["type"] == "expired":
            self.expired += 1

    def read(self, events):
        """Reads so many events, or to the end of the connection."""
        try:
            c, r = connect("%s/output?from=%d" % (self.path, self.at))
            if r.status != 200:
                self.retries += 1
                time.sleep(0.02)
                return r.status
            while events > 0 and not self.end:
                line = r.readline()
                if not line.endswith(b"\n"):
                    break
                if line.strip():
                    self.take(json.loads(line))
                    events -= 1
            c.close()
            return 200
        except (OSError, http.client.HTTPException, ValueError):
            return 0


def workers():
    """Of this service, busy or not: those whose parent is main."""
    out = []
    for p in client.processes():
        try:
            with open("/proc/%d/comm" % p) as f:
                if f.read().strip() == "cgibox-worker" and STATE in client.cmdline(p):
                    out.append(p)
        except OSError:
            pass
    return out


def cuts():
    at = create()
    rid = request("POST", at + "/runs", {"command": "cd /tmp; mkfifo never o e; tee /repo/out <o & tee /repo/err <e >&2 & (%s) >o 2>e; wait"
                                         % WRITER, "detach": True, "timeout": 600}).json["id"]
    path = "%s/runs/%s" % (at, rid)
    r = Reader(path)
    killed = []
    for i in range(CUTS):
        killer = None
        if i % 4 == 0 and KILLS:
            def shoot():
                for p in workers():
                    try:
                        os.kill(p, signal.SIGKILL)
                        killed.append(p)
                    except OSError:
                        pass
            killer = threading.Timer(random.uniform(0, 0.05), shoot)
            killer.start()
            r.read(10000)
            killer.join()
        else:
            r.read(random.randrange(1, 12))
        if r.end:
            break
    eq(r.end, None, "%d cuts (%d workers were killed, %d retries) of a run that goes on" % (CUTS, len(killed), r.retries))
    ok(len(killed) >= CUTS // 4 or not KILLS, "the workers that served were killed", killed)
    # the killed workers are replaced
    client.wait_for(lambda: request("POST", at + "/runs", {"command": "touch /tmp/stop"}).status == 200, 60, 0.1)
    until = time.monotonic() + 120
    while not r.end and time.monotonic() < until:
        r.read(100000)
    ok(r.end and r.end["verdict"] == "ok" and r.end["offset"] == r.at, "its end arrives once", r.end)
    eq((r.wrong, r.expired), (0, 0), "each event begins where the one before ended")
    want = request("POST", at + "/runs", {"command": "cd /repo; sha256sum out err; cat out err | wc -c"})
    lines = want.json["stdout"].split()
    eq([r.got["stdout"].hexdigest(), r.got["stderr"].hexdigest(), str(r.bytes)], [lines[0], lines[2], lines[4]],
       "zero lost, zero doubled of %d bytes" % r.bytes)
    g = request("GET", path).json
    eq((g["state"], g["output"]["end_offset"]), ("ended", r.bytes), "as many as the run's receipt says")
    request("DELETE", at + "/")


def many():
    at = create()
    rid = request("POST", at + "/runs", {"command": "echo x; sleep 900", "detach": True, "timeout": 900}).json["id"]
    got, lock, release = {}, threading.Lock(), threading.Event()

    def one():
        status = 0
        try:
            c, r = connect("%s/runs/%s/output" % (at, rid))
            status = r.status
            if status == 200:
                r.readline()
        except (OSError, http.client.HTTPException):
            pass
        with lock:
            got[status] = got.get(status, 0) + 1
        release.wait(600)
        c.close()
    threads = [threading.Thread(target=one) for _ in range(STREAMS)]
    for t in threads:
        t.start()
    client.wait_for(lambda: sum(got.values()) == STREAMS, 150)
    eq((got.get(200), got.get(503)), (STREAMS, None), "%d streams are open" % STREAMS)
    a = [request("POST", at + "/runs", {"command": "echo y"}) for _ in range(10)]
    ok(all(x.status == 200 and x.json["stdout"] == "y\n" for x in a), "meanwhile runs are answered", a[0])
    # The streams stay until we release them: who had to wait for one would have no answer.
    eq(request("GET", "/-/health/").status, 200, "and all else")
    release.set()
    for t in threads:
        t.join()

    def room():
        c, r = connect("%s/runs/%s/output?wait=1" % (at, rid))
        c.close()
        return r.status == 200
    ok(client.wait_for(room, 60, 0.1), "when they have gone there is room again")
    request("DELETE", at + "/")


cuts()
if not client.SELF_STARTING:
    many()
client.done()
