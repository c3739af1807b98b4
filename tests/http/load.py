#!/usr/bin/python3
"""100 requests at once: all right, none mixed up, and nothing of them left afterwards (counted)."""
import base64
import os
import threading
import time

import client
import left
from client import STATE, b64, create, delete, eq, ok, request, run, skip, tar

N = int(os.environ.get("CGIBOX_TEST_LOAD", "100"))


def one(i, wrong):
    token = "token-%d-%s" % (i, base64.b16encode(os.urandom(8)).decode())
    try:
        sid = create(extract_patch=True, environment={"TOKEN": token})
        archive = tar({"f%d.txt" % i: b"start %d\n" % i, "d/x": b"x\n"})
        a = run(sid, ["echo $TOKEN", "echo %s >> f%d.txt; cat f%d.txt; ls" % (token, i, i), "exit %d" % (i % 100)],
                archive=b64(archive), timeout_s=300)
        if a.status != 200:
            wrong.append((i, "status", a))
            return
        r = a.json["results"]
        want = [(token + "\n", 0), ("start %d\n%s\nd\nf%d.txt\n" % (i, token, i), 0), ("", i % 100)]
        if [(x["output"], x["exit_code"]) for x in r] != want:
            wrong.append((i, "results", r))
        patch = base64.b64decode(a.json["patch"] or "").decode()
        if "+%s\n" % token not in patch or patch.count("token-") != 1 or "f%d.txt" % i not in patch:
            wrong.append((i, "patch", patch))
        if delete(sid).status != 204:
            wrong.append((i, "delete", ""))
    except Exception as e:
        wrong.append((i, "exception", repr(e)))


wrong = []
one(-0, wrong)
eq(wrong, [], "control: one request alone")
before, procs = left.settle() if STATE else (None, None)
if STATE:
    client.note("before: %d processes %s, %d descriptors, %d mounts" % (before[0], sorted(set(procs.values())), before[1], before[2]))
for round_ in (1, 2):
    wrong = []
    begin = time.monotonic()
    threads = [threading.Thread(target=one, args=(i, wrong)) for i in range(N)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    client.note("round %d: %d sessions in %.1f s" % (round_, N, time.monotonic() - begin))
    ok(not wrong, "round %d: %d at once, all right and none mixed up" % (round_, N), len(wrong), wrong[:3])
if STATE:
    def back():
        after, _ = left.settle(4)
        return after if after[0] <= before[0] and after[1] <= before[1] + left.SPARE and after[2] <= before[2] and after[3] == before[3] else None
    after = client.wait_for(back, 120, 1) or left.settle(4)[0]
    ok(before[0] >= 2 and before[1] > 0, "control: the service's processes and descriptors are seen", before[:3])
    ok(after[0] <= before[0], "no process is left over", before[0], after[0], sorted(left.service().values()))
    ok(after[1] <= before[1] + left.SPARE, "no descriptor is left over", before[1], after[1])
    ok(after[2] <= before[2], "no mount is left over", before[2], after[2])
    eq(after[3], before[3], "no directory is left over")
else:
    skip("not on the service's machine", 5)
eq(request("GET", "/-/health/", key=None).status, 200, "healthy")
client.done()
