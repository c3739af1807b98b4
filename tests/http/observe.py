#!/usr/bin/python3
"""Request ids, the access log, GET /-/metrics: form, rights, exact numbers, nothing of a tenant in them."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import client
from client import KEY, PREFIX, SELF_STARTING, STATE, URL, create, delete, eq, ok, request, run, skip, wait_for

LOG = os.environ.get("CGIBOX_ACCESS_LOG", "")
FIELDS = ["time", "id", "method", "route", "status", "bytes_in", "bytes_out", "ms", "session", "verdicts", "cut", "pid"]
SECRET = "tenant-secret-7f3a"
SLEEP = client.some_seconds()
if not LOG.startswith("/"):
    skip("CGIBOX_ACCESS_LOG names no file")
    client.done()


def lines(path=LOG):
    try:
        with open(path, "rb") as f:
            return f.read().rpartition(b"\n")[0].splitlines()  # the last one may be on its way
    except FileNotFoundError:
        return []


def entries(id_, path=LOG):
    return [json.loads(x) for x in lines(path) if json.loads(x)["id"] == id_]


def entry(id_):
    """The line of a request: it is there before the connection ends, mod_fcgid and proxies apart."""
    got = wait_for(lambda: entries(id_), 60)
    ok(len(got) == 1, "one line for request %s" % id_[:70], got)
    return got[0] if got else {}


def scrape(**more):
    return request("GET", "/-/metrics", **more)


def metrics():
    """(name, labels) -> value, by the reference parser where there is one."""
    text = scrape().body.decode()
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        out = {}
        for line in text.splitlines():
            m = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
            if m:
                out[m[1], tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or "")))] = float(m[3])
        return out
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for f in text_string_to_metric_families(text) for s in f.samples}


def value(m, name, **labels):
    return m.get(("cgibox_" + name, tuple(sorted(labels.items()))), 0)


def raw(head, body=b""):
    """One request as bytes, for headers that http.client refuses. The status line and headers."""
    at = urllib.parse.urlsplit(URL)
    with socket.create_connection((at.hostname, at.port), 30) as s:
        s.sendall(head.replace(b"\n", b"\r\n") + b"\r\n" + body)
        got = b""
        while b"\r\n\r\n" not in got:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    return got.decode("latin-1")


# --- ids -----------------------------------------------------------------------------------------
for good in ("abc", "A-b_c.9", "0" * 64):
    a = request("GET", "/-/version/", headers={"X-Request-Id": good})
    eq(a.headers["X-Request-Id"], good, "a safe token is kept: %s" % good[:8])
    entry(good)
for bad in ("a b", "x" * 65, 'a"b', "a\\b", '{"id":"forged"}', "a\tb", "../x", "a;b", "%0a", "caf\xe9"):
    a = request("GET", "/-/version/", headers={"X-Request-Id": bad})
    if a.status == 400:  # by the web server
        continue
    ok(re.fullmatch("[0-9a-f]{16}", a.headers["X-Request-Id"]), "another is not: %r" % bad[:20], a.headers["X-Request-Id"])
    entry(a.headers["X-Request-Id"])
a, b = request("GET", "/-/version/"), request("GET", "/-/version/")
ok(a.headers["X-Request-Id"] != b.headers["X-Request-Id"], "ids of ours differ")

# --- hostile bytes -------------------------------------------------------------------------------
host = b"Host: x\nConnection: close\n"
for n, head in enumerate((
        b"GET /" + SECRET.encode() + b"/%0a%7b%22id%22:1%7d HTTP/1.1\n" + host,
        b"GET /session/%1b[31m" + SECRET.encode() + b"/ HTTP/1.1\n" + host,
        b"POST /session/%22,%22x%22:%22" + SECRET.encode() + b"/ HTTP/1.1\nContent-Length: 0\n" + host,
        b"GET /-/version/?" + SECRET.encode() + b"\xff\xfe HTTP/1.1\n" + host,
        b"GET /-/version/ HTTP/1.1\nX-Request-Id: " + SECRET.encode() + b"\x0b{\"id\":\"forged\"}\n" + host,
        b"GET /-/version/ HTTP/1.1\nX-Request-Id: " + SECRET.encode() + b" \xff\n" + host,
        b"GET /-/version/ HTTP/1.1\nUser-Agent: \x1b]0;" + SECRET.encode() + b"\n" + host)):
    raw(head)
sid = create(environment={"SECRET": SECRET})
a = run(sid, ["echo " + SECRET, "exit 3"])
eq(a.status, 200, "a run with a secret in it")
last = entry(a.headers["X-Request-Id"])
eq(list(last), FIELDS, "fields of a line")
eq((last.get("method"), last.get("route"), last.get("status"), last.get("session"), last.get("verdicts")),
   ("POST", "/session/{id}/", 200, sid, {"ok": 1, "exit": 1}), "what they say")
eq((last.get("bytes_out"), last.get("cut")), (len(a.body), False), "bytes of the answer")
ok(last.get("bytes_in", 0) > 20 and 0 < last.get("ms", 0) < 60000, "bytes of the body, and its time", last)
ok(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", last.get("time", "")), "time", last)
whole = b"\n".join(lines())
ok(SECRET.encode() not in whole and b"forged" not in whole, "no line holds what a client sent")
ok(all(0x20 <= c < 0x7f for c in whole if c != 10), "every byte is printable ASCII")
ok(all(list(json.loads(x)) == FIELDS for x in lines()), "every line is one object of the same form")

# --- every request has one line ------------------------------------------------------------------
names = ["burst-%d" % i for i in range(200)]


def burst(mine):
    for name in mine:
        request("GET", "/-/version/", headers={"X-Request-Id": name})


def in_threads(fn, n=8):
    t = [threading.Thread(target=fn, args=(i,)) for i in range(n)]
    for x in t:
        x.start()
    for x in t:
        x.join()


before = metrics()
in_threads(lambda i: burst(names[i::8]))
wait_for(lambda: sum(x.count(b'"burst-') for x in lines()) >= len(names), 60)
seen = [json.loads(x)["id"] for x in lines() if b'"burst-' in x]
eq(sorted(seen), sorted(names), "200 requests of 8 threads: a line each")
after = wait_for(lambda: [m for m in [metrics()] if value(m, "http_requests_total", method="GET", route="/-/version/",
                                                         status="200") -
                 value(before, "http_requests_total", method="GET", route="/-/version/", status="200") >= 200], 60)
after = after[0] if after else metrics()
version = dict(method="GET", route="/-/version/")
eq(value(after, "http_requests_total", status="200", **version) -
   value(before, "http_requests_total", status="200", **version), 200, "and each is counted")
eq(value(after, "http_request_duration_seconds_count", **version) -
   value(before, "http_request_duration_seconds_count", **version), 200, "in the histogram, too")

# --- the file is renamed, as logrotate does it ---------------------------------------------------
os.rename(LOG, LOG + ".1")
old = len(lines(LOG + ".1"))


def rotated():
    request("GET", "/-/version/", headers={"X-Request-Id": "rot-%d" % len(rot)})
    rot.append(1)
    return os.path.exists(LOG) and len(lines()) > 0


rot = []
ok(wait_for(rotated, 60, 0.1), "a renamed file is followed by a new one")
in_threads(lambda i: request("GET", "/-/version/", headers={"X-Request-Id": "rot-t%d" % i}))
rot_names = ["rot-%d" % i for i in range(len(rot))] + ["rot-t%d" % i for i in range(8)]
wait_for(lambda: len([x for p in (LOG, LOG + ".1") for x in lines(p) if b'"rot-' in x]) >= len(rot_names), 60)
eq(sorted(json.loads(x)["id"] for p in (LOG, LOG + ".1") for x in lines(p) if b'"rot-' in x), sorted(rot_names),
   "no line is lost between them")

# --- metrics: rights -----------------------------------------------------------------------------
eq(scrape(key=None).status, 403, "metrics without a key")
eq(scrape(key="wrong").status, 403, "with a wrong one")
eq(scrape(key=None, headers={"Authorization": "Bearer wrong"}).status, 403, "with a wrong token")
eq(scrape(key=None, headers={"X-Forwarded-For": "127.0.0.1"}).status, 403, "loopback is nobody by itself")
a = scrape()
eq((a.status, a.headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"), "with the key")
eq(scrape(key=None, headers={"Authorization": "Bearer " + KEY}).status, 200, "a token, as Prometheus sends it")
eq(request("GET", "/api/v1/-/metrics/", key="metrics-only-key").status, 200, "the key for metrics alone")
eq(request("GET", "/system/", key="metrics-only-key").status, 403, "opens nothing else")
eq(request("DELETE", "/session/%s/" % sid, key="metrics-only-key").status, 403, "and changes nothing")
eq(request("GET", "/system/", key=None, headers={"Authorization": "Bearer " + KEY}).status, 403, "tokens are for metrics alone")
eq(request("POST", "/-/metrics").status, 405, "POST")

# --- metrics: the form ---------------------------------------------------------------------------
text = a.body.decode()
try:
    from prometheus_client.parser import text_string_to_metric_families
    read = list(text_string_to_metric_families(text))
    families = {f.name: f for f in read}
    eq(len(read), len(families), "no family is there twice, also where names lose their _total")
    ok(len(families) > 25, "the reference parser reads %d families" % len(families))
    ok(all(f.documentation and f.type in ("counter", "gauge", "histogram") for f in families.values()),
       "all have a text and a type")
    for f in families.values():
        if f.type != "histogram":
            continue
        rows = {}
        for s in f.samples:
            key = tuple(sorted((k, v) for k, v in s.labels.items() if k != "le"))
            rows.setdefault(key, {}).setdefault(s.name[len(f.name):], []).append((s.labels.get("le"), s.value))
        for r in rows.values():
            counts = [v for _, v in r["_bucket"]]
            if counts != sorted(counts) or r["_bucket"][-1] != ("+Inf", r["_count"][0][1]) or "_sum" not in r:
                ok(False, "histogram %s" % f.name, r)
    labels = {v for f in families.values() for s in f.samples for k, v in s.labels.items() if k != "le"}
    ok(all(re.fullmatch(r"[\w/{}.-]+", v) for v in labels), "labels are plain words", sorted(labels))
except ImportError:
    skip("python3-prometheus-client is not installed")
if shutil.which("promtool"):
    p = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    eq((p.returncode, p.stderr), (0, ""), "promtool check metrics")
else:
    skip("promtool (package prometheus) is not installed")
for word in (SECRET, sid, "tenant", KEY):
    ok(word not in text, "no %r in it" % word[:6])

# --- metrics: the numbers ------------------------------------------------------------------------
m = metrics()
eq(value(m, "up"), 1, "up")
eq(value(m, "build_info", version=request("GET", "/-/version/").json["version"][1:], backend=client.BACKEND), 1, "build")
ok(value(m, "sessions") >= 1, "sessions")
ok(value(m, "workers", state="busy") >= 1, "the worker that answers is busy")
ok(value(m, "disk_bytes") > value(m, "disk_free_bytes") > 0, "disk")
ok(1 << 20 < value(m, "service_memory_bytes") < 1 << 30, "memory of the service", value(m, "service_memory_bytes"))
ok(value(m, "machine_memory_bytes") > value(m, "machine_memory_available_bytes") > 0, "memory of the machine")
RUNS = 5
RUN_ROUTE = dict(method="POST", route="/session/{id}/")
before = metrics()
sids = [create() for _ in range(4)]
in_threads(lambda i: [run(sids[i], ["true", "false", "kill -9 $$"]) for _ in range(RUNS)], 4)
for s in sids:
    delete(s)


def counted():
    now = metrics()
    return value(now, "http_requests_total", status="200", **RUN_ROUTE) - \
        value(before, "http_requests_total", status="200", **RUN_ROUTE) >= 4 * RUNS and now


after = wait_for(counted, 60) or metrics()
for v in ("ok", "exit", "signal"):
    eq(value(after, "runs_total", verdict=v) - value(before, "runs_total", verdict=v), 4 * RUNS, "runs: " + v)
eq(value(after, "run_duration_seconds_count") - value(before, "run_duration_seconds_count"), 12 * RUNS, "runs in the histogram")
eq(value(after, "sandbox_ready_seconds_count") - value(before, "sandbox_ready_seconds_count"), 4 * RUNS, "sandboxes")
eq(value(after, "http_requests_total", status="200", **RUN_ROUTE) -
   value(before, "http_requests_total", status="200", **RUN_ROUTE), 4 * RUNS, "requests")
ok(value(after, "queue_wait_seconds_count") > value(before, "queue_wait_seconds_count"), "waits for a worker")
one = create()
for _ in range(8):  # who comes second waits; on a busy machine the first may be over by then
    before = metrics()
    t = threading.Thread(target=run, args=(one, ["sleep 1.5"]))
    t.start()
    time.sleep(0.3)
    run(one, ["true"])
    t.join()
    after = metrics()
    if value(after, "session_lock_wait_seconds_count") > value(before, "session_lock_wait_seconds_count"):
        break
eq(value(after, "session_lock_wait_seconds_count") - value(before, "session_lock_wait_seconds_count"), 1, "a wait for a session")
ok(0 < value(after, "session_lock_wait_seconds_sum") - value(before, "session_lock_wait_seconds_sum") < 5, "and its length")

# --- a worker dies -------------------------------------------------------------------------------
lost = []


def doomed():
    lost.append(request("POST", "/session/%s/" % one, {"commands": ["sleep " + SLEEP], "timeout": 600}, headers={"X-Request-Id": "doomed-1"}))


def workers():
    return {p for p, v in client.processes().items() if v[2] == "cgibox-worker" and STATE in client.cmdline(p)}


before = metrics()
t = threading.Thread(target=doomed)
t.start()
ok(client.sleeping(SLEEP) and wait_for(lambda: value(metrics(), "workers", state="busy") >= 2, 60), "two workers are busy")
for p in workers():
    os.kill(p, signal.SIGKILL)
t.join()
ok(lost[0].status in (500, 502, 503), "its client hears of it", lost[0])
wait_for(lambda: request("GET", "/-/health/").status == 200, 60)
last = entry("doomed-1")
eq((last.get("route"), last.get("session"), last.get("verdicts"), last.get("status")),
   ("/session/{id}/", one, {"interrupted": 1}, 503), "a line for what the dead worker was at")
wait_for(lambda: value(metrics(), "runs_total", verdict="interrupted") > value(before, "runs_total", verdict="interrupted"), 60)
after = metrics()
if not SELF_STARTING:
    ok(value(after, "process_deaths_total", process="worker") > value(before, "process_deaths_total", process="worker"), "deaths are counted")
eq(value(after, "runs_total", verdict="interrupted") - value(before, "runs_total", verdict="interrupted"), 1, "the command is counted")
less = [k for k, v in before.items() if k[0].endswith(("_total", "_count", "_sum", "_bucket")) and after.get(k, 0) < v]
eq(less, [], "no counter lost anything")

# --- a sandbox that has ended is nobody's to end ------------------------------------------------------
def ancestor(pid, comm):
    """The nearest process of that name above it, or None."""
    all_of_them = client.processes()
    while pid in all_of_them and all_of_them[pid][2] != comm:
        pid = all_of_them[pid][0]
    return pid if pid in all_of_them else None


def sleeps(pid):
    with open("/proc/%d/status" % pid) as f:
        return int([x for x in f if x.startswith("voluntary_ctxt_switches")][0].split()[1])


# The last command of a call ends pid 1, before the worker has rendered its output and hung up: here a worker that is stopped
# meanwhile, beside a watchdog that only then hears of the sandbox, and finds nothing to measure.
watchdogs = [p for p, v in client.processes().items() if v[2] == "cgibox-watch" and STATE in client.cmdline(p)]
if watchdogs and not SELF_STARTING and client.BACKEND == "isolate":
    before, answers, short = metrics(), [], "10.%d" % os.getpid()  # long enough to be found on a busy machine
    for p in watchdogs:
        os.kill(p, signal.SIGSTOP)
    t = threading.Thread(target=lambda: answers.append(run(one, "sleep " + short)))
    t.start()
    found = wait_for(lambda: client.sleepers(short), 60)
    init, busy = ancestor(found[0], "init") if found else None, workers()
    for p in busy:
        os.kill(p, signal.SIGSTOP)
    ok(init and wait_for(lambda: init not in client.processes(), 60), "pid 1 ends with the last command", init)
    was = {p: sleeps(p) for p in watchdogs}
    for p in watchdogs:
        os.kill(p, signal.SIGCONT)
    wait_for(lambda: all(sleeps(p) > n + 1 for p, n in was.items()), 60)
    for p in busy:
        os.kill(p, signal.SIGCONT)
    t.join()
    eq([x["exit_code"] for x in answers[0].json["results"]], [0], "the command has its own end")
    after = metrics()
    eq([k for k in after if k[0] == "cgibox_watchdog_kills_total" and after[k] != before.get(k, 0)], [], "the watchdog ended nobody")

# --- errors are found by the id ------------------------------------------------------------------
service_log = os.path.join(STATE, "web/service.log")
if os.path.exists(service_log):
    a = request("POST", "/session/%s/" % one, b'{"commands": ["' + b"x" * 2000000 + b'"]}',
                headers={"X-Request-Id": "too-large-1", "Content-Type": "application/json"})
    eq(a.status, 413, "too large a body")
    ok(wait_for(lambda: b"request too-large-1:" in open(service_log, "rb").read(), 60), "the error's line has its id")
for s in (one, sid):
    delete(s)
client.done()
