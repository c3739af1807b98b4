#!/usr/bin/python3
"""Volumes of the Docker Sandbox Manager: a sandbox's own and shared ones, their files, their limits."""
import concurrent.futures
import os
import time

import client
from client import done, eq, ok, request

API = "/api/v1/sandboxes"
V = "/api/v1/volumes"
made = []


def get(path, **kw):
    return request("GET", API + path, **kw)


def post(path, body=None, **kw):
    return request("POST", API + path, body, **kw)


def make(**spec):
    a = post("", dict({"image": client.TAGGED}, **spec))
    if a.status != 201:
        ok(False, "a sandbox is made", a)
        done()
    made.append(a.json["container_id"])
    return a.json["container_id"]


def sh(sid, command):
    a = post("/%s/exec" % sid, {"command": command})
    return a.json["output"] if a.status == 200 else a


def problems(a):
    d = a.detail if isinstance(a.detail, list) else []
    return a.status, [(x["type"], x["loc"]) for x in d]


def until(what, fn, want, seconds=60):
    end = time.monotonic() + seconds
    got = fn()
    while got != want and time.monotonic() < end:
        time.sleep(0.05)
        got = fn()
    return eq(got, want, what)


def volumes():
    """Those on the disk, where that may be seen."""
    return set(os.listdir(client.STATE + "/volumes")) if client.STATE and os.access(client.STATE + "/volumes", os.R_OK) else None


# --- shared ones
before = volumes()
NAME = "shared-%d" % os.getpid()
a = request("POST", V + "/network", {"name": NAME, "size": "4m", "driver": "local"})
eq((a.status, a.json), (200, {"volume_name": NAME}), "a shared volume is made")
eq(request("POST", V + "/network", {"name": NAME}).status, 200, "again, which changes nothing")
a = request("POST", V + "/network", {"name": NAME, "size": "8m"})
eq(a.status, 409, "not with another size")
for change, want in ((dict(name="a.b"), ("value_error", ["body", "name"])), (dict(name="../x"), ("value_error", ["body", "name"])),
                     (dict(name=""), ("value_error", ["body", "name"])), (dict(name="-a"), ("value_error", ["body", "name"])),
                     (dict(name="a" * 64), ("value_error", ["body", "name"])), (dict(size="4"), ("value_error", ["body", "size"])),
                     (dict(driver="nfs"), ("value_error", ["body", "driver"])),
                     (dict(mount_path="/etc/x"), ("value_error", ["body", "mount_path"]))):
    eq(problems(request("POST", V + "/network", dict({"name": "good"}, **change))), (422, [want]), "422: %s" % change)
a = request("POST", V + "/network", {"name": "good", "size": "2g"})
ok(a.status == 422 and "volume_max_bytes" in a.detail, "422 over volume_max_bytes", a)

# --- in sandboxes
for path in ("/", "/etc/x", "/proc", "/dev/shm", "/sys", "/usr/x", "/repo", "/repo/x", "/workspace", "/a/../etc", "/a/./b", "/a//b",
             "relative", "/a\nb", "/" + "x" * 255):
    eq(problems(post("", {"image": client.TAGGED, "volumes": {"v": {"size": "1m", "mount_path": path}}})),
       (422, [("value_error", ["body", "volumes", "v", "mount_path"])]), "422: mounted at %.12r" % path)
eq(problems(post("", {"image": client.TAGGED, "volumes": {"a/b": {"size": "1m"}}})), (422, [("value_error", ["body", "volumes", "a/b"])]),
   "422: a name")
