#!/usr/bin/python3
"""The posture of a sandbox, seen from the host: /proc/PID of a payload and of its pid 1. TAP.

Everything is compared with what is expected, the mounts with posture.table: whatever is new fails.
"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
ZERO = "0" * 16


def status(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)


def field(pid, name):
    return status(pid).get(name, "").strip()


def descriptors(pid):
    out = {}
    for fd in os.listdir("/proc/%d/fd" % pid):
        out[int(fd)] = os.readlink("/proc/%d/fd/%s" % (pid, fd)).split(":")[0]
    return out


def limits(pid):
    out = {}
    with open("/proc/%d/limits" % pid) as f:
        for line in f.readlines()[1:]:
            out[line[:26].strip()] = tuple(line[26:].split()[:2])
    return out


def mounts(pid):
    rows = []
    with open("/proc/%d/mountinfo" % pid) as f:
        for line in f:
            left, right = line.rstrip("\n").split(" - ")
            left, right = left.split(), right.split()
            rows.append((left[4], right[0], left[5], right[-1], left[6:]))
    return rows


def table():
    rows = []
    with open(os.path.join(lab.HERE, "posture.table")) as f:
        for line in f:
            words = line.split()
            if words and words[0] != "#":
                rows.append((words[0] == "?", words[-4:]))
    return rows


def flags(text):
    return set(text.split(",")) - {"relatime", "noatime"}


def check_mounts(pid):
    found = mounts(pid)
    at = {}
    for m in found:
        lab.ok(m[0] not in at, "one mount at %s" % m[0], m)
        at[m[0]] = m
    for optional, (point, kind, want, limit) in table():
        m = at.pop(point, None)
        if not m:
            lab.ok(optional and not os.path.exists(point), "%s is mounted" % point)
            continue
        # devtmpfs says what the host calls it; the host's /dev may be a tmpfs
        same = kind in ("*", m[1]) or (kind == "devtmpfs" and m[1] == "tmpfs")
        missing = [x for x in limit.split(",") if limit != "-" and x not in m[3].split(",")]
        lab.ok(same and flags(m[2]) == set(want.split(",")) and not missing,
               "%s is %s, %s" % (point, kind, want), m, missing)
    host = {m[0] for m in mounts(os.getpid())}
    lab.eq([x for x in at if not (x.startswith("/usr/") and x in host)], [], "no mount but those of the table")
    lab.eq([m for m in found if m[4]], [], "none is shared with, or slave or unbindable to, another")


# In a delegated control group: pids.max is the limit and RLIMIT_NPROC spares pid 1's helpers, and a
# command loads a second filter, which takes clone3 away.
GROUP = os.environ.get("CGIBOX_TEST_CGROUP") == "1"


def check_credentials(pid, who, filters="1"):
    for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        lab.eq(field(pid, cap), ZERO, "%s: %s" % (who, cap))
    lab.eq(field(pid, "NoNewPrivs"), "1", "%s: no_new_privs" % who)
    lab.eq((field(pid, "Seccomp"), field(pid, "Seccomp_filters")), ("2", filters), "%s: seccomp filters: %s" % (who, filters))
    uid = lab.UID if lab.ROOT else os.getuid()
    lab.eq(set(field(pid, "Uid").split()), {str(uid)}, "%s: all four user ids are the service's" % who)
    if lab.ROOT:
        lab.eq(field(pid, "Groups"), "", "%s: no supplementary group" % who)
    same = [k for k in KINDS if os.readlink("/proc/%d/ns/%s" % (pid, k)) == os.readlink("/proc/self/ns/" + k)]
    lab.eq(same, [], "%s: no namespace of the host" % who)


def check_payload(pid, init):
    check_credentials(pid, "payload", "2" if GROUP else "1")
    for k in KINDS:
        lab.eq(os.readlink("/proc/%d/ns/%s" % (pid, k)), os.readlink("/proc/%d/ns/%s" % (init, k)) if lab.ROOT
               else os.readlink("/proc/%d/ns/%s" % (pid, k)), "payload and pid 1 share the %s namespace" % k)
    lab.eq({k: v for k, v in descriptors(pid).items()}, {0: "/dev/null", 1: "pipe", 2: "pipe"},
           "payload: descriptors 0, 1 and 2, nothing else")
    with open("/proc/%d/environ" % pid, "rb") as f:
        names = sorted(x.split(b"=")[0].decode() for x in f.read().split(b"\0") if x)
    lab.eq(names, ["HOME", "PATH"], "payload: its environment is what was asked for")
    for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"):
        lab.eq(field(pid, name), ZERO, "payload: %s" % name)
    lab.eq(field(pid, "NSpid").split()[1:], [field(pid, "NSsid").split()[1]], "payload: leads a session of its own")
    lab.eq(field(pid, "TracerPid"), "0", "payload: not traced")
    lab.eq(os.readlink("/proc/%d/root" % pid), "/", "payload: a root of its own")
    lab.eq(os.readlink("/proc/%d/cwd" % pid), "/", "payload: a working directory inside")
    lab.eq(open("/proc/%d/oom_score_adj" % pid).read(), open("/proc/self/oom_score_adj").read(),
           "payload: no better protected from the OOM killer than the service")
    got = limits(pid)
    want = {"Max core file size": "1", "Max processes": "528" if GROUP else "512", "Max open files": "1024",
            "Max file size": "1073741824", "Max data size": "1073741824", "Max address space": "34359738368",
            "Max pending signals": "4096", "Max msgqueue size": "819200", "Max locked memory": "8388608",
            "Max nice priority": "0", "Max realtime priority": "0"}
    for name, value in want.items():
        lab.eq(got[name], (value, value), "payload: %s" % name)
    lab.eq(got["Max cpu time"], ("3600", "3601"), "payload: Max cpu time")


def check_init(pid):
    check_credentials(pid, "pid 1")
    lab.eq(open("/proc/%d/comm" % pid).read(), "init\n", "pid 1: its name")
    lab.eq(open("/proc/%d/cmdline" % pid, "rb").read(), b"init\0", "pid 1: its arguments")
    lab.eq(os.stat("/proc/%d" % pid).st_mode & 0o777, 0o555, "pid 1: its directory")
    lab.eq(os.stat("/proc/%d/environ" % pid).st_uid, 0, "pid 1: not dumpable, so its files are root's")
    lab.eq(field(pid, "NSsid").split()[1], "1", "pid 1: a session of its own")
    lab.eq(field(pid, "Threads"), "1", "pid 1: one thread")
    if not lab.ROOT:
        lab.note("as an ordinary user the files of pid 1 are closed to this test, too")
        return
    lab.eq(open("/proc/%d/environ" % pid, "rb").read(), b"", "pid 1: an empty environment")
    kinds = sorted(v for k, v in descriptors(pid).items() if k > 2)
    lab.eq(kinds, sorted(["socket", "socket", "anon_inode", "/dev/null"]),
           "pid 1: its two sockets, its signals and /dev/null, nothing else")
    streams = [os.stat("/proc/%d/fd/%d" % (pid, k)).st_rdev for k in range(3)]
    lab.eq(streams, [os.makedev(1, 3)] * 3, "pid 1: standard streams are /dev/null")
    exe = os.readlink("/proc/%d/exe" % pid)
    lab.ok(exe.startswith("/memfd:cgibox-init"), "pid 1: its program is a memfd", exe)
    with open("/proc/%d/maps" % pid) as f:
        lab.eq([x for x in f if " rwx" in x], [], "pid 1: no memory that is writable and executable")


box = lab.Lab()
mark = "posture-%d" % os.getpid()


def find(p):
    """The payload and pid 1 of the sandbox that p runs; () when p ends without them."""
    end = time.monotonic() + 300  # an emulated machine that does other work beside it
    while time.monotonic() < end and p.poll() is None:
        for x in lab.processes("/usr/bin/sleep"):
            try:
                s = status(x)
            except OSError:  # another test's, and gone
                continue
            if s["Name"].strip() == "sleep" and len(s["NSpid"].split()) > 1 and status(int(s["PPid"]))["PPid"].strip() == str(p.pid):
                return x, int(s["PPid"])
        time.sleep(0.2)  # looking takes a whole processor from what is to start
    return ()


# On an overloaded emulated machine one was seen to end by SIGKILL before it was found; what is looked at here is one that runs.
for _ in range(3):
    p = box.popen(["/usr/bin/sleep", "1000"], args=["--uid", "1000", "--hostname", mark])
    pair = find(p)
    if pair:
        break
    lab.note("none was found; cgibox run: %s" % p.poll())
if not lab.ok(pair, "control: the payload and its pid 1 are found", p.poll(), "" if p.poll() is None else p.stderr.read()):
    lab.note(subprocess.run(["ps", "-eo", "pid,ppid,stat,etimes,wchan:24,args", "--forest"], capture_output=True, text=True).stdout)
if pair:
    check_payload(*pair)
    check_init(pair[1])
    check_mounts(pair[0])
box.reap(p)
p.wait()
lab.eq(lab.gone(mark), [], "and both are gone with what started them")
box.close()
lab.done()
