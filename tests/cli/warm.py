#!/usr/bin/python3
"""Interpreters that wait: code in one is what it is in an interpreter of its own, each is used once, and nothing is left."""
import json
import os
import signal
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "../attacks"), os.path.join(here, "lib")]
import lab  # noqa: E402
import service  # noqa: E402
from interpreters import NODE, SAME, hang_up, kill_workers, make, sandboxes, settle, system, wait_ready, waiting  # noqa: E402
from lab import eq, ok  # noqa: E402


def code(s, language, text, **more):
    status, body = s.call("POST", "/api/v1/run", dict({"language": language, "code": text}, **more), timeout=300)
    return body if status == 200 else {"status": status, "body": body}


def shown(answer, cut=None):
    """What must be the same; cut: of the errors, only whether they say this."""
    a = {k: answer.get(k) for k in ("status", "body", "verdict", "exit_code", "signal", "stdout", "stderr", "output_bytes", "truncated")}
    if cut:
        a["stderr"], a["output_bytes"] = cut in a["stderr"], None
    return a


def compare(cold, warm, language, what, text, more):
    cut = more.pop("stderr", None)
    ok(wait_ready(warm), "%s: one waits" % language)
    a, b = code(cold, language, text, **more), code(warm, language, text, **more)
    if not ok(a.get("warm") is False and b.get("warm") is True, "%s, %s: started, and waited" % (language, what), a, b):
        return
    eq(shown(b, cut), shown(a, cut), "%s, %s: the same" % (language, what))


def differ(s):
    """What each use must have of its own."""
    text = "import random, os, uuid\nprint(hash('x'), random.random(), os.urandom(8).hex(), uuid.uuid4(), id(object()))"
    got = []
    for _ in range(3):
        wait_ready(s)
        a = code(s, "python", text)
        ok(a.get("warm"), "one that waited", a)
        got.append(a.get("stdout", "").split())
    for i, what in enumerate(("hash seed", "random", "urandom", "uuid", "address layout")):
        ok(len({g[i] for g in got}) == 3, "each has its own: %s" % what, got)


def once(s):
    """What one leaves, the next does not see."""
    wait_ready(s)
    a = code(s, "python", "import os, builtins, sys\nbuiltins.left = 1\nopen('/tmp/left','w').close()\nopen('/repo/left','w').close()\n"
             "open('/dev/shm/left','w').close()\nprint(os.readlink('/proc/self/ns/pid'), os.readlink('/proc/self/ns/mnt'))")
    wait_ready(s)
    b = code(s, "python", "import os, builtins\nprint(os.readlink('/proc/self/ns/pid'), os.readlink('/proc/self/ns/mnt'))\n"
             "print(hasattr(builtins, 'left'), [d for d in ('/tmp','/repo','/dev/shm') if os.path.exists(d + '/left')])")
    ok(a.get("warm") and b.get("warm"), "two that waited", a, b)
    eq(b["stdout"].split("\n")[1], "False []", "nothing of the first is in the second")


def usage(s):
    """Time begins with the code, not with the wait."""
    wait_ready(s)
    time.sleep(10)
    a = code(s, "python", "import time\nb = time.monotonic()\ne = time.process_time() + .2\nwhile time.process_time() < e: pass\n"
             "print(time.monotonic() - b)", timeout=60)
    u, own = a.get("usage", {}), 1000 * float(a.get("stdout") or 0)
    ok(a.get("warm") and 190 <= own <= u["wall_ms"] + 1 < own + 9500, "wall time", a)
    ok(150 <= u["user_ms"] + u["system_ms"] < 2000, "processor time", u)


def falls_through(s):
    """What cannot be given to one that runs starts its own."""
    for name in ("TZ", "PYTHONHASHSEED", "LC_ALL", "LD_PRELOAD", "HOME", "PATH"):
        wait_ready(s)
        value = {"PATH": "/usr/bin:/bin", "LD_PRELOAD": ""}.get(name, "1")
        a = code(s, "python", "import os\nprint(os.environ[%r])" % name, env={name: value})
        ok(a.get("warm") is False and a.get("stdout") == value + "\n", "with %s it is started" % name, a)
    a = code(s, "python", "print(hash('x'))", env={"PYTHONHASHSEED": "0"})
    eq(a.get("stdout"), code(s, "python", "print(hash('x'))", env={"PYTHONHASHSEED": "0"}).get("stdout"), "and heeds it")
    for _ in range(5):  # on a busy machine the fourth may come when another one waits already
        n = four_at_once(s)
        if n < 4:
            break
    ok(1 <= n < 4, "%d waited, the others were started" % n)


