"""A private Docker engine with one image and one running container, for root only."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import time

import place as places

FLAGS = ["--iptables=false", "--ip-forward=false", "--bridge=none"]


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    def __init__(self, place):
        self.place, self.process = place, None
        self.dir = os.path.join(place.top, "d")
        self.socket = os.path.join(self.dir, "s")
        # Debian's client, which fits Debian's engine, before another that may be first along PATH.
        self.client = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else shutil.which("docker")

    def missing(self):
        """Why there can be none, or None."""
        if not self.place.is_root:
            return "a private dockerd needs root; run the benchmark as root to compare it"
        for p in ("dockerd", "containerd"):
            if not shutil.which(p):
                return "%s is not installed (scripts/deps bench)" % p
        return None if self.client else "no docker client"

    def start(self):
        os.makedirs(self.dir)
        self.log = open(os.path.join(self.dir, "log"), "w")
        # In a mount namespace of its own: what it mounts goes with it.
        self.process = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "dockerd", "-H", "unix://" + self.socket, "--data-root", self.dir + "/data", "--exec-root",
             self.dir + "/x", "-p", self.dir + "/pid", "--group", str(places.UID), *FLAGS], stdout=self.log, stderr=self.log)
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            if os.path.exists(self.socket) and self.say("version", check=False).returncode == 0:
                self.load()
                return
            time.sleep(0.1)
        with open(self.log.name) as f:
            raise RuntimeError("dockerd did not start: " + f.read()[-500:])

    def say(self, *words, check=True, **more):
        return subprocess.run(self.command(*words), check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def command(self, *words):
        return [self.client, "-H", "unix://" + self.socket, *words]

    def load(self):
        tar = subprocess.Popen(["tar", "-C", self.place.root, "-c", "."], stdout=subprocess.PIPE)
        self.say("import", "-", "bench:1", stdin=tar.stdout)
        tar.wait()
        self.say("run", "-d", "--network", "none", "--name", "live", "bench:1", "/bin/sleep", "100000")

    def ask(self, method, path, body):
        c = Connection(self.socket)
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        data = c.getresponse().read()
        c.close()
        return data

    def exec_by_api(self):
        """Seconds of one `true` in the running container by the Engine API: create, start and read to its end, ask for the exit code."""
        begin = time.perf_counter()
        made = json.loads(self.ask("POST", "/v1.41/containers/live/exec", {"Cmd": ["/bin/true"], "AttachStdout": True, "AttachStderr": True}))
        self.ask("POST", "/v1.41/exec/%s/start" % made["Id"], {"Detach": False, "Tty": False})
        done = json.loads(self.ask("GET", "/v1.41/exec/%s/json" % made["Id"], None))
        if done["ExitCode"] != 0:
            raise RuntimeError("docker: %s" % done)
        return time.perf_counter() - begin

    def stop(self):
        if not self.process:
            return
        self.say("rm", "-f", "live", check=False)
        self.place.end(self.process, 30)
        self.log.close()
