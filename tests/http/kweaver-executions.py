#!/usr/bin/python3
"""Executions of the KWeaver control plane: what code returns, prints and leaves behind, and what is stored of it."""
import json
import re
import threading
import time

from client import done, eq, image_has, note, ok, request, wait_for

API = "/api/v1"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$"


def get(path, **kw):
    return request("GET", API + path, **kw)


def post(path, body=None, **kw):
    return request("POST", API + path, body, **kw)


def session(**more):
    a = post("/sessions", dict({"template_id": "kwx", "env_vars": {"WHO": "session"}}, **more))
    if a.status != 201:
        ok(False, "a session is made", a)
        done()
    return a.json["id"]


def sync(sid, code, language="python", query="", **more):
    return post("/executions/sessions/%s/execute-sync%s" % (sid, query), dict({"code": code, "language": language}, **more))


def run(sid, code, language="python", **more):
    a = sync(sid, code, language, **more)
    if a.status != 200:
        ok(False, "an execution ends: %s" % code[:40], a)
        return {}
    return a.json


def start(sid, code, language="python", **more):
    a = post("/executions/sessions/%s/execute" % sid, dict({"code": code, "language": language}, **more))
    return a.json["execution_id"] if a.status == 201 else ok(False, "an execution is begun", a)


def await_end(eid, seconds=120):
    def ended():
        a = get("/executions/%s/status" % eid)
        return a.json if a.status != 200 or a.json["status"] != "pending" else None

    return wait_for(ended, seconds) or {}


def going(native):
    """Runs of a session that are not over, as the other routes have them: asked here, a result would be stored."""
    return [r for r in request("GET", "/session/%s/runs" % native).json["runs"] if r["state"] == "running"]


post("/templates", {"id": "kwx", "name": "x", "image_url": "registry.example/a/sandbox-template-python-basic:v1.0.0",
                    "runtime_type": "python3.11"})
s = session()
eq(get("/sessions/" + s).json["status"], "running", "a session of the original's image runs here")

# --- shapes
NAMES = ["id", "session_id", "status", "code", "language", "timeout", "exit_code", "error_message", "execution_time", "stdout",
         "stderr", "artifacts", "retry_count", "created_at", "started_at", "completed_at", "return_value", "metrics"]
OURS = ["truncated", "native_session_id", "run_id"]
HELLO = "def handler(event):\n    print('hi')\n    return {'message': 'Hello, %s' % event.get('name', 'World')}"
a = post("/executions/sessions/%s/execute" % s, {"code": HELLO, "language": "python", "event": {"name": "A"}})
eq((a.status, list(a.json)), (201, ["execution_id", "session_id", "status", "created_at"]), "an execution is begun")
eq((a.json["session_id"], a.json["status"]), (s, "pending"), "it is pending")
ok(re.match(r"exec_\d{14}_[0-9a-f]{8}$", a.json["execution_id"]) and re.match(TIME, a.json["created_at"]), "its id and time", a)
x = await_end(a.json["execution_id"])
eq(list(x), NAMES + OURS, "members of an execution")
eq((x["id"], x["status"], x["exit_code"], x["stdout"], x["stderr"], x["return_value"], x["code"], x["language"], x["timeout"]),
   (a.json["execution_id"], "completed", 0, "hi\n", "", {"message": "Hello, A"}, HELLO, "python", 30), "what became of it")
eq(list(x["metrics"]), ["duration_ms", "cpu_time_ms", "peak_memory_mb", "io_read_bytes", "io_write_bytes"], "metrics")
ok(x["metrics"]["duration_ms"] > 0 and x["metrics"]["cpu_time_ms"] > 0 and x["metrics"]["peak_memory_mb"] > 1, "which are measured", x)
ok(re.match(TIME, x["completed_at"]) and x["completed_at"] > x["created_at"], "the time of its end", x)
eq(get("/executions/%s/result" % x["id"]).json, x, "status and result are the same")
a = get("/executions/sessions/%s/executions" % s)
eq((a.status, list(a.json), len(a.json["items"]), list(a.json["items"][0])),
   (200, ["items", "total", "limit", "offset"], 1, NAMES + OURS + ["last_heartbeat_at"]), "the list")
