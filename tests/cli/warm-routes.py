#!/usr/bin/python3
"""POST /run/code/ and POST /workspace/se/v2/execute_code in interpreters that wait: the same answers as in ones that are started."""
import json
import os
import re
import signal
import sys
import time
import uuid

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "../attacks"), os.path.join(here, "lib")]
import lab  # noqa: E402
import service  # noqa: E402
from interpreters import SAME, hang_up, kill_workers, make, settle, wait_ready, waiting  # noqa: E402
from lab import eq, ok  # noqa: E402

NODE = os.path.exists("/usr/bin/node")
KINDS = 5 if NODE else 3  # ways to start an interpreter: each has those that wait for it
FILES = [
    ("the names of a file", "print(__name__, __file__, __cached__, __spec__, type(__loader__).__name__, __loader__.path, sorted(globals()))"),
    ("the file itself", "import os, sys\nprint(open(__file__).read(), os.listdir('.'), oct(os.stat(__file__).st_mode), os.stat(__file__).st_uid, sys.argv, sys.orig_argv)"),
    ("what the kernel says of it", "print(open('/proc/self/cmdline').read(), open('/proc/self/comm').read())"),
    ("all variables", "import os\nprint(sorted(os.environ.items()), sorted(open('/proc/self/environ').read().split('\\0')))"),
    ("the process", "import os\nprint(os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), sorted(p for p in os.listdir('/proc') if p.isdigit()))"),
    ("lines of a traceback", "def f(x):\n    return 1 // x  # here\n\n\ndef g():\n    f(0)\ng()"),
    ("another encoding", "# -*- coding: latin-1 -*-\nprint(ascii('\u00e9'))"),
    ("a byte order mark", "\ufeffprint(1)"),
    ("no code", ""),
    ("both streams", "import sys\nfor i in range(3):\n    print('o', i, flush=True)\n    print('e', i, file=sys.stderr)"),
    ("more output than is kept", "import sys\nfor i in range(40000): print('line', i)\nsys.exit(2)"),
    ("the end of much output", "print('x' * 70000)\nprint('\u00fc' * 3000)"),
    ("it imports itself", "import sys\nif __name__ == '__main__':\n    import main\n    print(main.__name__, main.__file__)\nelse:\n    print('again', __name__)"),
]
SCRIPTS = [
    ("names", "console.log(process.argv, process.execArgv, __filename, __dirname, require.main === module, module.paths, Object.keys(require.cache))"),
    ("files", "console.log(require('fs').readFileSync(__filename, 'utf8'), require('fs').readdirSync('.'), process.env)"),
    ("names that are global", "var a = 1; this.b = 2; console.log(typeof globalThis.a, this === module.exports, Object.keys(module.exports))"),
    ("no input", "console.log(require('fs').readFileSync(0).length)"),
    ("input as a stream", "process.stdin.on('data', d => console.log(String(d))).on('end', () => console.log('end'))"),
    ("an exception", "function f() {\n  throw new Error('boom');\n}\nf();"),
    ("a rejection", "Promise.reject(new Error('later'))"),
    ("no syntax", "let let = 3"),
    ("exit", "process.on('exit', c => console.log('exit', c)); process.exit(7)"),
    ("timers", "setTimeout(() => console.log('late'), 20); console.log('now')"),
    ("import()", "import('node:os').then(m => console.log(typeof m.cpus))"),
    ("an import of another form", "import os from 'node:os';\nconsole.log(typeof os.cpus)"),
    ("require", "require('fs').writeFileSync('m.js', 'module.exports = 5'); console.log(require('./m'), module.children.length)"),
    ("children", "console.log(String(require('child_process').execSync('cat; pwd', {stdio: ['inherit', 'pipe', 'inherit']})))"),
    ("a child of node", "require('child_process').fork(__filename.replace('main', 'other')).on('exit', c => console.log(c))"),
    ("much output", "process.stdout.write('x'.repeat(60000)); process.stderr.write('y'.repeat(1000))"),
    ("workers, which would load a module that comes before", "new (require('worker_threads').Worker)('require(\"worker_threads\").parentPort.postMessage(1)', {eval: true}).on('message', console.log)"),
    ("a time limit", "for (;;);"),
]
HANDLERS = [
    ("a value", "def handler(event):\n    return {'got': event}", {"a": [1, 2.5, None, "\u00fc"]}),
    ("output", "print('load')\ndef handler(event):\n    print('run', event)\n    import sys\n    print('err', file=sys.stderr)\n    return 1", {}),
    ("an exception", "def handler(event):\n    return event['none']", {}),
    ("it does not load", "import nosuchmodule\ndef handler(event): pass", {}),
    ("no syntax", "def handler(event)\n    pass", {}),
    ("no handler", "x = 1", {}),
    ("a value that is no JSON", "def handler(event):\n    return object()", {}),
    ("no number", "def handler(event):\n    return [float('nan'), float('inf')]", {}),
    ("exit", "import sys\ndef handler(event):\n    print('x')\n    sys.exit(7)", {}),
    ("os._exit", "import os\ndef handler(event):\n    os._exit(9)", {}),
    ("KeyboardInterrupt", "def handler(event):\n    raise KeyboardInterrupt", {}),
    ("a signal", "import os\ndef handler(event):\n    os.kill(os.getpid(), 9)", {}),
    ("names", "def handler(event):\n    import sys, __main__\n    return [__name__, sorted(globals()), sys.argv, sys.orig_argv, sys.path, str(sys.flags),"
     " __main__.handler is handler]", {}),
    ("input", "import sys, os, stat\nprint(repr(sys.stdin), sys.stdin.seekable(), sys.stdin.buffer.raw.closefd, repr(sys.stdin.buffer.raw))\n"
     "def handler(event):\n    return [sys.stdin.read(), stat.S_ISCHR(os.fstat(0).st_mode), os.read(0, 10).decode()]", {}),
    ("place and variables", "import os\ndef handler(event):\n    return [os.getcwd(), sorted(os.environ.items()), sorted(open('/proc/self/environ').read().split('\\0')), os.listdir('/workspace'),"
     " os.readlink('/repo'), os.getpid(), os.getppid(), sorted(os.listdir('/proc/self/fd')), os.getuid()]", {}),
    ("a module of its own", "open('mine.py', 'w').write('x = 7')\nimport mine\ndef handler(event):\n    return [mine.x, mine.__file__]", {}),
    ("pickle", "import pickle\nclass A: pass\ndef handler(event):\n    return type(pickle.loads(pickle.dumps(A()))).__module__", {}),
    ("threads", "import threading\ndef handler(event):\n    r = []\n    t = threading.Thread(target=lambda: r.append(threading.current_thread().name))\n    t.start(); t.join()\n    return r", {}),
    ("a large event", "def handler(event):\n    return len(event['x'])", {"x": "y" * 3000000}),
    ("a large value", "def handler(event):\n    return 'z' * 1000000", {}),
    ("too large a value", "def handler(event):\n    return 'z' * 5000000", {}),
    ("much output", "def handler(event):\n    for i in range(20000): print(i)\n    return 2", {}),
    ("atexit", "import atexit\natexit.register(print, 'bye')\ndef handler(event):\n    return 3", {}),
    ("a time limit", "import time\ndef handler(event):\n    time.sleep(30)", {"__timeout": 1}),
    ("a disk limit", "def handler(event):\n    import os\n    s = os.statvfs('/workspace')\n    return s.f_blocks * s.f_frsize", {}),
]


