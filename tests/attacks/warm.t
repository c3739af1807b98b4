#!/usr/bin/python3
"""The attack programs inside sandboxes of interpreters that waited (POST /run), which must be as strong as any. TAP.

Code gets the program as its input, writes it to a file and becomes it: the same process that waited, with whatever
it holds. The same attacks from outside, as controls, are in run.t.
"""
import base64
import os
import signal
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import service  # noqa: E402

BECOME = """import os, sys, zlib, base64, signal
for sig in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(sig, signal.SIG_DFL)  # which Python ignores, however it was started
data = zlib.decompress(base64.b64decode(sys.stdin.buffer.read()))
path = '/tmp/atk'
with open(path, 'wb') as f:
    f.write(data)
os.chmod(path, 0o755)
os.execv(path, ['atk', *sys.argv[1:]])
"""
box = lab.Lab()
program = box._copy(os.path.join(box.build, "cgibox.fcgi"), "sbin/cgibox.fcgi")
s = service.Service(box, program, warm_python_max=2, warm_python_imports="json,re,threading", command_timeout_s=60)
with open(box.atk, "rb") as f:
    packed = base64.b64encode(zlib.compress(f.read(), 6)).decode()


def wait_ready(seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status, got = s.call("GET", "/api/v1/system/")
        if status == 200 and got["prepared"]["interpreters"]["ready"]:
            return
        time.sleep(0.03)


def attack(name, *words, timeout=60):
    wait_ready()
    status, got = s.call("POST", "/api/v1/run", {"language": "python", "code": BECOME, "stdin": packed, "timeout": timeout,
                                                 "args": [name, *map(str, words)]}, timeout=timeout + 300)
    if status != 200 or not got.get("warm"):
        out = lab.Outcome(0, "", "", False)
        out.word, out.why = "UNPROVEN", "not in one that waited: %s %s" % (status, str(got)[:600])
        return out
    return lab.Outcome(got["exit_code"], got["stdout"], got["stderr"], got["verdict"] == "timeout")


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
    lab.ok(out.word == "HELD", "%s %s" % (name, " ".join(map(str, words))[:50]), out)


if not lab.ok(s.start(), "a service in which Pythons wait"):
    lab.note(open(s.log).read()[-1000:])
    lab.done()
try:
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
    lab.ok(out.word == "BREACH", "control: the same search finds a token of its own sandbox", out)
    begin = time.monotonic()
    out = attack("signal-storm", timeout=2)
    lab.ok(out.word == "TIMEOUT" and time.monotonic() - begin < 300, "signal-storm: the time limit, which began with the code, holds", out)
finally:
    s.stop()
box.close()
lab.done()
