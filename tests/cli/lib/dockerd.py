"""A dockerd of one's own for tests: private socket, data and runtime directories, no bridge, no rules in the
machine's firewall. Root starts it; whoever else is to talk to it gets its group."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse

import debian

READY_S = 180


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("docker", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


# gVisor runs here by ptrace(2): its other platforms want /dev/kvm, or are newer than Debian's package. No control groups of its own:
# it asks for controllers that a machine may lack, and Docker makes the container's all the same.
RUNTIMES = {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--platform=ptrace", "--ignore-cgroups", "--network=none"]},
            "not-runsc": {"path": shutil.which("runc") or "/usr/sbin/runc"}}  # spoken with as gVisor is: the name says so


def lacks_runtime(name):
    """Why containers cannot be made with it, or ""."""
    if not name or os.access(RUNTIMES[name]["path"], os.X_OK):
        return ""
    return "%s is not installed (scripts/deps engine)" % RUNTIMES[name]["path"]


class Dockerd:
    def __init__(self, group=0):
        """The reason why none can be had is self.why, else ""."""
        self.top = tempfile.mkdtemp(prefix="dkr.", dir="/var/tmp")  # short: a socket's path may have 107 bytes
        os.chmod(self.top, 0o711)
        self.group, self.process = group, None
        self.socket = os.path.join(self.top, "docker.sock")
        self.why = self._missing() or self.start()

    @staticmethod
    def _missing():
        if os.getuid() != 0:
            return "dockerd is started by root"
        return "" if shutil.which("dockerd") else "dockerd is not installed (scripts/deps engine)"

    def start(self):
        log = open(os.path.join(self.top, "log"), "a")
        try:
            os.unlink(os.path.join(self.top, "pid"))  # of one that was killed, and may not have been reaped
        except OSError:
            pass
        with open(self.top + "/daemon.json", "w") as f:
            json.dump({"runtimes": RUNTIMES}, f)
        self.process = subprocess.Popen(
            ["dockerd", "--config-file", self.top + "/daemon.json", "-H", "unix://" + self.socket, "--data-root", self.top + "/data", "--exec-root", self.top + "/exec",
             "-p", self.top + "/pid", "--iptables=false", "--ip-forward=false", "--bridge=none"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.api("GET", "/_ping")[0] == 200:
                    os.chown(self.socket, 0, self.group)
                    os.chmod(self.socket, 0o660)
                    return ""
            except OSError:
                pass
            time.sleep(0.05)
        with open(log.name) as f:
            return "dockerd does not start: " + (f.read().strip().splitlines() or ["it says nothing"])[-1]

    def kill(self):
        """As a crash does: containers and containerd go on."""
        self.process.kill()
        self.process.wait()

    def api(self, method, path, body=None, kind="application/json"):
        """(status, decoded answer)"""
        c = Connection(self.socket)
        try:
            data = json.dumps(body).encode() if body is not None and kind == "application/json" else body
            c.request(method, "/v1.40" + path, data, {"Content-Type": kind})
            r = c.getresponse()
            text = r.read()
        finally:
            c.close()
        try:
            return r.status, json.loads(text) if text else None
        except ValueError:
            return r.status, text

    def load(self, name, tar):
        """Imports a root file system; tar: an open file."""
        status, answer = self.api("POST", "/images/create?fromSrc=-&repo=" + urllib.parse.quote(name), tar, "application/x-tar")
        assert status == 200 and b"error" not in json.dumps(answer, default=str).encode(), (status, answer)

    def containers(self):
        return self.api("GET", "/containers/json?all=1")[1]

    def stop(self):
        if self.process is not None:
            try:
                for c in self.containers() if self.process.poll() is None else ():
                    self.api("DELETE", "/containers/%s?force=1&v=1" % c["Id"])
            except OSError:
                pass
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        self._end_another()
        self._end_containerd()
        self._end_shims()
        subprocess.run(["umount", "-R", "-l", self.top + "/data"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.top, ignore_errors=True)

    def _end_another(self):
        """One that a test has started in the place of ours is nobody's child, or not ours."""
        try:
            with open(self.top + "/pid") as f:
                pid = int(f.read())
            with open("/proc/%d/cmdline" % pid) as f:
                if self.top not in f.read():
                    return
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + 120
            while os.path.exists("/proc/%d/exe" % pid) and time.monotonic() < until:
                time.sleep(0.05)
        except (OSError, ValueError):
            pass

    def _end_shims(self):
        """Those of containers that ended while a dockerd was killed stay."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid) as f:
                    words = f.read().split("\0")
                if words[0].endswith("/containerd-shim-runc-v2") and self.top + "/exec/containerd/containerd.sock" in words:
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass

    def _end_containerd(self):
        """That of a dockerd that was killed is nobody's child."""
        for name in ("exec/containerd/containerd.pid",):
            try:
                with open(os.path.join(self.top, name)) as f:
                    pid = int(f.read())
                with open("/proc/%d/cmdline" % pid) as f:
                    ours = self.top in f.read()
                if ours:
                    os.kill(pid, signal.SIGKILL)
            except (OSError, ValueError):
                pass


class Running(Dockerd):
    """One that runs already; top: the directory of its files. Whoever started it stops it."""

    def __init__(self, top):
        self.top, self.socket, self.process = top, os.path.join(top, "docker.sock"), None
        self.group = os.stat(self.socket).st_gid

    def pid(self):
        with open(os.path.join(self.top, "pid")) as f:
            return int(f.read())

    def crash(self):
        os.kill(self.pid(), signal.SIGKILL)


def base():
    """(path of a tar with bash, git, python3; None) or (None, why not); made once, by mmdebstrap."""
    release, lines = debian.sources()
    path = os.path.join(debian.CACHE, "cgibox", "test-base-%s.tar" % "".join(release))
    if os.path.exists(path):
        return path, None
    if not shutil.which("mmdebstrap"):
        return None, "mmdebstrap is not installed"
    print("# making %s, once: this takes a minute or more" % path, flush=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = path.replace("test-base", "new-%d-test-base" % os.getpid())
    args = ["mmdebstrap", "--variant=minbase", "--include=git,python3,procps"]
    args += ["--dpkgopt=path-exclude=/usr/share/%s/*" % x for x in ("doc", "man", "locale")]
    args += ["--aptopt=" + x for x in debian.settings()]
    p = subprocess.run(args + [release[0], new, *lines], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if p.returncode:
        if os.path.exists(new):
            os.unlink(new)
        return None, "mmdebstrap: " + (p.stderr.strip().splitlines() or ["no reason given"])[-1]
    os.rename(new, path)
    return path, None
