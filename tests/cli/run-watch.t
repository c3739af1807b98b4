#!/usr/bin/python3
"""cgibox run: the watchdog of the whole sandbox, also for what a command did before the first look. TAP.

Where a cgroup holds the memory there is no watchdog: sandbox.conf says cgroup = none.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-watch")
ok, eq, run = b.ok, b.eq, b.run
conf = os.path.join(b.top, "watch.conf")
with open(conf, "w") as f:
    f.write("cgroup = none\nwatch_interval_ms = 500\nmemory_reserve_bytes = 0\n")
os.chmod(conf, 0o644)
MIB = 1 << 20

# All of it happens long before the first look, half a second after the start.
FILL = "import mmap,os,sys,time\nn=int(sys.argv[1])<<20\ntouch=lambda m:[m.__setitem__(i,1) for i in range(0,n,4096)]\n"
WAYS = {
    "memory of its own": FILL + "m=mmap.mmap(-1,n,flags=mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS);touch(m)",
    "a file without a name": FILL + "f=os.memfd_create('x');[os.write(f,bytes(1<<20)) for i in range(n>>20)]",
    # The rest of the mapping is gone from the list of mappings, and its blocks are told by nobody.
    "a mapping that is hidden": FILL + "import ctypes\nc=ctypes.CDLL(None);m=mmap.mmap(-1,n);touch(m)\n"
                                       "a=ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
                                       "c.munmap(ctypes.c_void_p(a+4096),ctypes.c_size_t(n-4096))==0 or sys.exit(9)",
    "the root's tmpfs": FILL + "f=open('/fill','wb');[f.write(bytes(1<<20)) for i in range(n>>20)];f.flush()",
}


def fill(way, mib, seconds, *args, limit="memory=128M"):
    code = WAYS[way] + "\ntime.sleep(%s)\nos._exit(0)" % seconds
    return run("--limit", limit, *args, "--", "/usr/bin/python3", "-c", code, str(mib), conf=("--conf", conf))


def over(r, *words):
    return r[0] == 137 and all(w in r[2] for w in words)


for way in WAYS:
    ok((fill(way, 24, 1))[0] == 0, "%s: 24 MiB of 128 are fine" % way)
    r = fill(way, 240, 200)
    ok(over(r, "memory_max_bytes"), "%s: 240 MiB, all there before the first look" % way, r)

# File systems of the caller's: the command waits for the watchdog, which finds them by their paths.
TMP = "f=open('/a/b/fill','wb');[f.write(bytes(1<<20)) for i in range(n>>20)];f.flush()\n"
WAYS["a tmpfs of the caller's"] = FILL + TMP
WAYS["one below a directory without a mode"] = FILL + "p=os.open('/a/b',os.O_PATH);os.chmod('/a',0);os.chdir(p)\n" + TMP.replace("/a/b/", "")
for way in ("a tmpfs of the caller's", "one below a directory without a mode"):
    ok(fill(way, 24, 1, "--tmpfs", "/a/b")[0] == 0, "%s: 24 MiB" % way)
    r = fill(way, 240, 200, "--tmpfs", "/a/b")
    ok(over(r, "memory_max_bytes"), "%s: 240 MiB" % way, r)

# What cannot be opened at the first look cannot be measured, and is over.
for mode, seconds, want in (("0755", 2, 0), ("0", 200, 137)):
    code = "import os,time\nos.chmod('/',0o%s)\ntime.sleep(%d)\nos.chmod('/',0o755)" % (mode, seconds)
    r = run("--limit", "memory=128M", "--", "/usr/bin/python3", "-c", code, conf=("--conf", conf))
    ok(r[0] == want and (want == 0 or "cannot be measured" in r[2]), "a root of mode %s" % mode, r)
b.done()
