#!/usr/bin/python3
"""Sandboxes of the Manager that come to an end by themselves: old ones, unused ones, and those whose keeper died; the routes without a key.

Starts services of its own: CGIBOX_TEST_SERVE (default scripts/serve of this tree).
"""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import client
from client import done, eq, ok, request

SERVE = os.environ.get("CGIBOX_TEST_SERVE", os.path.join(client.HERE, "..", "..", "scripts", "serve"))
API = "/api/v1/sandboxes"
top = tempfile.mkdtemp(prefix="cgibox-ends-")
os.chmod(top, 0o755)
state = os.path.join(top, "s")


def start(key_from="CGIBOX_API_KEY", **conf):
    port = client.free_port()
    with open(os.path.join(client.HERE, "http.conf")) as f, open(os.path.join(top, "conf"), "w") as t:
        t.write("".join(x for x in f if x.split(" ")[0] not in conf))
        t.write("".join("%s = %s\n" % kv for kv in conf.items()))
    client._at = client.urllib.parse.urlsplit("http://127.0.0.1:%d" % port)
    client.PREFIX = ""
    p = subprocess.Popen([SERVE, "--port", str(port), "--state", state, "--server", client.SERVER or "lighttpd", "--conf", os.path.join(top, "conf")],
                         env=dict({k: v for k, v in os.environ.items() if k != "CGIBOX_API_KEY"}, **{key_from: client.KEY}), stdout=subprocess.PIPE, stderr=open(os.path.join(top, "err"), "ab"),
                         stdin=subprocess.DEVNULL)
    if not p.stdout.readline().startswith(b"ready"):
        ok(False, "the service starts", open(os.path.join(top, "err")).read()[-2000:])
        p.kill()
        done()
    return p


def end(p):
    p.terminate()
    p.wait()


def make(key=client.KEY, **spec):
    a = request("POST", API, dict({"image": client.TAGGED}, **spec), key=key)
    if a.status != 201:
        ok(False, "a sandbox is made", a)
        end(service)
        done()
    return a.json["container_id"]


def state_of(sid, key=client.KEY):
    a = request("GET", API + "/" + sid, key=key)
    return a.json["status"]["status"] if a.status == 200 else a.status


def until(what, fn, want, seconds=60):
    limit = time.monotonic() + seconds
    got = fn()
    while got != want and time.monotonic() < limit:
        time.sleep(0.1)
        got = fn()
    return eq(got, want, what)


# --- unused: every request that works in it counts as use
service = start(manager_idle_s=6, session_idle_s=3600)
idle, used, unseen = [make(command="sleep 300") for i in range(3)]
other = client.create(live=True)
t0 = time.monotonic()
while time.monotonic() - t0 < 15:
    request("POST", API + "/%s/exec" % used, {"command": "true"})
    time.sleep(0.3)
eq((state_of(idle), state_of(used)), ("terminated", "running"), "one that nobody uses ends, though its command runs")
eq(request("GET", "/session/%s/" % other).status, 204, "sessions of other routes stay")
a = request("GET", API + "/" + idle)
ok(a.json["terminated_at"], "when is recorded", a)
eq(request("POST", API + "/%s/start" % idle).status, 404, "it does not come back")
eq(request("POST", API + "/%s/timeout" % idle, {"timeout": 9}).status, 404, "nor does its record change")
until("one that nobody asks for ends, too", lambda: request("GET", "/session/%s/" % unseen).status, 404)


def noted(sid):
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(state, "index", "documents"), uri=True)
    return db.execute("SELECT final FROM document WHERE kind = 'manager-sandbox' AND id = ?", (sid,)).fetchone()[0]


eq((noted(unseen), noted(idle)), (0, 1), "its record does not say so")
make()
eq(noted(unseen), 1, "until another one is made: it may go when there are many")
eq(request("DELETE", API + "/" + idle).json, {"status": "deleted"}, "its record goes when it is deleted")
end(service)

# --- old
service = start(manager_age_max_s=3, manager_idle_s=0)
eq(state_of(used) in ("exited", "terminated"), True, "after a restart nothing is said to run that does not")
t0 = time.monotonic()
old = make(command="sleep 300")
while state_of(old) == "running" and time.monotonic() - t0 < 60:
    request("POST", API + "/%s/exec" % old, {"command": "true"})
    time.sleep(0.2)
t = time.monotonic() - t0
ok(2 < t < 60, "an old one ends at its time", t)
end_by = time.monotonic() + 60
while state_of(old) != "terminated" and time.monotonic() < end_by:
    request("POST", API + "/%s/exec" % old, {"command": "true"})
eq(state_of(old), "terminated", "however it is used")
end(service)

