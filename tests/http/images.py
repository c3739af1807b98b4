#!/usr/bin/python3
"""The images API: list, inspect, pull as a stream, removal; who may cause a pull, what a dropped client changes.

Starts a service of its own, CGIBOX_TEST_SERVE (default scripts/serve of this tree), and a registry that it may pull from."""
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time

import client
from client import eq, ok, request

SERVE = os.environ.get("CGIBOX_TEST_SERVE", os.path.join(client.HERE, "..", "..", "scripts", "serve"))
BUSYBOX = "/bin/busybox"


def sha(b):
    return hashlib.sha256(b).hexdigest()


def layer(seed, noise=0):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        for name in ("bin", "etc", "tmp", "proc", "dev", "sys", "repo", "workdir", "run", "home", "root"):
            i = tarfile.TarInfo(name)
            i.type, i.mode = tarfile.DIRTYPE, 0o755
            t.addfile(i)
        i = tarfile.TarInfo("bin/busybox")
        data = open(BUSYBOX, "rb").read() if os.path.exists(BUSYBOX) else b""
        i.mode, i.size = 0o755, len(data)
        t.addfile(i, io.BytesIO(data))
        for x in ("sh", "cat", "echo"):
            i = tarfile.TarInfo("bin/" + x)
            i.type, i.linkname = tarfile.SYMTYPE, "busybox"
            t.addfile(i)
        for name, data in (("etc/seed", seed), ("etc/noise", os.urandom(noise))):
            i = tarfile.TarInfo(name)
            i.mode, i.size = 0o644, len(data)
            t.addfile(i, io.BytesIO(data))
    return b.getvalue()


class Registry(http.server.BaseHTTPRequestHandler):
    """One repository x; a layer of the tag "slow" comes in halves, the second when `go` is set."""
    protocol_version = "HTTP/1.1"
    files, slow, go, half = {}, set(), threading.Event(), threading.Event()

    def log_message(self, *a):
        pass

    def do_GET(self):
        name = self.path.split("/")[-1]
        data = self.files.get(name)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        if "/manifests/" in self.path:
            self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            if name in self.slow and not self.go.is_set():
                self.wfile.write(data[:len(data) // 2])
                self.wfile.flush()
                self.half.set()
                self.go.wait(300)
                data = data[len(data) // 2:]
            self.wfile.write(data)
        except OSError:
            pass


def publish(tag, seed, noise=0):
    plain = layer(seed, noise)
    packed = gzip.compress(plain, 1, mtime=0)
    config = json.dumps({"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
                         "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Labels": {"a": "b"}},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(plain)]}}).encode()
    m = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + sha(config),
                               "size": len(config)},
                    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + sha(packed),
                                "size": len(packed)}]}).encode()
    for data in (packed, config, m):
        Registry.files["sha256:" + sha(data)] = data
    Registry.files[tag] = m
    if noise:
        Registry.slow.add("sha256:" + sha(packed))
    return sha(config)


srv = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
srv.daemon_threads = True
threading.Thread(target=srv.serve_forever, daemon=True).start()
REG = "127.0.0.1:%d" % srv.server_port
ONE = publish("one", b"1")
SLOW = publish("slow", b"2", 1 << 20)
SLOW2 = publish("slow2", b"3", 1 << 20)

top = tempfile.mkdtemp(prefix="cgibox-images-")
os.chmod(top, 0o755)
state = os.path.join(top, "s")
port = client.free_port()
client._at = client.urllib.parse.urlsplit("http://127.0.0.1:%d" % port)
client.PREFIX = ""
I = "/api/v1/images/"
process = None


def start(**settings):
    global process
    err = open(os.path.join(top, "err"), "ab")
    env = dict(os.environ, CGIBOX_API_KEY=client.KEY, CGIBOX_INSECURE_REGISTRIES=REG, **settings)
    process = subprocess.Popen([SERVE, "--port", str(port), "--state", state, "--server", client.SERVER or "lighttpd", "--conf",
                                os.path.join(client.HERE, "http.conf")], env=env, stdout=subprocess.PIPE, stderr=err,
                               stdin=subprocess.DEVNULL)
    line = process.stdout.readline().decode()
    if not ok(line.startswith("ready "), "a service with %s" % settings):
        client.note(open(os.path.join(top, "err")).read()[-2000:])
        process.kill()
        client.done()


