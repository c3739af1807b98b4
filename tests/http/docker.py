#!/usr/bin/python3
"""What only backend = docker has: what a container shows, an Engine that dies and comes back, and what is left of it.

Started by tests/http/docker: CGIBOX_TEST_ENGINE is the directory of its dockerd."""
import os
import signal
import subprocess
import sys
import threading
import time

import client
from client import create, delete, eq, ok, request, run, skip

sys.path.insert(0, os.path.join(client.HERE, "..", "cli", "lib"))
import dockerd  # noqa: E402

top = os.environ.get("CGIBOX_TEST_ENGINE", "")
if not top:
    skip("not with backend = docker")
    client.done()
    sys.exit()


class Engine(dockerd.Dockerd):
    """The one that runs already."""

    def __init__(self):
        self.top, self.socket, self.process = top, os.path.join(top, "docker.sock"), None
        self.group = os.stat(self.socket).st_gid

    def pid(self):
        with open(os.path.join(self.top, "pid")) as f:
            return int(f.read())

    def crash(self):
        os.kill(self.pid(), signal.SIGKILL)


engine = Engine()


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.1)
    return what()


def left():
    """Containers of any service."""
    return [c["Names"] for c in engine.api("GET", "/containers/json?all=1")[1]]


def output(sid, *commands):
    a = run(sid, list(commands))
    return [r["output"] for r in (a.json or {}).get("results", [])] if a.status == 200 else a


# --- what is inside ---
sid = create()
r = output(sid, "ls -A /.cgibox /.cgibox/run", "ls /var/run/docker.sock 2>&1 | grep -c No", "touch /.cgibox/run/x 2>&1; touch /.cgibox/init 2>&1",
           "cat /proc/net/route | wc -l", "echo $HOSTNAME; hostname", "touch /usr/x 2>&1; touch /x 2>&1")
eq(r[0], "/.cgibox:\ninit\nrun\n\n/.cgibox/run:\n", "the keeper's socket is gone before a command runs")
eq(r[1], "1\n", "there is no socket of the Engine")
eq(r[2].count("denied") + r[2].count("Read-only"), 2, "pid 1's files cannot be written")
eq(r[3], "1\n", "no route")
eq(r[5].count("denied") + r[5].count("Read-only"), 2, "the image cannot be written")
eq(output(sid, "echo a > /tmp/f; echo b > ~/f; echo c > f"), ["", ], "files")
eq(output(sid, "cat /tmp/f ~/f f"), ["a\nb\nc\n"], "of workspace, home and /tmp stay between requests")
eq([c for c in left() if sid[:8] in str(c)], [], "a request's container is not there after it")

# --- what cannot be done is named ---
for verb, body in (("fork", {"count": 1}), ("snapshots", {"name": "a"}), ("commit", {})):
    a = request("POST", "/session/%s/%s" % (sid, verb), body)
    ok(a.status == 422 and "layers" in a.body.decode(), "%s is refused, with the capability's name" % verb, a)
a = request("POST", "/session/", {"base_image": "host"})
ok(a.status == 422 and "host_image" in a.body.decode(), "so is the image host", a)
a = request("GET", "/system/").json
eq((a["backend"], a["capabilities"]["layers"], a["capabilities"]["host_image"]), ("docker", False, False), "GET /system/ shows them")
delete(sid)

# --- the Engine dies ---
sid, live = create(), create(live=True)
eq(output(live, "echo 1 > /tmp/live; echo up"), ["up\n"], "a live session")
eq(output(sid, "echo kept > kept"), [""], "another")
seen, stop = [], threading.Event()


def load(mine):
    while not stop.is_set():
        begin = time.monotonic()
        a = run(mine, ["cat kept"])
        seen.append((a.status, a.body.decode(errors="replace"), time.monotonic() - begin, a.headers.get("retry-after")))
        time.sleep(0.05)


threads = [threading.Thread(target=load, args=(x,)) for x in (sid, create(), create())]
for t in threads:
    t.start()
time.sleep(2)
before = len(seen)
engine.crash()
eq(until(lambda: request("GET", "/-/health/").status == 503), True, "health says that it does not serve")
time.sleep(3)
during = seen[before:]
refused = [x for x in during if x[0] == 503]
ok(len(refused) > 3, "control: there was load meanwhile", len(during))
ok({x[0] for x in seen} <= {200, 503}, "nothing but 200 and 503", sorted({x[:2] for x in seen if x[0] not in (200, 503)}))
ok(any("engine does not answer" in x[1] for x in refused), "which names the reason", refused[:3])
ok(all(x[3] for x in refused), "and says when to come again", refused[:3])
ok(max([x[2] for x in during] or [0]) < 35, "at once", max([x[2] for x in during] or [0]))
why = dockerd.Dockerd.start(engine)
eq(why, "", "dockerd is started again")
eq(until(lambda: request("GET", "/-/health/").status == 200), True, "the service serves again")
time.sleep(2)
stop.set()
for t in threads:
    t.join()
eq(seen[-1][0], 200, "requests, too")
eq(output(sid, "cat kept"), ["kept\n"], "a session has its files")
eq(output(live, "cat /tmp/live"), ["1\n"], "and a live one, whose sandbox is another now")
eq(request("DELETE", "/session/%s/" % live).status in (200, 204), True, "it ends")
eq(until(lambda: not left(), 30), True, "no container is left")

# --- the keeper dies ---
live = create(live=True)
eq(output(live, "(sleep 1000 & ) ; echo up"), ["up\n"], "a live session, with a process")
eq(len(left()), 1, "control: it has a container")
pids = [int(p) for p in subprocess.run(["pgrep", "-x", "cgibox-keeper"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()]
state = os.environ["CGIBOX_TEST_STATE"]
mine = []
for p in pids:
    try:
        if any(os.readlink("/proc/%d/fd/%s" % (p, x)).startswith(state) for x in os.listdir("/proc/%d/fd" % p)):
            mine.append(p)
    except OSError:
        pass
ok(mine, "control: the keeper is found", pids)
for p in mine:
    os.kill(p, signal.SIGKILL)
eq(until(lambda: request("GET", "/-/health/").status == 200), True, "another keeper serves")
eq(until(lambda: not left(), 30), True, "what the first one had made is gone")
eq(output(live, "pgrep sleep | wc -l"), ["0\n"], "its processes, too; the session goes on")
delete(live)
eq(until(lambda: not left(), 30), True, "no container is left")
client.done()
