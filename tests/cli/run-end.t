#!/usr/bin/python3
"""cgibox run: what is left when it has returned. No process, at once; no memory, soon. TAP."""
import ctypes
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-end")
ok, eq, run = b.ok, b.eq, b.run
MIB = 1 << 20
LONG = 120  # s; the machine does other work, and its memory is not ours alone


def marked(mark):
    """Processes with mark in their arguments, zombies left out: they have none."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                if mark in f.read():
                    found.append(int(p))
        except OSError:
            pass
    return found


def children():
    """Our own, and orphans of ours: a subreaper gets those."""
    me, found = os.getpid(), []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == me:
                    found.append(int(p))
        except OSError:
            pass
    return found


def shmem():
    with open("/proc/meminfo") as f:
        return int(next(x for x in f if x.startswith("Shmem:")).split()[1]) << 10


def within(seconds, good):
    end = time.monotonic() + seconds
    while not good() and time.monotonic() < end:
        time.sleep(0.01)
    return good()


# --- processes. What a run leaves becomes our child, and so is seen even when it has ended.
PR_SET_CHILD_SUBREAPER = 36
eq(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0, "orphans are ours")
mark = b"run-end-%d" % os.getpid()
p = subprocess.Popen(b.command + ["--", "sh", "-c", "sleep 1000; : " + mark.decode()], stdin=subprocess.DEVNULL)
ok(within(LONG, lambda: len(marked(mark)) > 1), "control: a command is found by its arguments", marked(mark))
p.send_signal(signal.SIGKILL)
p.wait()
ok(within(LONG, lambda: not marked(mark)), "and ends with the program that was killed")
within(LONG, lambda: [os.waitpid(c, os.WNOHANG) for c in children()] == [])
left, orphans = 0, 0
for i in range(40):
    how = ("true", "setsid sleep 60 & true", "trap '' TERM HUP; (sleep 60; :) & exit 3", "setsid sh -c 'setsid sleep 60 & sleep 60' &")[i % 4]
    run("--", "sh", "-c", how + " # " + mark.decode())
    left += len(marked(mark))
    orphans += len(children())
eq((left, orphans), (0, 0), "40 runs: no process is left when they return, dead or alive")

# --- memory: the mounts are taken apart by a worker of the kernel.
FILL = ["python3", "-c", "import sys\nf=open('/fill','wb')\nfor i in range(200):f.write(bytes(1<<20))\nf.flush();print('full',flush=True);sys.stdin.read()"]
for how in ("ended", "killed"):
    p = subprocess.Popen(b.command + ["--", *FILL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    before = shmem()
    p.stdout.readline()
    full = shmem()
    p.kill() if how == "killed" else p.stdin.close()
    p.wait()
    ok(within(LONG, lambda: shmem() < full - 150 * MIB), "200 MiB of a run that %s are free again" % ("has " * (how == "ended") + "was " * (how == "killed") + how), before, full, shmem())
least = shmem()
for i in range(20):
    run("--", "python3", "-c", "f=open('/fill','wb')\nfor i in range(40):f.write(bytes(1<<20))")
ok(within(LONG, lambda: shmem() < least + 300 * MIB), "20 runs of 40 MiB each: they do not add up", least, shmem())

# --- a layer on a disk can be used again at once
upper = b.dir("upper")
eq([run("--upper", upper, "--", "sh", "-c", "echo x >> /log; wc -l < /log")[1].strip() for i in range(10)], [str(i + 1) for i in range(10)],
   "10 runs on one layer, one after the other")
b.done()
