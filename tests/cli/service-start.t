#!/usr/bin/python3
"""What cgibox.fcgi says when it cannot start, and what it refuses: settings, keys, directories, sockets, a second service. TAP."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok  # noqa: E402

PROGRAM = os.path.join(os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build"), "cgibox.fcgi")
TOP = tempfile.mkdtemp(dir="/var/tmp", prefix="cgibox-start-")


def path(name, text=None, mode=0o600):
    p = os.path.join(TOP, name)
    if text is not None:
        with open(p, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(p, mode)
    return p


def state(name, mode=0o700):
    p = path(name)
    os.makedirs(p, exist_ok=True)
    os.chmod(p, mode)
    return p


def environment(env):
    return dict({"PATH": os.environ["PATH"], "CGIBOX_API_KEY": "k", "CGIBOX_ACCESS_LOG": "off"}, **env)


def start(*args, **env):
    """(exit code, what it said) of one that should end by itself; -1: it did not."""
    p = subprocess.Popen([PROGRAM, *args], env=environment(env), stderr=subprocess.PIPE, text=True)
    try:
        return (p.wait(120), p.stderr.read())
    except subprocess.TimeoutExpired:
        p.terminate()
        return (-1, p.communicate()[1])


class Service:
    """One that serves, its log in a file."""

    def __init__(self, *args, **env):
        self.log = path("log")
        self.proc = subprocess.Popen([PROGRAM, *args], env=environment(env), stderr=open(self.log, "w", encoding="utf-8"))

    def said(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text, seconds=120):
        """The log has no event to wait on; it is looked at until the deadline."""
        end = time.monotonic() + seconds
        while not re.search(text, self.said()):
            if time.monotonic() > end or self.proc.poll() is not None:
                return False
            time.sleep(0.02)
        return True

    def end(self):
        self.proc.terminate()
        return self.proc.wait(120)


def refused(code, text, what, *args, **env):
    got, said = start(*args, **env)
    ok(got == code and re.search(text, said), what, got, said)


def reach(name):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(name)
        return True
    except OSError:
        return False
    finally:
        s.close()


good = state("good")
# --- the key
refused(78, r"api_key: no key is set \(CGIBOX_API_KEY, api_key or api_key_file\)", "no key", "--state", good, CGIBOX_API_KEY="")
for name, mode, text, why in (("k1", 0o644, "k\n", "holds a secret and is open to everybody (mode 0644)"), ("k2", 0o600, "", "holds no key"),
                              ("k3", 0o602, "k\n", "open to everybody (mode 0602)")):
    refused(78, re.escape(path(name, text, mode)) + ".*" + re.escape(why), "a key file: " + why, "--state", good, CGIBOX_API_KEY="",
            CGIBOX_API_KEY_FILE=path(name))
conf = path("key.conf", "api_key = k\n", 0o640)
for mode in (0o644, 0o604, 0o641):
    os.chmod(conf, mode)
    refused(78, r"key\.conf holds a secret and is open to everybody \(mode %04o\)" % mode, "a key in a file of mode %04o" % mode, "--conf", conf,
            "--state", good, CGIBOX_API_KEY="")
refused(78, "other.conf holds a secret", "the key for metrics, too", "--conf", path("other.conf", "metrics_key = k\n", 0o644), "--state", good)

# --- settings
refused(78, r'near\.conf, line 2: unknown key "worker_min", is "workers_min" meant\?', "a misspelt key, and the one that was meant", "--conf",
        path("near.conf", "# c\nworker_min = 4\n"), "--state", good)
refused(78, r'far\.conf, line 1: unknown key "speed"\n', "one that is like none", "--conf", path("far.conf", "speed = 4\n"), "--state", good)
refused(78, "no such file|No such file", "no file of settings", "--conf", path("none.conf"), "--state", good)
refused(78, 'state_dir: "here" is not an absolute path', "a relative directory", "--state", "here")
refused(78, r"access_log: open .*no/log: No such file", "what only main can find out: it is not tried for ever", "--state", good,
        CGIBOX_ACCESS_LOG=path("no/log"))

# --- the state directory
refused(71, r"state directory .*no/st: .*No such file", "no parent", "--state", path("no/st"))
refused(71, r"state directory .*a-file: .*Not a directory", "a file", "--state", path("a-file", ""))
for mode in (0o777, 0o1777, 0o702):
    refused(78, r"state directory .*open: everybody may write to it \(mode %04o\); chmod o-w" % mode, "mode %04o" % mode, "--state", state("open", mode))
ok(os.listdir(path("open")) == [], "and nothing was made there", os.listdir(path("open")))
if os.getuid():
    refused(71, r"state directory /usr: uid %d must be able to write to it \(--state or state_dir names another\): .*Permission denied" % os.getuid(),
            "root's directory", "--state", "/usr")
    refused(71, r"state directory /usr/none: uid %d must" % os.getuid(), "one that cannot be made", "--state", "/usr/none")
else:
    for what in ("root's directory", "one that cannot be made"):
        ok(True, "%s # SKIP root may write everywhere" % what)

# --- the socket
refused(78, 'socket_group: no group "nobodys-group"', "no such group", "--state", good, CGIBOX_SOCKET_GROUP="nobodys-group")
if os.getuid() and 0 not in os.getgroups() + [os.getgid()]:
    refused(78, r"socket_group: give the socket to root \(only a member of the group can\): Operation not permitted", "a group of others", "--state", good,
            CGIBOX_SOCKET_GROUP="root")
else:
    ok(True, "a group of others # SKIP root is in every group")
refused(78, "is there and is not a socket", "a file where the socket should be", "--state", good, "--listen", path("a-file"))
refused(78, "open the directory of .*no/sock: No such file", "no directory for the socket", "--state", good, "--listen", path("no/sock"))

# --- one service a directory
first = Service("--state", good)
ok(first.wait_for("serves "), "control: a service starts", first.said())
sock = os.path.join(good, "cgibox.sock")
ok(reach(sock), "and is reached")
refused(75, r"another cgibox\.fcgi serves %s; end it, or name another directory" % re.escape(good), "a second one is refused", "--state", good)
refused(75, "another cgibox.fcgi serves", "with another socket, too", "--state", good, "--listen", path("other.sock"))
ok(reach(sock) and not os.path.exists(path("other.sock")), "the first one still has its socket")
ok(first.end() == 0, "it ends")
ok(not os.path.exists(sock), "and removes its socket")
second = Service("--state", good)
ok(second.wait_for("serves "), "then the next one starts", second.said())
second.proc.kill()
second.proc.wait()
third = Service("--state", good)
ok(third.wait_for("listens on"), "also after one that was killed", third.said())

# --- what ended is told in words, and settings that worked once are not the end of a service
children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(third.proc.pid)], stdout=subprocess.PIPE, text=True).stdout.split()
ok(len(children) == 1, "main is the supervisor's one child", children)
os.kill(int(children[0]), signal.SIGKILL)
ok(third.wait_for(r"main %s ended: signal 9 \(Killed\)" % children[0]), "a main that was killed", third.said())
ok(third.proc.poll() is None, "another takes its place")
ok(third.end() == 0, "the end")
conf = path("live.conf", "workers_min = 1\n")
live = Service("--conf", conf, "--state", good)
ok(live.wait_for("serves "), "a service with a file of settings")
time.sleep(1.2)  # until main counts as one that has served
path("live.conf", "workers_min = 0\n")
live.proc.send_signal(signal.SIGHUP)
ok(live.wait_for("workers_min: 0 is not between.*(.|\n)*ended: exit status 78"), "SIGHUP with a wrong setting is told", live.said())
before = live.said().count("serves ")
path("live.conf", "workers_min = 1\n")
ok(live.wait_for("(serves (.|\n)*){%d}" % (before + 1)), "and the service comes back when it is right again", live.said())
ok(live.end() == 0, "its end")

# --- variables
said = Service("--state", good, CGIBOX_WROKERS_MIN="9", CGIBOX_URL="x", CGIBOX_TEST_NAME="y")
ok(said.wait_for(r'warning: CGIBOX_WROKERS_MIN sets nothing; is the one of "workers_min" meant\?'), "a misspelt variable is told", said.said())
ok("CGIBOX_URL" not in said.said() and "CGIBOX_TEST" not in said.said(), "others are not", said.said())
said.end()
subprocess.run(["chmod", "-R", "u+rwX", TOP], check=False)  # overlayfs leaves directories of mode 000
shutil.rmtree(TOP, ignore_errors=True)
done()