def stop():
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.wait(120)


def pull_open(image):
    """A pull whose answer is read by the caller."""
    c = client.connect(60)
    c.request("POST", I + "pull", json.dumps({"image": image}), {"X-API-Key": client.KEY, "Content-Type": "application/json"})
    return c, c.getresponse()


def events(a):
    return [json.loads(x) for x in a.body.decode().splitlines()]


start(CGIBOX_PULL="never")
a = request("POST", I + "pull", {"image": REG + "/x:one"})
ok(a.status == 422 and "pull = never" in (a.detail or ""), "pull = never: 422 that says so", a)
eq([x["reference"] for x in request("GET", I).json], ["host"], "a new store has the built-in image")
stop()

start(CGIBOX_PULL="missing", CGIBOX_PULL_ALLOWED=REG)
for m, path, body in (("GET", I, None), ("GET", I + "x", None), ("DELETE", I + "x", None), ("POST", I + "pull", {"image": "x"})):
    eq(request(m, path, body, key=None).status, 403, "%s %s without a key" % (m, path))
    eq(request(m, path, body, key="wrong").status, 403, "%s %s with another key" % (m, path))
for body in ({}, {"image": 5}, {"image": None}):
    eq(request("POST", I + "pull", body).status, 422, "pull of %s" % body)
for bad in ("a//b", "../x", "A", "x y", "-x", "x" * 300):
    eq(request("POST", I + "pull", {"image": bad}).status, 422, "pull of %.20r" % bad)

a = request("POST", I + "pull", {"image": REG + "/x:one"})
ok(a.status == 200 and a.headers["Content-Type"] == "application/x-ndjson", "a pull answers with lines of JSON", a)
ev = events(a)
eq((ev[0]["event"], ev[-1]), ("start", {"event": "done", "id": ONE}), "from start to done")
ok(any(e["event"] == "layer" and e["state"] == "done" for e in ev), "with its layer", ev)
for image, text in (("other.invalid/x:one", "pull_allowed"), (REG + "/x:no", "has no"), ("host", "built-in")):
    a = request("POST", I + "pull", {"image": image})
    ok(a.status == 200 and events(a)[-1]["event"] == "error" and text in events(a)[-1]["message"]
       and state not in a.body.decode(), "the last event of %s is its error" % image, a)

ref = REG + "/x:one"
a = request("GET", I)
row = [x for x in a.json if x["reference"] == ref]
ok(len(row) == 1 and row[0]["id"] == ONE and row[0]["created"] == "2026-01-02T03:04:05Z", "it is in the list", a)
for path in (ref, ref.replace("/", "%2F").replace(":", "%3A"), ONE, ONE[:12]):
    a = request("GET", I + path)
    ok(a.status == 200 and a.json["id"] == ONE and a.json["cmd"] == ["/bin/sh"] and a.json["labels"] == {"a": "b"}
       and len(a.json["layers"]) == 1, "GET %s" % path, a)
ok(state not in a.body.decode() and "lowers" not in a.json, "no path of the host is told", a)
eq(request("GET", I + "nothing").status, 404, "GET of what is not there")
eq(request("GET", I + "a//b").status, 404, "GET of no reference")
eq(request("GET", I + "A").status, 422, "GET of a malformed reference")
eq(request("PUT", I + "x", b"").status, 405, "another method")

# A stream is one: the first events come while the layer is still on its way, for it waits for us.
c, r = pull_open(REG + "/x:slow")
first = r.readline()
ok(b"start" in first and not Registry.go.is_set(), "the first byte is early", first)
ok(Registry.half.wait(120), "half a layer was sent")
line = r.readline()
ok(b'"state":"progress"' in line or b'"layer"' in line, "progress comes while the registry waits", line)
eq(request("GET", I + REG + "/x:slow").status, 404, "control: it is not there yet")
Registry.go.set()
rest = r.read().decode().splitlines()
eq(json.loads(rest[-1]), {"event": "done", "id": SLOW}, "and ends with done")
c.close()

