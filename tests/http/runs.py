#!/usr/bin/python3
"""Runs and live sessions over HTTP: results, streams, input, replay, limits."""
import base64
import http.client
import json
import sys
import threading
import time

import client
from client import eq, ok, request

SPOOL = client.conf("run_spool_max_bytes")


def session(live=True):
    a = request("POST", "/session/", {"base_image": client.IMAGE, "live": live})
    assert a.status == 200, a
    return "/session/%s" % a.json["session_id"]


def run(at, body, **kw):
    return request("POST", at + "/runs", body if isinstance(body, dict) else {"command": body}, **kw)


class Stream:
    """Events of a response as they come: (seconds since the request, event)."""

    def __init__(self, method, path, body=None, headers=None, timeout=300):
        self.begin = time.monotonic()
        self.c = client.connect(timeout)
        h = {"X-API-Key": client.KEY, "Accept": "application/x-ndjson", **(headers or {})}
        if body is not None:
            body = json.dumps(body).encode()
            h["Content-Type"] = "application/json"
        self.c.request(method, client.PREFIX + path, body, h)
        self.r = self.c.getresponse()
        self.status, self.headers = self.r.status, self.r.headers

    def lines(self):
        try:
            while True:
                line = self.r.readline()
                if not line:
                    return
                yield line
        except (http.client.HTTPException, OSError):
            return

    def events(self):
        for line in self.lines():
            if line.strip() and line.endswith(b"\n"):
                yield time.monotonic() - self.begin, json.loads(line)

    def close(self):
        self.c.close()


def data(e):
    return base64.b64decode(e["data"]) if e.get("encoding") == "base64" else e["data"].encode()


def follow(at, rid, start=0):
    s = Stream("GET", "%s/runs/%s/output?from=%d" % (at, rid, start))
    out = [e for _, e in s.events()]
    s.close()
    return out


def text(events, stream=None):
    return b"".join(data(e) for e in events
                    if e["type"] == "output" and stream in (None, e["stream"]))


def results(at):
    a = run(at, "echo out; echo err >&2; exit 3")
    eq((a.status, a.json["stdout"], a.json["stderr"], a.json["verdict"], a.json["exit_code"]),
       (200, "out\n", "err\n", "exit", 3), "a run answers with both streams and its verdict")
    u = a.json["usage"]
    ok(u["wall_ms"] >= 0 and "disk_read_bytes" in u and a.json["output_bytes"] == 8
       and a.json["request"]["limits"]["timeout_ms"] == 60000, "and a receipt", a)
    rid = a.json["id"]
    g = request("GET", "%s/runs/%s" % (at, rid))
    eq((g.json["state"], g.json["verdict"], g.json["exit_code"], g.json["request"]["command"]),
       ("ended", "exit", 3, "echo out; echo err >&2; exit 3"), "which is kept")
    eq(g.json["usage"], u, "the same receipt")
    l = request("GET", at + "/runs").json["runs"]
    ok(rid in [r["id"] for r in l], "and listed", l)
    eq(run(at, {"command": "echo a; echo b >&2", "merge": True}).json["output"], "a\nb\n", "merged")
    eq(run(at, {"argv": ["printf", "%s|", "a b", "$x"]}).json["stdout"], "a b|$x|", "argv: no shell")
    eq(run(at, {"command": "echo $x$HOME", "env": {"x": "y"}}).json["stdout"],
       "y/home/daiv-sandbox\n", "variables beside the session's")
    eq(run(at, {"command": "pwd", "workdir": "/tmp"}).json["stdout"], "/tmp\n", "workdir")
    eq(run(at, {"command": "cat; echo .", "stdin": "h\u00e9\n"}).json["stdout"], "h\u00e9\n.\n", "stdin")
    a = run(at, {"argv": ["no-such-thing"]})
    eq((a.status, a.json["verdict"], a.json["exit_code"]), (200, "exit", 127),
       "a program that is not there is a verdict")
    a = run(at, {"command": "sleep 300", "timeout": 0.3})
    eq((a.json["verdict"], a.json["exit_code"]), ("timeout", 124), "a time limit")
    ok(a.seconds < 60, "in time")
    a = run(at, "head -c %d /dev/zero | tr '\\0' x" % (client.conf("output_max_bytes") + 5))
    ok(a.json["truncated"] and len(a.json["stdout"]) == client.conf("output_max_bytes"),
       "a large output is cut in the answer, and says so")


