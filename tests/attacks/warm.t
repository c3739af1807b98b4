#!/usr/bin/python3
"""The attack programs inside sandboxes of interpreters that waited, which must be as strong as any. TAP.

Code gets the program, writes it to a file and becomes it: the same process that waited, with whatever it holds. All
three ways in are tried: POST /run, POST /run/code/ and v2/execute_code, or those that the arguments name (text, file,
handler). The same attacks from outside, as controls, are in run.t.
"""
import base64
import os
import signal
import sys
import threading
import time
import uuid
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import service  # noqa: E402

BECOME = """import os, sys, zlib, base64, signal
for sig in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(sig, signal.SIG_DFL)  # which Python ignores, however it was started
data = zlib.decompress(base64.b64decode(packed or sys.stdin.buffer.read()))
path = '/tmp/atk'
with open(path, 'wb') as f:
    f.write(data)
os.chmod(path, 0o755)
os.execv(path, ['atk', *(words or sys.argv[1:])])
"""
TIMEOUT_S = 20  # of POST /run/code/, whose clients cannot choose
box = lab.Lab()
program = box._copy(os.path.join(box.build, "cgibox.fcgi"), "sbin/cgibox.fcgi")
s = service.Service(box, program, warm_python_max=2, warm_python_imports="json,re,threading", command_timeout_s=TIMEOUT_S)
with open(box.atk, "rb") as f:
    packed = base64.b64encode(zlib.compress(f.read(), 6)).decode()


def prepared():
    status, got = s.call("GET", "/api/v1/system/")
    return got["prepared"]["interpreters"] if status == 200 else {"ready": 0, "taken": 0}


def wait_ready(n, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if prepared()["ready"] >= n:
            return
        time.sleep(0.03)


def by_text(words, timeout):
    status, got = s.call("POST", "/api/v1/run", {"language": "python", "code": "packed, words = '', []\n" + BECOME, "stdin": packed, "timeout": timeout,
                                                 "args": words}, timeout=timeout + 300)
    return (got["exit_code"], got["stdout"], got["stderr"], got["verdict"] == "timeout") if status == 200 else (status, str(got))


def own_code(words):
    return "packed, words = %r, %r\n%s" % (packed, words, BECOME)


def by_file(words, timeout):
    """Of the end it tells whether it was good."""
    status, got = s.call("POST", "/api/v1/run/code/", {"run_id": str(uuid.uuid4()), "language": "python", "code": own_code(words)}, timeout=TIMEOUT_S + 300)
    if status not in (200, 400):
        return status, str(got)
    text = got.get("output", got.get("detail"))
    return status != 200, text, text, text.endswith("timed out after %ds" % TIMEOUT_S)


def by_handler(words, timeout):
    status, got = s.call("POST", "/workspace/se/v2/execute_code", {"handler_code": own_code(words), "event": {"__timeout": timeout}}, timeout=timeout + 300)
    if status == 500 and "ExecTimeout" in str(got):
        return None, "", "", True
    return (got["exit_code"], got["stdout"], got["stderr"], False) if status == 200 else (status, str(got))


def attack(name, *words, timeout=60):
    wait_ready(WAYS)
    before = prepared()["taken"]
    got = way(["%s" % w for w in (name, *words)], timeout)
    if len(got) != 4 or prepared()["taken"] == before:
        out = lab.Outcome(0, "", "", False)
        out.word, out.why = "UNPROVEN", "not in one that waited: %s" % str(got)[:600]
        return out
    return lab.Outcome(*got)


def named(pid, token):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read() == token[:15] + "\n"
    except OSError:
        return False


def stays(token, seconds=120):
    """The processes of one that has left its token: last as their name."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [p for p in lab.processes(token) if named(p, token)]
        if found:
            return found
        time.sleep(0.05)
    return []


def held(name, *words, **kw):
    out = attack(name, *words, **kw)
    lab.ok(out.word == "HELD", "%s: %s %s" % (way.__name__[3:], name, " ".join(map(str, words))[:50]), out)


def all_attacks():
    for name, *words in (
            ("fds",), ("cwd",), ("chroot", box.canary), ("exe",), ("mounts",), ("writes",),
            ("host-paths", box.canary, box.top, box.state, box.path_socket), ("handles",), ("pid1-paths",), ("setns",),
            ("propagation",), ("proc-roots",), ("proc-sys",), ("masked",), ("devices",), ("foreign-pty", box.foreign_pty()),
            ("trace",), ("secrets", lab.CANARY), ("kill-init",), ("kill-all",), ("session",),
            ("namespaces", *lab.host_namespaces()), ("signals",), ("zombies",), ("raise",), ("pid1-calls",), ("core",), ("groups",),
            ("forks", 600), ("threads", 600), ("memory", 1100), ("address-space", 64), ("descriptors", 1100),
            ("fill", "/dev/shm", 1024), ("pipes",), ("sysv",), ("inotify", 128), ("fanotify",), ("pending", 8192), ("mqueues", 50),
            ("locked", 16), ("surface",), ("filtered",), ("no-new-privs",), ("caps",), ("regain",), ("nested",), ("foreign-arch",),
            ("families",), ("family-pairs",), ("personality",), ("loopback", box.port), ("abstract", box.abstract),
            ("path-sockets", box.path_socket), ("routes",), ("raw",), ("ptys",), ("priorities",), ("pid1-fds",),
            ("lasting-flags",), ("device-calls",)):
        held(name, *words)
    token = "token-%d" % os.getpid()
    other = threading.Thread(target=attack, args=("arm", token, "stay"))
    other.start()
    there = stays(token)
    lab.ok(there, "control: another tenant has the token")
    held("check", token)
    for pid in there:
        os.kill(pid, signal.SIGKILL)
    other.join()
    held("check", token)
    out = attack("find-own", token)
    lab.ok(out.word == "BREACH", way.__name__[3:] + ": control: the same search finds a token of its own sandbox", out)
    begin = time.monotonic()
    out = attack("signal-storm", timeout=2)
    lab.ok(out.word == "TIMEOUT" and time.monotonic() - begin < 300, "signal-storm: the time limit, which began with the code, holds", out)


WAYS_IN = {"text": by_text, "file": by_file, "handler": by_handler}
ways = [WAYS_IN[name] for name in sys.argv[1:] or WAYS_IN]
WAYS = len(set(ways) | {by_text})  # those of POST /run are always there
if not lab.ok(s.start(), "a service in which Pythons wait"):
    lab.note(open(s.log).read()[-1000:])
    lab.done()
try:
    for way in ways:
        way(["raise"], 5)  # the first of each finds none
    for way in ways:
        all_attacks()
finally:
    s.stop()
box.close()
lab.done()
