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


engine = dockerd.Running(top)



def until(what, seconds=60):
    return client.wait_for(what, seconds)


def there(container):
    return engine.api("GET", "/containers/%s/json" % container)[0] != 404


def left():
    """Containers of any service, unless they are as many as wait for sessions. A list that is made while one goes may be refused."""
    status, answer = engine.api("GET", "/containers/json?all=1")
    if status != 200:
        return [answer]
    waiting = ((request("GET", "/system/").json or {}).get("prepared") or {}).get("ready", 0)
    return [c["Names"] for c in answer] if len(answer) > waiting else []


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
a = output(sid, "grep -o 'containers/[0-9a-f]*' /proc/self/mountinfo | head -n 1")
container = a[0].strip().rpartition("/")[2] if isinstance(a, list) else ""
eq(len(container), 64, "a container says which it is")
ok(until(lambda: not there(container)), "a request's container is not there after it", container)

# --- what cannot be done is named ---
for verb, body in (("fork", {"count": 1}), ("snapshots", {"name": "a"}), ("commit", {})):
    a = request("POST", "/session/%s/%s" % (sid, verb), body)
    ok(a.status == 422 and "layers" in a.body.decode(), "%s is refused, with the capability's name" % verb, a)
a = request("POST", "/session/", {"base_image": "host"})
ok(a.status == 422 and "host_image" in a.body.decode(), "so is the image host", a)
a = request("GET", "/system/").json
eq((a["backend"], a["capabilities"]["layers"], a["capabilities"]["host_image"]), ("docker", False, False), "GET /system/ shows them")
delete(sid)
sid = create(memory_bytes=64 << 20)
a = run(sid, ["head -c 200M /dev/zero > /dev/shm/f", "echo next", "head -c 1M /dev/zero > /var/tmp/f", "head -c 1M /dev/zero > /tmp/f && echo room"])
r = (a.json or {}).get("results", [])
eq([x["exit_code"] == 0 for x in r], [False, True, False, True], "memory that files keep is less than the limit, and no file lies where no limit is")
eq((r[1]["output"].startswith("next"), r[3]["output"]) if len(r) == 4 else a, (True, "room\n"), "control: pid 1 goes on, /tmp has room")
delete(sid)
box = {"image": client.IMAGE + ":latest"}
a = request("POST", "/api/v1/sandboxes", dict(box, volumes={"data": {"size": "16m"}}))
ok(a.status == 422 and "capability" in a.body.decode() and "volumes" in a.body.decode(), "so are volumes of the Manager", a)
a = request("POST", "/api/v1/volumes/network", {"name": "shared", "size": "16m"})
ok(a.status == 422 and "capability" in a.body.decode() and "volumes" in a.body.decode(), "shared ones, too", a)
a = request("POST", "/api/v1/sandboxes", box)
ok(a.status == 201, "control: a sandbox of the Manager without any", a)
mid = a.json["container_id"]
a = request("POST", "/api/v1/sandboxes/%s/exec" % mid, {"command": "echo in; id -G"})
ok(a.status == 200 and a.json["output"].startswith("in\n"), "works", a)
eq(a.json["output"].split()[1:], [str(os.stat(os.environ["CGIBOX_TEST_STATE"] + "/keeper.lock").st_gid)],
   "and has the service's group alone, not the Engine's")
session = "%s/sessions/%s" % (os.environ["CGIBOX_TEST_STATE"], mid)
eq(request("POST", "/api/v1/sandboxes/%s/stop" % mid).status, 200, "stopped")
os.utime(session + "/bounds", (1, 1))  # when it ends by itself
eq(run(mid, ["echo again"]).status, 404, "one that has come to its end gets no other container")
eq(os.path.isdir(session), True, "control: it is there")
request("DELETE", "/api/v1/sandboxes/%s" % mid)

# --- the broker dies ---
def brokers():
    state, out = os.environ["CGIBOX_TEST_STATE"], []
    for p in subprocess.run(["pgrep", "-x", "engine"], stdout=subprocess.PIPE, text=True, check=False).stdout.split():
        try:
            if any(os.readlink("/proc/%s/fd/%s" % (p, x)) == state for x in os.listdir("/proc/%s/fd" % p)):
                out.append(int(p))
        except OSError:
            pass
    return out


answers = []
makers = [threading.Thread(target=lambda x=create(): answers.append(run(x, ["echo ok"]).status)) for _ in range(12)]
for t in makers:
    t.start()
time.sleep(0.4)
first = brokers()
eq(len(first), 1, "control: the broker is found")
for p in first:
    os.kill(p, signal.SIGKILL)
for t in makers:
    t.join()