# A client that drops does not end the pull.
Registry.go.clear()
Registry.half.clear()
c, r = pull_open(REG + "/x:slow2")
r.readline()
ok(Registry.half.wait(120), "half of another layer was sent")
c.close()
time.sleep(1.5)  # the worker hears of it when it sends the next event, one a second
Registry.go.set()
client.wait_for(lambda: request("GET", I + REG + "/x:slow2").status == 200, 120, 0.1)
a = request("GET", I + REG + "/x:slow2")
eq((a.status, (a.json or {}).get("id")), (200, SLOW2), "a client that drops does not end the pull")

# Removal: the name goes, what a session uses stays.
if os.path.exists(BUSYBOX):
    sid = client.create(base_image=ref)
    eq([x["sessions"] for x in request("GET", I).json if x["reference"] == ref], [1], "the list counts its sessions")
    a = request("DELETE", I + ref)
    ok(a.status == 200 and [x["what"] for x in a.json["kept"]] == ["layer"] and a.json["kept"][0]["by"] == "session"
       and a.json["kept"][0]["who"] == sid, "DELETE of an image in use: the layer is kept by the session", a)
    eq(request("GET", I + ref).status, 404, "the name is gone")
    a = client.run(sid, "cat /etc/seed")
    eq(a.json["results"][0]["output"] if a.status == 200 else a, "1", "the session goes on")
    eq(client.delete(sid).status, 204, "until it is deleted")
else:
    client.skip("busybox-static is not installed", 5)
a = request("DELETE", I + (REG + "/x:slow").replace("/", "%2F"))
ok(a.status == 200 and "layer" in [x["what"] for x in a.json["removed"]] and not a.json["kept"], "DELETE of another takes its layer along", a)
eq(request("DELETE", I + REG + "/x:slow").status, 404, "and is 404 the second time")
eq(request("DELETE", I + "host").status, 422, "host stays")

# Pulls, removals, collections and new sessions at once: a session that was made has its files.
ROUNDS = int(os.environ.get("CGIBOX_TEST_ROUNDS", "50"))


def collect():
    st = os.stat(os.path.join(state, "sessions"))
    prefix = os.path.join(state, "install")
    if not os.path.isdir(prefix):
        prefix = os.path.realpath(os.path.join(os.path.dirname(SERVE), "../.."))
    become = ["setpriv", "--reuid", str(st.st_uid), "--regid", str(st.st_gid), "--clear-groups"] if os.getuid() == 0 else []
    return subprocess.run(become + [os.path.join(prefix, "bin/cgibox"), "--state", state, "image", "gc"], cwd="/",
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}).returncode


def race():
    got = {}

    def do(name, fn):
        t = threading.Thread(target=lambda: got.__setitem__(name, fn()))
        t.start()
        return t
    ts = [do("pull", lambda: request("POST", I + "pull", {"image": ref})), do("gc", collect),
          do("rm", lambda: request("DELETE", I + ref)), do("gc2", collect)]
    ts += [do("s%d" % i, lambda: request("POST", "/session/", {"base_image": ref})) for i in range(3)]
    for t in ts:
        t.join()
    return got


if os.path.exists(BUSYBOX):
    request("POST", I + "pull", {"image": ref})
    made, refused, bad = 0, {}, []
    for n in range(ROUNDS):
        got = race()
        if got["pull"].status != 200 or got["rm"].status not in (200, 404) or got["gc"] not in (0, 75):
            bad.append((n, got))
        sids = []
        for x in ("s0", "s1", "s2"):
            a = got[x]
            if a.status == 200:
                sids.append(a.json["session_id"])
            else:
                refused[a.status] = refused.get(a.status, 0) + 1
        collect()
        for sid in sids:
            made += 1
            a = client.run(sid, "cat /etc/seed")
            if a.status != 200 or a.json["results"][0]["output"] != "1":
                bad.append((n, a))
            client.delete(sid)
    eq(bad, [], "%d rounds of pull, removal, two collections and three sessions at once" % ROUNDS)
    ok(made >= ROUNDS // 2, "control: sessions were made", made, refused)
    eq([s for s in refused if s not in (422,)], [], "the others were told that the image is not there: %s" % refused)
else:
    client.skip("busybox-static is not installed", 3)
stop()
srv.shutdown()
shutil.rmtree(top, ignore_errors=True)
client.done()