a = post("/sessions/%s/execute" % s, {"code": HELLO, "language": "python"})
eq((a.status, await_end(a.json["execution_id"])["return_value"]), (201, {"message": "Hello, World"}), "the other spelling")
eq([y["return_value"]["message"] for y in get("/executions/sessions/%s/executions" % s).json["items"]],
   ["Hello, World", "Hello, A"], "the newest is first")
a = get("/executions/sessions/%s/executions?limit=1&offset=1" % s).json
eq((a["total"], a["limit"], a["offset"], [y["id"] for y in a["items"]]), (2, 1, 1, [x["id"]]), "a page")
eq(get("/executions/sessions/none/executions").json, {"items": [], "total": 0, "limit": 50, "offset": 0}, "of no session: none")

# --- values
for what, code, want in (("0", "0", 0), ("an empty text", "''", ""), ("an empty list", "[]", []), ("false", "False", False),
                         ("None", "None", None), ("NaN", "[float('nan'), float('inf'), 1.5]", [None, None, 1.5]),
                         ("a large number", "2**100", 2**100), ("text", "'\\u00e9\\u20ac\\n'", "\u00e9\u20ac\n")):
    y = run(s, "def handler(event): return " + code)
    eq((y.get("status"), y.get("return_value")), ("completed", want), "returns %s" % what)
ok('"return_value":1267650600228229401496703205376,' in
   sync(s, "def handler(event): return 2**100").body.decode(), "no digit of a number is lost on its way")
y = run(s, "def handler(event): return [event['n'], len(event['t'])]", event={"n": 2**70, "t": "x" * 500000})
eq(y.get("return_value"), [2**70, 500000], "nor of an event, which may be long")
if image_has("node"):
    y = run(s, "function handler(event) { console.log(typeof event); return {n: event.n + 1, l: [event.a.length]}; }", "javascript",
            event={"n": 1, "a": "x" * 200000})
    eq((y.get("return_value"), y.get("stdout")), ({"n": 2, "l": [200000]}, "object\n"), "javascript gets an object")
    y = run(s, "async function handler() { await new Promise((r) => setTimeout(r, 50)); return 0; }", "javascript")
    eq((y.get("status"), y.get("return_value")), ("completed", 0), "an asynchronous handler is awaited")
else:
    note("the image has no node")
y = run(s, "echo out; echo err >&2; pwd; echo $WHO; exit 3", "shell")
eq((y.get("status"), y.get("exit_code"), y.get("stdout"), y.get("stderr"), y.get("return_value")),
   ("failed", 3, "out\n/workspace\nsession\n", "err\n", None), "shell")
y = run(s, "echo '{\"a\": 1}'", "shell")
eq((y.get("status"), y.get("stdout"), y.get("return_value")), ("completed", '{"a": 1}\n', None), "JSON of a shell is text")
y = run(s, "import atexit\natexit.register(print, 'bye')\ndef handler(e): print('hi'); return 1")
eq((y.get("return_value"), y.get("stdout")), (1, "hi\nbye\n"), "what is printed later is kept")
eq(sync(s, "true", "shell", working_directory="sub").status, 422, "a working directory that is not there")
run(s, "mkdir -p sub", "shell")
y = run(s, "import os\ndef handler(e): return [os.environ['WHO'], os.getcwd()]", env_vars={"WHO": "call"}, working_directory="sub")
eq(y.get("return_value"), ["call", "/workspace/sub"], "variables and directory of one execution")