a = post("", {"image": client.TAGGED, "volumes": {"a": {"size": "1m", "mount_path": "/x"}, "b": {"size": "1m", "mount_path": "/x"}}})
ok(a.status == 422 and "/x" in a.detail, "422: two at one place", a)
a = post("", {"image": client.TAGGED, "volumes": {"a": {"size": "1m", "mount_path": "/x/y"}, "b": {"size": "1m", "mount_path": "/x"}}})
ok(a.status == 422 and "none may lie in another" in a.detail, "422: one in another, whose owners could move its place", a)
eq(problems(post("", {"image": client.TAGGED, "volumes": {str(i): {"size": "1m"} for i in range(17)}}))[0], 422, "422: 17 volumes")
S = make(volumes={"own": {"size": "2m"}, NAME: {"network": True, "mount_path": "/srv/both"}})
T = make(volumes={NAME: {"network": True, "mount_path": "/home/other"}}, command="echo started; sleep 300")
v = get("/" + S).json["volumes"]
eq([(x["volume_id"], x["name"], x["mount_path"], x["size"], x["driver"]) for x in v],
   [(S + ".own", "own", "/mnt/own", 2, "local"), (NAME, NAME, "/srv/both", 4, "local")], "a sandbox has them")
eq(sh(S, "echo mine >/mnt/own/f; echo ours >/srv/both/f; ls -di /mnt/own /srv/both >/dev/null && echo ok"), "ok\n", "and writes to them")
eq(sh(T, "cat /home/other/f; ls /mnt/own 2>/dev/null; echo $?"), "ours\n2\n", "another sees what is shared, and nothing else")
eq(sh(T, "mkdir /home/other/d && echo back >/home/other/d/g && echo ok"), "ok\n", "and writes to it")
eq(sh(S, "cat /srv/both/d/g"), "back\n", "which the first sees")
post("/%s/stop?timeout=0" % S)
post("/%s/start" % S)
eq(sh(S, "cat /mnt/own/f /srv/both/f"), "mine\nours\n", "they outlive the sandbox's processes")
eq(request("GET", "/session/%s/files/srv/both/f" % S).body, b"ours\n", "other routes see them")
post("/%s/stop?timeout=0" % S)
eq(request("GET", "/session/%s/files/srv/both/f" % S).body, b"ours\n", "also when nothing runs")
post("/%s/start" % S)

