#!/usr/bin/python3
"""GET /system/: who may ask, its form, the facts of doctor, the limits in force, live numbers; the line of scripts/serve."""
import json
import os
import re
import stat
import subprocess
import threading
import time

import client
from client import HERE, KEY, SELF_STARTING, STATE, create, delete, eq, ok, request, run

PATHS = ("/api/v1/system/", "/api/v1/system", "/system/", "/system")
MEMBERS = ["version", "backend", "uptime_s", "ready", "checked_at", "facts", "capabilities", "limits", "sessions", "sandboxes", "containers_stuck", "prepared"]
HOLDERS = {"kernel", "service", "cgroup", "watchdog", "none"}
# scripts/serve of a source tree installs below the state directory; another one is where it was installed.
PREFIX = os.path.join(STATE, "install")
CONF = os.path.join(PREFIX, "sandbox.conf")
if not os.path.isdir(PREFIX):
    PREFIX = os.path.realpath(os.path.join(os.path.dirname(os.environ["CGIBOX_TEST_SERVE"]), "../.."))
    CONF = os.path.join(HERE, "http.conf")


def settings():
    """The configuration in force, as the installed program prints it."""
    out = subprocess.run([os.path.join(PREFIX, "bin/cgibox"), "--conf", os.path.join(HERE, "http.conf"), "config"],
                         capture_output=True, text=True, check=True).stdout
    return dict(line.split(" = ", 1) for line in out.splitlines() if " = " in line and line[0] != "#")


def doctor():
    """What doctor says to the service's user."""
    become = []
    if os.getuid() == 0:
        st = os.stat(os.path.join(STATE, "sessions"))
        # with an Engine the service keeps the groups of its user
        become = ["setpriv", "--reuid", str(st.st_uid), "--regid", str(st.st_gid),
                  "--init-groups" if client.BACKEND == "docker" else "--clear-groups",
                  "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    p = subprocess.run(become + [os.path.join(PREFIX, "bin/cgibox"), "--state", STATE, "--conf", CONF,
                                 "doctor", "--json"],
                       env=dict({k: v for k, v in os.environ.items() if k in ("CGIBOX_BACKEND", "CGIBOX_ENGINE")},
                                PATH="/usr/sbin:/usr/bin:/sbin:/bin"), stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=300, cwd="/")
    try:
        return json.loads(p.stdout.replace(STATE, "STATE"))
    except ValueError:
        ok(False, "doctor runs", p.returncode, p.stdout, p.stderr)
        return []


def plain(facts):
    """Without what differs from one second to the next."""
    out = []
    for f in facts:
        f = dict(f)
        if f["name"] in ("state-space", "sandbox"):
            f["text"] = re.sub(r"[0-9.]+", "N", f["text"])
        out.append(f)
    return out


# --- who may ask
for path in PATHS:
    a = request("GET", path)
    ok(a.status == 200 and list(a.json or {}) == MEMBERS, "GET " + path, a)
    eq(a.headers["Content-Type"], "application/json", "content type of " + path)
    a = request("GET", path, key=None)
    eq((a.status, a.json), (403, {"detail": "API Key header is missing"}), "no key: " + path)
for wrong in ("wrong", KEY[:-1], KEY + "x"):
    a = request("GET", PATHS[0], key=wrong)
    eq((a.status, a.json), (403, {"detail": "Invalid API Key"}), "wrong key of %d characters" % len(wrong))
for method in ("POST", "PUT", "DELETE", "PATCH"):
    a = request(method, PATHS[0])
    eq((a.status, a.json, a.headers["Allow"]), (405, {"detail": "Method Not Allowed"}, "GET"), method)
eq(request("GET", "/system/x").status, 404, "nothing below it")

# --- form
now = time.time()
a = request("GET", PATHS[0])
doc = a.json
eq(doc["version"], request("GET", "/-/version/", key=None).json["version"], "the version of /-/version/")
eq(doc["backend"], client.BACKEND, "the backend")
ok(isinstance(doc["uptime_s"], int) and 0 <= doc["uptime_s"] < 3600, "uptime_s", doc["uptime_s"])
ok(isinstance(doc["checked_at"], int) and now - 900 < doc["checked_at"] <= now + 1, "checked_at", doc["checked_at"])
eq(doc["ready"], all(f["state"] != "blocked" for f in doc["facts"]), "ready: nothing is blocked")
ok(doc["ready"] is True, "this machine is ready", doc["facts"])
ok(all(list(f) == ["name", "state", "text", "fix"] for f in doc["facts"]), "four members a fact", doc["facts"])
ok(all(f["state"] in ("ok", "weaker", "blocked") for f in doc["facts"]), "three states", doc["facts"])