def run_code(s, language, text, **more):
    return s.call("POST", "/api/v1/run/code/", dict({"run_id": str(uuid.uuid4()), "language": language, "code": text}, **more), timeout=60)


def handle(s, text, event):
    status, body = s.call("POST", "/workspace/se/v2/execute_code", {"handler_code": text, "event": event}, timeout=60)
    if status == 200:
        body["metrics"] = sorted(body["metrics"])
    return status, body


def plain(answer):
    """Without addresses in memory, and without the line that says from where node loads the main module."""
    text = re.sub("0x[0-9a-f]{6,}", "0x..", json.dumps(answer, sort_keys=True))
    return re.sub(r"at (node:internal/main/run_main_module|process.processTicksAndRejections \(node:internal/process/task_queues)[0-9:]*\)?", "at ..", text)


def both(cold, warm, what, ask):
    """Asks both services; the second has one that waits, and it is taken."""
    wait_ready(warm, KINDS)
    before = waiting(warm)["taken"]
    a, b = ask(cold), ask(warm)
    eq(waiting(warm)["taken"] - before, 1, "%s: one that waited" % what)
    eq(plain(b), plain(a), "%s: the same" % what)


DIFFER = "import random, os, uuid\nprint(hash('x'), random.random(), os.urandom(8).hex(), uuid.uuid4(), id(object()))"
LEAVE = ("import builtins, os\nprint([hasattr(builtins, 'left'), [d for d in ('/tmp','/repo','/workspace','/dev/shm') if os.path.exists(d + '/left')],"
         " os.readlink('/proc/self/ns/pid')])\nbuiltins.left = 1\nfor d in ('/tmp', '/repo', '/dev/shm'): open(d + '/left', 'w').close()\n")
