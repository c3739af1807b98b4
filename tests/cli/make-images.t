#!/usr/bin/python3
"""The images that scripts/make-images makes of Debian packages: Python and Node with pip, npm and git, by `cgibox run` and in a
session. Making them takes minutes, so they are kept in a state directory of their own, $XDG_CACHE_HOME/cgibox/make-images (root:
/var/cache/cgibox/make-images); remove it to have them made again. CGIBOX_TEST_IMAGES: which, default
"python node". Root. TAP."""
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from fcgi import request  # noqa: E402
from tap import done, ok, skip_all  # noqa: E402

B = os.environ.get("B") or os.path.join(HERE, "../../build")
UID = 12345
IMAGES = os.environ.get("CGIBOX_TEST_IMAGES", "python node").split()
DROP = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]


if os.getuid() != 0:
    skip_all("only root makes a Debian without a range of uids")
if not shutil.which("mmdebstrap"):
    skip_all("mmdebstrap is not installed")
top = tempfile.mkdtemp(prefix="make-images.", dir="/var/tmp")
os.chmod(top, 0o755)
os.mkdir(top + "/libexec")
for name in ("cgibox", "cgibox.fcgi", "libexec/image"):
    shutil.copy(os.path.join(B, name), os.path.join(top, name))
subprocess.run(["chmod", "-R", "a+rX", top], check=True)
box, state = top + "/cgibox", "/var/cache/cgibox/make-images"
os.makedirs(state, exist_ok=True)
os.chown(state, UID, UID)
lock = os.open(state + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)  # another run of this test


def cgibox(*args):
    return subprocess.run(DROP + [box, "--state", state, *args], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})


def make(*more):
    return subprocess.run([os.path.join(HERE, "../../scripts/make-images"), "--cgibox", box, "--state", state, *more, *IMAGES],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": top})


def have():
    return all(cgibox("image", "verify", "cgibox/%s:bookworm" % x).returncode == 0 for x in IMAGES)


# What is run, and how its output begins (or what it is).
COMMANDS = (("python", "python3 -c 'import ssl, sqlite3, json, zlib; print(6 * 7)'", "42\n"), ("python", "pip3 --version", "pip "),
            ("python", "python3 -m venv --without-pip /tmp/v && /tmp/v/bin/python -c 'print(1)'", "1\n"), ("python", "git --version", "git version "),
            ("node", "node -e 'console.log(6 * 7)'", "42\n"), ("node", "npm --version", "9."), ("node", "git --version", "git version "))


def runs():
    for image, command, want in [x for x in COMMANDS if x[0] in IMAGES]:
        p = cgibox("run", "--image", "cgibox/%s:bookworm" % image, "--", "/bin/sh", "-c", command)
        ok(p.returncode == 0 and p.stdout.startswith(want), "cgibox run, %s: %s" % (image, command), p.returncode, p.stdout, p.stderr)


def sessions():
    sock = state + "/cgibox.sock"
    with open(top + "/conf", "w") as f:
        f.write("")
    log = open(top + "/log", "w")
    server = subprocess.Popen(DROP + [top + "/cgibox.fcgi", "--conf", top + "/conf", "--state", state], stdin=subprocess.DEVNULL, stdout=log,
                              stderr=log, env={"PATH": "/usr/bin:/bin", "CGIBOX_API_KEY": "key"}, cwd="/")
    try:
        for _ in range(2400):
            if server.poll() is not None or (os.path.exists(sock) and request(sock, "GET", "/-/health/")[0] == 200):
                break
            time.sleep(0.05)
        for image in IMAGES:
            status, answer = request(sock, "POST", "/session/", {"base_image": "cgibox/%s:bookworm" % image})
            if not ok(status == 200, "a session on %s" % image, status, answer, open(top + "/log").read()):
                continue
            where = "/session/%s/" % answer["session_id"]
            mine = [x for x in COMMANDS if x[0] == image]
            status, answer = request(sock, "POST", where, {"commands": [x[1] for x in mine]})
            got = [(x["exit_code"], x["output"]) for x in answer["results"]] if status == 200 else []
            ok(len(got) == len(mine) and all(c == 0 and o.startswith(x[2]) for (c, o), x in zip(got, mine)),
               "%s: %d commands in it" % (image, len(mine)), status, answer)
            request(sock, "DELETE", where)
    finally:
        server.terminate()
        server.wait()


try:
    if not have():
        print("# making them in %s, once: this takes minutes" % state, flush=True)
        p = make("--force")
        ok(p.returncode == 0 and have(), "scripts/make-images %s" % " ".join(IMAGES), p.stdout, p.stderr)
    start = time.monotonic()
    p = make()
    ok(p.returncode == 0 and p.stdout.count("is there") == len(IMAGES), "what is there is left alone", p.stdout, p.stderr)
    runs()
    sessions()
    print("# %.0f s" % (time.monotonic() - start))
finally:
    shutil.rmtree(top, ignore_errors=True)
done()
