#!/usr/bin/python3
"""Receipts: what commands of POST /session/{id}/ were and came to, among the runs of the session, when the answer is long gone."""
import os

import client
from client import create, delete, done, eq, ok, request, run, tar, b64

KEPT = 64  # receipts_kept_max


def runs(sid):
    return request("GET", "/session/%s/runs" % sid).json["runs"]


sid = create()
eq(runs(sid), [], "a new session has none")
a = run(sid, ["echo out; echo err >&2", "exit 3", "kill -9 $$", "sleep 60"], timeout=4, workdir="sub/dir", archive=b64(tar({"sub/dir/f": b"x"})))
got = runs(sid)
eq([(r["request"]["command"], r["verdict"], r["exit_code"], r.get("signal")) for r in got],
   [("echo out; echo err >&2", "ok", 0, None), ("exit 3", "exit", 3, None), ("kill -9 $$", "signal", 137, 9), ("sleep 60", "timeout", 124, None)],
   "each command has a receipt with its verdict") if a.status == 200 else ok(False, "commands", a)
r = got[0]
eq((r["state"], r["output_bytes"], r["output"], r["truncated"]), ("ended", 8, {"first_offset": 8, "end_offset": 8}, False), "what it put out is counted, not kept")
eq((r["request"]["workdir"], r["request"]["limits"]["timeout_ms"]), ("/repo/sub/dir", 4000), "where it ran and its limit")
ok(r["usage"]["wall_ms"] >= 0 and r["usage"]["memory_peak_bytes"] > 0 and got[3]["usage"]["wall_ms"] >= 3900, "what it cost", got)
ok(all(x["begun_at"] <= x["ended_at"] for x in got) and got[3]["ended_at"] - got[3]["begun_at"] > 3.9, "and when", got)
a = request("GET", "/session/%s/runs/%s" % (sid, r["id"]))
eq((a.status, a.json), (200, r), "one of them")
eq(request("GET", "/session/%s/runs/%s/output" % (sid, r["id"])).status, 404, "it has no output to read")
eq(request("GET", "/session/%s/runs/%s" % (sid, "0" * 24)).status, 404, "none of that id")
b = request("POST", "/session/%s/runs" % sid, {"command": "echo a run"})
run(sid, ["true"])
eq([x["request"]["command"] for x in runs(sid)][4:], ["echo a run", "true"], "runs are among them, in the order of time")
eq(runs(sid)[4]["id"], b.json["id"], "with their ids")
long = "echo '" + "\u00e9\\x01" * 3000 + "' >/dev/null"
run(sid, [long])
r = runs(sid)[-1]["request"]["command"]
ok(100 < len(r) < 700 and long.startswith(r), "a long command is shortened", len(r))
run(sid, ["false", "true"], fail_fast=True)
eq(runs(sid)[-1]["verdict"], "exit", "what was not run has none")

# --- bounded
many = create()
for i in range(3):
    run(many, ["echo %d" % (100 * i + k) for k in range(50)])
got = [x["request"]["command"] for x in runs(many)]
eq((len(got), got[-1], got[0]), (KEPT, "echo 249", "echo 136"), "the last %d are kept" % KEPT)
if client.STATE and os.access(client.STATE, os.R_OK):
    size = os.path.getsize(os.path.join(client.STATE, "sessions", many, "receipts"))
    ok(size < 2 * KEPT * 1024, "on the disk at most twice as many", size)
ids = [x["id"] for x in runs(many)]
eq(ids, sorted(set(ids)), "each with an id of its own")

# --- of a live session, and of one that failed
live = create(live=True)
run(live, ["echo live"])
eq([x["request"]["command"] for x in runs(live)], ["echo live"], "commands in a live sandbox")
for x in (sid, many, live):
    delete(x)
eq(request("GET", "/session/%s/runs" % sid).status, 404, "they go with the session")
done()