# --- files
F = "/%s/volumes/%s" % (S, NAME)
eq((post(F + "/mkdir?path=a/b").json, post(F + "/mkdir?path=/a/b").json), ({"status": "created"}, {"status": "created"}), "mkdir, twice")
eq(post(F + "/write?path=a/b/t.txt", {"content": "h\u00e9\n"}).json, {"status": "written"}, "write")
eq(get(F + "/read?path=/a/b/t.txt").json, {"content": "h\u00e9\n"}, "read")
eq(sh(T, "cat /home/other/a/b/t.txt"), "h\u00e9\n", "seen inside")
boundary = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n" + b"\x00\xff" * 1000 + b"\r\n--b--\r\n"
a = post(F + "/upload?path=up/x.bin", boundary, headers={"Content-Type": "multipart/form-data; boundary=b"})
eq((a.status, a.json), (200, {"status": "uploaded"}), "upload")
eq(sh(S, "wc -c </srv/both/up/x.bin"), "2000\n", "of all bytes")
eq(get(F + "/read?path=up/x.bin").status, 422, "which are no text")
eq(post(F + "/upload?path=x", b"{}", headers={"Content-Type": "application/json"}).status, 422, "an upload that is no form")
want = [{"name": n, "type": t} for n, t in (("a", "directory"), ("d", "directory"), ("f", "file"), ("up", "directory"))]
eq(sorted(get(F + "/ls").json["entries"], key=lambda x: x["name"]), want, "ls")
eq(sorted(request("GET", "%s/%s/%s/ls?path=/" % (V, S, NAME)).json["entries"], key=lambda x: x["name"]), want, "ls by its other path")
eq([get(F + "/read?path=" + p).status for p in ("none", "a", "a/../f", "")], [404, 409, 422, 422], "read what is none")
eq((get(F + "/ls?path=f").status, post(F + "/mkdir?path=f").status), (409, 409), "a file is no directory")
eq((get("/%s/volumes/other/ls" % S).status, get("/%s/volumes/other/ls" % S).detail), (404, "Volume not found"), "no such volume")
sh(S, "ln -s /etc/passwd /srv/both/link; ln -s ../../../../etc/passwd /srv/both/up2; ln -s /proc/self/root /srv/both/proc; mkfifo /srv/both/p")
eq([get(F + "/read?path=" + p).status for p in ("link", "up2", "proc/etc/passwd", "p")], [404, 404, 422, 409], "links do not lead out of it")
eq(post(F + "/write?path=link", {"content": "x"}).status // 100, 2, "nor does a write")
eq(sh(S, "stat -c %s /etc/passwd") != "1\n", True, "which is in the volume")
a = get("/%s/volumes/own/read?path=f" % S)
eq(a.json, {"content": "mine\n"}, "files of its own volume, by its name")
eq(get("/%s/volumes/%s.own/read?path=f" % (S, S)).status, 200, "or its id")
eq(get("/%s/volumes/%s.own/read?path=f" % (T, S)).status, 404, "not through another sandbox")
eq(request("POST", V + "/network", {"name": S + ".own"}).status, 422, "nor by that name")

# --- limits
eq(post("/%s/volumes/own/write?path=half" % S, {"content": "x" * 900000}).status, 200, "room for 900 KB of 2 MB")
eq(post("/%s/volumes/own/write?path=half2" % S, {"content": "x" * 900000}).status, 200, "and for as much again")
eq(post("/%s/volumes/own/write?path=half3" % S, {"content": "x" * 900000}).status, 507, "not for more")
eq(sh(S, "rm /mnt/own/half && echo ok"), "ok\n", "until some is gone")
eq(post("/%s/volumes/own/write?path=half3" % S, {"content": "x" * 900000}).status, 200, "then there is")
sh(S, "rm /mnt/own/half*")
a = post("/%s/exec" % S, {"command": "while head -c 1000000 /dev/zero; do sleep 0.01; done >/srv/both/big"}, timeout=300)
eq((a.json or {}).get("verdict"), "disk", "a command that fills a shared one is ended")
size = int(sh(S, "stat -c %s /srv/both/big; rm /srv/both/big"))
ok(size < (4 << 20) + (128 << 20), "near its limit", size)

# --- mounted, unmounted
M = make(command="echo begun; cat /mnt/x/f; sleep 300")
until("a sandbox without a volume", lambda: [x["log_type"] for x in get("/%s/logs" % M).json["logs"]], ["stdout", "stderr"])
eq(post("/%s/volumes/none/mount?mount_path=/mnt/x" % M).status, 404, "a volume that is not there")
eq(post("/%s/volumes/%s/mount?mount_path=/etc" % (M, NAME)).status, 422, "a bad place")
eq(post("/%s/volumes/%s/mount?mount_path=/mnt/x" % (M, NAME)).json, {"status": "mounted"}, "mount")
until("begins the command anew, which sees it", lambda: [x["message"] for x in get("/%s/logs" % M).json["logs"]], ["begun", "ours"])
eq(post("/%s/volumes/%s/mount?mount_path=/mnt/y" % (M, NAME)).status, 409, "once")
eq(post("/%s/volumes/%s/unmount" % (M, NAME)).json, {"status": "unmounted"}, "unmount")
eq(get("/" + M).json["volumes"], [], "it is gone")
eq(sh(M, "ls /mnt/x"), "", "and its place is empty")
eq(post("/%s/volumes/%s/unmount" % (M, NAME)).status, 404, "once")

# --- many requests for one sandbox at a time: each is done after another, and what is recorded is what is seen
R = make(command="sleep 300")
many = ["%s-%d" % (NAME, i) for i in range(6)]
for v in many:
    request("POST", V + "/network", {"name": v, "size": "1m"})


def insist(path):
    """409 is the answer to who waited for too long: he asks again."""
    end = time.monotonic() + 60
    while True:
        a = post(path)
        if a.status != 409 or "busy" not in str(a.detail) or time.monotonic() > end:
            return a


def at_once(paths):
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        return [(a.status, a.json) for a in pool.map(insist, paths)]


def seen():
    """What is recorded, what is there, and how many commands of the sandbox run."""
    at = sh(R, "for d in /mnt/%s-*; do mountpoint -q $d && basename $d; done" % NAME)
    runs = request("GET", "/session/%s/runs" % R).json["runs"]
    return (sorted(x["name"] for x in get("/" + R).json["volumes"]), sorted(at.split()),
            sum(r["state"] == "running" and "sleep 300" in r["request"]["command"] for r in runs))


eq(at_once(["/%s/volumes/%s/mount?mount_path=/mnt/%s" % (R, v, v) for v in many]), [(200, {"status": "mounted"})] * 6, "six mounted at once")
eq(seen(), (many, many, 1), "all are there, and its command runs once")
eq(at_once(["/%s/volumes/%s/unmount" % (R, v) for v in many[:3]] + ["/%s/restart?timeout=0" % R, "/%s/start" % R]),
   [(200, {"status": "unmounted"})] * 3 + [(200, {"status": "restarted"}), (200, {"status": "started"})], "three unmounted, beside a restart and a start")
eq(seen(), (many[3:], many[3:], 1), "three are there, and its command runs once")
eq(sorted(x[0] for x in at_once(["/%s/volumes/%s/mount?mount_path=/mnt/%s" % (R, many[0], many[0])] * 2)), [200, 409], "of two for one volume one mounts it")
eq(post("/%s/volumes/%s/mount?mount_path=/mnt/%s" % (R, many[1], many[0])).status, 422, "nor are two at one place")
eq(seen(), (many[:1] + many[3:], many[:1] + many[3:], 1), "what is recorded is what is seen")
post("/%s/stop?timeout=0" % R)
post("/%s/start" % R)
eq(sh(R, "grep -c ' /mnt/' /proc/self/mountinfo"), "4\n", "and what the next sandbox sees")
eq(request("DELETE", API + "/" + R).status, 200, "it goes")
made.remove(R)
eq([request("DELETE", "%s/network/%s" % (V, v)).status for v in many], [200] * 6, "and the volumes, which nobody has any more")

# --- a link in one, which others may have planted, does not lead another one elsewhere
sh(S, "ln -s /tmp /srv/both/bin")
N = make(volumes={NAME: {"network": True, "mount_path": "/srv/all"}, "own": {"size": "1m", "mount_path": "/mnt/own"}})
eq(post("/%s/volumes/own/unmount" % N).status, 200, "a volume is unmounted")
eq(sh(N, "rm -rf /mnt; ln -s /srv/all /mnt; readlink /mnt/bin"), "/tmp\n", "what leads through the other one")
eq(request("POST", V + "/network", {"name": NAME + "2", "size": "1m"}).status, 200, "another shared one")
post("/%s/volumes/%s2/mount?mount_path=/mnt/bin" % (N, NAME))
a = post("/%s/exec" % N, {"command": "echo started"})
ok(a.status == 500, "is no place for one", a)
made.remove(N)
eq((request("DELETE", API + "/" + N).status, request("DELETE", "%s/network/%s2" % (V, NAME)).status), (200, 200), "both go")

# --- removed
a = request("DELETE", "%s/network/%s" % (V, NAME))
ok(a.status == 409 and "mounted" in a.detail, "409 while it is mounted", a)
for sid in made:
    eq(request("DELETE", API + "/" + sid).status, 200, "a sandbox goes")
if before is not None:
    until("with its own volumes, and the shared one stays", lambda: volumes() - before, {NAME})
eq(request("DELETE", "%s/network/%s" % (V, NAME)).json, {"status": "deleted"}, "then it goes")
eq((request("DELETE", "%s/network/%s" % (V, NAME)).status, request("DELETE", V + "/network/a.b").status), (404, 404), "once")
done()
