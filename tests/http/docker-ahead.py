#!/usr/bin/python3
"""With backend = docker: containers that are made ahead are given away, once, to sessions like those that came before,
and only to them; they go when nobody comes.

Started by tests/http/docker, which makes prepared_idle_s short."""
import base64
import os
import sys
import time

import client
from client import b64, create, delete, eq, ok, request, run, skip, tar, wait_for

sys.path.insert(0, os.path.join(client.HERE, "..", "cli", "lib"))
import dockerd  # noqa: E402

top = os.environ.get("CGIBOX_TEST_ENGINE", "")
if not top:
    skip("not with backend = docker")
    client.done()
    sys.exit()


engine = dockerd.Running(top)


def pool():
    a = request("GET", "/system/").json["prepared"]
    return a["ready"], a["taken"], a["missed"]


def there():
    status, answer = engine.api("GET", "/containers/json?all=1")
    return len(answer) if status == 200 else -1


def outputs(sid, *commands, **more):
    a = run(sid, list(commands), **more)
    return [r["output"] for r in (a.json or {}).get("results", [])] if a.status == 200 else a


def filled(seconds=60):
    """One waits, and none is being made."""
    return wait_for(lambda: pool()[0] > 0, seconds)


# --- one like the last ---
wait_for(lambda: pool()[0] == 0, 150)  # what waits for sessions as other tests had them
sid = create()
eq(outputs(sid, "echo cold"), ["cold\n"], "a session")
delete(sid)
ok(filled(), "then one waits for the next", pool())
ready, taken, missed = pool()
sid = create()
begin = time.monotonic()
eq(outputs(sid, "echo kept > kept; echo t > /tmp/t; echo h > ~/h; echo ahead"), ["ahead\n"], "the next session")
print("# %.0f ms" % (1000 * (time.monotonic() - begin)))
eq(pool()[1:], (taken + 1, missed), "has it")
eq(outputs(sid, "cat kept /tmp/t ~/h"), ["kept\nt\nh\n"], "and keeps its files, where it wrote them")
eq(pool()[1:], (taken + 1, missed), "control: one that has files gets one of its own")
delete(sid)

# --- with an archive ---
ok(filled(), "another one waits", pool())
ready, taken, missed = pool()
sid = create(extract_patch=True)
begin = time.monotonic()
a = run(sid, ["cat a; echo b > a; pwd; stat -c %a . ~ /tmp"], archive=b64(tar({"a": b"a\n", "d/b": b"b\n"})))
print("# %.0f ms" % (1000 * (time.monotonic() - begin)))
eq((a.json or {}).get("results", [{}])[0].get("output"), "a\n/repo\n755\n755\n1777\n", "a session with an archive")
eq(pool()[1:], (taken + 1, missed), "has it, too")
patch = base64.b64decode((a.json or {}).get("patch") or "")
ok(b"-a\n+b\n" in patch and b"d/b" not in patch, "its patch is what was changed", patch)
eq(outputs(sid, "cat a d/b"), ["b\nb\n"], "it keeps its files")
eq(request("POST", "/api/v1/session/%s/discard" % sid).status, 204, "and may discard what was changed")
eq(outputs(sid, "cat a d/b"), ["a\nb\n"], "then they are the archive's")
ok(filled(), "another one waits", pool())
ready, taken, missed = pool()
eq(run(sid, ["true"], archive="bm8gYXJjaGl2ZQ==").status in (400, 422), True, "an archive that is none")
sid2 = create()
eq(run(sid2, ["true"], archive="bm8gYXJjaGl2ZQ==").status in (400, 422), True, "the same as the first request")
eq(outputs(sid2, "ls -A | wc -l", archive=b64(tar({"x": b"x\n"}))), ["1\n"], "the session works all the same")
delete(sid)
delete(sid2)

# --- of other limits, of other images ---
ok(filled(), "another one waits", pool())
ready, taken, missed = pool()
sid = create(memory_bytes=96 << 20)
eq(outputs(sid, "head -c 300M /dev/zero | tail -c 200M | wc -c || echo ended")[0] != "209715200\n", True, "a session with less memory")
eq(pool()[1:], (taken, missed + 1), "gets none of the others'")
delete(sid)

# --- many at once ---
made = [create() for _ in range(6)]
eq([outputs(x, "echo %s > f; cat f" % x) for x in made], [[x + "\n"] for x in made], "sessions see nothing of each other")
eq([outputs(x, "cat f") for x in made], [[x + "\n"] for x in made], "and later neither")
for x in made:
    delete(x)
ok(filled(), "some wait", pool())
ok(pool()[0] <= 4, "no more than engine_prepared_max", pool())

# --- what waits keeps no image from being removed ---
name = "ahead-extra"
with open(dockerd.base()[0], "rb") as tar:
    engine.load(name, tar)
sid = create(base_image=name)
eq(outputs(sid, "echo up"), ["up\n"], "a session of another image")
delete(sid)
image = engine.api("GET", "/images/%s/json" % name)[1]["Id"]
ok(wait_for(lambda: [c for c in engine.containers() or [] if c["ImageID"] == image and c["State"] == "running"], 60), "a container of it waits")
a = request("DELETE", "/api/v1/images/%s" % name)
ok(a.status in (200, 204), "and keeps nobody from removing the image", a)
eq(engine.api("GET", "/images/%s/json" % name)[0], 404, "it is gone")

# --- nobody comes ---
ok(wait_for(lambda: pool()[0] == 0, 150), "none waits when nobody has come for prepared_idle_s", pool())
ok(wait_for(lambda: there() == 0, 60), "and none is left at the Engine", there())
client.done()
