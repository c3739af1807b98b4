#!/usr/bin/python3
"""The command sandbox-run against the running service."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading

import client
from client import done, eq, ok

PROGRAM = os.path.join(client.HERE, "../../scripts/sandbox-run")
TOP = tempfile.mkdtemp(prefix="cgibox-run.")


def put(name, text):
    path = os.path.join(TOP, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def run(*args, stdin="", **env):
    env = dict(os.environ, **dict({"CGIBOX_URL": client.URL, "CGIBOX_API_KEY": client.KEY}, **env))
    p = subprocess.run(["/usr/bin/python3", PROGRAM] + list(args), input=stdin, capture_output=True, text=True, encoding="utf-8",
                       env=env, timeout=300, check=False)
    return p.returncode, p.stdout, p.stderr


HELLO = put("hello.py", "def handler(event):\n    print('out é')\n    return {'hello': event.get('name', 'world'), 'of': sorted(event)}\n")
code, out, err = run(HELLO, "--format", "json")
j = json.loads(out)
eq((code, err, list(j)), (0, "", ["exit_code", "stdout", "stderr", "result", "metrics"]), "json")
eq((j["exit_code"], j["stdout"], j["stderr"], j["result"]), (0, "out é\n", "", {"hello": "world", "of": ["__timeout"]}), "is the result")
ok(j["metrics"]["duration_ms"] > 0 and list(j["metrics"]) == ["duration_ms", "cpu_time_ms", "memory_peak_mb"], "with metrics", j)
eq(json.loads(run(HELLO, "--event", '{"name": "Älice"}', "--format", "json")[1])["result"]["hello"], "Älice", "--event")
EVENT = put("event.json", '{"name": "file"}')
eq(json.loads(run(HELLO, "--event-file", EVENT, "--format", "json")[1])["result"]["hello"], "file", "--event-file")
eq(json.loads(run(HELLO, "-f", "-", "--format", "json", stdin='{"name": "stdin"}')[1])["result"]["hello"], "stdin", "of standard input")
eq(run(HELLO, "--context", '{"function_name": "f"}', "-q")[0], 0, "--context")
code, out, err = run(HELLO)
eq((code, out.split("\n")[:3]), (0, ["Executing: " + HELLO, "-" * 50, "Execution succeeded"]), "pretty")
ok("STDOUT:\n" + "-" * 40 + "\nout é\n" in out and '"hello": "world"' in out and "METRICS" not in out, "its parts", out)
code, out, err = run(HELLO, "-q", "-p")
ok(out.startswith("Execution succeeded\n") and "METRICS:" in out and "Memory Peak:" in out, "--quiet, --profile", out)
code, out, err = run(put("y.py", "def handler(e): return {'a': [1, {'b c': None}, []], 't': 'x: y\\n', 'n': {}}"), "--format", "yaml")
eq((code, out.split("metrics:")[0]), (0, 'exit_code: 0\nstdout: ""\nstderr: ""\nresult:\n  a:\n    - 1\n    -\n      "b c": null\n    - []\n'
                                         '  t: "x: y\\n"\n  n: {}\n'), "yaml")
try:
    import yaml
    eq(yaml.safe_load(out)["result"], {"a": [1, {"b c": None}, []], "t": "x: y\n", "n": {}}, "that a parser reads")
except ImportError:
    client.note("no PyYAML: yaml is compared as text alone")
SAVED = os.path.join(TOP, "saved")
code, out, err = run(HELLO, "--format", "json", "-o", SAVED)
with open(SAVED, encoding="utf-8") as f:
    eq(f.read(), out, "--output")
eq(run(HELLO, "-o", TOP + "/no/such")[0], 1, "where it cannot be written")

# --- what goes wrong
code, out, err = run(put("bad.py", "def handler(event):\n    raise ValueError('no good')\n"))
ok(code == 2 and "ValueError: no good" in out and "Execution failed (exit code: 2)" in out, "a handler that fails", code, out)
eq([run(put("n.py", t), "-q")[0] for t in ("x = 1", "def handler(:", "def handler(e): return {1}", "import sys\ndef handler(e): sys.exit(77)")],
   [1, 1, 3, 77], "exit statuses")
SLOW = put("slow.py", "import time\ndef handler(event): time.sleep(60)\n")
eq(run(SLOW, "--timeout", "1"), (4, "", "sandbox-run: Execution timed out after 1 seconds\n"), "--timeout")
eq(run(SLOW, "--event", '{"__timeout": 1}')[0], 4, "the event's own __timeout wins")
for args, text in (([TOP + "/none.py"], "No such file"), ([TOP], "Is a directory"), ([HELLO, "-e", "{"], "event is no JSON"), ([HELLO, "-e", "[]"], "must be a JSON object"),
                   ([HELLO, "-c", "1"], "context must be"), ([HELLO, "-f", TOP + "/none"], "No such file"), ([HELLO, "-e", "{}", "-f", "x"], "not allowed with"),
                   ([HELLO, "-t", "0"], "timeout"), ([HELLO, "--format", "xml"], "invalid choice"), ([], "FILE"), ([HELLO, "--url", "ftp://x"], "no URL")):
    code, out, err = run(*args)
    ok(code == 2 and text in err and out == "", "bad arguments: %s" % " ".join(args[1:] or ["(script)"]), code, err)
code, out, err = run(HELLO, CGIBOX_API_KEY="wrong")
eq((code, out, err), (1, "", "sandbox-run: the service answers 403: Invalid API Key\n"), "a wrong key")
code, out, err = run(HELLO, "--url", "http://127.0.0.1:1")
ok(code == 1 and "127.0.0.1:1" in err and "Traceback" not in err, "no service", err)
listener = socket.create_server(("127.0.0.1", 0))
seen = []


def lead_away():
    while True:
        with listener.accept()[0] as c:
            seen.append(c.recv(65536))
            c.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://localhost:%d/else\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                      % listener.getsockname()[1])


threading.Thread(target=lead_away, daemon=True).start()
code, out, err = run(HELLO, "--url", "http://127.0.0.1:%d" % listener.getsockname()[1])
ok(code == 1 and "answers 302" in err, "an answer that leads elsewhere is an error", code, err)
eq([x.split(b" ")[1] for x in seen], [b"/workspace/se/v2/execute_code"], "and the key does not go there")
eq(run("--version")[:2], (0, "sandbox-run 1.0.0\n"), "--version")
shutil.rmtree(TOP)
done()
