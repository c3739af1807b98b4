"""What a service has on its own machine: processes, descriptors, mounts, namespaces, groups, memory, disk."""
import glob
import os
import time

import client
from client import STATE

# Descriptors that come with use and stay: each of four workers gets the access log with its first request.
SPARE = 6
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def service():
    """pid -> name of the service's processes and of all that runs below them."""
    all_ = client.processes()
    mine = {p for p, v in all_.items() if v[2].startswith("cgibox") and STATE in client.cmdline(p)}
    below = mine
    while below:
        below = {p for p, v in all_.items() if v[0] in mine} - mine
        mine |= below
    # Copies that a web server started for a load stay as long as it likes, the index for a minute.
    return {p: all_[p][2] for p in mine if all_[p][2] != "index" and
            not (client.SELF_STARTING and all_[p][2] == "cgibox.fcgi")}


def descriptors(pids):
    out = {}
    for p in pids:
        try:
            out[p] = len(os.listdir("/proc/%d/fd" % p))
        except OSError:
            pass
    return out


def mounts(pids):
    """Mounts, summed over the distinct mount namespaces of these processes."""
    seen = {}
    for p in pids:
        try:
            ns = os.readlink("/proc/%d/ns/mnt" % p)
            with open("/proc/%d/mountinfo" % p) as f:
                seen[ns] = len(f.readlines())
        except OSError:
            pass
    return sum(seen.values())


def namespaces(pids):
    """Distinct namespaces of these processes."""
    seen = set()
    for p in pids:
        for kind in KINDS:
            try:
                seen.add(os.readlink("/proc/%d/ns/%s" % (p, kind)))
            except OSError:
                pass
    return len(seen)


def kernel_objects(name):
    """Objects of a slab, those that no process shows too; None where /proc/slabinfo is closed."""
    try:
        with open("/proc/slabinfo") as f:
            for line in f:
                if line.split(None, 1)[0] == name:
                    return int(line.split()[1])
    except (OSError, IndexError):
        pass
    return None


def groups(pids):
    """Control groups (v2) below those of these processes."""
    out = set()
    for p in pids:
        try:
            with open("/proc/%d/cgroup" % p) as f:
                path = [x[3:].strip() for x in f if x.startswith("0::")]
        except OSError:
            continue
        for at in path:
            out.update(glob.glob("/sys/fs/cgroup%s/**/" % at, recursive=True))
    return len(out)


def memory(pids):
    """Proportional set size in bytes, shared pages counted once."""
    total = 0
    for p in pids:
        try:
            with open("/proc/%d/smaps_rollup" % p) as f:
                total += sum(int(x.split()[1]) for x in f if x.startswith("Pss:")) * 1024
        except OSError:
            pass
    return total


def entries():
    """Directories of the state that hold sessions or work in progress, with their entries."""
    out = {}
    for d, dirs, files in os.walk(STATE):
        rel = os.path.relpath(d, STATE)
        depth = rel.count("/")
        if rel == ".":
            dirs[:] = [x for x in dirs if x not in ("install", "web", "images", "index")]
            continue
        out[rel] = sorted(dirs + files)
        if depth >= 1:
            dirs[:] = []
    return out


def disk():
    """Bytes below the state directory, logs apart."""
    total = 0
    for d, dirs, files in os.walk(STATE):
        if os.path.relpath(d, STATE) == ".":
            dirs[:] = [x for x in dirs if x not in ("install", "web")]
        for f in files:
            if f.endswith(".log"):
                continue
            try:
                total += os.lstat(os.path.join(d, f)).st_blocks * 512
            except OSError:
                pass
    return total


def settle(seconds=30):
    """The counts once two readings a moment apart agree: (processes, descriptors, mounts, entries), pids."""
    last = None
    end = time.monotonic() + seconds
    while True:
        procs = service()
        now = (len(procs), sum(descriptors(procs).values()), mounts(procs), entries())
        if now == last or time.monotonic() > end:
            return now, procs
        last = now
        time.sleep(1.5)