# --- failures
for what, code, code_, error in (("an exception", "print('before')\ndef handler(e): return e['none']", 1, "KeyError: 'none'"),
                                 ("no handler", "print('before')\nx = 1", 1, "handler"),
                                 ("a syntax error", "def handler(:", 1, "SyntaxError"),
                                 ("a value that is no JSON", "print('before')\ndef handler(e): return {1}", 1, "not JSON serializable"),
                                 ("sys.exit", "print('before')\nimport sys\ndef handler(e): sys.exit(7)", 7, "")):
    y = run(s, code)
    eq((y.get("status"), y.get("exit_code"), y.get("return_value"), y.get("stdout")),
       ("failed", code_, None, "" if "syntax" in what else "before\n"), what)
    ok(error in y.get("stderr", ""), "and says why", y)
    ok(y.get("metrics") and y["metrics"]["duration_ms"] > 0, "with metrics", y)
y = run(s, "def handler(e): return __import__('sys').setrecursionlimit(10**4) or __import__('functools').reduce(lambda a, _: [a], range(80), 1)")
eq((y.get("status"), y.get("exit_code"), y.get("return_value")), ("failed", 1, None), "a value deeper than JSON may be")
ok("return value" in (y.get("error_message") or ""), "says so", y)
y = run(s, "import os\ndef handler(e): os.write(1, b'a\\xffb\\n')")
eq(y.get("stdout"), "a\ufffdb\n", "bytes that are no text")
y = run(s, "kill -9 $$", "shell")
eq((y.get("status"), y.get("exit_code")), ("failed", 137), "a signal")
begin = time.monotonic()
y = run(s, "import time\nprint('begun', flush=True)\ndef handler(e): time.sleep(600)", timeout=6)
eq((y.get("status"), y.get("exit_code"), y.get("stdout"), y.get("error_message")),
   ("timeout", 124, "begun\n", "Execution timed out after 6s"), "a timeout: code 124, and its output is kept")
ok(time.monotonic() - begin < 100 and y["metrics"]["duration_ms"] >= 6000, "in time, with metrics", y)
eq(run(s, "pgrep -f 'time.sleep.600' || echo none", "shell").get("stdout"), "none\n", "what ran is dead")
LONG = "until [ -e go ]; do sleep 0.1; done"
a = sync(s, LONG, "shell", query="?sync_timeout=10", timeout=300)
eq((a.status, a.json), (408, {"detail": "Synchronous execution timeout after 10s"}), "waiting has its end")
y = get("/executions/sessions/%s/executions?limit=1" % s).json["items"][0]
eq((y["status"], y["code"]), ("pending", LONG), "and the execution goes on")
run(s, "touch go", "shell")
eq(await_end(y["id"]).get("status"), "completed", "to its end")

# --- large output: what is stored has a bound, which says so, and the value survives it
y = run(s, "def handler(e):\n    print('x' * 3000000)\n    return 'v' * 100000")
eq((y.get("return_value"), len(y.get("stdout", "")), y.get("truncated")), ("v" * 100000, 1 << 20, True), "3 MB of output")
y = run(s, "def handler(e): return 'v' * 1048574")
eq((y.get("status"), len(y.get("return_value") or "")), ("completed", 1048574), "a value of 1 MiB")
y = run(s, "def handler(e): return 'v' * 1048575")
eq((y.get("status"), y.get("return_value")), ("failed", None), "of a byte more")
ok("1048577 bytes, at most 1048576" in y.get("stderr", ""), "which the code is told", y.get("stderr"))
y = run(s, "def handler(e):\n    print('x' * 9000000)\n    return 1")
eq((y.get("return_value"), y.get("truncated")), (1, True), "more output than is kept at all: the value comes last")

# --- refusals
for body, want in (({"language": "python"}, ("missing", ["body", "code"])), ({"code": "1"}, ("missing", ["body", "language"])),
                   ({"code": "", "language": "python"}, ("string_too_short", ["body", "code"])),
                   ({"code": "x" * 102401, "language": "python"}, ("string_too_long", ["body", "code"])),
                   ({"code": "1", "language": "perl"}, ("literal_error", ["body", "language"])),
                   ({"code": "1", "language": "shell", "timeout": 0}, ("greater_than_equal", ["body", "timeout"])),
                   ({"code": "1", "language": "shell", "timeout": 3601}, ("less_than_equal", ["body", "timeout"])),
                   ({"code": "1", "language": "shell", "event": [1]}, ("dict_type", ["body", "event"])),
                   ({"code": "a\0b", "language": "shell"}, ("value_error", ["body", "code"]))):
    a = post("/executions/sessions/%s/execute" % s, body)
    eq((a.status, [(p["type"], p["loc"]) for p in a.detail]), (422, [want]), "422: %s" % (want,))
