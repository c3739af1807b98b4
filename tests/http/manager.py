#!/usr/bin/python3
"""The Docker Sandbox Manager: sandboxes with a command of their own, exec, variables, logs, exports."""
import io
import re
import time
import zipfile

from client import connect, create, delete as drop, done, eq, note, ok, request, KEY, PREFIX, TAGGED

API = "/api/v1/sandboxes"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"


def get(path, **kw):
    return request("GET", API + path, **kw)


def post(path, body=None, **kw):
    return request("POST", API + path, body, **kw)


def remove(sid):
    return request("DELETE", API + "/" + sid)


def make(**spec):
    a = post("", dict({"image": TAGGED}, **spec))
    if a.status != 201:
        ok(False, "a sandbox is made", a)
        done()
    return a.json["container_id"]


def problems(a):
    d = a.detail if isinstance(a.detail, list) else []
    return a.status, [(x["type"], x["loc"]) for x in d]


def state(sid):
    return get("/" + sid).json["status"]


def until(what, fn, want, seconds=60):
    """The last value of fn, which is asked again until it is `want`."""
    end = time.monotonic() + seconds
    got = fn()
    while got != want and time.monotonic() < end:
        time.sleep(0.05)
        got = fn()
    return eq(got, want, what)


def logs(sid, kind=None):
    a = get("/%s/logs" % sid)
    return [x["message"] for x in a.json["logs"] if kind in (None, x["log_type"])]


# --- made
NAMES = ["id", "container_id", "name", "status", "image", "command", "entrypoint", "resources", "environment", "created_at",
         "started_at", "terminated_at", "last_active", "auto_remove", "volumes", "ports", "urls"]
eq(get("", key=None).status, 403, "the key is asked for")
a = post("", {"image": TAGGED, "command": "echo out; echo err >&2; sleep 300", "environment": {"A_B": "1 2"},
              "ports": [{"port": 8080}, {"internal": 9000, "protocol": "http", "subdomain": "my-app"}],
              "resources": {"memory": "64M", "timeout": None, "gpu": None}, "force_build": False, "build_context": {}})
eq((a.status, list(a.json or {})), (201, NAMES), "a sandbox is made")
S = a.json["container_id"]
ok(re.match(TIME, a.json["created_at"]) and re.match(TIME, a.json["started_at"]), "with times", a)
ok(isinstance(a.json["id"], int) and a.json["name"] == "sandbox-" + S[:8], "and names", a)
eq([a.json[k] for k in NAMES[3:9]],
   ["running", TAGGED, "echo out; echo err >&2; sleep 300", None,
    {"cpu": 1.0, "memory": "64M", "gpu": None, "timeout": None, "max_retries": None}, {"A_B": "1 2"}], "and what was asked for")
P = "/api/v1/sandboxes/%s/ports/%d/"
eq(a.json["urls"], {"8080": P % (S, 8080), "9000": P % (S, 9000)}, "ports have paths")
eq(a.json["ports"], [{"id": i + 1, "internal_port": n, "external_port": n, "protocol": "http", "url": P % (S, n)}
                     for i, n in enumerate((8080, 9000))], "ports")
for change, want in ((dict(image="python"), ("string_pattern_mismatch", ["body", "image"])),
                     (dict(image="-x:1"), ("string_pattern_mismatch", ["body", "image"])),
                     (dict(image="a//b:1"), ("string_pattern_mismatch", ["body", "image"])),
                     (dict(image="ab:"), ("string_pattern_mismatch", ["body", "image"])),
                     (dict(resources={"cpu": 8.1}), ("less_than_equal", ["body", "resources", "cpu"])),
                     (dict(resources={"cpu": 0.09}), ("greater_than_equal", ["body", "resources", "cpu"])),
                     (dict(resources={"memory": "512"}), ("value_error", ["body", "resources", "memory"])),
                     (dict(resources={"memory": "0m"}), ("value_error", ["body", "resources", "memory"])),
                     (dict(resources={"gpu": "H100"}), ("value_error", ["body", "resources", "gpu"])),
                     (dict(resources={"timeout": 0}), ("greater_than_equal", ["body", "resources", "timeout"])),
                     (dict(resources={"max_retries": -1}), ("greater_than_equal", ["body", "resources", "max_retries"])),
                     (dict(resources={"max_retries": 1001}), ("less_than_equal", ["body", "resources", "max_retries"])),
                     (dict(resources=[]), ("model_attributes_type", ["body", "resources"])),
                     (dict(environment={"a-b": "1"}), ("value_error", ["body", "environment", "a-b"])),
                     (dict(environment={"A": 1}), ("string_type", ["body", "environment", "A"])),
                     (dict(command=[1]), ("value_error", ["body", "command"])),
                     (dict(force_build=True), ("value_error", ["body", "force_build"])),
                     (dict(build_context={"dockerfile": "x"}), ("value_error", ["body", "build_context"])),
                     (dict(ports=[{"port": 0}]), ("greater_than_equal", ["body", "ports", 0, "port"])),
                     (dict(ports=[{"port": 65536}]), ("less_than_equal", ["body", "ports", 0, "port"])),
                     (dict(ports=[{}]), ("missing", ["body", "ports", 0, "port"])),
                     (dict(ports=[{"port": 1, "protocol": "tcp"}]), ("value_error", ["body", "ports", 0, "protocol"])),
                     (dict(ports=[{"port": 1, "protocol": "x"}]), ("string_pattern_mismatch", ["body", "ports", 0, "protocol"])),
                     (dict(ports=[{"port": 1, "external": 80}]), ("value_error", ["body", "ports", 0, "external"])),
                     (dict(ports=[{"port": 1, "subdomain": "ab"}]), ("value_error", ["body", "ports", 0, "subdomain"])),
                     (dict(ports=[{"port": 1}, {"port": 1}]), ("value_error", ["body", "ports", 1]))):
    eq(problems(post("", dict({"image": TAGGED}, **change))), (422, [want]), "422: %s" % change)