ok(set(answers) <= {200, 503} and 503 in answers, "what it was asked for is a 503", answers)
eq(until(lambda: request("GET", "/-/health/").status == 200 and brokers() not in ([], first)), True, "another one serves")
eq(output(create(), "echo up"), ["up\n"], "and makes containers")
ok(until(lambda: not left(), 40), "of what nobody answered for no container is left", left())

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
def kill_keeper():
    """That of this state directory."""
    pids = [int(p) for p in subprocess.run(["pgrep", "-x", "cgibox-keeper"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()]
    state, mine = os.environ["CGIBOX_TEST_STATE"], []
    for p in pids:
        try:
            if any(os.readlink("/proc/%d/fd/%s" % (p, x)).startswith(state) for x in os.listdir("/proc/%d/fd" % p)):
                mine.append(p)
        except OSError:
            pass
    ok(mine, "control: the keeper is found", pids)
    for p in mine:
        os.kill(p, signal.SIGKILL)


live = create(live=True)
eq(output(live, "(sleep 1000 & ) ; echo up"), ["up\n"], "a live session, with a process")
ok(until(left, 20), "control: it has a container", left())
kill_keeper()
eq(until(lambda: request("GET", "/-/health/").status == 200), True, "another keeper serves")
eq(until(lambda: not left(), 30), True, "what the first one had made is gone")
eq(output(live, "pgrep sleep | wc -l"), ["0\n"], "its processes, too; the session goes on")
delete(live)
eq(until(lambda: not left(), 30), True, "no container is left")

# --- pid 1 is ended for want of memory ---
live = create(live=True, memory_bytes=96 << 20)
eq(output(live, "echo up"), ["up\n"], "a live session")
hog = "sleep 4; exec python3 -c 'x = [b\"x\" * (1 << 20) for _ in range(200)]; print(len(x))'"
a = request("POST", "/api/v1/session/%s/runs" % live, {"command": hog, "detach": True})
rid = (a.json or {}).get("id")
ok(rid, "a run that will need more memory than there is", a)
time.sleep(1)
for c in engine.containers() or []:  # pid 1 is made the victim, as an Engine may that shields nobody
    pids = [int(row[1]) for row in (engine.api("GET", "/containers/%s/top" % c["Id"])[1] or {}).get("Processes") or []]
    for p in pids:
        with open("/proc/%d/oom_score_adj" % p, "w") as f:
            f.write("1000" if p == min(pids) else "0")
state = lambda: (request("GET", "/api/v1/session/%s/runs/%s" % (live, rid)).json or {})  # noqa: E731
ok(until(lambda: state().get("verdict"), 40), "it ends", state())
eq(state().get("verdict"), "memory", "the verdict is the Engine's: no memory")
eq(output(live, "echo again"), ["again\n"], "the session goes on")
ok(any(c["State"] == "running" for c in engine.containers() or []), "in another sandbox")
a = run(live, ["head -c 200M /dev/zero | tail -c 190M > /dev/null"])
eq((a.json or {}).get("results", [{}])[0].get("verdict"), "memory", "control: there a command is the victim")
time.sleep(2)
rid = (request("POST", "/api/v1/session/%s/runs" % live, {"command": "sleep 60", "detach": True}).json or {}).get("id")
time.sleep(1)
for c in engine.containers() or []:
    engine.api("POST", "/containers/%s/kill?signal=KILL" % c["Id"])
ok(until(lambda: state().get("verdict"), 40), "one whose container somebody kills ends", state())
eq(state().get("verdict"), "interrupted", "control: and is interrupted")
delete(live)

# --- a container that the Engine cannot remove ---
live = create(live=True)
eq(output(live, "echo up"), ["up\n"], "a live session")
held = engine.containers()[0]["Id"]
of_it = "%s/data/containers/%s/hostconfig.json" % (top, held)
if subprocess.run(["chattr", "+i", of_it], stderr=subprocess.DEVNULL, check=False).returncode:
    skip("its file system has no immutable files", 5)
else:
    try:
        kill_keeper()
        eq(until(lambda: request("GET", "/-/health/").status == 200), True, "the next keeper serves though one cannot be removed")
        eq(output(create(), "echo served"), ["served\n"], "requests, too")
        eq(request("GET", "/system/").json["containers_stuck"], 1, "GET /system/ tells of it")
        ok(held in [c["Id"] for c in engine.containers() or []], "control: it is there")
    finally:
        subprocess.run(["chattr", "-i", of_it], check=False)
    ok(until(lambda: held not in [c["Id"] for c in engine.containers() or []], 60), "it is tried again, and goes")
    eq(until(lambda: request("GET", "/system/").json["containers_stuck"] == 0), True, "then there is none to tell of")
delete(live)
client.done()