HANDLER = "\ndef handler(event):\n    return 5\n"


def taken(s, ask):
    """The answer, which one that waited must have given."""
    wait_ready(s, KINDS)
    before = waiting(s)["taken"]
    answer = ask(s)
    ok(waiting(s)["taken"] == before + 1, "one that waited", answer)
    return answer


def own(s):
    """Each use has what is its own, and sees nothing of those before."""
    for what, ask, of in (("file", lambda text: lambda s: run_code(s, "python", text), lambda a: a[1]["output"]),
                          ("handler", lambda text: lambda s: handle(s, text + HANDLER, {}), lambda a: a[1]["stdout"])):
        got = [of(taken(s, ask(DIFFER))).split() for _ in range(3)]
        for i, name in enumerate(("hash seed", "random", "urandom", "uuid", "address layout")):
            ok(len({g[i] for g in got}) == 3, "%s: each has its own %s" % (what, name), got)
        got = [of(taken(s, ask(LEAVE))) for _ in range(2)]
        ok(all(g.startswith("[False, [], ") for g in got), "%s: nothing of the first is in the second" % what, got)


def cold_ones(box, program):
    """What cannot be given to one that waits is started, and counted with the reason."""
    s = make(box, program, 3, warm_python_max=1)
    s.env["CGIBOX_LANGUAGE_PYTHON_COMMAND"] = "python3 -B main.py"
    try:
        ok(s.start(), "a service with a command of its own")
        eq(run_code(s, "python", "import sys\nprint(sys.flags.dont_write_bytecode)"), (200, {"output": "1\n"}), "its command runs")
        eq(waiting(s)["cold"], {"environment": 0, "image": 0, "dependencies": 0, "command": 1}, "command: counted")
        s.call("POST", "/api/v1/run", {"language": "python", "code": "1", "env": {"TZ": "UTC"}})
        s.call("POST", "/api/v1/run", {"language": "python", "code": "1", "image": "none:1"})
        s.call("POST", "/api/v1/run", {"language": "node", "code": "1"})
        eq(waiting(s)["cold"], {"environment": 1, "image": 1, "dependencies": 0, "command": 1}, "environment and image; not a language of which none waits")
        eq(waiting(s)["missed"], 0, "those are not missed")
        metrics = s.call("GET", "/-/metrics")[1]
        metrics = metrics.decode() if isinstance(metrics, bytes) else str(metrics)
        ok('cgibox_interpreters_cold_total{reason="command"} 1' in metrics, "metrics have them", metrics[-600:])
    finally:
        s.stop()


