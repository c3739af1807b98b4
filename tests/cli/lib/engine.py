"""A dockerd of our own, engines that misbehave, and the broker by way of enginectl."""
import http.client
import http.server
import json
import os
import queue
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../../build")
UID = 12345
NONE, CONF, REQUEST, NOTFOUND, LIMIT, BUSY, SETUP, BUG = range(8)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(300)
        self.sock.connect(self.path)


class Dockerd:
    """Ready when made. Its socket belongs to the group of the tests' user."""

    def __init__(self, top, *more):
        self.top, self.more, self.p = top, more, None
        self.socket = os.path.join(top, "docker.sock")
        self.start()

    def start(self):
        args = ["dockerd", "-H", "unix://" + self.socket, "--data-root", self.top + "/data", "--exec-root", self.top + "/x",
                "-p", self.top + "/pid", "--iptables=false", "--ip-forward=false", "--bridge=none", *self.more]
        self.log = open(self.top + "/log", "a")
        self.p = subprocess.Popen(args, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        for _ in range(600):
            if self.p.poll() is not None:
                raise RuntimeError("dockerd ended: " + open(self.top + "/log").read()[-600:])
            try:
                if self.ask("GET", "/_ping")[0] == 200:
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise RuntimeError("dockerd is not ready")
        os.chown(self.socket, 0, UID)
        os.chmod(self.socket, 0o660)

    def ask(self, method, path, body=None, kind="application/json"):
        c = UnixHTTP(self.socket)
        c.request(method, path, body, {"Content-Type": kind})
        r = c.getresponse()
        text = r.read()
        c.close()
        try:
            return r.status, json.loads(text) if text else None
        except ValueError:
            return r.status, text

    def ours(self):
        """Names of all containers."""
        return sorted(c["Names"][0].lstrip("/") for c in self.ask("GET", "/containers/json?all=1")[1])

    def kill(self, sig=signal.SIGKILL):
        self.p.send_signal(sig)
        self.p.wait()
        try:  # where nobody reaps orphans its containerd is a zombie, which dockerd would take for a living one
            os.unlink(self.top + "/x/containerd/containerd.pid")
        except OSError:
            pass

    def stop(self):
        if self.p.poll() is None:
            for c in self.ask("GET", "/containers/json?all=1")[1]:
                self.ask("DELETE", "/containers/%s?force=1" % c["Id"])
            self.kill(signal.SIGTERM)
        self.log.close()


class Broker:
    """Answers by number; what comes unasked in order."""

    def __init__(self, top, engine, init=None, state=None, build=BUILD, uid=UID, **conf):
        self.bin = os.path.join(top, "bin")
        if not os.path.isdir(self.bin):
            os.makedirs(self.bin + "/libexec")
            shutil.copy(build + "/enginectl", self.bin)
            shutil.copy(build + "/libexec/engine", self.bin + "/libexec")
            with open(self.bin + "/libexec/init", "w") as f:
                f.write(init or "#!/bin/sh\n. /.cgibox/run/do\n")
            os.chmod(self.bin + "/libexec/init", 0o755)
        self.state = state or os.path.join(top, "state")
        for d in ("", "/engine", "/sessions"):
            os.makedirs(self.state + d, exist_ok=True)
            os.chown(self.state + d, uid, uid)
        env = {"CGIBOX_STATE_DIR": self.state, "CGIBOX_ENGINE": engine, "PATH": os.environ["PATH"]}
        env.update({"CGIBOX_" + k.upper(): str(v) for k, v in conf.items()})
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if uid != os.getuid() else []
        self.errors = tempfile.TemporaryFile("w+")
        self.p = subprocess.Popen(become + [self.bin + "/enginectl"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=self.errors, text=True, bufsize=1)
        self.answers, self.unasked, self.number = {}, queue.Queue(), 0
        self.pid, self.news, self.pipe = None, threading.Condition(), ""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.p.stdout:
            a = json.loads(line)
            with self.news:
                if a["op"] == "PID":
                    self.pid = a["pid"]
                elif a["op"] == "PIPE":
                    self.pipe += a["text"]
                elif a["number"]:
                    self.answers[a["number"]] = a
                else:
                    self.unasked.put(a)
                self.news.notify_all()

    def ask(self, line):
        self.number += 1
        self.p.stdin.write(line + "\n")
        return self.number

    def answer(self, number, seconds=180):
        with self.news:
            self.news.wait_for(lambda: number in self.answers, seconds)
            return self.answers.get(number, {"op": "NOTHING", "kind": -1, "msg": "no answer"})

    def do(self, line, seconds=180):
        return self.answer(self.ask(line), seconds)

    def wait(self, op, seconds=180, **want):
        """The next unasked message like this; others are dropped."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                a = self.unasked.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                break
            if a["op"] == op and all(a.get(k) == v for k, v in want.items()):
                return a
        return {"op": "NOTHING", "kind": -1, "msg": "nothing came"}

    def box(self, name, script):
        """The private directory of a box, with what its pid 1 does."""
        d = "%s/engine/%s" % (self.state, name)
        os.makedirs(d, exist_ok=True)
        with open(d + "/do", "w") as f:
            f.write(script)
        os.chown(d, UID, UID)
        return "box=%s bind=engine/%s:/.cgibox/run" % (name, name)

    def out(self, name):
        try:
            with open("%s/engine/%s/out" % (self.state, name)) as f:
                return f.read()
        except OSError:
            return ""

    def worker(self):
        """The process that works, below the one that starts it."""
        with open("/proc/%d/task/%d/children" % (self.pid, self.pid)) as f:
            return [int(x) for x in f.read().split()]

    def log(self):
        self.errors.seek(0)
        return self.errors.read()

    def close(self):
        self.p.stdin.close()
        self.p.wait(20)


class Fake(socketserver.ThreadingUnixStreamServer):
    """An Engine that answers path -> (status, bytes), or a function of the connection."""
    daemon_threads = True

    def handle_error(self, *a):
        pass  # the broker hangs up on what it does not believe

    def __init__(self, path, table):
        self.table = table
        super().__init__(path, FakeHandler)
        os.chmod(path, 0o666)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class FakeHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *a):
        pass

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        for end, what in self.server.table.items():
            if path.endswith(end):
                break
        else:
            what = 404, b'{"message":"page not found"}'
        if callable(what):
            what(self)
            return
        status, body = what
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass

    do_GET = do_POST = do_DELETE = answer


VERSION = 200, b'{"Version":"1","ApiVersion":"1.41","MinAPIVersion":"1.12"}'
INFO = 200, json.dumps({"ID": "x", "OSType": "linux", "Driver": "overlay2", "Runtimes": {"runc": {}}, "DefaultRuntime": "runc", "MemoryLimit": True,
                        "SwapLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "SecurityOptions": ["name=seccomp,profile=default"]}).encode()


def events(h):
    """A stream that stays, and says nothing."""
    h.send_response(200)
    h.send_header("Transfer-Encoding", "chunked")
    h.end_headers()
    h.wfile.flush()
    try:
        while h.connection.recv(1):
            pass
    except OSError:
        pass


GOOD = {"/version": VERSION, "/info": INFO, "/events": events, "/containers/json": (200, b"[]")}


def clean(top):
    """What is left of killed daemons: shims, mounts, files. top is ours alone."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid) as f:
                if top + "/" in f.read() and int(pid) != os.getpid():
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    with open("/proc/mounts") as f:
        for m in [x.split()[1] for x in f if x.split()[1].startswith(top + "/")]:
            subprocess.run(["umount", "-l", m], capture_output=True)
    shutil.rmtree(top, ignore_errors=True)
