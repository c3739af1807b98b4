#!/usr/bin/python3
"""Containers to which no descriptor can be passed (engine_runtime = runsc): what commands, runs and files do by way of a relay,
what is refused by name, and what a tenant that stops or ends its pid 1 gets.

Started by tests/http/docker --runtime runsc, or not-runsc: runc, spoken with in the same way."""
import os
import sys
import threading
import time

import client
from client import b64, create, delete, eq, ok, request, run, skip, tar, wait_for

sys.path.insert(0, os.path.join(client.HERE, "..", "cli", "lib"))
import dockerd  # noqa: E402

top, runtime = os.environ.get("CGIBOX_TEST_ENGINE", ""), os.environ.get("CGIBOX_ENGINE_RUNTIME", "")
if not top or "runsc" not in runtime:
    skip("not with engine_runtime = runsc")
    client.done()
    sys.exit()
engine, gvisor = dockerd.Running(top), runtime == "runsc"


def relays():
    """Of this service: names and states of processes, with their parent, its keeper."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as f:
                name, rest = f.read().rsplit(")", 1)
            if name.endswith("(cgibox-relay") and os.path.realpath("/proc/%s/exe" % rest.split()[1]).startswith(client.STATE):
                out.append(int(pid))
        except OSError:
            pass
    return out


def waiting():
    """Containers that were made ahead, each with its relay."""
    return ((request("GET", "/system/").json or {}).get("prepared") or {}).get("ready", 0)


def results(a, n):
    r = (a.json or {}).get("results", [])
    ok(a.status == 200 and len(r) == n, "%d results" % n, a)
    return r + [{"output": None, "exit_code": None, "verdict": None, "truncated": None}] * (n - len(r))


# --- a request's commands, archive, patch ---
sid = create(extract_patch=True)
r = results(run(sid, ["uname -v", "echo out; echo err >&2; exit 3", "no-such-command", "kill -9 $$", "cat; echo end",
                      "head -c 20000000 /dev/zero", "echo new > f; rm gone", "cd /.cgibox; echo *"],
                archive=b64(tar({"f": b"old\n", "gone": b"x\n"}))), 8)
eq("PST 2016" in (r[0]["output"] or ""), gvisor, "whose kernel it is")
eq([x["exit_code"] for x in r[1:5]], [3, 127, 137, 0], "exit codes")
eq([x["verdict"] for x in r[1:5]], ["exit", "exit", "signal", "ok"], "verdicts")
eq((r[1]["output"], r[4]["output"]), ("out\nerr\n", "end\n"), "both streams, and an empty input")
ok(r[5]["truncated"] is True and r[5]["usage"]["output_bytes"] == 20000000 and r[5]["verdict"] == "ok", "all output is counted, not all kept",
   r[5].get("usage"))
eq(r[7]["output"], "init\n", "no socket of the keeper is inside")
eq(request("GET", "/session/%s/files/repo/f" % sid).body, b"new\n", "what a command wrote is a file of the session")
eq(request("PUT", "/session/%s/files/repo/up" % sid, b"\0sent").status, 201, "a file goes in")
begin = time.monotonic()
r = results(run(sid, ["od -An -c up", "(sleep 60; echo late > late) & sleep 60"], timeout=2), 2)
eq((r[0]["output"].split(), r[1]["exit_code"], r[1]["verdict"]), (["\\0", "s", "e", "n", "t"], 124, "timeout"), "and a time limit ends a command")
ok(time.monotonic() - begin < 30, "in time (%.1f s)" % (time.monotonic() - begin))
ok(wait_for(lambda: len(relays()) <= waiting(), 30), "no relay outlives its container", relays())
delete(sid)

# --- a live session ---
sid = create(live=True)
at = "/session/" + sid
a = request("POST", at + "/runs", {"command": "cat; echo err >&2", "stdin": "typed " * 20000})
ok(a.status == 200 and a.json["stdout"] == "typed " * 20000 and a.json["stderr"] == "err\n", "input of more than a window comes back", a.status)
ok(len(relays()) > 0, "control: a relay")
with open("/proc/%d/status" % relays()[0]) as f:
    st = dict(x.split(":\t", 1) for x in f.read().splitlines() if ":\t" in x)
eq((st["CapEff"], st["CapBnd"], st["NoNewPrivs"], st["Seccomp"]), ("0" * 16, "0" * 16, "1", "2"), "it has no right and a filter")
got = []
threads = [threading.Thread(target=lambda i=i: got.append(
    request("POST", at + "/runs", {"command": "head -c 150000 /dev/zero | tr '\\0' %d; sleep 0.3" % i}).json["stdout"] == str(i) * 150000))
    for i in range(6)]
for t in threads:
    t.start()
for t in threads:
    t.join()
eq(got, [True] * 6, "six runs at once, 150 kB each, byte for byte")
rid = request("POST", at + "/runs", {"command": "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done", "detach": True}).json["id"]
p = "%s/runs/%s" % (at, rid)
wait_for(lambda: request("GET", p).json["output"]["end_offset"] > 0, 20)
eq(request("POST", p + "/signal", {"signal": "TERM"}).status, 204, "a signal")
a = request("GET", p + "/wait?timeout=20").json
eq((a["verdict"], a["exit_code"]), ("exit", 9), "is met by the command")
rid = request("POST", at + "/runs", {"command": "while read x; do echo got $x; done; echo end", "stdin_open": True, "detach": True}).json["id"]
p = "%s/runs/%s" % (at, rid)
eq(request("POST", p + "/stdin", {"data": "one\ntwo\n", "eof": True}).json, {"written": 8}, "input while it runs")
eq(request("GET", p + "/wait?timeout=20").json["verdict"], "ok", "and its end")
rid = request("POST", at + "/runs", {"command": "sleep 100 & setsid sleep 100 & wait", "detach": True}).json["id"]
eq(request("DELETE", "%s/runs/%s" % (at, rid)).status, 204, "a run is deleted")
a = request("POST", at + "/runs", {"command": "sleep 0.2; grep -l ^sleep.100 /proc/[0-9]*/cmdline; true"})
ok(a.status == 200 and "cmdline" not in a.json["stdout"], "with its descendants", a)

# --- what is refused ---
a = request("POST", at + "/runs", {"command": "true", "pty": True})
ok(a.status == 422 and "capability" in a.body.decode() and "terminal" in a.body.decode(), "no terminal, by name", a)
a = request("GET", "/system/").json["capabilities"]
eq((a["terminal"], a["ports"], a["layers"]), (False, False, False), "GET /system/ says so")

# --- a tenant that lays hand on its pid 1 ---
def once_there():
    """A run in the session's next sandbox. One that comes while the last one is taken away is told to try again."""
    a = []
    wait_for(lambda: a.append(request("POST", at + "/runs", {"command": "echo again"})) or a[-1].status != 503, 60)
    return a[-1]


begin = time.monotonic()
a = request("POST", at + "/runs", {"command": "kill -STOP 1; sleep 60", "timeout": 2})
ok(a.status == 200 and a.json["verdict"] == "timeout" and a.json["exit_code"] == 124, "one that is stopped keeps no time limit from being kept", a)
ok(time.monotonic() - begin < 30, "in time (%.1f s)" % (time.monotonic() - begin))
a = once_there()
ok(a.status == 200 and a.json["stdout"] == "again\n", "the session goes on", a)
a = request("POST", at + "/runs", {"command": "kill -9 1; sleep 1; exit 0"})
if gvisor:
    ok(a.status == 503 or (a.status == 200 and a.json["verdict"] == "interrupted"), "one that is killed is no success", a)
    a = once_there()
    ok(a.status == 200 and a.json["stdout"] == "again\n", "and the session goes on", a)
else:
    ok(a.status == 200 and a.json["verdict"] == "ok", "it cannot be killed", a)
delete(sid)
ok(wait_for(lambda: len(relays()) <= waiting(), 30), "no relay is left", relays())
ok(wait_for(lambda: len(engine.containers()) <= waiting(), 30), "no container either", engine.containers())
client.done()
