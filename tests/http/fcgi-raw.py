#!/usr/bin/python3
"""Raw FastCGI against cgibox.fcgi itself: broken, slow, cut and flooding peers, and dead processes.

Starts the program of CGIBOX_FCGI (default build/cgibox.fcgi) on a socket in a temporary state
directory, with small limits, and on another one, with much time for those who are slow: there what is closed at once is told from
what is closed in time, however busy the machine is. As root it becomes unused users first.
"""
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import time

import client
from client import eq, ok, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("CGIBOX_FCGI", os.path.join(HERE, "../../build/cgibox.fcgi"))
TOP = tempfile.mkdtemp(prefix="cgibox-raw.")
os.chmod(TOP, 0o755)
UID = 200000 + os.getpid() % 100000 if os.getuid() == 0 else os.getuid()
KEY = "raw-" + os.urandom(12).hex()
PARAMS_S, RECEIVE_S, REQUEST_S = 1.0, 1.5, 3.0
LIMITS = {"PARAMS_TIMEOUT_MS": 1000, "RECEIVE_TIMEOUT_MS": 1500, "REQUEST_TIMEOUT_MS": 3000,
          "PARAMS_MAX_BYTES": 8192, "BODY_MAX_BYTES": 262144, "WORKERS_MIN": 2, "WORKERS_MAX": 6,
          "WORKER_IDLE_S": 1, "WORKERS_RESERVED": 2, "STREAMS_MAX": 2}
BEGIN, ABORT, END, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6
GET_VALUES, VALUES, UNKNOWN = 9, 10, 11
SLACK = 15.0  # seconds that a loaded machine may be late
PATIENT_S = 50.0
PATIENT = dict.fromkeys(("PARAMS_TIMEOUT_MS", "RECEIVE_TIMEOUT_MS", "REQUEST_TIMEOUT_MS"), int(1000 * PATIENT_S))
AT_ONCE_S = 40.0  # less than that, more than a busy machine needs


# --- records ---

def rec(kind, data=b"", rid=1, version=1, length=None, padding=0):
    n = len(data) if length is None else length
    return struct.pack(">BBHHBB", version, kind, rid, n, padding, 0) + data + b"\0" * padding


def size(n):
    return bytes([n]) if n < 128 else struct.pack(">I", n | 1 << 31)


def pair(name, value):
    name, value = (x if isinstance(x, bytes) else x.encode() for x in (name, value))
    return size(len(name)) + size(len(value)) + name + value


def begin(role=1, rid=1):
    return rec(BEGIN, struct.pack(">HB5x", role, 0), rid)


def pairs(without=(), extra=b"", **values):
    p = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/-/health/", "SERVER_PROTOCOL": "HTTP/1.1",
         "CONTENT_LENGTH": "", "REMOTE_ADDR": "127.0.0.1"}
    p.update(values)
    return b"".join(pair(k, v) for k, v in p.items() if k not in without) + extra


def params(raw=None, rid=1, **values):
    raw = pairs(**values) if raw is None else raw
    return b"".join(rec(PARAMS, raw[i:i + 60000], rid) for i in range(0, len(raw), 60000)) + \
        rec(PARAMS, b"", rid)


def body(data=b"", rid=1):
    return b"".join(rec(STDIN, data[i:i + 60000], rid) for i in range(0, len(data), 60000)) + \
        rec(STDIN, b"", rid)


def post(path, data, announced=None):
    n = len(data) if announced is None else announced
    return begin() + params(REQUEST_METHOD="POST", REQUEST_URI=path, CONTENT_LENGTH=str(n),
                            CONTENT_TYPE="application/json", HTTP_X_API_KEY=KEY)


class Reply:
    """What came back: records, and how it ended."""

    def __init__(self, raw, closed, seconds):
        self.raw, self.closed, self.seconds, self.records = raw, closed, seconds, []
        while len(raw) >= 8:
            _, kind, rid, n, padding, _ = struct.unpack(">BBHHBB", raw[:8])
            self.records.append((kind, rid, raw[8:8 + n]))
            raw = raw[8 + n + padding:]
        out = b"".join(d for k, _, d in self.records if k == STDOUT)
        head, _, self.body = out.partition(b"\r\n\r\n")
        self.status = int(head[8:11]) if head.startswith(b"Status: ") else None
        ends = [d for k, _, d in self.records if k == END]
        self.ended = len(ends)
        self.protocol = ends[0][4] if ends else None

    def kinds(self):
        return [k for k, _, _ in self.records]

    def __repr__(self):
        return "%s closed=%s %.2f s %r" % (self.kinds(), self.closed, self.seconds, self.raw[:600])


