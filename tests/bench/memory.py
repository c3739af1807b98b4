"""Memory: sandboxes that wait, and services that do."""
import os
import subprocess
import time

import peers
import web

GROUP = "Memory"


def meminfo():
    with open("/proc/meminfo") as f:
        return {k: int(v.split()[0]) for k, v in (line.split(":") for line in f)}


def used(m):
    """KiB that are neither free nor a cache of files: processes, kernel with all slab (what live mounts pin counts as
    reclaimable, too), tmpfs."""
    return m["MemTotal"] - m["MemFree"] - m["Buffers"] - m["Cached"] + m["Shmem"]


def descendants(pid):
    parents = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                parents.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(p))
        except OSError:
            pass
    out, todo = [], [pid]
    while todo:
        out.append(todo.pop())
        todo += parents.get(out[-1], [])
    return out


def field(pid, file, name):
    """KiB, or None."""
    try:
        with open("/proc/%d/%s" % (pid, file)) as f:
            for line in f:
                if line.startswith(name + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def memory_of(pids):
    """(KiB, what was counted): PSS as root; an ordinary user may not look into processes that locked themselves: then RSS,
    which counts shared pages once for each."""
    pss = [field(p, "smaps_rollup", "Pss") for p in pids]
    if None not in pss:
        return sum(pss), "PSS"
    return sum(field(p, "status", "VmRSS") or 0 for p in pids), "RSS"


def program(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().split(b"\0")[0].decode("utf-8", "replace")
    except OSError:
        return ""


class Section:
    name = "memory"

    def __init__(self, place, results, options, engine):
        self.place, self.results, self.n = place, results, 100 if options.quick else 1000
        self.services, self.tries = [], 4 if options.quick else 20

    def setup(self):
        self.staging = self.place.make_dir("staging-park")
        try:
            self.services.append((web.ours(self.place, "idle"), "idle-ours", "cgibox, idle"))
            if peers.usable("bwrap"):
                self.services.append((web.fastapi(self.place), "idle-fastapi", "FastAPI, uvicorn, idle"))
        except RuntimeError as e:
            self.results.skip("memory of an idle service", str(e))

    def settled(self):
        """meminfo once what is freed in the background has been."""
        last = meminfo()
        for _ in range(self.tries):
            time.sleep(0.25)
            now = meminfo()
            if abs(used(now) - used(last)) < 512:
                return now
            last = now
        return last

    def park(self, number, network, label):
        before = self.settled()
        p = self.place.start([self.place.program("park"), self.place.root, self.staging, str(self.n), network], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        line = p.stdout.readline().split()
        if not line or line[0] != "ready":
            p.communicate()
            raise RuntimeError("bench-park: " + " ".join(line))
        after = self.settled()
        pss, what = memory_of(list(map(int, line[1:])))
        p.communicate()
        taken = used(after) - used(before)
        if taken > pss:
            self.add(number, "park-" + network, "parked sandbox, %s: all it takes" % label, "KiB", taken / self.n)
            self.add(number, "per-gib-" + network, "parked sandboxes per GiB, " + label, "", (self.n << 20) / taken)
        else:
            self.results.skip("parked sandboxes, %s, pass %d" % (label, number + 1), "others gave memory back meanwhile: no measure")
        self.add(number, "park-pss-" + network, "parked sandbox, %s: %s of pid 1 alone" % (label, what), "KiB", pss / self.n)

    def add(self, number, key, label, unit, value):
        self.results.add(number, key, GROUP, label, unit, [value])

    def idle(self, number):
        for service, key, label in self.services:
            # Not the shell that supervises, nor the web server, which is there anyway.
            pids = [p for p in descendants(service.process.pid) if os.path.basename(program(p)) not in ("bash", "/bin/bash", "lighttpd")]
            kib, what = memory_of(pids)
            # The sum of RSS is no measure for a service of many processes: no claim is judged by it.
            self.add(number, key + "-rss" * (what == "RSS"), "%s (%s of %d processes)" % (label, what, len(pids)), "MiB", kib / 1024)

    def measure(self, number):
        self.idle(number)
        self.park(number, "host", "no network namespace of its own")
        self.park(number, "own", "with a network namespace")

    def close(self):
        for service, *_ in self.services:
            service.stop()
        self.results.note("A parked sandbox: what %d of them take of the machine's memory (processes, kernel and tmpfs; not the page "
                          "cache), divided by %d. Others who use the machine at the time disturb it." % (self.n, self.n))
