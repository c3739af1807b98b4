#!/usr/bin/python3
"""With backend = docker: the attacks of tests/attacks, each a command in a session, as tests/attacks/run.t has them in the
isolator's sandboxes. HELD, or listed below with what holds less there (docs/promises.md).

Started by tests/http/docker."""
import os
import re
import socket
import subprocess
import sys
import tempfile

import client
from client import b64, create, delete, eq, ok, request, run, skip, tar, wait_for

ATK = os.path.join(os.path.dirname(os.path.dirname(client.HERE)), "build", "atk")
if not os.environ.get("CGIBOX_TEST_ENGINE"):
    skip("not with backend = docker")
    client.done()
    sys.exit()
subprocess.run(["make", "-s", "-C", os.path.join(client.HERE, "..", ".."), "build/atk"], stdout=sys.stderr, check=True)

# --- what a careless host has lying around ---
listeners = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
listeners[0].bind(("127.0.0.1", 0))
abstract = "atk-canary-%d" % os.getpid()
listeners[1].bind("\0" + abstract)
where = tempfile.mkdtemp(dir="/var/tmp", prefix="atk.")
os.chmod(where, 0o755)
path_socket = where + "/host.sock"
listeners[2].bind(path_socket)
os.chmod(path_socket, 0o777)
for s in listeners:
    s.listen(8)
canary = where + "/canary"
with open(canary, "w") as f:
    f.write("host\n")
port = listeners[0].getsockname()[1]
namespaces = ["%s=%d" % (n, os.stat("/proc/self/ns/" + n).st_ino) for n in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")]

# name: words. What has none here needs a host directory, a terminal or another user than a container has.
ATTACKS = """fds;cwd;chroot CANARY;exe;mounts;proc-sys;masked;devices;whiteout /tmp/whiteout;host-paths CANARY WHERE STATE SOCKET
handles;pid1-paths;setns;proc-roots;trace;secrets KEY;kill-init;kill-all;kill-group;session;namespaces NAMESPACES;signals;zombies
raise;pid1-calls;core;tiocsti;ctty;groups;surface;filtered;no-new-privs;caps;nested;foreign-arch;families;family-pairs;personality
loopback PORT;abstract ABSTRACT;path-sockets SOCKET;routes;raw;memory-xattrs;memory-acls;landlock-rules;aio;ptys;huge-pages
line-disciplines;netlink;upper-protocols;priorities;pid1-fds;lasting-flags;device-calls;pipes;sysv;fanotify;forks 600;threads 600
memory 1100;address-space 64;descriptors 1100;file-size /tmp 1500;fill /dev/shm 1024;inotify 128;pending 8192;mqueues 50;locked 16
inodes /dev/shm 60000""".replace("\n", ";").split(";")
WORDS = {"CANARY": canary, "WHERE": where, "STATE": client.STATE, "SOCKET": path_socket, "KEY": client.KEY, "PORT": str(port),
         "ABSTRACT": abstract, "NAMESPACES": " ".join(namespaces)}
# What a container holds less of, and how far the attack gets; docs/promises.md has the list, and what follows below.
LESS = {"masked": "BREACH: /sys/fs/cgroup has", "devices": "BREACH: make a file in /dev reaches the kernel: EACCES",
        "host-paths": "BREACH: /etc/shadow works", "ptys": "BREACH: 1000 terminals", "inotify": "BREACH: 128 of inotify instances",
        "inodes": "BREACH: 60000 of empty files"}


def command(line):
    return "./atk " + " ".join(WORDS.get(w, w) for w in line.split())


def outcome(result):
    said = re.findall(r"^(?:HELD|BREACH|UNPROVEN).*", result["output"], re.M)
    return next((x for x in said if not x.startswith("HELD")), said[0]) if said else "NONE: exit code %s, %r" % (result.get("exit_code"), result["output"][-300:])


sid = create(live=True)
a = run(sid, ["true"], archive=b64(tar({"atk": (open(ATK, "rb").read(), 0o755)})))
eq(a.status, 200, "the program is there")
for line in ATTACKS:
    a = run(sid, [command(line)])
    name = line.split()[0]
    got = outcome(a.json["results"][0]) if a.status == 200 and a.json.get("results") else "NONE: %s %s" % (a.status, a.body[:200])
    if name in LESS:
        ok(got.startswith(LESS[name]), "%s: less is held, as declared" % line, got)
    else:
        ok(got.startswith("HELD"), line, got)

# --- what those attacks did not come to ---
def said(text):
    a = run(sid, [text])
    return a.json["results"][0]["output"] if a.status == 200 else a


eq(said("for p in %s /run/docker.sock /var/run/docker.sock /root/.ssh; do test -e $p && echo $p; done; echo done" %
        " ".join((canary, where, client.STATE, path_socket))), "done\n", "no file of the host; /etc/shadow is the image's own")
eq(said("cat /etc/shadow 2>&1 | grep -c denied"), "1\n", "which cannot be read")
eq(said("for f in /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/memory.limit_in_bytes"
        " /sys/fs/cgroup/memory.max; do (echo 1 > $f) 2>/dev/null && echo $f; done; echo done"), "done\n", "nothing in /sys can be written")
eq(said("mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null && echo made; echo done"), "done\n", "no control group can be made")
eq(said("for t in 'b 8 0' 'c 1 1' 'c 10 200'; do mknod /tmp/d $t 2>/dev/null && echo $t; done; echo done"), "done\n", "no device can be made")
sids = [create(live=True), create(live=True)]
eq([run(x, ["true"], archive=b64(tar({"atk": (open(ATK, "rb").read(), 0o755)}))).status for x in sids], [200, 200], "two sessions")
token = "token-%d" % os.getpid()
a = request("POST", "/api/v1/session/%s/runs" % sids[0], {"command": "cd /repo; exec ./atk arm %s stay" % token})
ok(a.status in (200, 201, 202), "one leaves its token everywhere", a)
ok(wait_for(lambda: outcome(run(sids[0], ["./atk find-own " + token]).json["results"][0]).startswith("BREACH"), 60, 1), "control: it finds it there")
ok(outcome(run(sids[1], ["./atk check " + token]).json["results"][0]).startswith("HELD"), "the other finds nothing of it")
eq(run(sid, ["true"]).status, 200, "pid 1 of the first serves still")
for x in [sid, *sids]:
    delete(x)
client.done()