# --- facts and limits
eq(plain(doc["facts"]), plain(doctor()), "the facts are doctor's")
conf = settings()
eq({n: str(v["value"]) for n, v in doc["limits"].items()}, {n: conf.get(n) for n in doc["limits"]}, "the limits are sandbox.conf's")
eq(doc["limits"]["output_max_bytes"]["value"], client.conf("output_max_bytes"), "one that http.conf sets")
ok(all(list(v) == ["value", "held_by"] and v["held_by"] in HOLDERS for v in doc["limits"].values()), "who holds each", doc["limits"])
for name, holder in (("processes_max", "kernel"), ("tmpfs_max_bytes", "kernel"), ("output_max_bytes", "service")):
    eq(doc["limits"][name]["held_by"], holder, "%s is held by the %s" % (name, holder))

# --- what a client must not see
eq([x for x in (KEY, STATE, "api_key", HERE) if x in a.body.decode()], [], "neither the key nor a path of the service")

# --- live numbers
# What the tests before have left ends when it likes, so some tries.
def differ(act, tries=5):
    """The numbers of sessions before and after it."""
    for _ in range(tries):
        n = request("GET", PATHS[0]).json["sessions"]
        act()
        yield n, request("GET", PATHS[0]).json["sessions"]


made = []
ok(any(after == n + 1 for n, after in differ(lambda: made.append(create()))), "one session more")
sid = made[-1]
ok(client.wait_for(lambda: request("GET", PATHS[0]).json["sandboxes"] == 0, 60), "nothing runs")
after = request("GET", PATHS[0]).json
ok(after["uptime_s"] >= doc["uptime_s"] or SELF_STARTING, "the time goes on")
p = run(sid, "true")
ok(p.status == 200, "a command runs", p)
t = threading.Thread(target=run, args=(sid, "sleep 8"))
t.start()
ok(client.wait_for(lambda: request("GET", PATHS[0]).json["sandboxes"] == 1 or not t.is_alive(), 60) and t.is_alive(), "a sandbox while a command runs")
t.join()
eq(delete(sid).status, 204, "DELETE")
made[-1:] = [create() for _ in range(5)]
ok(any(after == n - 1 for n, after in differ(lambda: delete(made.pop()))), "one session less")
for sid in made:
    delete(sid)
eq(request("GET", "/-/health/", key=None).body, b'{"status":"ok"}', "health is as it was")

# --- many at once, and the service stays quick
begin = time.monotonic()
answers = []
ts = [threading.Thread(target=lambda: answers.append(request("GET", PATHS[0]).status)) for _ in range(40)]
for t in ts:
    t.start()
for t in ts:
    t.join()
eq(answers, [200] * 40, "40 at once")
ok(time.monotonic() - begin < 100, "in %.1f s" % (time.monotonic() - begin))


def doctors():
    """What it has at this moment: it looks again from time to time."""
    at = os.path.join(STATE, "tmp")
    return [n for n in os.listdir(at) if n.startswith(".doctor")] if os.access(at, os.R_OK) else []


client.wait_for(lambda: not doctors(), 60)
eq(doctors(), [], "nothing of doctor's is left")

# --- the line of scripts/serve
err = os.path.join(os.path.dirname(STATE), "err")
line = client.wait_for(lambda: [x for x in open(err) if x.startswith("serve: this machine: ")], 300)
if ok(line and len(line) == 1, "scripts/serve says in one line what is weaker", line):
    weaker = [f["name"] + " (%s)" % f["state"] for f in doc["facts"] if f["state"] != "ok"]
    unheld = [n for n, v in doc["limits"].items() if v["held_by"] == "none" and v["value"]]
    eq(line[0].strip(), "serve: this machine: %s; limits not held: %s; `cgibox doctor` says more"
       % (", ".join(weaker) or "nothing is weaker", ", ".join(unheld) or "none"), "the same as the facts and limits")
    ok(KEY not in open(err).read() and stat.S_ISREG(os.stat(err).st_mode), "and not the key")
client.done()