eq(problems(post("", {"image": TAGGED, "ports": [{"port": n} for n in range(1, 66)]}))[0], 422, "422: 65 ports")
eq(problems(post("", {})), (422, [("missing", ["body", "image"])]), "422 without an image")
a = post("", {"image": "no-such-image-here:1"})
ok(a.status == 422 and isinstance(a.detail, str), "422 for an image that is not there", a)

# --- looked at
a = get("/" + S)
eq((a.status, a.json["container_id"], list(a.json["status"]), a.json["volumes"]),
   (200, S, ["status", "running", "exit_code", "started_at", "finished_at", "tries"], []), "one sandbox")
eq([a.json["status"][k] for k in ("status", "running", "exit_code", "finished_at", "tries")], ["running", True, None, None, 1],
   "and its state")
row = [x for x in get("").json["sandboxes"] if x["container_id"] == S]
eq([(x["image"], x["status"], list(x["state"])) for x in row],
   [(TAGGED, "running", ["Status", "Running", "ExitCode", "StartedAt", "FinishedAt", "tries"])], "it is in the list")
ok(S in [x["container_id"] for x in get("/?status=running").json["sandboxes"]], "also of those that run")
ok(S not in [x["container_id"] for x in get("?status=exited").json["sandboxes"]], "not of those that have ended")
ok("too large" in str(post("", {"image": TAGGED, "environment": {"A": "x" * 65534}}).json), "422: variables over environment_max_bytes, with no command")
many = [post("", {"image": TAGGED}).json["container_id"] for i in range(34)]
eq([x["container_id"] for x in get("").json["sandboxes"]][:35], many[::-1] + [S], "a list of more than one part, newest first")
eq([request("DELETE", API + "/" + x).status for x in many], [200] * 34, "and they go")
eq(request("GET", "/api/v1/api/v1/sandboxes/" + S).status, 200, "the prefix may be there twice")
eq(request("GET", "/api/v1/api/v1/session/" + S).status, 404, "not of other routes")
for bad in ("00000000-0000-4000-8000-000000000000", "x", "..%2f", "A" * 300):
    eq((get("/" + bad).status, get("/%s/urls" % bad).detail), (404, "Sandbox not found"), "404: %.10s" % bad)
eq(get("/%s/urls" % S).json["urls"]["8080"], P % (S, 8080), "urls")
until("logs hold both streams", lambda: (logs(S, "stdout"), logs(S, "stderr")), (["out"], ["err"]))
eq(get("/%s/logs?since=2024-01-01" % S).status, 422, "a time that lines do not have")
a = get("/%s/stats" % S)
eq((a.status, list(a.json)), (200, ["timestamp", "cpu_percent", "mem_usage", "mem_limit", "mem_percent", "net_rx", "net_tx", "runs"]),
   "stats")
eq((a.json["mem_limit"], a.json["runs"]), (64 << 20, 1), "the limit that was asked for")
eq(request("GET", "/api/v1/metrics/" + S).json["mem_limit"], 64 << 20, "metrics, which are the same")
eq(get("/%s/alerts" % S).json, {"alerts": []}, "alerts")
eq(request("GET", "/session/%s/status" % S).json["live"], True, "it is a session for the other routes")