# --- a worker that died between what it wrote and what it did
def record(sid, **members):
    """Changes members of the record, as a worker that goes no further leaves it."""
    db = sqlite3.connect(os.path.join(state, "index", "documents"), timeout=30)
    doc = json.loads(db.execute("SELECT body FROM document WHERE kind = 'manager-sandbox' AND id = ?", (sid,)).fetchone()[0])
    doc.update(members)
    db.execute("UPDATE document SET body = ?, version = version + 1 WHERE kind = 'manager-sandbox' AND id = ?", (json.dumps(doc), sid))
    db.commit()
    db.close()


def commands(sid):
    runs = request("GET", "/session/%s/runs" % sid).json["runs"]
    return sum(r["state"] == "running" and r["request"]["command"] == "sleep 300" for r in runs)


service = start()
sid = make(command="sleep 300")
request("POST", API + "/%s/stop?timeout=0" % sid)
eq((state_of(sid), commands(sid)), ("exited", 0), "a sandbox that was stopped")
record(sid, wanted="running", since="%016x" % int(time.time() * 1e6))
eq((state_of(sid), commands(sid)), ("created", 0), "of which somebody wrote that it is to run, and no more")
eq(request("POST", API + "/%s/start" % sid).json, {"status": "started"}, "is started")
eq((state_of(sid), commands(sid)), ("running", 1), "and runs")
record(sid, wanted="stopped")
eq((request("POST", API + "/%s/exec" % sid, {"command": "true"}).status, commands(sid)), (409, 1), "one that is to be stopped, and was not")
eq(request("POST", API + "/%s/start" % sid).json, {"status": "started"}, "is started")
eq((request("POST", API + "/%s/exec" % sid, {"command": "true"}).status, commands(sid)), (200, 1), "once")
end(service)

# --- the keeper dies
service = start()
sid = make(command="sleep 300", resources={"max_retries": 3})
eq(state_of(sid), "running", "a sandbox")
keeper = [p for p, v in client.processes().items() if v[2] == "cgibox-keeper" and state in client.cmdline(p)] if hasattr(client, "processes") else []
if keeper:
    os.kill(keeper[0], signal.SIGKILL)
    until("whose keeper died has exited", lambda: state_of(sid), "exited")
    until("the next one serves", lambda: request("GET", "/-/health/").status, 200)
    s = request("GET", API + "/" + sid).json["status"]
    eq((s["exit_code"], s["verdict"]), (None, "interrupted"), "and nobody saw how")
    eq(request("POST", API + "/%s/start" % sid).json, {"status": "started"}, "it can be started")
    eq(state_of(sid), "running", "and runs")
else:
    client.skip("no keeper was found", 5)
end(service)

# --- keys
left = os.path.join(state, "volumes", "01234567-89ab-4def-8123-456789abcdef.v")
kept = os.path.join(state, "volumes", sid + ".v")
owner = os.stat(os.path.join(state, "volumes"))  # where root runs this, the service is somebody else
for path in (left, kept):
    os.makedirs(path + "/fs")
    for made in (path, path + "/fs"):
        os.chown(made, owner.st_uid, owner.st_gid)
service = start(manager="open")
eq((os.path.exists(left), os.path.exists(kept)), (False, True), "a volume whose sandbox is gone goes at the start")
sid = make(key=None, command="sleep 300")
eq(state_of(sid, key=None), "running", "manager = open: no key is asked for")
page = {"Origin": "null"}
eq([request("POST", API + "/%s/%s" % (sid, x), body, key=None, headers=page).status for x, body in (("stop", None), ("exec", {"command": "true"}))], [403] * 2,
   "pages of sandboxes cannot ask")
eq(request("GET", API + "/%s/ports/80/" % sid, key=None, headers=page).status, 404, "but of ports, which this one has not")
eq(request("POST", API + "/%s/exec" % sid, {"command": "echo a"}, key=None, headers={"Origin": "http://a.example"}).json["output"], "a\n", "others can")
eq(request("GET", "/api/v1/session/%s/status" % sid, key=None).status, 403, "other routes ask for it")
end(service)
service = start(manager="off", kweaver="off")
eq([request("GET", p).status for p in (API, "/api/v1/metrics/x", "/api/v1/health")], [404] * 3, "manager = off: no such routes")
end(service)
service = start(key_from="DAIV_SANDBOX_API_KEY", kweaver="off")
eq((request("GET", API).status, request("GET", API, key="wrong").status), (200, 403), "the key may come by the name that it has for daiv-sandbox")
a = request("GET", "/health", key=None)
eq((a.status, a.json), (200, {"status": "healthy", "version": "1.0.0", "metrics_enabled": True, "cleanup_enabled": True}),
   "its health, where the route is no other's")
end(service)
shutil.rmtree(top, ignore_errors=True)
done()
