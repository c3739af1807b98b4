#!/usr/bin/python3
"""Dependencies: installed once for each set, shared, seen by the code, forgotten in time.

The indexes are served here, on loopback; the service under test is one of its own, which may use the machine's
network and installs from them. So this runs twice: as itself, and as the tests behind the service. CGIBOX_DEPS_TEST:
other tests to run there.
"""
import base64
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import uuid
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
INDEX = os.environ.get("CGIBOX_DEPS_INDEX")


def wheel(name, version, files):
    """A wheel (PEP 427) of these files: its name, its bytes."""
    out, info = io.BytesIO(), "%s-%s.dist-info" % (name, version)
    files = dict(files, **{info + "/METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version),
                           info + "/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"})
    record = "".join("%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode(),
                                            len(t.encode())) for n, t in files.items())
    with zipfile.ZipFile(out, "w") as z:
        for n, t in dict(files, **{info + "/RECORD": record + info + "/RECORD,,\n"}).items():
            z.writestr(n, t)
    return "%s-%s-py3-none-any.whl" % (name, version), out.getvalue()


def package(name, version, text):
    """A package of npm: its bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for n, data in (("package.json", json.dumps({"name": name, "version": version, "main": "index.js"})), ("index.js", text)):
            m = tarfile.TarInfo("package/" + n)
            m.size = len(data)
            t.addfile(m, io.BytesIO(data.encode()))
    return out.getvalue()


WHEELS = dict([wheel("demo", "1.0", {"demo.py": "WHAT = 'one'\n"}), wheel("demo", "2.0", {"demo.py": "WHAT = 'two'\n"}),
               wheel("other", "1.0", {"other.py": "WHAT = 'other'\n"}), wheel("slow", "1.0", {"slow.py": "WHAT = 'slow'\n"}),
               wheel("slower", "1.0", {"slower.py": "WHAT = 'slower'\n"}),
               wheel("big1", "1.0", {"big1.py": "WHAT = 1\n", "big1.dat": "x" * 400000}),
               wheel("big2", "1.0", {"big2.py": "WHAT = 2\n", "big2.dat": "x" * 400000})])
NPM = {"left-demo": package("left-demo", "1.2.3", "module.exports = s => '<' + s;\n")}
counts = {}
go = threading.Event()


class Index(http.server.BaseHTTPRequestHandler):
    """PEP 503 at /simple/, npm's registry at /npm/, how often a file was fetched at /count/NAME. The package "slower" comes when
    somebody has asked for /go."""

    def log_message(self, *a):
        pass

    def send(self, data, kind="text/html", status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        part = self.path.strip("/").split("/")
        here = "http://127.0.0.1:%d" % self.server.server_port
        if part[0] == "go":
            go.set()
            self.send(b"")
        elif part[0] == "count":
            self.send(str(counts.get(part[1], 0)).encode())
        elif part[0] == "simple" and len(part) == 2:
            names = [n for n in WHEELS if n.split("-")[0] == part[1]]
            self.send("".join("<a href='/file/%s#sha256=%s'>%s</a>" % (n, hashlib.sha256(WHEELS[n]).hexdigest(), n)
                              for n in names).encode(), status=200 if names else 404)
        elif part[0] == "npm" and part[1] in NPM:
            data = NPM[part[1]]
            dist = {"tarball": here + "/tgz/" + part[1], "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()}
            self.send(json.dumps({"name": part[1], "dist-tags": {"latest": "1.2.3"},
                                  "versions": {"1.2.3": {"name": part[1], "version": "1.2.3", "dist": dist}}}).encode(), "application/json")
        elif part[0] == "file" and part[1] in WHEELS:
            counts[part[1].split("-")[0]] = counts.get(part[1].split("-")[0], 0) + 1
            if part[1].startswith("slow-"):
                time.sleep(2)
            elif part[1].startswith("slower-"):
                go.wait(600)
            try:
                self.send(WHEELS[part[1]], "application/zip")
            except ConnectionError:
                pass  # who asked is dead: that is a test
        elif part[0] == "tgz":
            counts[part[1]] = counts.get(part[1], 0) + 1
            self.send(NPM[part[1]], "application/octet-stream")
        else:
            self.send(b"", status=404)


def outside():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = "http://127.0.0.1:%d" % server.server_port
    env = {k: v for k, v in os.environ.items() if not k.startswith("CGIBOX_TEST_") and k not in ("CGIBOX_URL", "CGIBOX_ACCESS_LOG")}
    env.update(CGIBOX_DEPS_INDEX=at, CGIBOX_NETWORK="host", CGIBOX_DEPS_MAX_BYTES="600000", CGIBOX_PROVE="-v",
               CGIBOX_KWEAVER_INSTALL_WAIT_S="16",
               CGIBOX_LANGUAGE_PYTHON_INSTALL="python3 -m pip install -q --no-input --disable-pip-version-check --no-cache-dir "
               "--retries 0 --timeout 600 --index-url %s/simple/ --target $DEPS_DIR --" % at,
               CGIBOX_LANGUAGE_JAVASCRIPT_INSTALL="npm install --registry %s/npm/ --prefix $DEPS_DIR --no-audit --no-fund --no-save --" % at)
    done = subprocess.run([os.path.join(HERE, "run"), os.environ.get("CGIBOX_TEST_SERVER") or "lighttpd",
                           os.environ.get("CGIBOX_DEPS_TEST") or os.path.abspath(__file__)],
                          env=env, stdout=subprocess.PIPE, text=True)
    lines = [l for l in done.stdout.splitlines() if re.match(r"ok |not ok |# |1\.\.", l)]
    print("\n".join(lines))
    if done.returncode and not any(l.startswith("not ok") for l in lines):
        print("not ok %d - the tests behind the service end well" % (1 + sum(l.startswith("ok ") for l in lines)))
        print("# " + done.stdout.replace("\n", "\n# ")[-3000:])
    sys.exit(done.returncode != 0)


if not INDEX:
    outside()

import client
from client import eq, ok, request, wait_for

STATE = client.STATE


def code(text, deps, language="python"):
    return request("POST", "/run/code/", {"run_id": str(uuid.uuid4()), "language": language, "code": text, "dependencies": deps})


def fetched(name):
    with urllib.request.urlopen("%s/count/%s" % (INDEX, name)) as r:
        return int(r.read())


def names(d):
    return sorted(os.listdir(os.path.join(STATE, d)))


def settled(d, want):
    wait_for(lambda: names(d) == want, 60)
    return names(d)


if subprocess.run(["/usr/bin/python3", "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
    client.skip("no pip here")
    client.done()
show = "import demo; print(demo.WHAT)"

# --- installed, seen, reused ---
a = code(show, ["demo"])
eq((a.status, a.json), (200, {"output": "two\n"}), "the newest version is installed and seen")
eq(fetched("demo"), 1, "it was fetched")
eq(code(show, [" Demo "]).json, {"output": "two\n"}, "the same set in other words")
eq(fetched("demo"), 1, "was there")
eq((len(names("deps")), len(names("layers"))), (1, 1), "one set, one layer")
eq(code(show, ["demo==1.0"]).json, {"output": "one\n"}, "another version is another set")
eq(code("import demo, other; print(demo.WHAT, other.WHAT)", ["other", "demo<2", "demo >=1.0"]).json, {"output": "one other\n"}, "two packages")
n = fetched("demo")
eq(code("import demo, other; print(demo.WHAT, other.WHAT)", ["demo>=1.0", "other", "demo<2"]).json, {"output": "one other\n"}, "in another order")
eq(fetched("demo"), n, "are the same set")
ok(code("import demo", []).status == 400, "without dependencies nothing is seen")
eq(code("import os, sys; print([p for p in sys.path if 'cgibox' in p], os.environ['PATH'].split(':')[0])", ["demo"]).json["output"],
   "['/opt/cgibox/deps/python'] /opt/cgibox/deps/python/bin\n", "where it is")

# --- shared, and nobody's to change ---
a = code("p = '/opt/cgibox/deps/python/demo.py'\nopen(p, 'a').write('WHAT = 3')\nimport demo; print(demo.WHAT)", ["demo"])
eq(a.json, {"output": "3\n"}, "a session may change what it sees")
eq(code(show, ["demo"]).json, {"output": "two\n"}, "the next one does not see that")
eq(code("import os; os.remove('/opt/cgibox/deps/python/demo.py'); print('gone')", ["demo"]).json, {"output": "gone\n"}, "or removes it")
eq(code(show, ["demo"]).json, {"output": "two\n"}, "for itself")

# --- failures leave nothing ---
before = names("deps"), names("layers")
a = code(show, ["no-such-package-x"])
ok(a.status == 400 and "could not be installed" in a.detail and "no-such-package-x" in a.detail, "a package that is not there: 400 with pip's words", a)
ok(code(show, ["demo==9"]).status == 400, "nor that version")
eq((settled("deps", before[0]), settled("layers", before[1])), before, "nothing is kept of it")
for bad in ("--index-url=http://x", "-r/etc/passwd", "demo @ file:///etc/passwd", "git+ssh://x/y", "./demo", "demo;x", "demo\nother"):
    a = code(show, [bad])
    ok(a.status == 422 and a.detail[0]["loc"] == ["body", "dependencies", 0], "refused: %r" % bad, a)
a = code(show, ["p%d" % i for i in range(51)])
ok(a.status == 422 and a.detail[0]["loc"] == ["body", "dependencies", 50], "51 requirements", a)
eq(settled("sessions", []), [], "no session is left")

# --- at the same time: once ---
answers = []
threads = [threading.Thread(target=lambda: answers.append(code("import slow; print(slow.WHAT)", ["slow"]).json)) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
eq(answers, [{"output": "slow\n"}] * 4, "four that want the same at once have it")
eq(fetched("slow"), 1, "fetched once")

# --- who asked dies ---
settled("sessions", [])
before = names("deps"), names("layers")
c = client.connect()
c.request("POST", client.PREFIX + "/run/code/", json.dumps({"run_id": str(uuid.uuid4()), "language": "python", "code": "",
          "dependencies": ["slower"]}), {"X-API-Key": client.KEY, "Content-Type": "application/json"})
wait_for(lambda: fetched("slower"), 120)
eq(len(names("sessions")), 1, "an installer is at work")
for pid, (_, _, name, _) in client.processes().items():
    if name == "cgibox-worker" and STATE in client.cmdline(pid):
        os.kill(pid, 9)
c.close()
eq(settled("sessions", []), [], "its session is gone with the worker")
eq((settled("deps", before[0]), settled("layers", before[1])), before, "and what it had made")
n = fetched("demo")
for pid, (_, _, name, _) in client.processes().items():
    if name == "cgibox-keeper" and STATE in client.cmdline(pid):
        os.kill(pid, 9)
wait_for(lambda: request("GET", "/-/health/").status == 200 and code(show, ["demo"]).status == 200, 60, 0.1)
a = code(show, ["demo"])
eq((a.json, fetched("demo")), ({"output": "two\n"}, n), "what is installed outlives the keeper")

# --- javascript ---
if shutil.which("npm", path="/usr/bin"):
    a = code("console.log(require('left-demo')('x'))", ["left-demo@^1.0.0"], "javascript")
    eq(a.json, {"output": "<x\n"}, "npm", )
    n = fetched("left-demo")
    eq(code("console.log(require('left-demo')('y'))", ["left-demo@^1.0.0"], "javascript").json, {"output": "<y\n"}, "again")
    eq(fetched("left-demo"), n, "without fetching it")
else:
    client.skip("no npm here")

# --- too much is forgotten, the longest unused first ---
eq(code("import big1; print(big1.WHAT)", ["big1"]).json, {"output": "1\n"}, "400 KB")
had = set(names("deps"))
eq(code("import big2; print(big2.WHAT)", ["big2"]).json, {"output": "2\n"}, "400 KB more, 600 KB are kept")
left = set(names("deps"))
ok(len(left - had) == 1 and not (left & had), "all but the newest is forgotten", had, left)
wait_for(lambda: len(names("layers")) == len(left), 60)
eq(len(names("layers")), len(left), "and so are the layers")
n = fetched("big1")
eq(code("import big1; print(big1.WHAT)", ["big1"]).json, {"output": "1\n"}, "what was forgotten is installed again")
eq(fetched("big1"), n + 1, "and fetched")
client.done()