def connect(timeout=60):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(service.sock)
    return s


def put(s, data):
    """Sends; a peer that refused already is no news here."""
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


def collect(s, since=None, until_end=False):
    since = time.monotonic() if since is None else since
    out, closed = b"", True
    try:
        while True:
            d = s.recv(65536)
            if not d:
                break
            out += d
            if until_end and Reply(out, False, 0).ended:
                closed = False
                break
    except socket.timeout:
        closed = False
    except OSError:
        pass
    s.close()
    return Reply(out, closed, time.monotonic() - since)


def talk(data, half=False, timeout=60):
    since = time.monotonic()
    s = connect(timeout)
    put(s, data)
    if half:
        s.shutdown(socket.SHUT_WR)
    return collect(s, since)


def drip(first, pieces, gap=0.05):
    """Sends pieces slowly, until the service answers or closes."""
    since = time.monotonic()
    s = connect(gap)
    put(s, first)
    out, closed = b"", False
    for p in pieces:
        if not put(s, p):
            # Closed since we last looked: what it said before is still to be read.
            s.settimeout(60)
            rest = collect(s)
            out, closed = out + rest.raw, rest.closed
            break
        try:
            d = s.recv(65536)
            closed = not d
            out += d
        except socket.timeout:
            pass
        except OSError:
            closed = True
        if closed or Reply(out, False, 0).ended:
            break
    s.close()
    return Reply(out, closed or bool(out), time.monotonic() - since)


HEALTH = begin() + params() + body()


def healthy(what, within=AT_ONCE_S):
    r = talk(HEALTH)
    return ok(r.status == 200 and r.ended == 1 and r.seconds < within,
              "a normal request is answered: " + what, r)


def api(path, what, timeout=120):
    data = json.dumps(what).encode()
    s = connect(timeout)
    since = time.monotonic()
    put(s, post(path, data) + body(data))
    return collect(s, since)


def session():
    r = api("/session/", {"base_image": "host"})
    try:
        return json.loads(r.body)["session_id"]
    except (ValueError, KeyError, TypeError):
        ok(False, "a session can be made", r)
        finish()


def run(sid, command, timeout=120):
    return api("/session/%s/" % sid, {"commands": [command]}, timeout)


def background(count, what, *args):
    """Runs what(*args) in threads; a function that gives all results."""
    results = [None] * count

    def one(i):
        try:
            results[i] = what(*args)
        except OSError as e:
            results[i] = Reply(repr(e).encode(), True, 0)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()

    def wait():
        for t in threads:
            t.join(150)
        return results
    return wait


# --- the service ---

class Service:
    started = []

    def __init__(self, name, uid=UID, **limits):
        self.uid = uid
        self.state = os.path.join(TOP, name)
        os.mkdir(self.state, 0o755)
        os.chown(self.state, uid, uid if os.getuid() == 0 else -1)
        self.sock = os.path.join(self.state, "cgibox.sock")
        self.log = os.path.join(TOP, name + ".log")
        self.env = {"PATH": "/usr/bin:/bin", "CGIBOX_API_KEY": KEY}
        self.env.update(("CGIBOX_" + k, str(v)) for k, v in dict(LIMITS, **limits).items())
        self.proc = None
        self.seen = set()

    def start(self, before=()):
        drop = []
        if os.getuid() == 0:
            drop = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups",
                    "--inh-caps=-all", "--"]
        Service.started.append(self)
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen([*before, *drop, TOP + "/cgibox.fcgi", "--state", self.state],
                                         env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, cwd="/")
        return self

    def ready(self):
        def answers():
            if self.proc.poll() is not None:
                return True
            try:
                return talk(HEALTH).status == 200
            except OSError:
                return False
        wait_for(answers, 120)
        return self.proc.poll() is None

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def all(self):
        """pids of everything that belongs to it, the sandboxes too."""
        found = client.processes()
        if os.getuid() == 0:
            return {p for p, v in found.items() if v[1] == self.uid}
        # The uid is ours, too: by name, by descent, and whatever was seen before and is orphaned now.
        mine = {p for p in found if p in self.seen or self.state in client.cmdline(p)}
        more = mine
        while more:
            more = {p for p, v in found.items() if v[0] in more} - mine
            mine |= more
        self.seen |= mine
        return mine

    def main(self):
        found = client.processes()
        mine = [p for p, v in found.items() if v[0] == self.proc.pid]
        return mine[0] if mine else 0

    def workers(self):
        main = self.main()
        return sorted(p for p, v in client.processes().items()
                      if main and v[0] == main and v[2] != "cgibox-keeper")

    def settled(self, count):
        return wait_for(lambda: len(self.workers()) == count, 60)

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(60)
            except subprocess.TimeoutExpired:
                self.proc.kill()
        wait_for(lambda: not self.all(), 60)
        for p in self.all():
            os.kill(p, signal.SIGKILL)


