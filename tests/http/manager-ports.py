#!/usr/bin/python3
"""Published ports of the Docker Sandbox Manager: requests go in, answers come out, what is ours stays ours."""
import base64
import http.client
import threading
import time

import client
from client import KEY, connect, done, eq, ok, request

API = "/api/v1/sandboxes"
SILENCE_S = client.conf("manager_port_silence_s")
http.client._MAXHEADERS = 1000
# Answers /echo with the request as it came, and other paths with the bytes that they name in base64.
SERVER = r'''
import base64, json, socket, threading, time, urllib.parse
def serve(c):
    f = c.makefile("rb")
    line = f.readline().decode("latin-1").split()
    head = []
    while True:
        h = f.readline().decode("latin-1").rstrip("\r\n")
        if not h: break
        head.append(h)
    n = [int(h.split(":")[1]) for h in head if h.lower().startswith("content-length:")]
    path, _, query = line[1].partition("?")
    q = dict(urllib.parse.parse_qsl(query))
    if path == "/echo":
        body = f.read(n[0] if n else 0)
        out = json.dumps({"line": line, "head": head, "bytes": len(body), "sum": sum(body) % 65536}).encode()
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(out), out))
    elif path == "/raw":
        for i, part in enumerate(q["b"].split(".")):
            if i: time.sleep(float(q.get("wait", "0.3")))
            c.sendall(base64.urlsafe_b64decode(part + "=="))
        if q.get("hold"): time.sleep(float(q["hold"]))
    elif path == "/large":
        c.sendall(b"HTTP/1.1 200 OK\r\nA: " + b"x" * int(q["n"]) + b"\r\nContent-Length: 0\r\n\r\n")
    elif path == "/mirror":
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if q.get("end") else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (n[0] * int(q.get("times", "1"))))
        left = n[0]
        while left:
            part = f.read1(min(left, 65536))
            left -= len(part)
            for i in range(int(q.get("times", "1"))): c.sendall(part)
    elif path == "/half":
        f.read(65536)
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf")
        time.sleep(0.2)
    elif path == "/early":
        c.sendall(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
    elif path == "/endless":
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True: c.sendall(b"x" * 65536)
        except OSError: open("/tmp/endless-ended", "w").close()
    c.shutdown(socket.SHUT_WR)
    c.close()
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 8080)); s.listen(64)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
'''


def get(path, **kw):
    return request("GET", API + path, **kw)


def post(path, body=None, **kw):
    return request("POST", API + path, body, **kw)


def until(what, fn, want, seconds=60):
    end = time.monotonic() + seconds
    got = fn()
    while got != want and time.monotonic() < end:
        time.sleep(0.05)
        got = fn()
    return eq(got, want, what)


a = post("", {"image": client.TAGGED, "ports": [{"port": 8080}, {"port": 8081}], "entrypoint": ["python3", "-u", "-c", SERVER]})
eq(a.status, 201, "a sandbox with a server")
S = a.json["container_id"]
P = a.json["urls"]["8080"].rstrip("/")
until("which listens", lambda: [x["message"] for x in get("/%s/logs" % S).json["logs"]], ["ready"])


def ask(path, method="GET", body=None, **kw):
    return request(method, P + path, body, **kw)


def raw(data, method="GET", **q):
    parts = data if isinstance(data, list) else [data]
    b = ".".join(base64.urlsafe_b64encode(x).decode().rstrip("=") for x in parts)
    return ask("/raw?b=" + b + "".join("&%s=%s" % kv for kv in q.items()), method)


# --- in
a = ask("/echo?a=%20b&c=/d//e", headers={"X-Custom": "one", "User-Agent": "test", "Accept": "x/y", "Cookie": "other=secret; sb%sp8080_own=1; sb%sp8081_no=2"
                                         % (S[:8], S[:8]), "Authorization": "Bearer of-the-app", "TE": "trailers", "Connection": "close, X-Drop", "X-Drop": "1",
                                         "X-Forwarded-For": "6.6.6.6", "Proxy": "http://evil"})