def four_at_once(s):
    """How many of four were given to one that waited."""
    wait_ready(s)
    before = waiting(s)
    got = []
    t = [threading.Thread(target=lambda: got.append(code(s, "python", "import time; time.sleep(.3); print(6*7)"))) for _ in range(4)]
    for x in t:
        x.start()
    for x in t:
        x.join()
    ok(all(a.get("stdout") == "42\n" for a in got), "four at once, two wait at most: all are served", got)
    n = sum(1 for a in got if a.get("warm"))
    after = waiting(s)
    eq((after["taken"] - before["taken"], after["missed"] - before["missed"]), (n, 4 - n), "and are counted")
    return n


def bad(s):
    for what, body, status, word in (
            ("no language", {"code": "1"}, 422, "language"),
            ("another language", {"language": "perl", "code": "1"}, 422, "python"),
            ("no code", {"language": "python"}, 422, "code"),
            ("code too long", {"language": "python", "code": "#" * 131072}, 422, "command_max_bytes"),
            ("a NUL", {"language": "python", "code": "1\0"}, 422, "NUL"),
            ("a variable that is none", {"language": "python", "code": "1", "env": {"a b": "1"}}, 422, "env"),
            ("too long", {"language": "python", "code": "1", "timeout": 1e6}, 422, "timeout"),
            ("no such image", {"language": "python", "code": "1", "image": "nosuch:image"}, 422, "cgibox image pull"),
            ("no image's name", {"language": "python", "code": "1", "image": "A b"}, 422, "image"),
            ("too many arguments", {"language": "python", "code": "1", "args": ["a"] * 1025}, 422, "args")):
        got = s.call("POST", "/api/v1/run", body)
        ok(got[0] == status and word in json.dumps(got[1]), "%s: %d" % (what, status), got)
    a = code(s, "python", "print(len(open('/proc/self/cmdline').read()) > 100000)" + "\n#" + "x" * 131000)
    ok(a.get("verdict") == "ok", "code of nearly 128 KiB", {k: a.get(k) for k in ("status", "body", "verdict", "stderr")})