def refusals(at):
    for body, what in (({}, "nothing to do"), ({"command": "x", "argv": ["x"]}, "both"),
                       ({"argv": []}, "no arguments"), ({"command": "a\0b"}, "a NUL"),
                       ({"command": "x", "timeout": -1}, "timeout"), ({"command": "x", "pty": 3}, "pty"),
                       ({"command": "x", "pty": {"rows": 0, "cols": 1}}, "rows"),
                       ({"command": "x", "env": {"a=b": "c"}}, "name of a variable"),
                       ({"command": "x", "workdir": "/no/such"}, "no such directory"),
                       ({"command": 3}, "type"), ({"command": "x", "detach": True, "stream": True}, "two ways")):
        a = run(at, body)
        ok(a.status == 422 and a.detail, "422: %s" % what, a)
    none = "/session/00000000-0000-4000-8000-000000000000"
    rid = "0" * 24
    for m, p in (("GET", none + "/runs"), ("GET", none + "/status"), ("POST", none + "/stop"),
                 ("GET", none + "/runs/" + rid), ("GET", at + "/runs/" + rid), ("GET", at + "/runs/../x"),
                 ("DELETE", at + "/runs/" + rid), ("GET", at + "/runs/" + rid + "/output"),
                 ("GET", "/session/x/status")):
        a = request(m, p)
        ok(a.status == 404, "404: %s %s" % (m, p.replace(at, "")), a)
    eq(run(none, "true").status, 404, "a run in no session")
    eq(request("POST", "%s/runs/%s/stdin" % (at, rid), b"x").status, 404, "input of no run")
    for m, p in (("GET", at + "/runs"), ("GET", at + "/status"), ("GET", "/session/"),
                 ("POST", at + "/stop"), ("GET", at + "/runs/%s/output" % rid)):
        eq(request(m, p, key=None).status, 403, "403 without the key: %s" % m)
    eq(request("POST", at + "/runs/%s/stdin" % rid, b"x", key="wrong").status, 403, "input, wrong key")
    rid = run(at, {"command": "true", "detach": True}).json["id"]
    for q in ("from=x", "from=-1", "from=1%2", "from=99999999999999999999", "wait=yes", "from=77"):
        eq(request("GET", "%s/runs/%s/output?%s" % (at, rid, q)).status, 422, "422: " + q)
    eq(request("POST", "%s/runs/%s/signal" % (at, rid), {"signal": "NOPE"}).status, 422, "422: signal")


def streams(at):
    s = Stream("POST", at + "/runs", {"command": "echo first; read x; echo second >&2; exit 4",
                                      "stdin_open": True, "stream": True})
    ev = []
    for t, e in s.events():
        ev.append((t, e))
        if e["type"] == "output" and e["stream"] == "stdout":  # as it comes: it goes on when we have read it
            eq(request("POST", "%s/runs/%s/stdin" % (at, ev[0][1]["id"]), b"go\n").status, 200, "what is put out comes at once")
    eq(s.status, 200, "a stream")
    eq([e["type"] for _, e in ev if e["type"] != "ping"], ["start", "output", "output", "exit"], "its events")
    out = [(t, e) for t, e in ev if e["type"] == "output"]
    eq([(e["stream"], e["offset"], e["next"], e["data"]) for _, e in out],
       [("stdout", 0, 6, "first\n"), ("stderr", 6, 13, "second\n")], "with their streams and offsets")
    eq((ev[-1][1]["verdict"], ev[-1][1]["exit_code"], ev[-1][1]["offset"]), ("exit", 4, 13), "the end")
    rid = ev[0][1]["id"]
    for n in range(0, 14):
        e = follow(at, rid, n)
        if text(e) != b"first\nsecond\n"[n:] or e[-1]["type"] != "exit":
            ok(False, "replay from %d" % n, e)
            break
    else:
        ok(True, "replay from each offset is byte-exact and ends with exit")
    s = Stream("GET", "%s/runs/%s/output" % (at, rid),
               headers={"Accept": "text/event-stream", "Last-Event-ID": "6"})
    raw = b"".join(s.lines()).decode()
    ok(s.headers["Content-Type"].startswith("text/event-stream"), "SSE")
    ok("id: 13\nevent: output\ndata: {" in raw and "first" not in raw and "event: exit" in raw,
       "goes on behind Last-Event-ID", raw)
    begun = first_byte(at)
    # 50 ms is what is promised; idle.py measures it, where nothing else runs.
    ok(begun < 0.5, "the first output arrives at once (median %.1f ms)" % (1000 * begun))


