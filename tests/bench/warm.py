"""`python3 -c pass`: bare, in bubblewrap, in a sandbox of ours that starts it, and in an interpreter that waited there."""
import json
import time

import peers
import web

GROUP, HTTP = "Running `python3 -c pass`, interpreters that wait", "POST /run of the same, lighttpd, 100 ms between two"
PYTHON = ("/usr/bin/python3", "-c", "pass")


class Section:
    name = "warm"

    def __init__(self, place, results, options, engine):
        self.place, self.results, self.rounds = place, results, 5 if options.quick else 20
        self.service, self.commands = None, []

    def setup(self):
        p = self.place
        self.state = p.make_dir("warm")
        p.run([p.prefix + "/bin/cgibox", "--state", self.state, "image", "--quiet", "import", "bench", p.root])
        self.commands = [("w-spawn", "posix_spawn", [p.root + PYTHON[0], *PYTHON[1:]])]
        if peers.usable("bwrap"):
            self.commands.append(("w-bwrap", "bwrap, all namespaces", peers.bwrap(p.root, *PYTHON)))
        else:
            self.results.skip("bwrap", "not installed (scripts/deps bench)")
        self.service = web.ours(p, "warm", settings={"warm_python_max": 1, "warm_python_image": "bench"})
        self.results.bodies.append(("code in an interpreter that waits", "POST /run", '{"language":"python","code":"pass"}'))

    def measure(self, number):
        text = "".join("\t".join([key, *command]) + "\n" for key, _, command in self.commands)
        labels = {key: label for key, label, _ in self.commands}
        labels.update({"w-cold": "cgibox, a sandbox that starts it", "w-warm": "cgibox, an interpreter that waited"})
        out = self.place.run([self.place.program("warm"), self.state, "bench", str(self.rounds)], input=text)
        for line in out.splitlines():
            key, *us = line.split("\t")
            self.results.add(number, key, GROUP, labels[key], "ms", [float(x) / 1000 for x in us])
        for key, label, more in (("w-http-warm", "an interpreter that waited", {}), ("w-http-cold", "one that is started", {"env": {"TZ": "UTC"}})):
            ms = [m for m in (self.request(more, key == "w-http-warm") for _ in range(self.rounds)) if m]
            if ms:
                self.results.add(number, key, HTTP, label, "ms", ms)

    def request(self, more, warm):
        """Milliseconds; None when none waited."""
        time.sleep(0.1)
        body = json.dumps(dict({"language": "python", "code": "pass"}, **more))
        begin = time.monotonic()
        status, data = self.service.ask("POST", "/run", body)
        took = time.monotonic() - begin
        got = json.loads(data)
        if status != 200 or got["verdict"] != "ok":
            raise RuntimeError("POST /run: %d %s" % (status, data[:300]))
        return took * 1000 if got["warm"] == warm else None

    def close(self):
        if self.service:
            self.service.stop()
