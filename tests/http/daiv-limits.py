#!/usr/bin/python3
"""Limits on a whole sandbox, over the API and with the defaults: memory, disk, files, sockets."""
import os

import client
from client import HERE, IMAGE, b64, create, delete, eq, ok, request, run, skip, tar

build = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "..", "..", "build")
attacker = os.path.join(build, "attack-sum")
if not os.path.exists(attacker):
    skip("%s is not built (make units)" % attacker)
    client.done()
with open(attacker, "rb") as f:
    archive = b64(tar({"sum": (f.read(), 0o755)}))


def attack(what, *commands, **more):
    a = run(sid, list(commands), archive=archive, **more)
    if not ok(a.status == 200 and (a.json or {}).get("results"), what, a):
        client.done()
    return a.json["results"]


sid = create(extract_patch=False)
for mode, mib, limit, verdict in (("many", 1536, 768, "memory"), ("memfd", 1536, 768, "memory"), ("tcp", 256, 64, "memory"),
                                  ("disk", 1024, 384, "disk"), ("disk-allocate", 1024, 384, "disk"), ("inodes", 60000, 50000, "disk")):
    r = attack(mode, "./sum %s %d %d 20" % (mode, mib, limit))
    eq((r[0]["verdict"], r[0]["exit_code"]), (verdict, 137), "%s of %d over %d is ended" % (mode, mib, limit))
    if verdict == "disk":
        delete(sid)
        sid = create(extract_patch=False)
r = attack("two commands", "./sum disk 1024 384 20", "echo never")
eq(len(r), 1, "no command follows one that filled the disk")
delete(sid)

sid = create(extract_patch=True)
a = run(sid, ["echo kept > kept; mkdir ~/big; cd ~/big; head -c 450M /dev/zero > f; sleep 20"], archive=archive)
eq([x["verdict"] for x in (a.json or {}).get("results", [])], ["disk"], "a full disk outside the workspace")
ok("kept" in str((a.json or {}).get("patch")) or (a.json or {}).get("patch"), "its patch comes in the same answer", a)
delete(sid)

a = request("POST", "/session/", {"base_image": IMAGE, "memory_bytes": 64 << 20, "cpus": 1})
ok(a.status == 200, "memory_bytes and cpus are taken", a)
eq((a.json or {}).get("approximate"), ["memory_bytes", "cpus"], "and said to be approximate")
sid = (a.json or {}).get("session_id", "")
r = attack("own limit", "./sum many 160 64 20", "nproc")
eq(r[0]["verdict"], "memory", "160 MiB over 64 are ended")
eq(r[1]["output"], "1\n", "one processor")
delete(sid)
client.done()