def first_byte(at):
    """From when the command writes to when we read it: the median, in seconds."""
    took = []
    for _ in range(7):
        s = Stream("POST", at + "/runs", {"command": "date +%s%N; sleep 3", "stream": True})
        for _, e in s.events():
            if e["type"] == "output":
                took.append(time.time() - int(e["data"]) / 1e9)
                break
        s.close()
    return sorted(took)[len(took) // 2]


def characters(at):
    e = follow(at, run(at, {"command": "printf '\\303'; sleep 0.3; printf '\\251x'; printf '\\377\\376'",
                            "detach": True}).json["id"])
    o = [x for x in e if x["type"] == "output"]
    eq(text(e), b"\xc3\xa9x\xff\xfe", "bytes are bytes")
    ok(o[0]["data"].startswith("\u00e9x") if "encoding" not in o[0] else len(o) == 1,
       "a character that comes in two halves is not split", o)
    e = follow(at, run(at, {"command": "i=0; while [ $i -lt 3000 ]; do printf '\\342\\202\\254'; i=$((i+1)); done",
                            "detach": True}).json["id"])
    ok(text(e).decode() == "\u20ac" * 3000 and not [x for x in e if "encoding" in x],
       "long text of long characters is text all the way", e[:3])


def not_there(_):
    """A sandbox that is not live ends with its last run: nobody may meet its end in place of the verdict."""
    at = "/session/" + client.create()
    got = [(a.status, (a.json or {}).get("exit_code")) for a in (run(at, {"argv": ["/bin/no-such-program"]}) for _ in range(60))]
    eq(sorted(set(got)), [(200, 127)], "a program that is not there, each of 60 times")
    client.delete(at[len("/session/"):])


def inputs(at):
    rid = run(at, {"command": "while read x; do echo got $x; done; echo end", "stdin_open": True,
                   "stdin": "zero\n", "detach": True}).json["id"]
    p = "%s/runs/%s" % (at, rid)
    eq(request("POST", p + "/stdin?eof=perhaps", b"lost\n").status, 422, "neither yes nor no: nothing is written")
    eq(request("POST", p + "/stdin?eof=false", b"one\n").json, {"written": 4}, "raw bytes")
    eq(request("POST", p + "/stdin", {"data": "two\n", "eof": False}).json, {"written": 4}, "JSON")
    eq(request("POST", p + "/stdin?eof=true", b"").json, {"written": 0}, "and the end")
    e = follow(at, rid)
    eq(text(e, "stdout"), b"got zero\ngot one\ngot two\nend\n", "the command read them")
    a = request("POST", p + "/stdin", b"late\n")
    eq((a.status, a.json.get("written")), (409, 0), "a run that has ended takes none")
    rid = run(at, {"command": "sleep 300", "stdin_open": True, "detach": True}).json["id"]
    a = request("POST", "%s/runs/%s/stdin" % (at, rid), b"x" * 300000)
    ok(a.status == 409 and 32768 < a.json["written"] <= 98304, "one that does not read: told how much it took", a)
    request("DELETE", "%s/runs/%s" % (at, rid))


def terminal(at):
    if not request("GET", "/system/").json["capabilities"]["terminal"]:
        a = run(at, {"command": "true", "pty": {"rows": 30, "cols": 90}})
        ok(a.status == 422 and "terminal" in a.body.decode() and "capability" in a.body.decode(),
           "no terminal: refused with the capability's name", a)
        return
    rid = run(at, {"command": "stty size; read x; stty size; echo got $x", "pty": {"rows": 30, "cols": 90},
                   "detach": True}).json["id"]
    p = "%s/runs/%s" % (at, rid)
    eq(request("POST", p + "/resize", {"rows": 40, "cols": 100}).status, 204, "resize")
    request("POST", p + "/stdin", b"typed\n")
    t = text(follow(at, rid), "output")
    ok(b"got typed\r\n" in t and b"40 100" in t, "a terminal: size and input", t)
    eq(request("POST", p + "/resize", {"rows": 40, "cols": 0}).status, 422, "resize to nothing")


def control(at):
    rid = run(at, {"command": "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done",
                   "detach": True}).json["id"]
    p = "%s/runs/%s" % (at, rid)
    s = request("GET", at + "/status")
    ok(s.json["state"] == "running" and rid in s.json["runs_in_progress"] and s.json["runs"] >= 1
       and s.json["live"], "the status names it", s)
    eq(request("GET", p + "/wait?timeout=0").json["state"], "running", "wait for no time")
    while not request("GET", p).json["output"]["end_offset"]:
        time.sleep(0.05)
    eq(request("POST", p + "/signal", {"signal": "TERM"}).status, 204, "signal")
    a = request("GET", p + "/wait?timeout=60")
    eq((a.json["state"], a.json["verdict"], a.json["exit_code"]), ("ended", "exit", 9), "wait: the end")
    eq(request("POST", p + "/signal", {"signal": 15}).status, 409, "a signal that comes too late")
    rid = run(at, {"command": "sleep 100", "detach": True}).json["id"]
    p = "%s/runs/%s" % (at, rid)
    request("POST", p + "/signal", {"signal": "SIGKILL"})
    eq(request("GET", p + "/wait").json["verdict"], "killed", "killed by the API")
    rid = run(at, {"command": "sleep 100 & setsid sleep 100 & wait", "detach": True}).json["id"]
    eq(request("DELETE", "%s/runs/%s" % (at, rid)).status, 204, "delete")
    eq(request("GET", "%s/runs/%s" % (at, rid)).status, 404, "it is forgotten")
    LOOK = "ls /proc | grep -c '^[0-9]'; grep -l ^sleep.100 /proc/[0-9]*/cmdline; true"
    ok(client.wait_for(lambda: "cmdline" not in run(at, LOOK).json["stdout"], 30), "and its processes are gone", run(at, LOOK))


def live(at):
    run(at, "sleep 321 & echo $! > /tmp/bg; disown -a; until grep -qx sleep /proc/$!/comm; do sleep 0.02; done")
    a = request("POST", at + "/", {"commands": ["cat /proc/$(cat /tmp/bg)/comm", "sleep 300"], "timeout": 3})
    eq((a.status, a.json["results"][0]["output"], a.json["results"][1]["exit_code"]), (200, "sleep\n", 124),
       "the other API runs in the live sandbox, with its own limits")
    eq(run(at, "cat /proc/$(cat /tmp/bg)/comm").json["stdout"], "sleep\n", "whose processes live on")
    rid = run(at, {"command": "sleep 50", "detach": True}).json["id"]
    a = request("POST", at + "/", {"commands": ["true"], "archive": archive()})
    eq(a.status, 409, "files are not replaced under a run")
    eq(request("POST", at + "/stop").status, 204, "stop")
    eq(request("GET", "%s/runs/%s" % (at, rid)).json["verdict"], "killed", "what ran was killed")
    s = request("GET", at + "/status/").json
    eq((s["state"], s["runs"]), ("stopped", 0), "the session is stopped")
    a = run(at, "cat /proc/$(cat /tmp/bg)/comm; echo $?")
    ok("sleep" not in a.json["stdout"], "its next sandbox has the files and not the processes", a)
    a = request("POST", at + "/", {"commands": ["cat f"], "archive": archive()})
    eq(a.json["results"][0]["output"], "x", "an archive, when nothing runs")
    one = session(live=False)
    eq(run(one, "echo x").json["stdout"], "x\n", "a run in a session that was not made live")
    client.wait_for(lambda: request("GET", one + "/status").json["state"] == "stopped", 60)
    s = request("GET", one + "/status").json
    eq((s["state"], s["live"]), ("stopped", False), "whose sandbox ends with its last run")
    seen, after = [], ""
    while after is not None:
        page = request("GET", "/session/?limit=1&after=" + after).json
        seen += [x["session_id"] for x in page["sessions"]]
        after = page["next"]
    ok(at[9:] in seen and one[9:] in seen and seen == sorted(seen), "sessions are listed, page by page", seen)
    eq(request("DELETE", one + "/").status, 204, "delete")


def archive():
    import io
    import tarfile
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w") as t:
        i = tarfile.TarInfo("f")
        i.size = 1
        t.addfile(i, io.BytesIO(b"x"))
    return base64.b64encode(b.getvalue()).decode()


def expiry(at):
    rid = run(at, {"command": "head -c %d /dev/zero | tr '\\0' x; echo end" % (3 * SPOOL), "detach": True}).json["id"]
    g = request("GET", "%s/runs/%s/wait" % (at, rid)).json
    eq((g["verdict"], g["output"]["end_offset"], g["output"]["first_offset"]), ("ok", 3 * SPOOL + 4, 2 * SPOOL + 4),
       "an endless writer is not held up; the last of it is kept")
    a = request("GET", "%s/runs/%s/output?from=5" % (at, rid))
    eq((a.status, a.json["first_offset"]), (410, 2 * SPOOL + 4), "an offset that has expired says so")
    ok(a.detail, "in the shape of errors")
    e = follow(at, rid, 2 * SPOOL + 4)
    ok(len(text(e)) == SPOOL and text(e).endswith(b"xend\n") and e[-1]["type"] == "exit", "the rest is there")


def together(at):
    got = []
    # Each waits for all the others: one after the other they would not end. What a web server starts itself has one request at a
    # time, and it may put two behind each other.
    others = 1 if client.SELF_STARTING else 12

    def one(i):
        a = run(at, "touch /tmp/in%d; until [ $(ls /tmp/in* | wc -l) -ge %d ]; do sleep 0.1; done; echo %d" % (i, others, i))
        got.append(a.status == 200 and a.json["stdout"] == "%d\n" % i)
    request("POST", at + "/stop") # the first starts the sandbox, the others wait for it
    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ok(got == [True] * 12, "twelve runs at once", got)


def main():
    at = session()
    parts = [results, not_there, refusals, streams, characters, inputs, terminal, control, expiry, together, live]
    for part in parts:
        if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
            part(at)
    eq(request("DELETE", at + "/").status, 204, "delete a live session")
    eq(request("GET", at + "/status").status, 404, "and it is gone")
    client.done()


if __name__ == "__main__":
    main()
