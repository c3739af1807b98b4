#!/usr/bin/python3
"""A session on an image that is not in the store yet: pulled from a real registry when sandbox.conf allows it,
refused with what to type when not. Behind a real web server. TAP."""
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok, skip_all  # noqa: E402

SERVE = os.path.join(HERE, "../../scripts/serve")
BUILD = os.environ.get("B")


for tool in ("docker-registry", "busybox", "lighttpd"):
    if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin"):
        skip_all("%s is not installed" % tool)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


top = tempfile.mkdtemp(prefix="cgibox-pull.")
os.chmod(top, 0o755)
registry_port = free_port()
with open(top + "/registry.yml", "w") as f:
    f.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\n"
            "http: {addr: 127.0.0.1:%d}\n" % (top, registry_port))
registry = subprocess.Popen(["docker-registry", "serve", top + "/registry.yml"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
ok(wait_for(lambda: listening(registry_port), 120), "a registry listens")


def ask(method, path, body=None, **headers):
    c = http.client.HTTPConnection("127.0.0.1", registry_port, timeout=120)
    c.request(method, path, body, headers)
    r = c.getresponse()
    r.read()
    return r


def push_blob(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    at = ask("POST", "/v2/t/bb/blobs/uploads/").getheader("Location")
    at = at.split("127.0.0.1:%d" % registry_port)[-1]
    r = ask("PUT", "%s%sdigest=%s" % (at, "&" if "?" in at else "?", digest), data,
            **{"Content-Type": "application/octet-stream"})
    if r.status != 201:
        raise SystemExit("push: %d" % r.status)
    return {"digest": digest, "size": len(data)}


def push_image():
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tf:
        tf.add(shutil.which("busybox"), "bin/busybox")
        for name in ("sh", "cat", "echo"):
            link = tarfile.TarInfo("bin/" + name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tf.addfile(link)
        note = tarfile.TarInfo("etc/from-registry")
        note.size = 4
        tf.addfile(note, io.BytesIO(b"yes\n"))
    config = json.dumps({"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
                         "config": {"Env": ["FROM_IMAGE=1"]},
                         "rootfs": {"type": "layers",
                                    "diff_ids": ["sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()]}}).encode()
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "config": dict(push_blob(config), mediaType="application/vnd.docker.container.image.v1+json"),
                "layers": [dict(push_blob(gzip.compress(raw.getvalue())),
                                mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip")]}
    return ask("PUT", "/v2/t/bb/manifests/1", json.dumps(manifest), **{"Content-Type": manifest["mediaType"]}).status


ok(push_image() == 201, "an image is pushed")
REF = "127.0.0.1:%d/t/bb:1" % registry_port


class Service:
    def __init__(self, name, **settings):
        env = dict(os.environ, CGIBOX_API_KEY="k", **settings)
        if BUILD:
            env["CGIBOX_MAKE"] = "B=" + BUILD
        self.port = free_port()
        self.err = open("%s/%s.err" % (top, name), "w")
        self.p = subprocess.Popen([SERVE, "--port", str(self.port), "--state", "%s/%s" % (top, name)],
                                  stdout=subprocess.PIPE, stderr=self.err, env=env, text=True)
        self.ready = self.p.stdout.readline().startswith("ready ")

    def post(self, path, body):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        c.request("POST", path, json.dumps(body), {"X-API-Key": "k", "Content-Type": "application/json"})
        r = c.getresponse()
        return r.status, json.loads(r.read())

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        self.p.wait(120)


s = Service("closed", CGIBOX_INSECURE_REGISTRIES="127.0.0.1:%d" % registry_port)
ok(s.ready, "a service that may not pull", open(s.err.name).read()[-800:])
status, body = s.post("/session/", {"base_image": REF})
ok(status == 422 and "cgibox image pull " + REF in body["detail"][0]["msg"], "says what to type", status, body)
s.stop()

s = Service("narrow", CGIBOX_PULL="missing", CGIBOX_PULL_ALLOWED="docker.io/library 127.0.0.1:%d/other" % registry_port,
            CGIBOX_INSECURE_REGISTRIES="127.0.0.1:%d" % registry_port)
ok(s.ready, "a service that may pull something else", open(s.err.name).read()[-800:])
status, body = s.post("/session/", {"base_image": REF})
ok(status == 422 and "pull_allowed" in body["detail"][0]["msg"], "names the setting", status, body)
s.stop()

s = Service("open", CGIBOX_PULL="missing", CGIBOX_INSECURE_REGISTRIES="127.0.0.1:%d" % registry_port)
ok(s.ready, "a service that may", open(s.err.name).read()[-800:])
status, body = s.post("/session/", {"base_image": REF})
ok(status == 200, "the image is pulled for a session", status, body)
if status == 200:
    status, body = s.post("/session/%s/" % body["session_id"], {"commands": ["cat /etc/from-registry; echo $FROM_IMAGE"]})
    ok(status == 200 and body["results"][0]["output"] == "yes\n1\n", "which runs on it", status, body)
status, body = s.post("/session/", {"base_image": "127.0.0.1:%d/t/none:1" % registry_port})
ok(status == 422 and body["detail"][0]["loc"] == ["body", "base_image"], "an image that the registry lacks", status, body)
registry.kill()
registry.wait()
status, body = s.post("/session/", {"base_image": REF})
ok(status == 200, "a second session needs no registry", status, body)
status, body = s.post("/session/", {"base_image": "127.0.0.1:%d/t/other:1" % registry_port})
ok(status == 422, "without a registry: a clear refusal", status, body)
print("#", body)
s.stop()
shutil.rmtree(top, ignore_errors=True)
done()