for query in ("poll_interval=0.05", "poll_interval=11", "poll_interval=x", "sync_timeout=9", "sync_timeout=3601"):
    a = sync(s, "true", "shell", query="?" + query)
    eq((a.status, a.detail[0]["loc"]), (422, ["query", query.split("=")[0]]), query)
eq(sync(s, "true", "shell", query="?poll_interval=0.1&sync_timeout=3600").status, 200, "at their bounds they are good")
eq(sync(s, "true", "shell", timeout=3600).status, 200, "and a timeout of 3600 s")
for d in ("..", "a/../../b", "/etc"):
    a = sync(s, "true", "shell", working_directory=d)
    eq((a.status, a.json), (400, {"detail": "Invalid working_directory: " + d}), "no directory " + d)
a = sync("none", "true", "shell")
eq((a.status, a.json["error"], a.json["message"]), (404, "Not Found", "Session not found: none"), "no session")
for what in ("status", "result"):
    a = get("/executions/none/" + what)
    eq((a.status, a.json), (404, {"error": "Not Found", "message": "Execution not found: none", "detail": "Execution not found: none"}),
       "no execution: " + what)
for path in ("containers/ready", "containers/exited", "executions/x/heartbeat", "executions/%s/result" % x["id"]):
    a = post("/internal/" + path, {"status": "completed", "stdout": "forged"})
    eq(a.status, 403, "nobody reports results: " + path)
eq(get("/executions/%s/result" % x["id"]).json, x, "and none was changed")

# --- several at once
# Each waits for all the others: one after the other they would not end.
ids = [start(s, "touch come%d; until [ $(ls come* | wc -l) = 6 ]; do sleep 0.05; done; echo %d" % (i, i), "shell", timeout=100) for i in range(6)]
eq([await_end(i).get("stdout") for i in ids], ["%d\n" % i for i in range(6)], "six at once, each with its own output")

# --- artifacts
run(s, "mkdir -p out; echo 1 > out/a.csv; echo 2 > .hidden; touch old", "shell")
time.sleep(0.1)
y = run(s, "def handler(e):\n    open('out/b.json', 'w').write('{}')\n    open('out/a.csv', 'a').write('3')\n    open('/tmp/no', 'w')")
eq(sorted(z["path"] for z in y.get("artifacts", [])), ["out/a.csv", "out/b.json"], "files that an execution made or changed")
z = [z for z in y["artifacts"] if z["path"] == "out/b.json"][0]
eq((list(z), z["size"], z["mime_type"]), (["path", "size", "mime_type", "type", "created_at", "checksum"], 2, "application/json"), "one of them")
y = run(s, "import os\ndef handler(e):\n    d = '/'.join(['\\1' * 250] * 3)\n    os.makedirs(d)\n    for i in range(900):\n        open(d + '/' + '\\1' * 200 + str(i), 'w')")
ok(100 < len(y.get("artifacts", [])) < 900, "as many as a document holds, where names need much room", len(y.get("artifacts", [])))
z = get("/executions/sessions/%s/executions?limit=1" % s).json["items"][0]
eq((z["artifacts"], z.get("shortened")), ([], ["artifacts"]), "and a list of executions stays one, without them")

# --- the end of a session
e1, e2 = start(s, "echo before; sleep 600", "shell", timeout=900), start(s, "echo done", "shell")
native = get("/sessions/" + s).headers["X-Session-Id"]
ok(wait_for(lambda: [r["output"]["end_offset"] for r in going(native)] == [7], 60), "one has ended, one has said something", going(native))
a = post("/sessions/%s/terminate" % s)
eq((a.status, a.json["status"]), (200, "terminated"), "a session is terminated")
y, z = get("/executions/%s/result" % e1).json, get("/executions/%s/result" % e2).json
eq((y["status"], y["stdout"], z["status"], z["stdout"]), ("failed", "before\n", "completed", "done\n"), "what ran is ended, what had ended is kept")
a = sync(s, "true", "shell")
eq((a.status, a.json), (409, {"error": "Conflict", "message": "Session is not active: " + s, "detail": "Session is not active: " + s}),
   "no execution in it")