@contextlib.contextmanager
def at(other):
    """What is connected to meanwhile."""
    global service
    whole, service = service, other
    yield
    service = whole


def finish():
    for s in Service.started:
        s.stop()
    bad = [x for s in Service.started for x in s.text().splitlines() if "Sanitizer" in x or "runtime error" in x]
    ok(not bad, "no sanitizer complains", "\n".join(bad[:20]))
    if client._failed:
        for s in Service.started:
            client.note("\n".join(s.text().splitlines()[-15:]))
    shutil.rmtree(TOP, ignore_errors=True)
    client.done()


# --- tests ---

def test_start():
    mode = os.lstat(service.sock).st_mode
    ok(stat.S_ISSOCK(mode), "the socket is one")
    eq(stat.S_IMODE(mode), 0o660, "its mode is 0660")
    healthy("control")
    other = Service("occupied")
    with open(other.sock, "w") as f:
        f.write("mine")
    other.start()
    try:
        code = other.proc.wait(120)
    except subprocess.TimeoutExpired:
        code = None
        other.proc.kill()
    ok(code not in (0, None), "a file in the socket's place: the service does not start", code)
    ok("not a socket" in other.text(), "and says why", other.text())
    with open(other.sock) as f:
        eq(f.read(), "mine", "and leaves the file alone")


def test_cut():
    for name, data in (("half a header", b"\1\1\0"), ("half a BEGIN", begin()[:12]),
                       ("BEGIN alone", begin()), ("half a PARAMS header", begin() + b"\1\4\0"),
                       ("half of PARAMS", begin() + rec(PARAMS, pairs())[:-9]),
                       ("PARAMS that never end", begin() + rec(PARAMS, pairs()))):
        with at(patient):
            r = talk(data, half=True)
        ok(r.closed and not r.records and r.seconds < AT_ONCE_S,
           "%s, then the end of input: closed at once without a word" % name, r)
        r = talk(data)
        ok(r.closed and not r.records and PARAMS_S * 0.8 <= r.seconds < PARAMS_S * 2 + SLACK,
           "%s, then silence: closed in time without a word" % name, r)
    r = talk(HEALTH[:-8], half=True)
    eq(r.status, 400, "a request without the end of STDIN is cut short")
    raw = pairs(HTTP_LONG="x" * 500)
    r = drip(begin() + rec(PARAMS, b"", length=len(raw))[:8], [raw[i:i + 1] for i in range(len(raw))])
    ok(r.closed and not r.records and PARAMS_S * 0.8 <= r.seconds < PARAMS_S + SLACK,
       "dripped parameters are cut at the deadline", r)
    r = drip(begin(), [rec(PARAMS, raw[i:i + 1]) for i in range(len(raw))])
    ok(r.closed and not r.records and PARAMS_S * 0.8 <= r.seconds < PARAMS_S + SLACK,
       "so are records of one byte", r)
    with at(patient):
        r = drip(begin(), [rec(PARAMS, raw[i:i + 20]) for i in range(0, len(raw), 20)] +
                 [rec(PARAMS), rec(STDIN)] + [b""] * 2000, gap=0.02)
    eq(r.status, 200, "control: slow, but in time")
    healthy("after cut ones")