eq((a.status, a.headers["Content-Type"]), (200, "application/json"), "a request")
j = a.json or {"head": [], "line": []}
eq(j["line"], ["GET", "/echo?a=%20b&c=/d//e", "HTTP/1.1"], "its path and query go in as they are")
h = {}
for x in j["head"]:
    h.setdefault(x.split(":")[0].lower(), []).append(x.split(":", 1)[1].strip())
eq([h.get(k) for k in ("x-custom", "user-agent", "accept", "authorization", "host", "connection")],
   [["one"], ["test"], ["x/y"], ["Bearer of-the-app"], ["localhost:8080"], ["close"]], "so do its headers")
eq([h.get(k) for k in ("x-api-key", "te", "x-drop", "proxy")], [None] * 4, "but for the key and those of one connection")
ok(KEY not in a.body.decode(), "the key is nowhere")
eq(h.get("cookie"), ["own=1"], "of cookies only the port's own, by the names that it gave")
eq([h.get("x-forwarded-prefix"), h.get("x-forwarded-proto"), h.get("x-forwarded-for")], [[P], ["http"], ["127.0.0.1"]], "who asks is said anew")
for value in ("Bearer " + KEY, "Basic " + base64.b64encode(b"x:y").decode() + KEY):
    a = ask("/echo", headers={"Authorization": value})
    ok(a.status == 200 and not [x for x in a.json["head"] if x.lower().startswith("authorization")], "an Authorization with our key stays out", a)
eq(ask("", headers={}).status, 502, "a server that says nothing: 502")
data = bytes(range(256)) * 8000
for method in ("POST", "PUT", "PATCH", "DELETE"):
    a = ask("/echo", method, data)
    eq((a.status, a.json and a.json["bytes"], a.json and a.json["sum"], a.json and a.json["line"][0]),
       (200, len(data), sum(data) % 65536, method), "%s with a body" % method)
a = ask("/echo", "POST", iter([b"abc", b"def"]), chunked=True, headers={"Content-Type": "text/x"})
eq((a.status, a.json and a.json["bytes"], "Content-Type: text/x" in (a.json or j)["head"]), (200, 6, True), "a body of unknown length")
a = ask("/early", "POST", data * 4)
ok((a.status, a.body) == (413, b"no") or a.status == 502, "an answer before the body is read", a)
big = bytes(range(256)) * 32768
for size, query in ((8 << 20, ""), (8 << 20, "?end=1"), (2 << 20, "?times=8"), (3, "")):
    a = ask("/mirror" + query, "POST", big[:size])
    if "times" in query:
        ok(a.status == 200 and len(a.body) == 8 * size, "a server that answers eightfold while it reads %d bytes" % size, a.status, len(a.body))
    else:
        ok((a.status, a.body == big[:size]) == (200, True), "a server that answers while it reads %d bytes%s" % (size, ", to the end" if query else ""), a.status, len(a.body), a.body[:200])
a = ask("/half", "POST", big)
eq((a.status, a.body), (200, b"half"), "a server that answers and closes before it has read all")
# Four times as long as what sockets may hold of it: else all of it is sent before the answer is so long.
a = request("POST", P + "/mirror?times=80", big * 4, timeout=200)
ok(a.status == 502 and "upload_max_bytes" in str(a.detail), "502 for more than upload_max_bytes before the request was read", a)
a = ask("/echo", "HEAD")
eq((a.status, a.body), (200, b""), "HEAD")
ok(ask("/echo", "OPTIONS").status == 200, "OPTIONS")

