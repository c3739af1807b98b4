"""What the HTTP tests share: TAP, requests, archives. Python's own library only.

CGIBOX_URL (default http://127.0.0.1:8080) and CGIBOX_API_KEY say what is tested. The service is
expected to run with http.conf of this directory. CGIBOX_TEST_STATE, when set, is the service's state
directory on this machine: then what it leaves behind is counted too. CGIBOX_TEST_SERVER is the name
that scripts/serve got.
"""
import base64
import http.client
import io
import json
import os
import random
import socket
import sys
import tarfile
import time
import urllib.parse

import described

URL = os.environ.get("CGIBOX_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("CGIBOX_API_KEY", "")
STATE = os.environ.get("CGIBOX_TEST_STATE", "")
SERVER = os.environ.get("CGIBOX_TEST_SERVER", "")
SELF_STARTING = SERVER in ("fcgid", "lighttpd-spawn")
IMAGE = os.environ.get("CGIBOX_TEST_IMAGE", "host")
TAGGED = IMAGE if ":" in IMAGE else IMAGE + ":latest"  # the same for who asks for a tag
BACKEND = os.environ.get("CGIBOX_BACKEND") or "isolate"
HERE = os.path.dirname(os.path.abspath(__file__))
_at = urllib.parse.urlsplit(URL)
PREFIX = _at.path.rstrip("/")

_count = _failed = 0


def note(text):
    for line in str(text).splitlines() or [""]:
        print("#", line)


def ok(good, what, *detail):
    """One assertion; the details are shown when it fails."""
    global _count, _failed
    _count += 1
    what = what.replace("#", "\\#").replace("\n", "\\n")
    print("%sok %d - %s" % ("" if good else "not ", _count, what), flush=True)
    if not good:
        _failed += 1
        for d in detail:
            note(str(d)[:2000])
    return bool(good)


def eq(got, want, what):
    return ok(got == want, what, "     got: %r" % (got,), "expected: %r" % (want,))


def skip(why, count=1):
    """Loud and counted; a failure with MUST_WORK=1."""
    global _count, _failed
    for _ in range(count):
        _count += 1
        if os.environ.get("MUST_WORK") == "1":
            _failed += 1
            print("not ok %d - cannot run: %s" % (_count, why), flush=True)
        else:
            print("ok %d # SKIP %s" % (_count, why), flush=True)


def done():
    seen = described.verdict()
    if seen is None:
        skip("answers are not compared with docs/openapi.json: no python3-jsonschema")
    elif seen[0] or seen[1]:
        ok(not seen[1], "answers are what docs/openapi.json says (%d looked at)" % seen[0], *seen[1][:12])
    print("1..%d" % _count, flush=True)
    sys.exit(_failed != 0)


def conf(key):
    """A value of http.conf, as a whole number."""
    with open(os.path.join(HERE, "http.conf")) as f:
        for line in f:
            name, eq_, value = line.partition("=")
            if eq_ and name.strip() == key:
                return int(value)
    raise KeyError(key)


def free_port():
    """A port of loopback for a service that is to begin in a moment. Not one that the kernel picks: it gives those to
    outgoing connections, too, of which other tests make hundreds until the service has bound it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        first, last = map(int, f.read().split())
    while True:
        port = random.choice([p for p in range(10000, 65536) if not first <= p <= last] or range(10000, 65536))
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Answer:
    def __init__(self, status, headers, body, seconds):
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def detail(self):
        j = self.json
        return j.get("detail") if isinstance(j, dict) else None

    def __repr__(self):
        return "%d %s" % (self.status, self.body[:1500])


def connect(timeout=120):
    return http.client.HTTPConnection(_at.hostname, _at.port or 80, timeout=timeout)


def request(method, path, body=None, key=KEY, headers=None, timeout=120, chunked=False):
    """body: None, bytes as they are, an iterable when chunked, or anything else as JSON."""
    h = dict(headers or {})
    if key is not None:
        h.setdefault("X-API-Key", key)
    if body is not None and not isinstance(body, (bytes, bytearray)) and not chunked:
        body = json.dumps(body).encode()
        h.setdefault("Content-Type", "application/json")
    begin = time.monotonic()
    c = connect(timeout)
    try:
        c.request(method, PREFIX + path, body, h, encode_chunked=chunked)
        r = c.getresponse()
        data = r.read()
        if r.headers.get("X-Request-Id"):  # else the web server answered, which may dislike a path
            described.saw(method, path, r.status, r.headers.get("Content-Type"), data)
        return Answer(r.status, r.headers, data, time.monotonic() - begin)
    finally:
        c.close()


def create(**spec):
    """A session's id; ends the test when there is none."""
    spec.setdefault("base_image", IMAGE)
    a = request("POST", "/session/", spec)
    if a.status != 200 or not isinstance((a.json or {}).get("session_id"), str):
        ok(False, "a session can be made", a)
        done()
    return a.json["session_id"]


def sessions():
    """Ids of the sessions that are listed. Those of other test files are among them, and end when they like: look for new ones."""
    out, after = set(), ""
    while after is not None:
        page = request("GET", "/session/?limit=1000&after=" + after).json
        out |= {x["session_id"] for x in page["sessions"]}
        after = page["next"]
    return out


def sessions_on_disk():
    """Ids of all sessions: those of one request, which are not listed, and those in the trash, too. None: the state is elsewhere."""
    if not STATE:
        return None
    return {n for d in ("sessions", "trash") for n in os.listdir(os.path.join(STATE, d))}


def can(capability):
    """Whether the backend has it: one that lacks it says so, and docs/api.md says what that means."""
    return request("GET", "/system/").json["capabilities"][capability]


def image_has(program):
    sid = create()
    try:
        return run(sid, "command -v " + program).json["results"][0]["exit_code"] == 0
    finally:
        delete(sid)


def run(sid, commands, timeout_s=120, **more):
    if isinstance(commands, str):
        commands = [commands]
    return request("POST", "/session/%s/" % sid, dict(more, commands=commands), timeout=timeout_s)


def delete(sid):
    return request("DELETE", "/session/%s/" % sid)


def b64(data):
    return base64.b64encode(data).decode()


def tar(files, fmt=tarfile.PAX_FORMAT):
    """A plain tar. files: name -> bytes | (bytes, mode) | ("link", target) | ("dir", mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as t:
        for name, what in files.items():
            ti = tarfile.TarInfo(name)
            ti.mode = 0o644
            data = None
            if isinstance(what, tarfile.TarInfo):
                ti, data = what, None
            elif isinstance(what, tuple) and what[0] == "link":
                ti.type, ti.linkname = tarfile.SYMTYPE, what[1]
            elif isinstance(what, tuple) and what[0] == "dir":
                ti.type, ti.mode = tarfile.DIRTYPE, what[1]
            else:
                data, ti.mode = what if isinstance(what, tuple) else (what, 0o644)
                ti.size = len(data)
            t.addfile(ti, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


# Run with the same text here and inside the sandbox: one line for each file and symlink below ".".
MANIFEST = r"""
import hashlib, os
rows = []
for d, dirs, files in os.walk(b"."):
    dirs[:] = [x for x in dirs if x != b".git"]
    for f in files + [x for x in dirs if os.path.islink(os.path.join(d, x))]:
        p = os.path.join(d, f)
        if os.path.islink(p):
            rows.append("link %r %r" % (p[2:], os.readlink(p)))
        elif os.path.isfile(p):
            x = "x" if os.stat(p).st_mode & 0o100 else "-"
            rows.append("file%s %r %s" % (x, p[2:], hashlib.sha256(open(p, "rb").read()).hexdigest()))
print("\n".join(sorted(rows)))
"""


def processes():
    """pid -> (ppid, uid, comm, state) of all processes that are not zombies."""
    out = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % p) as f:
                s = f.read()
            uid = os.stat("/proc/%s" % p).st_uid
            with open("/proc/%s/status" % p) as f:
                uid = int([x for x in f if x.startswith("Uid:")][0].split()[1])
        except (OSError, IndexError):
            continue
        comm, rest = s[s.index("(") + 1:s.rindex(")")], s[s.rindex(")") + 2:].split()
        if rest[0] not in "ZX":
            out[int(p)] = (int(rest[1]), uid, comm, rest[0])
    return out


def cmdline(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().rstrip(b"\0").decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def some_seconds(least=500):
    """An argument of sleep(1) that no other test has."""
    return "%d.%07d%04d" % (least, os.getpid(), random.randrange(10000))


def sleepers(seconds):
    """Pids of `sleep SECONDS`, by which a test on the service's machine knows its command; killed, it has slept enough."""
    return [p for p in processes() if cmdline(p) == ["sleep", seconds]]


def sleeping(seconds):
    """Waits until `sleep SECONDS` runs. Of what a container's runtime may hide from this machine a moment is enough."""
    return wait_for(lambda: sleepers(seconds), 120 if BACKEND == "isolate" else 10) or BACKEND != "isolate"


def wait_for(what, seconds, step=0.05):
    """Polls what() until it is true; its last value."""
    end = time.monotonic() + seconds
    while True:
        v = what()
        if v or time.monotonic() > end:
            return v
        time.sleep(step)