def test_body():
    r = drip(post("/session/", b" " * 1000), [rec(STDIN, b" ")] * 600)
    ok(r.status == 400 and REQUEST_S * 0.8 <= r.seconds < REQUEST_S + SLACK,
       "a dripped body is cut at request_timeout and answered with 400", r)
    r = talk(post("/session/", b" " * 1000) + rec(STDIN, b" "))
    ok(r.status == 400 and RECEIVE_S * 0.8 <= r.seconds < RECEIVE_S + SLACK,
       "a body that stops is cut at receive_timeout and answered with 400", r)


def test_whole_body():
    data = json.dumps({"base_image": "host"}).encode()
    r = talk(post("/session/", data) + body(data))
    eq(r.status, 200, "control: a body of the announced size")
    r = talk(post("/session/", data, len(data) + 1) + body(data))
    eq(r.status, 400, "a body shorter than CONTENT_LENGTH")
    r = talk(post("/session/", data, len(data) - 1) + body(data))
    eq(r.status, 400, "a body longer than CONTENT_LENGTH")
    r = talk(post("/session/", data) + rec(STDIN, data), half=True)
    ok(r.status != 200, "a body without its end, although all bytes came, is no 200", r)
    for text, want in (("abc", 400), ("-1", 400), (" 21", 400), ("+21", 400), ("0x15", 400),
                       ("9" * 30, 413), ("262145", 413)):
        r = talk(begin() + params(REQUEST_METHOD="POST", REQUEST_URI="/session/",
                                  CONTENT_LENGTH=text, HTTP_X_API_KEY=KEY) + body(data))
        eq(r.status, want, "CONTENT_LENGTH %r" % text[:8])
    r = talk(begin() + params(REQUEST_METHOD="POST", REQUEST_URI="/session/",
                              CONTENT_TYPE="application/json", HTTP_X_API_KEY=KEY) + body(data))
    eq(r.status, 200, "control: an empty CONTENT_LENGTH is one that is not known")
    big = data[:-1] + b" " * (LIMITS["BODY_MAX_BYTES"] - len(data)) + b"}"
    r = talk(post("/session/", big) + body(big))
    eq(r.status, 200, "control: a body of exactly body_max_bytes")
    r = talk(begin() + params(REQUEST_METHOD="POST", REQUEST_URI="/session/", HTTP_X_API_KEY=KEY,
                              CONTENT_TYPE="application/json") + body(big + b" "))
    eq(r.status, 413, "one byte more, unannounced")


