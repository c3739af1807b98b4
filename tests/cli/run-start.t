#!/usr/bin/python3
"""cgibox run: a command that does not execute at once. A lease on the program holds execve(2) up (fcntl(2)), as
a busy machine does; a lease that is not let go ends after /proc/sys/fs/lease-break-time. TAP.
"""
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-start")
ok, eq = b.ok, b.eq
SLOW = 4          # s; a stopped start is given up after half of that
START_MAX = 30    # s; START_MAX_MS of isolate/init_spawn.c
PATIENCE = 300    # s
b.dir("bin")
program = shutil.copy("/bin/true", b.path("bin", "slow"))  # our own file: another's lease needs CAP_LEASE
with open("/proc/sys/fs/lease-break-time") as f:
    ok(int(f.read()) > START_MAX, "control: the kernel lets a lease be held for longer than a start may take")


class Lease:
    """Nobody executes the program while it is held."""

    def __init__(self):
        self.fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def broken(self):
        return signal.sigtimedwait([signal.SIGIO], PATIENCE) is not None

    def release(self):
        os.close(self.fd)


def start(*args):
    return subprocess.Popen(b.command + ["--bind", b.path("bin") + ":/x", *args, "--", "/x/slow"], text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=b.top)


def end(p):
    out, err = p.communicate(timeout=PATIENCE)
    return p.returncode, out, err


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
eq(end(start()), (0, "", ""), "control: the program runs")

lease = Lease()
p = start()
ok(lease.broken(), "the kernel tells of an execve that waits")
time.sleep(SLOW)  # what is tested: that this long is not too long
ok(p.poll() is None, "the run waits for it")
lease.release()
eq(end(p), (0, "", ""), "and when it executes after %d s, it runs" % SLOW)

lease = Lease()
began = time.monotonic()
p = start("--timeout", "10")
ok(lease.broken(), "another waits")
eq(end(p)[0], 124, "its timeout of 10 s ends it")
took = time.monotonic() - began
ok(10 <= took < START_MAX, "before the start would be given up", took)
lease.release()

lease = Lease()
p = start("--timeout", "600")
ok(lease.broken(), "a third waits")
began = time.monotonic()
p.send_signal(signal.SIGINT)
p.send_signal(signal.SIGINT)
rc, out, err = end(p)
took = time.monotonic() - began
ok(rc == 75 and "not executed in time" in err, "a start that keeps pid 1 from an order is given up, and says so", rc, out, err)
ok(took < START_MAX - 5, "soon", took)
lease.release()

lease = Lease()
began = time.monotonic()
p = start("--timeout", "600")
ok(lease.broken(), "a fourth waits")
rc, out, err = end(p)
took = time.monotonic() - began
ok(rc == 75 and "not executed in time" in err, "any start is given up one day, and says so", rc, out, err)
ok(took >= START_MAX, "not before its %d s" % START_MAX, took)
lease.release()
b.done()
