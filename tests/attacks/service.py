"""A service of one's own to attack: cgibox.fcgi on a socket in a temporary directory, as a user of its own."""
import base64
import io
import json
import os
import signal
import socket
import struct
import subprocess
import tarfile
import time

import lab

BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6


def record(kind, data=b""):
    return struct.pack(">BBHHBB", 1, kind, 1, len(data), 0, 0) + data


def records(kind, data):
    parts = [data[i:i + 60000] for i in range(0, len(data), 60000)] + [b""]
    return b"".join(record(kind, p) for p in parts)


def pair(name, value):
    head = b"".join(bytes([n]) if n < 128 else struct.pack(">I", n | 1 << 31) for n in (len(name), len(value)))
    return head + name.encode() + value.encode()


def processes_of(uid):
    """pid -> (ppid, comm) of all processes of this machine with that uid that are not zombies."""
    out = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/status" % p) as f:
                s = dict(x.rstrip("\n").split(":\t", 1) for x in f if ":\t" in x)
        except OSError:
            continue
        if s.get("Uid", "").split()[:1] == [str(uid)] and s["State"][0] not in "ZX":
            out[int(p)] = (int(s["PPid"]), s["Name"])
    return out


class Service:
    """With root its processes have a uid that nobody else uses, so that every leftover is found."""

    def __init__(self, box, program, mutate=(), **conf):
        self.uid = 300000 + os.getpid() % 100000 if lab.ROOT else os.getuid()
        self.key = os.urandom(12).hex()
        self.box, self.program = box, program
        self.state = box.mine("service-%d" % time.monotonic_ns(), directory=True)
        if lab.ROOT:
            os.chown(self.state, self.uid, self.uid)
        self.sock = os.path.join(self.state, "cgibox.sock")
        self.log = os.path.join(box.top, "service.log")
        self.env = {"PATH": "/usr/bin:/bin", "CGIBOX_API_KEY": self.key}
        self.env.update({"CGIBOX_" + k.upper(): str(v) for k, v in conf.items()})
        if mutate:
            self.env["CGIBOX_MUTATE"] = ",".join(mutate)
        self.proc = None

    def start(self):
        drop = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups", "--"] if lab.ROOT else []
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen([*drop, self.program, "--state", self.state], env=self.env, cwd="/",
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self.call("GET", "/-/health/")[0] == 200:
                return True
            time.sleep(0.02)
        return False

    def call(self, method, path, what=None, timeout=300, sock=None):
        """(status, JSON or bytes); status None when the service is not there or closes."""
        data = b"" if what is None else json.dumps(what).encode()
        names = {"REQUEST_METHOD": method, "REQUEST_URI": path, "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
                 "CONTENT_LENGTH": str(len(data)) if data else "", "CONTENT_TYPE": "application/json",
                 "HTTP_X_API_KEY": self.key}
        got = b""
        try:
            with sock or socket.socket(socket.AF_UNIX) as s:
                s.settimeout(timeout)
                s.connect(self.sock)
                s.sendall(record(BEGIN, struct.pack(">HB5x", 1, 0)) +
                          records(PARAMS, b"".join(pair(k, v) for k, v in names.items())) + records(STDIN, data))
                while True:
                    d = s.recv(1 << 16)
                    if not d:
                        break
                    got += d
        except OSError:
            pass
        out = b""
        while len(got) >= 8:
            kind, n, padding = got[1], struct.unpack(">H", got[4:6])[0], got[6]
            out += got[8:8 + n] if kind == STDOUT else b""
            got = got[8 + n + padding:]
        head, _, body = out.partition(b"\r\n\r\n")
        status = int(head[8:11]) if head.startswith(b"Status: ") else None
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body

    def session(self):
        status, got = self.call("POST", "/session/", {"base_image": "host", "extract_patch": True})
        return got.get("session_id") if status == 200 else None

    def run(self, sid, commands, archive=None, timeout=300):
        what = {"commands": commands}
        if archive:
            what["archive"] = base64.b64encode(archive).decode()
        return self.call("POST", "/session/%s/" % sid, what, timeout)

    def roles(self):
        """role -> pids, by name and by who is whose child."""
        all_ = processes_of(self.uid)
        mine = {self.proc.pid}
        below = mine
        while below:
            below = {p for p, v in all_.items() if v[0] in mine} - mine
            mine |= below
        out = {"supervisor": [self.proc.pid]}
        for p in mine - {self.proc.pid}:
            if p not in all_:
                continue
            parent, name = all_[p]
            role = {"cgibox-keeper": "keeper", "cgibox-tree": "tree", "init": "pid1"}.get(name)
            if not role:
                role = "main" if parent == self.proc.pid else "worker" if name.startswith("cgibox") else "payload"
            out.setdefault(role, []).append(p)
        return out

    def left(self, seconds=60):
        """Waits until no process has the service's uid; those that are left."""
        end = time.monotonic() + seconds
        while True:
            found = processes_of(self.uid)
            found.pop(os.getpid(), None) if not lab.ROOT else None
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.01)

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(60)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        if lab.ROOT:
            for p in self.left(5):
                try:
                    os.kill(p, signal.SIGKILL)
                except OSError:
                    pass


def tar(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in files.items():
            ti = tarfile.TarInfo(name)
            ti.mode, ti.size = 0o755, len(data)
            t.addfile(ti, io.BytesIO(data))
    return out.getvalue()