def test_management():
    names = b"".join(pair(n, "") for n in ("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"))

    def values(r):
        if not r.records or r.records[0][0] != VALUES or r.records[0][1] != 0:
            return None
        d, got = r.records[0][2], {}
        while d:
            a, b = d[0], d[1]
            got[d[2:2 + a].decode()] = d[2 + a:2 + a + b].decode()
            d = d[2 + a + b:]
        return got

    before = service.text().count("died over a request")
    r = talk(rec(GET_VALUES, names, 0))
    got = values(r) or {}
    eq(sorted(got), ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"], "FCGI_GET_VALUES: all")
    eq(got.get("FCGI_MPXS_CONNS"), "0", "a connection is not shared by requests")
    ok(got.get("FCGI_MAX_CONNS", "").isdigit() and got.get("FCGI_MAX_REQS", "").isdigit(),
       "and the others are numbers", got)
    eq(values(talk(rec(GET_VALUES, names + pair("FCGI_NOT_KNOWN", ""), 0))), got,
       "a name that is not known is left out")
    eq(values(talk(rec(GET_VALUES, names * 400, 0))), got, "names asked for 400 times: once each")
    eq(values(talk(rec(GET_VALUES, pair("x" * 60000, ""), 0))), {}, "a name of 60000 bytes")
    for bad in (b"\xff" * 8 + b"x", b"\x05\x05ab", b"\x80\0", b"\x80"):
        r = talk(rec(GET_VALUES, bad, 0))
        ok(r.closed and not r.records, "lengths %r: closed" % bad, r)
    r = talk(rec(GET_VALUES, names, 0) + HEALTH)
    ok(r.kinds()[:1] == [VALUES] and r.status == 200, "a request follows on the same connection", r)
    r = talk(rec(77, b"x" * 100, 0) + HEALTH)
    ok(r.records[:1] == [(UNKNOWN, 0, bytes([77]) + b"\0" * 7)] and r.status == 200,
       "an unknown type: FCGI_UNKNOWN_TYPE, and a request may follow", r)
    data = json.dumps({"base_image": "host"}).encode()
    for what, want, between in (("400 names", 200, rec(GET_VALUES, names * 400, 0)),
                                ("60000 bytes", 200, rec(GET_VALUES, pair("x" * 60000, ""), 0)),
                                ("bad lengths", 400, rec(GET_VALUES, b"\xff" * 8 + b"x", 0)),
                                ("an unknown type", 200, rec(77, b"x" * 100, 0))):
        r = talk(post("/session/", data) + rec(STDIN, data[:5]) + between + body(data[5:]))
        ok(r.status == want and r.ended == 1, "amid a body, %s: %d" % (what, want), r)
    eq(service.text().count("died over a request"), before, "no worker died of it")


def test_protocol():
    for name, data in (("version 0", rec(BEGIN, begin()[8:], version=0)),
                       ("version 2", rec(BEGIN, begin()[8:], version=2)),
                       ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                       ("no BEGIN", params() + body()), ("BEGIN of request 0", begin(rid=0)),
                       ("a short BEGIN", rec(BEGIN, b"\0\1") + params() + body()),
                       ("BEGIN twice", begin() + begin() + params() + body()),
                       ("STDIN before the end of PARAMS",
                        begin() + rec(PARAMS, pairs()) + body(b"x") + rec(PARAMS)),
                       ("STDOUT from the server", begin() + rec(STDOUT, b"Status: 200\r\n\r\n") +
                        params() + body())):
        r = talk(data)
        ok(r.closed and r.status is None and not r.ended and r.seconds < AT_ONCE_S,
           name + ": closed, no answer", r)
    for role in (0, 2, 3, 65535):
        r = talk(begin(role) + params() + body())
        ok(r.protocol == 3 and r.status is None, "role %d: FCGI_UNKNOWN_ROLE" % role, r)
    r = talk(begin() + begin(rid=2) + params() + body())
    ok(r.records[:1] == [(END, 2, b"\0\0\0\0\1\0\0\0")] and r.status == 200,
       "a second request: FCGI_CANT_MPX_CONN for it, and the first is answered", r)
    r = talk(begin(rid=65535) + params(rid=65535) + body(rid=65535))
    ok(r.status == 200 and {i for _, i, _ in r.records} == {65535}, "request 65535", r)
    r = talk(rec(ABORT))
    ok(r.closed and not r.records, "ABORT first: closed", r)
    for name, data in (("after BEGIN", begin()), ("amid PARAMS", begin() + rec(PARAMS, pairs()))):
        r = talk(data + rec(ABORT))
        ok(r.closed and r.ended == 1 and r.status is None, "ABORT %s: ended, not run" % name, r)
    r = talk(post("/session/", b" " * 1000) + rec(STDIN, b" " * 10) + rec(ABORT))
    ok(r.closed and r.status != 200 and r.seconds < AT_ONCE_S, "ABORT amid the body: no 200", r)
    r = talk(begin() + rec(ABORT, rid=9) + params() + body())
    eq(r.status, 200, "control: ABORT of another request")
    raw = pairs()
    r = talk(begin() + rec(PARAMS, raw, padding=255) + rec(PARAMS, padding=9) + rec(STDIN, padding=7))
    eq(r.status, 200, "control: padding")
    healthy("after broken ones")


def test_params():
    for name, want, raw in (
            ("a REQUEST_METHOD twice", 400, pairs(extra=pair("REQUEST_METHOD", "GET"))),
            ("an HTTP_X_API_KEY twice", 400,
             pairs(HTTP_X_API_KEY=KEY, extra=pair("HTTP_X_API_KEY", KEY))),
            ("control: another name twice", 200, pairs(HTTP_A="1", extra=pair("HTTP_A", "2"))),
            ("NUL in REQUEST_URI", 400, pairs(REQUEST_URI="/-/health/\0x")),
            ("NUL in a name", 400, pairs(extra=pair("A\0B", "x"))),
            ("= in a name", 400, pairs(extra=pair("A=B", "x"))),
            ("an empty name", 400, pairs(extra=pair("", "x"))),
            ("control: an empty value", 200, pairs(extra=pair("A", ""))),
            ("a line break in REQUEST_URI", 400, pairs(REQUEST_URI="/-/health/\r\nA: b")),
            ("no REQUEST_METHOD", 400, pairs(without=("REQUEST_METHOD",))),
            ("no REQUEST_URI", 400, pairs(without=("REQUEST_URI",))),
            ("a pair that is cut short", 400, pairs(extra=b"\x05\x05abc")),
            ("a pair of 2 GiB", 400, pairs(extra=b"\x01\xff\xff\xff\xffa")),
            ("no parameters", 400, b"")):
        r = talk(begin() + params(raw) + body())
        ok(r.status == want and r.ended == 1, "%s: %d" % (name, want), r)
    limit = LIMITS["PARAMS_MAX_BYTES"]
    room = limit - len(pairs()) - 8 - len("HTTP_A")  # a pair with two lengths of 4 and 1: 5, or 8
    for more, want in ((0, 200), (1, 431), (100000, 431), (3000000, 431)):
        fill = room + 3 + more  # the name's length takes 1 byte
        r = talk(begin() + params(pairs(HTTP_A="v" * fill)) + body())
        eq(len(pairs(HTTP_A="v" * fill)) - limit, more, "parameters %+d bytes over" % more)
        eq(r.status, want, "are answered with %d" % want)
    r = talk(begin() + rec(PARAMS, pair("A", "v" * 60000)) + rec(PARAMS, b"x" * 60000) * 400 +
             rec(PARAMS) + body())
    ok(r.closed and r.status in (None, 431), "24 MB of parameters: refused", r)
    healthy("after all that")


def test_flood():
    held = [connect() for _ in range(200)]
    for _ in range(64):
        held.append(connect())
        put(held[-1], begin()[:10])
    dripped = background(10, drip, begin() + rec(PARAMS, b"", length=1500)[:8], [b"x"] * 1200)
    wait_for(lambda: len(service.workers()) > LIMITS["WORKERS_MIN"], 3)
    r = talk(HEALTH)
    ok(r.status == 200 and r.seconds < SLACK, "200 silent, 64 half and 10 dripped connections: a normal "
       "request is answered in time", r)
    ok(all(r.closed and not r.records for r in dripped()), "the dripped ones are cut")
    got = [collect(s) for s in held]
    ok(all(r.closed and not r.raw for r in got), "and so are the silent ones")


def test_many():
    sids = [session() for _ in range(12)]
    begun = time.monotonic()
    slow = [background(1, run, sid, "sleep 2") for sid in sids]
    ok(wait_for(lambda: len(service.workers()) == LIMITS["WORKERS_MAX"], 60),
       "workers grow to workers_max", service.workers())
    got = [w()[0] for w in slow]
    eq([r.status for r in got], [200] * 12, "more requests than workers: all are answered")
    ok(time.monotonic() - begun >= 4, "some had to wait", time.monotonic() - begun)
    ok(service.settled(LIMITS["WORKERS_MIN"]), "workers shrink to workers_min", service.workers())
    healthy("after the rush")


def ask(method, path):
    return talk(begin() + params(REQUEST_METHOD=method, REQUEST_URI=path, HTTP_X_API_KEY=KEY) + body(), timeout=30)


def test_reserve():
    """All workers are taken by commands; of the reserve one serves what is brief, and the last one health."""
    sids = [session() for _ in range(LIMITS["WORKERS_MAX"])]
    other = session()
    slow = [background(1, run, sid, "sleep 60", 70) for sid in sids]

    def commands():
        mine = service.all()
        return [p for p, v in client.processes().items() if p in mine and v[2] == "sleep"]
    ok(wait_for(lambda: len(commands()) == LIMITS["WORKERS_MAX"], 30), "all workers are taken by commands", commands())
    late = connect(60)
    put(late, post("/session/", b"{}") + body(b"{}"))
    since = time.monotonic()
    r = talk(HEALTH)
    eq(r.status, 200, "health is answered all the same")
    eq(ask("GET", "/session/%s/" % other).status, 204, "a session can be looked at")
    # In pieces, while it waits: what it is about is known with the last one.
    s = connect(10)
    put(s, begin())
    time.sleep(0.1)
    raw = params()
    for i in range(0, len(raw), 40):
        put(s, raw[i:i + 40])
        time.sleep(0.02)
    put(s, body())
    eq(collect(s, until_end=True).status, 200, "and health that comes in pieces")
    late.setblocking(False)
    try:
        got = late.recv(1)
    except BlockingIOError:
        got = None
    eq(got, None, "a POST waits for its turn meanwhile (%.1f s)" % (time.monotonic() - since))
    late.settimeout(60)
    eq(ask("DELETE", "/session/%s/" % other).status, 204, "and deleted")
    os.kill(commands()[0], signal.SIGTERM)
    eq(collect(late, until_end=True).status, 422, "it has it when a command ends")
    for p in commands():
        os.kill(p, signal.SIGTERM)
    eq([w()[0].status for w in slow], [200] * len(slow), "every command was answered")
    ok(service.settled(LIMITS["WORKERS_MIN"]), "workers shrink to workers_min", service.workers())


def test_slow_reader():
    sid = [session() for _ in range(LIMITS["WORKERS_MAX"])]
    data = json.dumps({"commands": ["head -c 3000000 /dev/zero | tr '\\0' a"]}).encode()
    held = []
    for s in sid:
        held.append(connect())
        put(held[-1], post("/session/%s/" % s, data) + body(data))
    ok(wait_for(lambda: len(service.workers()) == LIMITS["WORKERS_MAX"], 60), "all workers are taken")
    ok(service.settled(LIMITS["WORKERS_MIN"]), "peers that never read do not keep them")
    healthy("after peers that never read")
    got = [collect(s) for s in held]
    ok(all(r.closed and not r.ended for r in got), "what they have is not a whole answer",
       [(r.closed, r.ended, len(r.raw)) for r in got])
    r = run(sid[0], "head -c 3000000 /dev/zero | tr '\\0' a")
    ok(r.status == 200 and r.ended == 1 and len(r.raw) > 500000, "control: a peer that reads",
       len(r.raw))


def test_sandbox_descriptors():
    r = run(session(), "ls -l /proc/self/fd; echo end-of-list")
    text = r.body.decode("utf-8", "replace")
    ok("end-of-list" in text, "descriptors inside a sandbox are listed", r)
    ok("socket:" not in text and "anon_inode" not in text and service.state not in text,
       "none of them is the service's", text)


def test_locks():
    pids = service.workers()
    ok(len(pids) >= 2, "there are workers", pids)
    for p in pids[:2]:
        with open("/proc/%d/status" % p) as f:
            st = dict(x.split(":", 1) for x in f.read().splitlines() if ":" in x)
        eq((st["Seccomp"].strip(), st["NoNewPrivs"].strip()), ("2", "1"), "a worker has locked itself")

    def read(pid):
        drop = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"]
        return subprocess.run((drop if os.getuid() == 0 else []) +
                              ["cat", "/proc/%d/environ" % pid], capture_output=True)
    r = read(pids[0])
    ok(r.returncode != 0 and KEY.encode() not in r.stdout and b"Permission denied" in r.stderr,
       "its user cannot read its environment", r)
    return read


def test_readable_control(read):
    p = subprocess.Popen((["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"]
                          if os.getuid() == 0 else []) + ["sleep", "600"], env={"PATH": "/bin", "A": "b"})
    ok(wait_for(lambda: read(p.pid).stdout.find(b"A=b") >= 0, 60), "control: another program's it can")
    p.kill()
    p.wait()


def enough(seconds):
    """Ends what sleeps inside, for its command to go on."""
    for p in client.sleepers(seconds):
        try:
            os.kill(p, signal.SIGTERM)
        except ProcessLookupError:
            pass


def test_worker_death():
    sids = [session(), session()]
    ok(service.settled(2), "two workers")
    main, victims = service.main(), service.workers()
    mark = client.some_seconds(300)
    slow = [background(1, run, s, "sleep %s; echo done" % mark) for s in sids]
    # Then both workers are taken.
    ok(wait_for(lambda: len(client.sleepers(mark)) == 2, 120), "two commands run")
    os.kill(victims[0], signal.SIGKILL)
    healthy("while a worker is missing")
    enough(mark)
    got = sorted((w()[0] for w in slow), key=lambda r: r.status or 0)
    eq([r.status for r in got], [200, 503], "one worker is killed: one request fails")
    ok(got[1].ended == 1, "and is told so", got[1])
    eq(service.main(), main, "by the same main")
    ok(wait_for(lambda: len(service.workers()) >= 2, 60), "the worker is replaced")


def test_main_death():
    main = service.main()
    os.kill(main, signal.SIGKILL)
    r = talk(begin() + params(REQUEST_URI="/no-such-path/") + body())
    ok(r.status == 404 and r.ended == 1 and r.seconds < SLACK,
       "a connection made right after main's death is served by the next main", r)
    ok(wait_for(lambda: talk(HEALTH).status == 200, 60), "health is good once the keeper is back")
    ok(service.main() not in (0, main), "another main runs")
    ok(wait_for(lambda: run_status() == 200, 60), "and commands run again")


def run_status():
    r = api("/session/", {"base_image": "host"})
    if r.status != 200:
        return None
    return run(json.loads(r.body)["session_id"], "true").status


def test_supervisor_death():
    before = service.all()
    ok(len(before) >= 4, "supervisor, main, keeper and workers run", before)
    service.proc.kill()
    service.proc.wait()
    ok(wait_for(lambda: not service.all(), 60), "kill -9 of the supervisor: nothing is left",
       [(p, client.cmdline(p)) for p in service.all()])
    service.start()
    ok(service.ready(), "it starts again over the socket that was left")


def test_end():
    sid = session()
    mark = client.some_seconds(300)
    slow = background(1, run, sid, "sleep %s; echo done" % mark)
    ok(wait_for(lambda: client.sleepers(mark), 120), "a command runs")
    service.proc.terminate()
    enough(mark)
    r = slow()[0]
    ok(r.status == 200 and b"done" in r.body, "SIGTERM: it still gets its answer", r)
    try:
        code = service.proc.wait(60)
    except subprocess.TimeoutExpired:
        code = None
    eq(code, 0, "then the service ends with 0")
    ok(wait_for(lambda: not service.all(), 60), "nothing of it is left",
       [(p, client.cmdline(p)) for p in service.all()])
    ok(not os.path.lexists(service.sock), "the socket is removed")


def few_descriptors(name, limit, **limits):
    global service
    service = Service(name, PENDING_MAX=1000, **limits).start(["prlimit", "--nofile=" + limit, "--"])
    ok(service.ready(), "a service with a limit of %s descriptors" % limit)
    return service.main()


def test_descriptors_end():
    """Few descriptors: connections wait, main neither spins nor fills the log."""
    global service
    whole = service
    few_descriptors("soft", "64:4096", **PATIENT)
    held = [connect() for _ in range(150)]
    r = talk(HEALTH)
    ok(r.status == 200 and r.seconds < AT_ONCE_S, "a soft limit is raised", r)
    for s in held:
        s.close()
    service.stop()
    main = few_descriptors("hard", "64:64")
    before, lines, since = ticks(main), len(service.text().splitlines()), time.monotonic()
    held = [connect() for _ in range(150)]
    r = talk(HEALTH)
    ok(r.status == 200 and r.seconds < 150 / 40 * PARAMS_S + 2 * SLACK,
       "a hard one is survived: a request is answered once the silent ones before it are closed", r)
    spent = ticks(main) - before
    ok(spent < 0.3 * (time.monotonic() - since), "main does not spin meanwhile", spent)
    words = [x for x in service.text().splitlines()[lines:] if "accept:" in x]
    ok(1 <= len(words) <= 12, "and says it a few times", words[:10])
    for s in held:
        s.close()
    service.stop()
    service = whole


def ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")


shutil.copy(PROGRAM, TOP + "/cgibox.fcgi")
os.chmod(TOP + "/cgibox.fcgi", 0o755)
service = Service("s").start()
if not ok(service.ready(), "the service starts"):
    finish()
patient = Service("patient", UID + (100000 if os.getuid() == 0 else 0), **PATIENT).start()
with at(patient):
    if not ok(service.ready(), "one that waits for long, too"):
        finish()
    for t in (test_management, test_protocol, test_params, test_whole_body):
        t()
test_start()
test_cut()
patient.stop()
for t in (test_body, test_flood, test_many, test_reserve, test_slow_reader, test_sandbox_descriptors):
    t()
test_readable_control(test_locks())
for t in (test_worker_death, test_main_death, test_supervisor_death, test_end, test_descriptors_end):
    t()
finish()