def dependencies(box, program):
    s = make(box, program, 4, warm_python_max=1, network="host")
    s.env["CGIBOX_LANGUAGE_PYTHON_INSTALL"] = "printf 'x = 5\\n' >$DEPS_DIR/small.py; true"
    try:
        ok(s.start(), "a service that installs dependencies")
        got = run_code(s, "python", "import small\nprint(small.x)", dependencies=["small"])
        eq(got, (200, {"output": "5\n"}), "they are seen")
        eq(waiting(s)["cold"]["dependencies"], 1, "dependencies: counted")
    finally:
        s.stop()


def nothing_left(s):
    """Whoever ends the request, its sandbox and its files go."""
    sleep = "import time\ntime.sleep(60)\n"
    for what, path, body in (
            ("file", "/api/v1/run/code/", {"run_id": str(uuid.uuid4()), "language": "python", "code": sleep}),
            ("handler", "/workspace/se/v2/execute_code", {"handler_code": sleep + HANDLER, "event": {}})):
        for who in ("client", "worker"):
            ok(settle(s, 3), "those that wait, and nothing else")
            before = waiting(s)["taken"]
            c = hang_up(s, path, body)
            end = time.monotonic() + 10
            while waiting(s)["taken"] == before and time.monotonic() < end:
                time.sleep(0.05)
            ok(waiting(s)["taken"] == before + 1, "%s: its code runs in one that waited" % what)
            time.sleep(0.3)
            if who == "worker":
                kill_workers(s)
            else:
                c.close()
            ok(settle(s, 3), "%s: when the %s goes, nothing is left" % (what, who))
            c.close()


def died(s):
    """One that died while it waited is noticed; code goes to another, or is started."""
    ok(settle(s, 3), "all wait")
    names = service.processes_of(s.uid)
    for pid in s.roles().get("payload", []):
        if names.get(pid, (0, ""))[1] == "python3":
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    eq(run_code(s, "python", "print(1)"), (200, {"output": "1\n"}), "code right after they were killed")
    eq(handle(s, "def handler(e): return 1", {})[1]["result"], 1, "and a handler")
    ok(settle(s, 3), "others are prepared")


def lifetimes(box, program):
    s = make(box, program, 5, warm_python_max=1)
    try:
        ok(s.start(), "a service")
        eq(waiting(s)["missed"], 0, "nothing yet")
        run_code(s, "python", "1")
        handle(s, "def handler(e): pass", {})
        eq(waiting(s)["missed"], 2, "the first of each way finds none")
        died(s)
        nothing_left(s)
    finally:
        s.stop()


def compare(cold, warm):
    for ask in (lambda s: run_code(s, "python", "1"), lambda s: run_code(s, "javascript", "1"), lambda s: handle(s, HANDLER, {})):
        ask(warm)
    ok(wait_ready(warm, KINDS), "each way has one that waits, once somebody has asked")
    plain_programs = [(what, text) for what, text, more in SAME if not more]
    for what, text in plain_programs + FILES:
        both(cold, warm, "file, " + what, lambda s: run_code(s, "python", text))
    for what, text in SCRIPTS if NODE else ():
        both(cold, warm, "script, " + what, lambda s: run_code(s, "javascript", text))
    for what, text, event in HANDLERS + [(w, t + HANDLER, {}) for w, t in plain_programs]:
        both(cold, warm, "handler, " + what, lambda s: handle(s, text, event))
    eq(handle(warm, HANDLER, {"__timeout": "x"}), handle(cold, HANDLER, {"__timeout": "x"}), "a bad time limit is refused as ever")
    own(warm)


def main():
    box = lab.Lab()
    program = box._copy(os.path.join(lab.BUILD, "cgibox.fcgi"), "sbin/cgibox.fcgi")
    limits = {"command_timeout_s": 5, "output_max_bytes": 65536}
    cold, warm = make(box, program, 1, **limits), make(box, program, 2, warm_python_max=1, warm_node_max=int(NODE), **limits)
    try:
        if ok(cold.start() and warm.start(), "two services"):
            compare(cold, warm)
    finally:
        cold.stop()
        warm.stop()
    try:
        cold_ones(box, program)
        dependencies(box, program)
        lifetimes(box, program)
    finally:
        box.close()
    lab.done()


main()