# --- out
O = b"HTTP/1.1 200 OK\r\n"
a = raw(O + b"Content-Length: 5\r\nContent-Type: text/html\r\nX-One: 1\r\nCache-Control: max-age=5\r\nContent-Security-Policy: default-src 'self'\r\n\r\nhello")
eq((a.status, a.body, a.headers["X-One"], a.headers["Content-Type"], a.headers["Cache-Control"]), (200, b"hello", "1", "text/html", "max-age=5"), "an answer")
eq(sorted(", ".join(a.headers.get_all("Content-Security-Policy")).split(", ")), ["default-src 'self'", "sandbox"], "a page is in a sandbox, and keeps its own policy")
eq(a.headers["X-Content-Type-Options"], "nosniff", "nosniff")
for what, data, want in (
        ("to the end", O + b"\r\nabc", b"abc"), ("chunked", O + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n", b"abcde"),
        ("none", O + b"Content-Length: 0\r\n\r\n", b""), ("lines that end with LF", b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok", b"ok"),
        ("after 100", b"HTTP/1.1 100 Continue\r\n\r\n" + O + b"Content-Length: 2\r\n\r\nok", b"ok")):
    a = raw(data)
    eq((a.status, a.body), (200, want), "a body: " + what)
c = connect()
c.request("GET", P + "/raw?wait=3&b=" + ".".join(base64.urlsafe_b64encode(x).decode().rstrip("=") for x in (O + b"\r\nfirst", b"last")), headers={"X-API-Key": KEY})
r = c.getresponse()
first, t0 = r.read1(100), time.monotonic()
eq((first, r.read()), (b"first", b"last"), "a stream")
ok(time.monotonic() - t0 > 0.2, "as it comes")
a = raw(b"HTTP/1.1 204 No\r\n\r\n")
eq((a.status, a.body), (204, b""), "204")
for status in (404, 500, 418, 599):
    eq(raw(b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\nx" % status).status, status, "%d is the server's own" % status)
for to, want in ((b"/login?x=1", P + "/login?x=1"), (b"http://localhost:8080/a", P + "/a"), (b"http://127.0.0.1:8080", P + "/"),
                 (b"http://example.org/a", "http://example.org/a"), (b"http://localhost:80801/a", "http://localhost:80801/a"),
                 (b"//example.org/x", "//example.org/x"), (b"next", "next")):
    eq(raw(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % to).headers["Location"], want, "Location: %s" % to.decode())
a = raw(O + b"Location: /etc\r\nStatus: 302\r\nX-Sendfile: /etc/passwd\r\nX-Lighttpd-Send-File: /etc/passwd\r\nX-Accel-Redirect: /x\r\nX-LIGHTTPD-send-tempfile: /x\r\n"
        b"Service-Worker-Allowed: /\r\nStrict-Transport-Security: max-age=9\r\nClear-Site-Data: \"*\"\r\nConnection: close, X-A\r\nContent-Length: 2\r\n\r\nok")
eq((a.status, a.body), (200, b"ok"), "headers that speak to the web server are not heard")
eq([a.headers[k] for k in ("Location", "X-Sendfile", "X-Accel-Redirect", "Service-Worker-Allowed", "Strict-Transport-Security", "Clear-Site-Data")], [None] * 6,
   "nor those that hold for the host")
a = raw(O + b"Set-Cookie: a=1; Path=/; Domain=example.org; HttpOnly\r\nSet-Cookie: b=2\r\nSet-Cookie: =x\r\nSet-Cookie: c=3;path=/;SameSite=Lax\r\nContent-Length: 0\r\n\r\n")
m = "sb%sp8080_" % S[:8]
eq(a.headers.get_all("Set-Cookie"), ["%sa=1; HttpOnly; Path=%s/" % (m, P), "%sb=2; Path=%s/" % (m, P), "%sc=3; SameSite=Lax; Path=%s/" % (m, P)],
   "cookies are the port's own")

# --- bad servers
BAD = {"no HTTP": b"hello\r\n\r\n", "HTTP/2": b"HTTP/2 200\r\n\r\n", "status 99": b"HTTP/1.1 099 X\r\n\r\n", "status 600": b"HTTP/1.1 600 X\r\n\r\n",
       "no name": O + b": x\r\n\r\n", "a folded line": O + b"A: b\r\n c\r\n\r\n", "a blank in a name": O + b"A : b\r\n\r\n", "a NUL": O + b"A: \0\r\n\r\n",
       "two lengths": O + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "a signed length": O + b"Content-Length: +1\r\n\r\na",
       "length and chunks": O + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "gzip": O + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
       "an end in the head": O + b"A: b\r\n", "101": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "nothing": b"",
       "201 headers": O + b"A: b\r\n" * 201 + b"\r\n"}
for what, data in BAD.items():
    a = raw(data) if data else ask("/none")
    ok(a.status == 502 and isinstance(a.detail, str), "502: " + what, a)
a = raw(O + b"A: b\r\n" * 200 + b"\r\n")
eq(a.status, 200, "200 headers are good")
eq((ask("/large?n=3000").status, ask("/large?n=65536").status), (200, 502), "64 KiB of headers are too many")


def cut(data):
    """Whether an answer breaks off; a web server that has sent none of it says 5xx."""
    try:
        return raw(data).status >= 500
    except (http.client.HTTPException, OSError):
        return True


# In two parts: lighttpd makes a whole answer of what ends before it has sent any of it.
for what, data in (("a body shorter than it says", [O + b"Content-Length: 5\r\n\r\nabc"]),
                   ("a chunk without an end", [O + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"5\r\nab"]),
                   ("no last chunk", [O + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"1\r\nd\r\n"]),
                   ("a bad size", [O + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"x\r\n"])):
    # nginx takes the end of a FastCGI connection for that of an answer without a length
    ok(cut(data) or (client.SERVER == "nginx" and b"Content-Length" not in data[0]), "breaks off: " + what)
t0 = time.monotonic()
a = raw(O, hold=300)
t = time.monotonic() - t0
ok(a.status == 504 and SILENCE_S - 0.2 < t < 200, "504 after manager_port_silence_s of silence", a, t)
c = connect()
c.request("GET", P + "/endless", headers={"X-API-Key": KEY})
r = c.getresponse()
got = sum(len(r.read(65536)) for _ in range(50))
ok(got == 50 * 65536, "an endless answer is read as long as one likes", got)
c.close()
r.close()
until("and ends with the client", lambda: post("/%s/exec" % S, {"command": "[ -e /tmp/endless-ended ] && echo yes"}).json["output"], "yes\n")

# --- refused
eq(get("/%s/ports/8082/" % S).detail, "This port is not published", "a port that is not published")
eq(get("/%s/ports/8081/" % S).status, 502, "nothing listens")
for bad in ("0", "x", "65536", "80800000000", "08080", "+8080", "8080x"):
    eq(get("/%s/ports/%s/" % (S, bad)).status, 404, "no port: " + bad)
eq(get("/%s/ports/8080/" % ("0" * 8 + S[8:])).status, 404, "no sandbox")
eq(ask("/echo", key=None).status, 403, "the key is asked for")
eq(ask("/echo", key="wrong").status, 403, "and looked at")
a = ask("/echo", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
ok(a.status == 422 or client.SERVER == "nginx", "an upgrade: 422", a)
eq(request("GET", "/api/v1/api/v1/sandboxes/%s/ports/8080/echo" % S).json["line"][1], "/echo", "the prefix may be there twice")
many = []


def slow():
    many.append(raw([O + b"\r\n", b"x"], wait=1).status)


threads = [threading.Thread(target=slow) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
eq(sorted(set(many)) in ([200], [200, 503]), True, "several at once")
post("/%s/stop?timeout=0" % S)
eq(ask("/echo").status, 409, "a stopped sandbox")
request("DELETE", API + "/" + S)
eq(ask("/echo").status, 404, "none")
done()