# --- exec
a = post("/%s/exec" % S, {"command": "echo $A_B; echo two >&2; exit 3"})
eq((a.status, a.json["output"], a.json["exit_code"]), (200, "1 2\ntwo\n", 3), "exec")
u = post("/%s/exec" % S, {"command": "sleep 0.3; seq 99999 | sort >/dev/null"}).json["usage"]
ok(u["wall_ms"] >= 300 and u["user_ms"] > 0 and u["memory_peak_bytes"] > 1 << 20 and u["processes"] >= 3, "usage is the command's", u)
eq(post("/%s/exec" % S, {"command": "pgrep -f 'sleep 300' >/dev/null && echo there"}).json["output"], "there\n",
   "beside its own command")
eq(problems(post("/%s/exec" % S, {})), (422, [("missing", ["body", "command"])]), "exec of nothing")
eq(post("/%s/exec" % S, {"command": "a\0b"}).status, 422, "exec of a NUL")
c = connect()
c.request("POST", PREFIX + API + "/%s/exec/stream" % S, b'{"command":"echo first; until [ -e go ]; do sleep 0.05; done; printf last"}',
          {"X-API-Key": KEY, "Content-Type": "application/json"})
r = c.getresponse()
first = r.read1(100)
post("/%s/exec" % S, {"command": "touch go"})
rest = r.read()
eq((r.status, r.headers["Content-Type"], first, rest), (200, "text/plain; charset=utf-8", b"first\n", b"last"), "exec as a stream, as it comes")
until("what exec began is over", lambda: get("/%s/stats" % S).json["runs"], 1)

# --- variables and command
eq(get("/%s/env" % S).json, {"environment": {"A_B": "1 2"}}, "variables")
a = post("/%s/env" % S, {"environment": {"C": "3"}})
eq((a.status, a.json), (200, {"status": "updated", "environment": {"A_B": "1 2", "C": "3"}}), "merged")
eq(post("/%s/exec" % S, {"command": "echo $A_B $C"}).json["output"], "1 2 3\n", "and seen")
eq(post("/%s/env" % S, {"environment": {"D": "4"}, "merge": False}).json["environment"], {"D": "4"}, "replaced")
eq(post("/%s/exec" % S, {"command": "echo ${A_B-none} $D"}).json["output"], "none 4\n", "and seen")
eq(problems(post("/%s/env" % S, {"environment": {"=": "4"}})), (422, [("value_error", ["body", "environment", "="])]), "a bad name")
eq(get("/%s/entrypoint" % S).json, {"entrypoint": None, "command": "echo out; echo err >&2; sleep 300"}, "entrypoint")
a = post("/%s/entrypoint" % S, {"entrypoint": ["printf", "%s|%s|$X\n"], "command": ["it's", "$D"]})
eq((a.status, a.json["status"], a.json["entrypoint"], a.json["command"]),
   (200, "updated", ["printf", "%s|%s|$X\n"], ["it's", "$D"]), "is changed")
until("and has been started anew, words kept whole", lambda: logs(S), ["it's|$D|$X"])
until("the command has ended", lambda: [state(S).get(k) for k in ("status", "exit_code", "verdict")], ["exited", 0, "ok"])
ok(re.match(TIME, state(S)["finished_at"]), "at a time", state(S))
eq(post("/%s/exec" % S, {"command": "echo still"}).json["output"], "still\n", "exec works after it")
eq(problems(post("/%s/entrypoint" % S, {"command": 1}))[0], 422, "a bad command")

# --- stopped and started
eq(post("/%s/entrypoint" % S, {"entrypoint": [], "command": "trap 'echo bye; exit 7' TERM; echo up; sleep 300 & wait"}).status, 200,
   "another command")
eq(logs(S), ["it's|$D|$X"], "for one that has ended waits for its start")
post("/%s/start" % S)
until("once it is started", lambda: logs(S), ["up"])
eq(post("/%s/start" % S).json, {"status": "started"}, "a second start")
eq(post("/%s/stop?timeout=60" % S).json, {"status": "stopped"}, "stop")
eq([state(S)[k] for k in ("status", "running", "exit_code")], ["exited", False, 7], "let it end in order")
eq(logs(S), ["up", "bye"], "and its last words are kept")
eq((post("/%s/exec" % S, {"command": "true"}).status, get("/%s/stats" % S).status), (409, 409), "exec in a stopped one")
for q in ("timeout=x", "timeout=301", "timeout=-1"):
    eq(post("/%s/stop?%s" % (S, q)).status, 422, "stop?" + q)
