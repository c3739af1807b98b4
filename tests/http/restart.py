#!/usr/bin/python3
"""scripts/serve: ready line, restart of the service, sessions that survive, nothing left at the end.

Starts a service of its own: CGIBOX_TEST_SERVE (default scripts/serve of this tree).
"""
import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import client
from client import b64, eq, ok, tar

SERVE = os.environ.get("CGIBOX_TEST_SERVE", os.path.join(client.HERE, "..", "..", "scripts", "serve"))
SERVER = client.SERVER or "lighttpd"
top = tempfile.mkdtemp(prefix="cgibox-restart-")
os.chmod(top, 0o755)
# Longer than a socket's path may be.
state = os.path.join(top, "a-state-directory-whose-name-is-long-enough-to-be-no-path-of-a-unix-domain-socket-any-more", "s")
os.makedirs(os.path.dirname(state))
port = client.free_port()
client._at = client.urllib.parse.urlsplit("http://127.0.0.1:%d" % port)
client.PREFIX = ""
env = dict(os.environ, CGIBOX_API_KEY=client.KEY)


def start():
    err = open(os.path.join(top, "err"), "ab")
    p = subprocess.Popen([SERVE, "--port", str(port), "--state", state, "--server", SERVER, "--conf",
                          os.path.join(client.HERE, "http.conf")], env=env, stdout=subprocess.PIPE, stderr=err, stdin=subprocess.DEVNULL,
                         # A shell ignores ^C for what it starts in the background, and one that begins so cannot catch it.
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    line = p.stdout.readline().decode()
    if not eq(line, "ready http://127.0.0.1:%d\n" % port, "the ready line"):
        p.kill()
        client.note(open(os.path.join(top, "err")).read()[-2000:])
        client.done()
    return p


def left_over():
    return [(p, client.cmdline(p)) for p in client.processes() if any(state in x for x in client.cmdline(p))]


def end(p, sig):
    running = left_over()
    p.send_signal(sig)
    rest = p.stdout.read()
    rc = p.wait(300)
    eq((rc, rest), (0, b""), "%s: ends, with status 0, and said nothing more on stdout" % signal.Signals(sig).name)
    with open(os.path.join(top, "err")) as f:
        eq([x for x in f if "does not end" in x], [], "soon: nothing had to be killed")
    ok(len(running) >= 2, "control: its processes were seen", running)
    client.wait_for(lambda: not left_over(), 60)
    eq(left_over(), [], "no process is left")
    with socket.socket() as s:
        ok(s.connect_ex(("127.0.0.1", port)) != 0, "the port is free")


r = subprocess.run([SERVE, "--port", str(port), "--state", state], env={k: v for k, v in env.items() if k != "CGIBOX_API_KEY"},
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
ok(r.returncode != 0 and b"CGIBOX_API_KEY" in r.stderr and r.stdout == b"", "refused without a key", r)
for bad in (["--port", "x", "--state", state], ["--port", str(port)], ["--server", "iis", "--port", "1", "--state", state], ["--nope"]):
    r = subprocess.run([SERVE] + bad, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ok(r.returncode != 0 and r.stderr and not r.stdout, "refused: %s" % " ".join(bad)[:40], r)

p = start()
sid = client.create(extract_patch=True, environment={"KEPT": "yes"})
a = client.run(sid, "echo one > made", archive=b64(tar({"f": b"1\n"})))
ok(a.status == 200 and a.json["patch"], "a session with a file", a)
gone = client.create()
eq(client.delete(gone).status, 204, "and a deleted one")
r = subprocess.run([SERVE, "--port", str(port + 1), "--state", state], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
ok(r.returncode != 0 and not r.stdout, "a second service for one state directory is refused", r)
end(p, signal.SIGTERM)

p = start()
a = client.run(sid, ["cat made f; echo $KEPT"])
eq(a.json["results"][0]["output"] if a.status == 200 else a, "one\n1\nyes\n", "files and environment survive a restart")
a = client.run(sid, "echo 2 >> f", archive=b64(tar({"f": b"1\n", "g": b"g\n"})))
ok(a.status == 200 and a.json["patch"] and b"+2" in base64.b64decode(a.json["patch"])
   and b"made" in base64.b64decode(a.json["patch"]), "and the next patch is right", a)
eq(client.run(gone, "true").status, 404, "deleted ones stay deleted")
eq(client.delete(sid).status, 204, "DELETE after a restart")
end(p, signal.SIGINT)

p = start()
eq(client.run(sid, "true").status, 404, "deleted, and still so after another restart")
end(p, signal.SIGTERM)
shutil.rmtree(top, ignore_errors=True)
client.done()
