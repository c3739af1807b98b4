#!/usr/bin/python3
"""The attack suite: every attack of tests/attacks/*.c inside a sandbox of the normal build. TAP.

An attack is HELD, with the errno of each denial in its output, or it is a failure; so is one whose own control
fails. The controls from outside: the same program without a sandbox must say BREACH where the machine allows.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lab  # noqa: E402
import rows  # noqa: E402
from rows import KERNEL, ROWS  # noqa: E402

box = lab.Lab()
share = rows.shown(box)
tried = set()


def held(name, *words, run=box.attack, what=None, **kw):
    tried.add(name)
    out = run(name, *words, **kw)
    lab.ok(out.word == "HELD", what or ("%s %s" % (name, " ".join(map(str, words))))[:70].strip(), out)
    return out


# --- the rows that mutation.t breaks, in the normal build with its own limits
for row in ROWS:
    tried.add(row.attack)
    if row.run_ and row.why_not and not row.when:
        lab.skip("%s: %s" % (row.promise, row.why_not))
        continue
    out = row.run(box)
    lab.ok(out.word == "HELD" or (out.word == "REFUSES" and row.broken == "HELD"),
           "%s: %s" % (row.attack, row.promise), out)

# --- attacks that no row has, and others with the default limits
held("surface")
held("cwd")
held("handles")
held("setns")
held("host-paths", box.canary, box.top, box.state, box.path_socket)
held("proc-roots")
held("path-sockets", box.path_socket)
held("raw")
held("kill-init")
held("kill-all")
held("zombies")
held("raise")
held("groups")
held("whiteout", "/layer/whiteout", args=["--bind", box.layer + ":/layer:rw"])
for name in ("raise", "groups", "devices", "caps"):
    held(name, args=["--root-emulation", "off"], what="%s, root not emulated" % name)
held("propagation", args=share)
held("proc-sys", args=["--uid", "0"])
held("proc-sys", args=["--uid", "1000"])
held("pid1-paths", args=["--uid", "1000"])
held("trace", args=["--uid", "0"])
held("caps", args=["--uid", "0"])
held("forks", 600)
held("threads", 600)
held("memory", 1100)
held("address-space", 64)
held("descriptors", 1100)
held("file-size", "/tmp", 1500)
held("fill", "/tmp", 1024) if KERNEL >= (6, 6) else lab.note("the upper layer is on the disk: /tmp has no size of its own")
held("fill", "/dev/shm", 1024)
held("inodes", "/tmp", 60000) if KERNEL >= (6, 6) else lab.note("nor a number of files")
held("inotify", 128)
for name in ("ptys", "priorities", "pid1-fds", "lasting-flags", "device-calls"):
    held(name)
held("pid1-fds", args=["--uid", "0"])
out = rows.ended_by("signal-storm", 12)(box, args=["--timeout", "2"])
tried.add("signal-storm")
lab.ok(out.word == "HELD" and out.rc == 124, "signal-storm: pid 1 keeps its deadline of 2 s", out)

# --- another tenant: while it lives, and after
token = "token-%d" % os.getpid()
other = box.popen(["/atk/atk", "arm", token, "stay"])
line = other.stdout.readline()
while line and "ARMED" not in line:
    line = other.stdout.readline()
lab.ok("ARMED" in line, "control: a tenant leaves its token everywhere")
held("check", token, what="check: another tenant that lives")
box.reap(other)
other.wait()
held("check", token, what="check: another tenant that is gone")
out = box.attack("find-own", token)
lab.ok(out.word == "BREACH", "control: the same search finds a token of its own sandbox", out)
tried |= {"arm", "find-own", "check-ipc", "disarm", "ids", "calls", "stay", "flood"}

# --- what the attacks say without a sandbox
for name, words in (("fds", ()), ("secrets", (lab.CANARY,)), ("loopback", (box.port,)),
                    ("abstract", (box.abstract,)), ("host-paths", (box.canary,)), ("namespaces",
                    lab.host_namespaces()), ("filtered", ()), ("no-new-privs", ()), ("nested", ()), ("surface", ()),
                    ("devices", ()), ("pipes", ()), ("personality", ()), ("descriptors", (900,))):
    out = box.outside(name, *words)
    lab.ok(out.word == "BREACH", "control: %s without a sandbox is a breach" % name, out)

listed = {x.split()[0] for x in subprocess.run([box.atk], capture_output=True, text=True).stdout.splitlines()}
lab.eq(sorted(listed - tried), [], "every attack that the program lists was tried")
box.close()
lab.done()