def one_runs(s, seconds=120):
    """Whether one waits and one runs, in the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = system(s)
        if now["sandboxes"] == 2 and now["prepared"]["interpreters"]["ready"] == 1:
            return True
        time.sleep(0.1)
    return False


def nothing_left(s):
    """Whoever ends the request, its sandbox and its files go."""
    ok(settle(s, 1), "those that wait, and nothing else")
    for what, env in (("waited", {}), ("was started", {"TZ": "UTC"})):
        wait_ready(s)
        c = hang_up(s, "/api/v1/run", {"language": "python", "code": "import time; time.sleep(1000)", "env": env})
        ok(one_runs(s), "control: its code runs (%s)" % what, system(s))
        c.close()
        ok(settle(s, 1), "a client that hangs up leaves nothing (%s)" % what)
        wait_ready(s)
        c = hang_up(s, "/api/v1/run", {"language": "python", "code": "import time; time.sleep(1000)", "env": env})
        one_runs(s)
        kill_workers(s)
        ok(settle(s, 1), "nor does a worker that is killed (%s)" % what)
        c.close()
    wait_ready(s)
    victim = s.roles()["keeper"][0]
    ok(os.listdir(s.state + "/sessions"), "control: sessions of those that wait")
    c = hang_up(s, "/api/v1/run", {"language": "python", "code": "import time; time.sleep(60)"})
    time.sleep(0.5)
    os.kill(victim, signal.SIGKILL)
    end = time.monotonic() + 120
    while s.call("GET", "/-/health/")[0] != 200 and time.monotonic() < end:
        time.sleep(0.1)
    c.close()
    ok(wait_ready(s) and settle(s, 1), "the next keeper removes what was the last one's, and prepares its own")


def killed_while_waiting(s):
    """One that died while it waited is noticed; code goes to another."""
    wait_ready(s)
    names = service.processes_of(s.uid)
    for pid in s.roles().get("payload", []):  # below the service, whoever else has this user
        if names.get(pid, (0, ""))[1] == "python3":
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    a = code(s, "python", "print(1)")
    ok(a.get("stdout") == "1\n" and a.get("verdict") == "ok", "code right after those that waited were killed", a)
    ok(wait_ready(s), "and others are prepared")
    ok(s.call("GET", "/api/v1/session/")[1] == {"sessions": [], "next": None}, "no list shows their sessions")


def at_once(s, n):
    t = [threading.Thread(target=code, args=(s, "python", "import time; time.sleep(.5)")) for _ in range(n)]
    for x in t:
        x.start()
    for x in t:
        x.join()


def grows(s, n):
    """Whether two wait after n at once; when one came late, another waited for it already: nothing was missed."""
    for _ in range(10):
        wait_ready(s)
        at_once(s, n)
        if wait_ready(s, 2, 10):
            return True
    return False


def bounded(box, program):
    """Memory, and room for others."""
    s = service.Service(box, program, warm_python_max=4)
    try:
        s.start()
        wait_ready(s)
        one = waiting(s)["bytes"]
        ok(1 << 20 < one < 32 << 20, "one holds %d bytes" % one)
        ok(grows(s, 3), "control: after misses two wait")
    finally:
        s.stop()
    s = service.Service(box, program, warm_python_max=4, warm_memory_max_bytes=one * 3 // 2)
    try:
        s.start()
        for _ in range(3):
            wait_ready(s)
            at_once(s, 3)
        ok(wait_ready(s) and not wait_ready(s, 2, 4), "not two where the memory is for one and a half", waiting(s))
    finally:
        s.stop()
    s = service.Service(box, program, warm_python_max=4, sandboxes_max=4)
    try:
        s.start()
        ok(grows(s, 2) and not wait_ready(s, 3, 4), "of four sandboxes that may be, two at most wait", waiting(s))
    finally:
        s.stop()


def preloaded(box, program):
    """Modules of the operator's are there; one that is not is said in the log."""
    s = service.Service(box, program, warm_python_max=1, warm_python_imports="json, decimal", warm_idle_s=8)
    try:
        ok(s.start() and wait_ready(s), "a service that has modules imported")
        a = code(s, "python", "import sys\nprint([m in sys.modules for m in ('json', 'decimal', 'fractions')])\nprint(json)", timeout=60)
        ok(a.get("warm") and a["stdout"] == "[True, True, False]\n" and "NameError: name 'json'" in a["stderr"],
           "imported, but no name of it is in __main__", a)
        wait_ready(s)
        end = time.monotonic() + 120
        while sandboxes(s) and time.monotonic() < end:
            time.sleep(0.5)
        eq(waiting(s)["ready"], 0, "given up after warm_idle_s")
        a = code(s, "python", "print(2)")
        ok(a.get("stdout") == "2\n" and a.get("warm") is False, "then code starts its own", a)
        ok(wait_ready(s), "and one is prepared again")
    finally:
        s.stop()
    bounded(box, program)
    s = service.Service(box, program, warm_python_max=1, warm_python_imports="nosuchmodule")
    try:
        s.start()
        end = time.monotonic() + 120
        while not waiting(s)["failed"] and time.monotonic() < end:
            time.sleep(0.1)
        ok("nosuchmodule" in open(s.log).read(), "a module that is not there is in the log")
        a = code(s, "python", "print(3)")
        ok(a.get("stdout") == "3\n" and a.get("warm") is False, "and code runs all the same", a)
    finally:
        s.stop()


def same(cold, warm, language, programs):
    if not ok(warm.start(), "a service in which %s waits" % language):
        return False
    for what, text, more in programs:
        compare(cold, warm, language, what, text, dict(more))
    return True


def of_python(cold, box, program):
    warm = service.Service(box, program, warm_python_max=2)
    try:
        if same(cold, warm, "python", SAME):
            eq({k: v for k, v in waiting(cold).items() if k != "cold"}, {"ready": 0, "bytes": 0, "taken": 0, "missed": 0, "failed": 0}, "none waits by default")
            differ(warm)
            once(warm)
            usage(warm)
            falls_through(warm)
            bad(warm)
    finally:
        warm.stop()
    warm = service.Service(box, program, warm_python_max=1)
    try:
        if ok(warm.start() and wait_ready(warm), "a service with one that waits"):
            killed_while_waiting(warm)
            nothing_left(warm)
    finally:
        warm.stop()


def of_node(cold, box, program):
    if not os.path.exists("/usr/bin/node"):
        lab.skip("no node here")
        return
    warm = service.Service(box, program, warm_node_max=1)
    try:
        same(cold, warm, "node", NODE)
    finally:
        warm.stop()


def main():
    box = lab.Lab()
    program = box._copy(os.path.join(lab.BUILD, "cgibox.fcgi"), "sbin/cgibox.fcgi")
    cold = make(box, program, 1)
    try:
        if ok(cold.start(), "a service in which none waits"):
            of_python(cold, box, program)
            of_node(cold, box, program)
        preloaded(box, program)
    finally:
        cold.stop()
        box.close()
    lab.done()


main()
