"""Requests through web servers: our service, our service without a sandbox, and FastAPI with bubblewrap."""
import http.client
import json
import os
import secrets
import socket
import subprocess
import time

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
BODY, EXPECT = '{"commands":["true"]}', '"exit_code":0'
GROUP, SPARSE = "POST one `true`, requests per second", "One request each 10 ms"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    """Something that answers our routes on a port of its own."""

    def __init__(self, place, name):
        self.place, self.name, self.key, self.port = place, name, secrets.token_hex(12), free_port()
        self.state = place.make_dir("service-" + name)
        self.log = open(os.path.join(self.state, "bench.log"), "w+")
        self.process = None

    def spawn(self, args, env):
        self.process = self.place.start(args, env=env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.ask("GET", "/-/health/")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        with open(self.log.name) as f:
            raise RuntimeError("%s did not start: %s" % (self.name, f.read()[-600:]))

    def ask(self, method, path, body=None, timeout=300):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.request(method, path, body, {"X-API-Key": self.key, "Content-Type": "application/json"})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def create(self, image, **more):
        status, data = self.ask("POST", "/session/", json.dumps(dict(more, base_image=image)))
        if status != 200:
            raise RuntimeError("%s: POST /session/: %d %s" % (self.name, status, data[:300]))
        return json.loads(data)["session_id"]

    def sessions(self, n, **more):
        self.ids = [self.create("bench", **more) for _ in range(n)]
        return self

    def run(self, sid, command):
        """The first result of one command."""
        status, data = self.ask("POST", "/session/%s/" % sid, json.dumps({"commands": [command]}))
        if status != 200:
            raise RuntimeError("%s: %s: %d %s" % (self.name, command, status, data[:300]))
        return json.loads(data)["results"][0]

    def keeps_sandbox(self, **more):
        """Whether a process of one call lives in the next, in a session of this kind."""
        sid = self.create("bench", **more)
        pid = self.run(sid, "sleep 100 >/dev/null 2>&1 & echo $!")["output"].strip()
        lives = self.run(sid, "read name </proc/%s/comm && test $name = sleep" % pid)["exit_code"] == 0
        self.ask("DELETE", "/session/%s/" % sid)
        return lives

    def load(self, connections, seconds, gap_ms=0):
        """(requests per second, milliseconds of the requests)"""
        text = "".join("/session/%s/\t%s\n" % (i, BODY) for i in self.ids)
        out = self.place.run([self.place.program("load"), str(self.port), str(connections), str(seconds), str(gap_ms), EXPECT], input=text,
                             env={"KEY": self.key})
        numbers, _, wrong = out.partition("\n")
        done, errors, took, *us = numbers.split()
        if int(errors) or not int(done):
            raise RuntimeError("%s: %s of %s requests went wrong: %s" % (self.name, errors, done, wrong[:400]))
        return int(done) / float(took), [float(x) / 1000 for x in us]

    def stop(self):
        if self.process:
            self.place.end(self.process, 30)
        self.log.close()


def ours(place, name, server="lighttpd", prefix=None, settings=None, more=None):
    s = Service(place, name)
    prefix = prefix or place.prefix
    place.run([prefix + "/bin/cgibox", "--state", s.state + "/s", "image", "--quiet", "import", "bench", place.root])
    env = {"CGIBOX_API_KEY": s.key, **{"CGIBOX_" + k.upper(): str(v) for k, v in (settings or {}).items()}, **(more or {})}
    return s.spawn([prefix + "/libexec/cgibox/serve", "--port", str(s.port), "--state", s.state + "/s", "--server", server], env)


def least(place):
    """Our front around the least that a sandbox of ours can be: nothing that isolates as much is faster here."""
    return ours(place, "least", prefix=place.plain_prefix, more={"CGIBOX_BENCH_LEAST": ":".join((place.program("bare"), place.root, place.make_dir("least")))})


def ours_live(place):
    """The service whose sessions keep their sandbox between calls."""
    s = ours(place, "live")
    if s.keeps_sandbox(live=True):
        return s
    s.stop()
    raise RuntimeError("this version keeps no sandbox between calls")


def fastapi(place):
    s = Service(place, "fastapi")
    work = place.make_dir("service-fastapi/work")
    app = place.make_dir("app")
    subprocess.run(["cp", os.path.join(HERE, "seed_app.py"), app], check=True)
    return s.spawn(["/usr/bin/python3", "-B", "-m", "uvicorn", "--app-dir", app, "--port", str(s.port), "--no-access-log", "--log-level", "warning",
                    "seed_app:app"], {"SEED_ROOT": place.root, "SEED_WORK": work, "KEY": s.key})


def known_keys(place):
    out = place.run([place.prefix + "/bin/cgibox", "config"])
    return {line.split("=")[0].strip(" #") for line in out.splitlines() if "=" in line}


class Section:
    name = "http"

    def __init__(self, place, results, options, engine):
        self.place, self.results, self.seconds, self.quick = place, results, 0.4 if options.quick else 1.2, options.quick
        self.services = {}  # key -> (service, label, connections)

    def put(self, key, label, make, connections=(1, 8, 64), **more):
        try:
            self.services[key] = (make().sessions(max(connections), **more), label, connections)
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.results.skip(label, str(e))

    def setup(self):
        p, few = self.place, (8,) if self.quick else (1, 8, 64)
        # Cold: what the claims are about. With parts prepared ahead, as it is configured, is measured beside it. Roots are forgotten, as the
        # peer forgets its own; what it costs to keep what was written outside of the workspace is a row of its own.
        keys = known_keys(p)
        pool = keys & {"prepared_max", "pool_networks"}
        root = {"session_root": "tmpfs"} if "session_root" in keys else {}
        cold = dict(root, **{k: 0 for k in pool})
        self.put("ours", "cgibox, lighttpd" + ", nothing prepared" * len(pool), lambda: ours(p, "ours", settings=cold), (1, 8, 64) if not self.quick else (1, 8))
        if pool:
            self.put("pool", "cgibox, lighttpd, parts prepared", lambda: ours(p, "pool", settings=root), (1, 8, 64) if not self.quick else (1, 8))
        else:
            self.results.skip("prepared parts", "this version prepares nothing")
        self.put("nginx", "cgibox, nginx" + ", nothing prepared" * len(pool), lambda: ours(p, "nginx", "nginx", settings=cold), few)
        if root:
            self.put("disk", "cgibox, lighttpd, nothing prepared, roots kept on disk", lambda: ours(p, "disk", settings={k: 0 for k in pool}), (1, 8))
        self.put("live", "cgibox, lighttpd, live sessions", lambda: ours_live(p), (1, 8), live=True)
        self.put("plain", "our responder without a sandbox, lighttpd", lambda: ours(p, "plain", prefix=p.plain_prefix), (1, 8, 64) if not self.quick else (1, 8))
        self.put("least", "our responder with the least that such a sandbox takes", lambda: least(p), (1, 8))
        if peers.usable("bwrap"):
            self.put("fastapi", "FastAPI, uvicorn, bwrap", lambda: fastapi(p), (1, 8, 64) if not self.quick else (1, 8))
        if "live" in self.services:
            self.results.bodies.append(("a live session, once", "POST /session/", '{"live": true, "base_image": "bench"}'))
        self.results.bodies += [("a session, once", "POST /session/", '{"base_image": "bench"}'),
                                ("each request; each connection has a session of its own", "POST /session/ID/", BODY)]

    def measure(self, number):
        for n in (1, 8, 64):
            for key, (service, label, connections) in self.services.items():
                if n in connections:
                    self.one(number, "%s-%d" % (key, n), "%s, %d at once" % (label, n), service, n)
        for key in ("ours", "pool", "fastapi"):
            if key in self.services:
                service, label, _ = self.services[key]
                _, ms = service.load(1, self.seconds, 10)
                self.results.add(number, "sparse-" + key, SPARSE, label, "ms", ms)

    def one(self, number, key, label, service, n):
        rate, ms = service.load(n, self.seconds)
        self.results.add(number, "rate-" + key, GROUP, label, "1/s", [rate])
        self.results.add(number, "time-" + key, "The same, time of a request", label, "ms", ms)

    def close(self):
        for service, *_ in self.services.values():
            service.stop()