eq(request("DELETE", API + "/sessions/" + s).status, 204, "deleted")
eq((get("/executions/%s/result" % e1).status, get("/executions/sessions/%s/executions" % s).json["total"]), (404, 0), "with its executions")

# --- the other routes see the same session
a = post("/sessions", {"template_id": "kwx", "id": "shared"})
native = a.headers["X-Session-Id"]
ok(native and get("/sessions/shared").headers["X-Session-Id"] == native, "its id in the other routes", a.headers)
e1 = start("shared", "echo kweaver > made; sleep 1; echo late", "shell")
wait_for(lambda: [f["size"] for f in get("/sessions/shared/files").json["files"] if f["name"] == "made"] == [8], 60)
a = request("POST", "/session/%s/" % native, {"commands": ["cat made; pwd -P; echo daiv > /repo/back"]})
eq((a.status, a.json["results"][0]["output"] if a.status == 200 else a), (200, "kweaver\n/workspace\n"), "a command of the session API sees its files")
eq(run("shared", "cat back", "shell").get("stdout"), "daiv\n", "and the other way round")
y = get("/executions/%s/status" % e1).json
if y["status"] == "pending":
    a = request("GET", "/session/%s/runs/%s/output" % (native, y["run_id"]))
    ok(b"late" in a.body, "a pending execution can be followed as a run", a)
eq(await_end(e1).get("stdout"), "late\n", "and its result is as ever")
eq(request("DELETE", "/session/%s/" % native).status, 204, "deleted through the session API")
eq(get("/sessions/shared").json["status"], "timeout", "it is no longer there for this one")
eq(request("DELETE", API + "/sessions/shared").status, 204, "and can be deleted")

# --- a result is stored once, whoever looks at the same time
s = session()
e1 = start(s, "date +%s%N; sleep 0.3", "shell")
seen = []
threads = [threading.Thread(target=lambda: seen.append(json.dumps(await_end(e1)))) for _ in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
eq(len(set(seen)), 1, "eight clients see one result")

# --- large results are whole where one is asked for, and short in lists
s = session()
LARGE = "import sys\ndef handler(e):\n    print('\\x01\\u00e9' * 200000)\n    sys.stderr.write('y' * 20000)\n    return ['z' * 70000] * 2"
e1, e2 = [run(s, code)["id"] for code in (LARGE, HELLO)]
x = get("/executions/%s/result" % e1).json
eq((len(x["stdout"]), len(x["stderr"]), len(x["return_value"]), x["truncated"]), (400001, 20000, 2, False), "one result has all of it")
a = get("/executions/sessions/%s/executions" % s)
small, y = a.json["items"]
eq((small["id"], small.get("shortened")), (e2, None), "in a list small ones are whole")
eq(y.pop("shortened", None), ["stdout", "stderr", "return_value"], "and large ones say what is cut")
ok(len(y["stdout"]) > 4000 and x["stdout"].startswith(y["stdout"]) and x["stderr"].startswith(y["stderr"]), "of which they have the beginning", len(y["stdout"]))
eq((y["return_value"], y.pop("last_heartbeat_at")), (None, None), "or nothing")
eq({k: v for k, v in y.items() if k not in ("stdout", "stderr", "return_value")},
   {k: v for k, v in x.items() if k not in ("stdout", "stderr", "return_value")}, "all else is there")
ok(len(a.body) < 50000, "the list is short", len(a.body))
for x in get("/sessions?limit=200").json["items"]:
    request("DELETE", API + "/sessions/" + x["id"])
request("DELETE", API + "/templates/kwx")
note("the original loses falsy values, output on timeout, and timeouts over 30 s")
done()
