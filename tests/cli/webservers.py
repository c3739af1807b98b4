#!/usr/bin/python3
"""The lines that docs/operations.md gives for each web server, in a configuration of nothing else: requests, a chunked body, a
slash in a path, output as it comes; and what a client sees when the socket cannot be reached. TAP; a server that is not here is skipped."""
import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, ok  # noqa: E402

DOC = os.path.join(HERE, "../../docs/operations.md")
PROGRAM = os.path.join(os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build"), "cgibox.fcgi")
TOP = tempfile.mkdtemp(dir="/var/tmp", prefix="cgibox-web-")
os.chmod(TOP, 0o755)
SOCK = os.path.join(TOP, "run/cgibox.sock")
PER_SERVER = 16


def documented(server):
    """The first block below the heading, with our socket in place of the documented one."""
    with open(DOC, encoding="utf-8") as f:
        block = re.search(r"^### %s\n.*?^```\n(.*?)^```$" % server, f.read(), re.M | re.S).group(1)
    assert "/run/cgibox/cgibox.sock" in block
    return block.replace("/run/cgibox/cgibox.sock", SOCK)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def lighttpd(port):
    return (["lighttpd", "-D", "-f"], 'server.bind = "127.0.0.1"\nserver.port = %d\nserver.document-root = "%s"\nserver.errorlog = "%s/error"\n'
            'server.upload-dirs = ("%s")\n%s' % (port, TOP, TOP, TOP, documented("lighttpd")))


def apache(port):
    modules = "".join("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n" % (m, m) for m in ("mpm_event", "authz_core", "proxy", "proxy_fcgi"))
    return (["apache2", "-DFOREGROUND", "-f"], 'ServerRoot "%s"\nServerName 127.0.0.1\nListen 127.0.0.1:%d\nPidFile "%s/pid"\nDefaultRuntimeDir "%s"\n'
            'Mutex file:%s default\nErrorLog "%s/error"\n%s%s' % (TOP, port, TOP, TOP, TOP, TOP, modules, documented("Apache")))


def nginx(port):
    places = "".join("%s_temp_path %s/%s;\n" % (n, TOP, n) for n in ("client_body", "fastcgi", "proxy", "uwsgi", "scgi"))
    return (["nginx", "-e", TOP + "/error", "-c"], "daemon off;\npid %s/pid;\nerror_log %s/error warn;\nevents {}\nhttp {\naccess_log off;\n%s"
            "server {\nlisten 127.0.0.1:%d;\nroot %s;\n%s}\n}\n" % (TOP, TOP, places, port, TOP,
                                                                     documented("nginx").replace("include f", "include /etc/nginx/f")))


class Answer:
    def __init__(self, r):
        self.status = r.status
        self.body = r.read()
        try:
            self.json = json.loads(self.body)
        except ValueError:
            self.json = None

    def __repr__(self):
        return "%d %r" % (self.status, self.body[:500])


def ask(port, method, path, body=None, key="k", chunked=False):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["X-API-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    c.request(method, "/api/v1" + path, iter([data]) if chunked else data, headers, encode_chunked=chunked)
    return Answer(c.getresponse())


def until(what, seconds=120):
    """A web server has no event that says that it listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if what():
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def listens(port):
    socket.create_connection(("127.0.0.1", port), 30).close()
    return True


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        info = tarfile.TarInfo("a.txt")
        info.size = 4
        t.addfile(info, io.BytesIO(b"one\n"))
    return base64.b64encode(out.getvalue()).decode()


def first_line_early(port, sid):
    """Seconds between the first output of a run and its end, as they reach the client."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    c.request("POST", "/api/v1/session/%s/runs" % sid, json.dumps({"command": "echo first; sleep 4; echo last", "stream": True}),
              {"X-API-Key": "k", "Content-Type": "application/json"})
    r = c.getresponse()
    begin, all_of_it = None, b""
    while True:
        piece = r.read1(65536)
        if not piece:
            break
        all_of_it += piece
        if begin is None and b"first" in all_of_it:
            begin = time.monotonic()
    return (0 if begin is None else time.monotonic() - begin, all_of_it)


def good(name, port):
    until(lambda: ask(port, "GET", "/-/health/", key=None).status == 200)
    a = ask(port, "GET", "/-/health/", key=None)
    ok(a.status == 200 and a.json == {"status": "ok"}, "%s: health" % name, a)
    a = ask(port, "GET", "/system/", key=None)
    ok(a.status == 403 and a.json == {"detail": "API Key header is missing"}, "%s: no key" % name, a)
    a = ask(port, "POST", "/session/", {"base_image": "host", "extract_patch": True})
    ok(a.status == 200, "%s: a session" % name, a)
    sid = a.json["session_id"]
    for chunked in (False, True):
        a = ask(port, "POST", "/session/%s/" % sid, {"commands": ["sed -i s/one/two/ a.txt; cat a.txt"], "archive": archive()}, chunked=chunked)
        ok(a.status == 200 and a.json["results"][0]["output"] == "two\n", "%s: a command%s" % (name, ", chunked" if chunked else ""), a)
        ok(b"+two" in base64.b64decode(a.json["patch"]), "%s: its patch" % name, a)
    a = ask(port, "GET", "/session/%s/files/repo/a.txt" % sid)
    ok(a.status == 200 and a.body == b"two\n", "%s: a file" % name, a)
    a = ask(port, "GET", "/session/%s/runs/x%%2Fy" % sid)
    ok(a.status == 404 and a.json, "%s: a slash in a path reaches the service" % name, a)
    took, said = first_line_early(port, sid)
    ok(took > 1 and b"last" in said, "%s: output comes as it is made" % name, took, said)
    a = ask(port, "DELETE", "/session/%s/" % sid)
    ok(a.status == 204, "%s: removed" % name, a)
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    c.request("GET", "/elsewhere")
    a = Answer(c.getresponse())
    ok(a.status == 404 and a.json is None, "%s: other paths are the web server's" % name, a)


def bad(name, port):
    """What "When there is no answer" says."""
    want = 502 if name == "nginx" else 503
    os.chmod(SOCK, 0)
    a = ask(port, "GET", "/-/health/", key=None)
    with open(TOP + "/error", encoding="utf-8", errors="replace") as f:
        said = f.read()
    if os.getuid():
        ok(a.status == want and "ermission denied" in said, "%s: a socket that it may not use: %d" % (name, want), a, said)
    else:
        ok(True, "%s: a socket that it may not use # SKIP root may" % name)
    os.chmod(SOCK, 0o660)
    ok(until(lambda: ask(port, "GET", "/-/health/", key=None).status == 200), "%s: one that it may use again: at once" % name)
    os.rename(SOCK, SOCK + ".away")
    a = ask(port, "GET", "/-/health/", key=None)
    with open(TOP + "/error", encoding="utf-8", errors="replace") as f:
        said = f.read()
    ok(a.status == want and "No such file" in said, "%s: none: %d" % (name, want), a, said)
    os.rename(SOCK + ".away", SOCK)
    ok(until(lambda: ask(port, "GET", "/-/health/", key=None).status == 200), "%s: it is back at once" % name)


def walk(name, configure):
    port = free_port()
    args, text = configure(port)
    os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"
    if not shutil.which(args[0]):
        for _ in range(PER_SERVER):
            ok(True, "%s # SKIP it is not installed" % name)
        return
    conf = os.path.join(TOP, name + ".conf")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text)
    open(TOP + "/error", "w", encoding="utf-8").close()
    with open(TOP + "/out", "w", encoding="utf-8") as out:
        web = subprocess.Popen(args + [conf], stdout=out, stderr=out, start_new_session=True)
    try:
        if not until(lambda: web.poll() is None and listens(port)):
            with open(TOP + "/out", encoding="utf-8") as out:
                ok(False, "%s starts" % name, text, out.read())
            return
        good(name, port)
        bad(name, port)
    finally:
        web.terminate()
        try:
            web.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(web.pid, signal.SIGKILL)


os.mkdir(os.path.dirname(SOCK))
env = {"PATH": os.environ["PATH"], "CGIBOX_API_KEY": "k", "CGIBOX_ACCESS_LOG": "off", "CGIBOX_WORKERS_MIN": "2"}
with open(TOP + "/log", "w", encoding="utf-8") as log:
    service = subprocess.Popen([PROGRAM, "--state", TOP + "/state", "--listen", SOCK], env=env, stderr=log)
ok(until(lambda: os.path.exists(SOCK)), "the service starts")
try:
    for server, function in (("lighttpd", lighttpd), ("apache", apache), ("nginx", nginx)):
        walk(server, function)
finally:
    service.terminate()
    service.wait(120)
subprocess.run(["chmod", "-R", "u+rwX", TOP], check=False)  # overlayfs leaves directories of mode 000
shutil.rmtree(TOP, ignore_errors=True)
done()
