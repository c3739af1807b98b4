#!/usr/bin/python3
"""Pid 1 as the entrypoint of a container, under a dockerd of our own. TAP. Root; else a loud skip."""
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
import dockerd  # noqa: E402
from tap import done, eq, ok, skip_all  # noqa: E402

BUILD = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build")
UID = 12345
MEMORY = 64 << 20
ALLOW = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})  # the Engine's own filter is not what is tested here
VERDICT = {"ok": 0, "exit": 1, "signal": 2, "timeout": 3, "memory": 4}


engine = dockerd.Dockerd()
if engine.why:
    engine.stop()
    skip_all(engine.why)


def image():
    """busybox and the attack programs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for path in ("bin", "tmp", "proc", "sys", "dev", "etc"):
            i = tarfile.TarInfo(path)
            i.type, i.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            t.addfile(i)
        t.add("/bin/busybox", "bin/busybox")
        t.add(os.path.join(BUILD, "atk"), "bin/atk")
        for name in ("sh", "cat", "kill", "grep", "echo", "ls", "dd", "id", "true", "sed"):
            i = tarfile.TarInfo("bin/" + name)
            i.type, i.linkname = tarfile.SYMTYPE, "busybox"
            t.addfile(i)
    engine.load("tiny", out.getvalue())


def container(directory):
    """A container made like the service's."""
    mounts = [{"Type": "bind", "Source": os.path.join(directory, "init"), "Target": "/.cgibox/init", "ReadOnly": True},
              {"Type": "bind", "Source": os.path.join(directory, "run"), "Target": "/.cgibox/run", "ReadOnly": True}]
    status, r = engine.api("POST", "/containers/create", {
        "Image": "tiny", "User": "%d:%d" % (UID, UID), "Entrypoint": ["/.cgibox/init", "container"],
        "HostConfig": {"NetworkMode": "none", "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges", "seccomp=" + ALLOW],
                       "Memory": MEMORY, "MemorySwap": MEMORY, "PidsLimit": 64, "Mounts": mounts}})
    assert status == 201, r
    status, answer = engine.api("POST", "/containers/%s/start" % r["Id"])
    assert status == 204, answer
    return r["Id"]


def place():
    d = tempfile.mkdtemp(dir=engine.top)
    os.chmod(d, 0o711)
    os.mkdir(d + "/run", 0o700)
    os.chown(d + "/run", UID, UID)
    with open(os.path.join(BUILD, "cgibox-init"), "rb") as f, open(d + "/init", "wb") as to:
        to.write(f.read())
    os.chmod(d + "/init", 0o755)
    return d


def session(*commands):
    """Runs commands in one container: [(output, verdict, code, in_cgroup) or (output,)], and what is left of it."""
    d = place()
    ctl = subprocess.Popen(["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups",
                            os.path.join(BUILD, "boxctl"), d + "/run/keeper", *commands], stdout=subprocess.PIPE, text=True)
    assert ctl.stdout.readline() == "listening\n"
    name = container(d)
    try:
        text = ctl.communicate(timeout=600)[0]
    finally:
        ctl.kill()
    until = time.monotonic() + 120
    while engine.api("GET", "/containers/%s/json" % name)[1]["State"]["Running"] and time.monotonic() < until:
        time.sleep(0.02)
    state = engine.api("GET", "/containers/%s/json" % name)[1]["State"]
    out = []
    for part in text.split("--\n")[:-1]:
        lines = part.splitlines()
        words = lines[-1].split() if lines else []
        if words[:1] == ["verdict"]:
            out.append(("\n".join(lines[:-1]), *map(int, words[1:])))
        else:
            out.append((part.strip(),))
    return out, state


def tests():
    image()
    out, state = session(
        "id", "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status", "cat /proc/1/maps; cat /proc/1/environ; ls /proc/1/fd",
        "kill -9 1; kill -STOP 1; kill -TERM 1; echo sent", "echo still there", "cat /proc/self/oom_score_adj",
        "cat /proc/self/maps >/dev/null && echo readable", "ls /proc/self/fd | wc -l 2>/dev/null || ls /proc/self/fd",
        "exit 7", "dd if=/dev/zero of=/dev/null bs=%d count=1" % (2 * MEMORY),
        "dd if=/dev/zero of=/dev/null bs=%d count=1 2>/dev/null && echo fits" % (MEMORY // 4), "@end")
    eq(out[0][0], "uid=%d gid=%d groups=%d" % (UID, UID, UID), "commands run as the service's user")
    fields = dict(x.split(":\t") for x in out[1][0].splitlines())
    eq({k: int(v, 16) for k, v in fields.items()},
       {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1, "Seccomp": 2},
       "no capability, no_new_privs, a filter")
    ok(out[2][0] == "" and out[2][1:3] == (VERDICT["exit"], 1) or "enied" in out[2][0],
       "maps, environment and descriptors of pid 1 are denied", out[2])
    eq(out[6][0], "readable", "control: those of the own process are not")
    eq((out[3][0], out[4][0]), ("sent", "still there"), "signals to pid 1 do nothing")
    eq(out[5][0], "1000", "the kernel chooses commands when memory runs out")
    eq(out[8][1:3], (VERDICT["exit"], 7), "an exit code")
    eq(out[9][1:3], (VERDICT["memory"], 137), "over the container's memory: the verdict is memory")
    eq(out[10][0], "fits", "control: less fits, after that, in the same container")
    ok(all(x[3] == 1 for x in out[:-1]), "pid 1 sees the container's counters", out)
    eq(out[-1][0], "ended", "the end of the keeper's connection ends pid 1")
    eq((state["Running"], state["ExitCode"]), (False, 0), "and the container")

    # What needs a canary, a writable root or limits that the Engine sets is tried by tests/http/docker.
    attacks = ("fds cwd chroot exe proc-sys pid1-paths setns proc-roots trace kill-init kill-group session signals zombies raise "
               "pid1-calls core ctty groups surface filtered no-new-privs caps regain nested foreign-arch families family-pairs "
               "personality routes raw handles memory-xattrs memory-acls aio").split()
    out, _ = session(*["exec /bin/atk " + a for a in attacks], "echo alive")
    for name, o in zip(attacks, out):
        ok(o[0].splitlines()[-1:] == ["HELD"], "attack " + name, o)
    eq(out[-1][0], "alive", "after the attacks pid 1 serves")

    d = place()
    name = container(d)
    until = time.monotonic() + 120
    while engine.api("GET", "/containers/%s/json" % name)[1]["State"]["Running"] and time.monotonic() < until:
        time.sleep(0.02)
    state = engine.api("GET", "/containers/%s/json" % name)[1]["State"]
    eq((state["Running"], state["ExitCode"]), (False, 1), "without a keeper pid 1 ends, and says so")


try:
    tests()
finally:
    engine.stop()
done()