eq(post("/%s/restart" % S).json, {"status": "restarted"}, "restart")
until("runs it anew", lambda: (state(S)["status"], logs(S)), ("running", ["up"]))
eq(post("/%s/entrypoint" % S, {"command": "trap '' TERM; echo deaf; while :; do sleep 1; done"}).status, 200, "one that does not listen")
eq((post("/%s/entrypoint" % S, {"entrypoint": "x" * 200000}).status, state(S)["status"]), (422, "running"), "one that is too long ends nothing")
until("runs", lambda: logs(S), ["deaf"])
t0 = time.monotonic()
eq(post("/%s/stop?timeout=1" % S).json, {"status": "stopped"}, "is stopped")
t = time.monotonic() - t0
ok(0.9 < t < 60, "after its time", t)
eq([state(S)[k] for k in ("status", "verdict")], ["exited", "killed"], "by force")

# --- time limit, tries
eq(post("/%s/timeout" % S, {"timeout": 1}).json, {"status": "updated", "timeout": 1}, "a time limit")
eq(problems(post("/%s/timeout" % S, {"timeout": -1})), (422, [("greater_than_equal", ["body", "timeout"])]), "a bad one")
post("/%s/start" % S)
until("ends it", lambda: [state(S).get(k) for k in ("status", "exit_code", "verdict", "tries")], ["exited", 124, "timeout", 1])
eq(post("/%s/timeout" % S, {"timeout": 0}).json["timeout"], 0, "none again")
eq(get("/" + S).json["resources"]["timeout"], None, "is null")
R = make(command="n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; echo try $n; exit $((n + 1))", resources={"max_retries": 2})
until("a command that fails is tried again, so often", lambda: [state(R).get(k) for k in ("status", "exit_code", "tries")], ["exited", 3, 3])
eq(logs(R), ["try 0", "try 1", "try 2"], "all tries are in the logs")
eq(remove(R).json, {"status": "deleted"}, "deleted")
R = make(command="[ -e n ] || { touch n; kill -9 $$; }; echo good", resources={"max_retries": 5})
until("until it succeeds", lambda: [state(R).get(k) for k in ("status", "exit_code", "tries")], ["exited", 0, 2])
post("/%s/restart" % R)
until("tries are counted from the start", lambda: [state(R).get(k) for k in ("status", "exit_code", "tries")], ["exited", 0, 1])
remove(R)
R = make(command="sleep 300", resources={"max_retries": 5})
post("/%s/stop?timeout=0" % R)
eq([state(R)[k] for k in ("status", "tries")], ["exited", 1], "what was stopped is not tried again")
remove(R)
N = make()
eq(state(N)["status"], "running", "without a command it stands for exec")
eq(post("/%s/exec" % N, {"command": "pwd"}).json["output"], "/repo\n", "which runs in /repo")
post("/%s/stop" % N)
eq((state(N)["status"], state(N)["exit_code"]), ("exited", None), "until it is stopped")

# --- exports
request("PUT", "/session/%s/files/repo/d/a.txt" % S, b"text")
post("/%s/start" % S)
post("/%s/exec" % S, {"command": r"head -c 100000 /dev/zero >/repo/d/$(printf '\377').bin"})
a = get("/%s/export?folder_path=/repo/d" % S)
eq((a.status, a.headers["Content-Type"], a.headers["Content-Disposition"]),
   (200, "application/zip", 'attachment; filename="%s_repo_d.zip"' % S[:8]), "an export")
z = zipfile.ZipFile(io.BytesIO(a.body)) if a.status == 200 else None
eq(z and (z.testzip(), sorted(z.namelist())[:1], z.read("a.txt"), len(z.namelist())), (None, ["a.txt"], b"text", 2), "is a zip")
ok(z and len(a.body) < 20000, "packed", len(a.body))
eq([get("/%s/export?folder_path=%s" % (S, p)).status for p in ("/nothing", "/repo/d/a.txt", "relative")], [404, 422, 422], "bad folders")

# --- refused with a text
for path in ("/networks", "/sandboxes/%s/networks/n/connect" % S, "/sandboxes/%s/networks/n/disconnect" % S):
    a = request("POST", "/api/v1" + path, {"name": "n"})
    ok(a.status == 422 and "network" in (a.detail or ""), "POST %s" % path.replace(S, "ID"), a)

# --- removed
eq(drop(N).status, 204, "removed by another API")
eq([state(N)["status"], get("/%s/stats" % N).status], ["terminated", 404], "it is terminated")
ok(re.match(TIME, get("/" + N).json["terminated_at"]), "at a time")
eq((post("/%s/start" % N).status, post("/%s/exec" % N, {"command": "true"}).status), (404, 404), "and does not come back")
eq([x["status"] for x in get("?status=terminated").json["sandboxes"] if x["container_id"] == N], ["terminated"], "but is listed")
for sid in (N, S):
    eq((remove(sid).json, get("/" + sid).status, remove(sid).status), ({"status": "deleted"}, 404, 404), "deleted")
eq(request("GET", "/session/%s/" % S).status, 404, "its session, too")
done()
