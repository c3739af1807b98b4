#!/usr/bin/python3
"""The KWeaver sandbox runtime, /workspace/se, called as its own client (SharedEnvSandbox) calls it."""
import base64
import json
import os
import re
import signal
import socket
import struct
import threading
import time
import urllib.parse
import uuid

import client
from client import conf, done, eq, note, ok, request, wait_for

SE = "/workspace/se"


def post(path, body=None, **kw):
    return request("POST", SE + path, body, **kw)


def get(path, **kw):
    return request("GET", SE + path, **kw)


def delete(path):
    return request("DELETE", SE + path)


def sid(word="t"):
    return "%s-%s" % (word, uuid.uuid4().hex[:12])


def form(name, data, field="file"):
    edge = uuid.uuid4().hex
    head = '--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n' % (edge, field, name)
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode() + data + b"\r\n--%s--\r\n" % edge.encode(), "multipart/form-data; boundary=" + edge


def upload(s, name, data, field="file", query=""):
    body, kind = form(name, data, field)
    return post("/upload/%s%s" % (s, query), body, headers={"Content-Type": kind})


def execute(s, command, *args, **kw):
    return post("/execute/" + s, dict({"command": command, "args": list(args)}, **kw))


def code(s, text, **kw):
    return post("/execute_code/" + s, dict({"code": text}, **kw))


def out(a):
    j = a.json if isinstance(a.json, dict) else {}
    return a.status, j.get("stdout"), j.get("stderr"), j.get("returncode")


def names(s, path="", **kw):
    a = get("/files/%s%s" % (s, path), **kw)
    return sorted(f["filename"] for f in (a.json or {}).get("files", [])) if a.status == 200 else a


def lambda_(text, event=None, **kw):
    body = {"handler_code": text}
    if event is not None:
        body["event"] = event
    return post("/v2/execute_code", dict(body, **kw))


here = client.sessions_on_disk if client.STATE else client.sessions
THEIRS = here()

# --- health, the key
a = get("/healthy", key=None)
eq((a.status, a.json), (200, {"status": "success"}), "healthy")
eq(get("/workspaces", key=None).status, 403, "the key is asked for")
eq(post("/v2/execute_code", {"handler_code": "def handler(e): pass"}, key="wrong").status, 403, "and compared")

# --- sessions
S = sid("life")
a = get("/status/" + S)
eq((a.status, a.json), (200, {"id": S, "exists": False, "created_at": None, "mount_point": None, "is_mounted": False,
                              "size": None, "files": []}), "the status of none")
a = post("/session/" + S, {"size": "50M"})
eq((a.status, a.json), (200, {"session_id": S}), "a session is made")
a = post("/session/" + S, {"size": "50M"})
eq((a.status, a.detail), (400, "Session already exists: " + S), "once")
a = get("/status/" + S)
eq((a.status, a.json["exists"], a.json["is_mounted"], a.json["mount_point"], a.json["size"], a.json["files"]),
   (200, True, True, "/workspace", 50 << 20, []), "its status")
ok(abs(a.json["created_at"] - time.time()) < 60, "with the time that it was made", a)
w = get("/workspaces").json["workspaces"]
eq((w[S]["mount_point"], w[S]["created_at"]), ("/workspace", a.json["created_at"]), "the list of workspaces")
NATIVE = w[S]["session"]
eq(a.headers["X-Session-Id"], NATIVE, "the native id is in a header of the status")
eq(request("GET", "/session/%s/" % NATIVE).status, 204, "and is that of a session")
eq((delete("/session/" + S).json, delete("/session/" + S).json), ({"status": "success"}, {"status": "success"}),
   "it is deleted, twice")
eq(request("GET", "/session/%s/" % NATIVE).status, 404, "and its native one with it")
eq(get("/status/" + S).json["exists"], False, "then there is none")
eq(post("/session/" + S, {}).json, {"session_id": S}, "the name can be used again")
eq(get("/status/" + S).json["size"], 100 << 20, "without a size it has the usual one")
eq(post("/session/" + sid("bare")).status, 200, "no body at all is good, too")

for bad in ("..", ".", "a%2fb", "..%2f..%2fetc", "-x", ".hidden", "a%20b", "a%0ab", "%c3%a4", "x" * 129, "a;b", "$(id)", "*") + (("a%00b",) if client.SERVER in ("lighttpd", "nginx") else ()):  # Apache answers that itself
    for verb, path in (("POST", "/session/"), ("DELETE", "/session/"), ("GET", "/status/"), ("POST", "/execute/")):
        a = request(verb, SE + path + bad, {"command": "id"} if "exec" in path else {} if verb == "POST" else None)
        if not ok(a.status in (400, 404) and (a.status == 400 or bad in ("..", ".", "a%00b")), "%s %s%s is refused" %
                  (verb, path, bad[:20]), a):
            break
ok("Invalid session id" in str(get("/status/a%2fb").detail), "and told why", get("/status/a%2fb"))
LONG = "Az0_.-:@" * 16
eq(execute(LONG, "echo", "x").json["stdout"], "x\n", "128 characters of those that are allowed")
delete("/session/" + LONG)

for bad in ("", "M", "1X", "-5M", "5MB", "1e3", "63k", "0", "99999999999G", "400T", " 1M", "1M "):
    a = post("/session/" + sid("size"), {"size": bad})
    ok(a.status == 400 and "Invalid size" in a.detail, "the size %r is refused" % bad, a)
eq(post("/session/" + sid("size"), {"size": 5}).status, 422, "a size that is no string")
for good in ("64k", "1m", "65536", "1M"):
    T = sid("size")
    eq(post("/session/" + T, {"size": good}).status, 200, "the size %r is good" % good)
    delete("/session/" + T)

# --- files
F = sid("files")
a = post("/create/" + F, {"content": "print('hé')\n", "filename": "a.py"})
eq((a.status, a.json), (200, {"filename": "a.py", "size": 13}), "a file is made, and the session with it")
a = post("/create/" + F, {"content": "x", "filename": "sub/deep/b", "mode": 0o755})
eq((a.status, a.json), (200, {"filename": "sub/deep/b", "size": 1}), "its directories, too")
a = execute(F, "stat -c %a a.py sub/deep/b; pwd; echo $HOME $PYTHONPATH")
eq(out(a), (200, "644\n755\n/workspace\n/workspace /workspace\n", "", 0), "modes, place, HOME and PYTHONPATH")
a = upload(F, "up.bin", bytes(range(256)))
eq((a.status, a.json), (200, {"filename": "up.bin", "size": 256}), "upload")
a = upload(F, "dir/up2.bin", b"12345")
eq((a.status, a.json), (200, {"filename": "dir/up2.bin", "size": 5}), "with a directory in its name")
a = upload(F, "x", b"other", query="?filename=" + urllib.parse.quote("q/n m.txt"))
eq((a.status, a.json), (200, {"filename": "q/n m.txt", "size": 5}), "the query's filename counts")
a = upload(F, "", b"")
ok(a.status == 400 and a.detail == "No filename provided", "no name at all", a)
eq(upload(F, "x", b"", field="other").status, 422, "another field")
eq(post("/upload/" + F, b"raw", headers={"Content-Type": "application/octet-stream"}).status, 422, "no form")
a = upload(F, "empty", b"")
eq((a.status, a.json), (200, {"filename": "empty", "size": 0}), "an empty file")
a = get("/download/%s/up.bin" % F)
eq((a.status, a.body, a.headers["Content-Type"]), (200, bytes(range(256)), "application/octet-stream"), "download")
eq(a.headers["Content-Disposition"], 'attachment; filename="up.bin"', "as an attachment")
eq(a.headers["Content-Security-Policy"], "sandbox", "that is no page of ours")
eq(get("/download/%s/q/n%%20m.txt" % F).body, b"other", "a name with a space")
eq(get("/download/%s/empty" % F).body, b"", "an empty one")
a = get("/download/%s/none" % F)
eq((a.status, a.detail), (404, "File not found"), "none")
a = get("/download/%s/sub" % F)
eq((a.status, a.detail), (400, "Not a file"), "a directory")
eq(get("/download/%s/a.py/x" % F).status, 400, "below a file")

HOSTILE = ("../x", "a/../../x", "..", "", "/", "./", "x\0y", "a/" * 2100 + "b", "n" * 256)
for bad in HOSTILE:
    a = post("/create/" + F, {"content": "x", "filename": bad})
    ok(a.status == 400 and a.detail.startswith("Invalid file path: "), "create %r is refused" % bad[:12], a)
    a = code(F, "pass", filename=bad) if bad and len(bad) < 4000 and ".." in bad else None
    a is None or ok(a.status == 400, "and as the name of a script", a)
for bad in ("../x", "a/../../x", ".."):
    ok(upload(F, bad, b"x").status == 400, "upload %r is refused" % bad)
    a = upload(F, "ok", b"x", query="?filename=" + urllib.parse.quote(bad, safe=""))
    ok(a.status == 400, "and in the query", a)
    for verb in ("download", "files", "readfile"):
        a = get("/%s/%s/%s" % (verb, F, urllib.parse.quote(bad, safe="")))
        ok(a.status in (400, 404) and "root:" not in a.body.decode(), "%s %r is refused" % (verb, bad), a)
a = post("/create/" + F, {"content": "abs", "filename": "/etc/passwd"})
eq((a.status, execute(F, "cat etc/passwd; head -c 4 /etc/passwd").json["stdout"][:7]), (200, "absroot"),
   "an absolute name is one in the workspace")
execute(F, "rm -r etc")
for bad in ({}, {"content": "x"}, {"filename": "x"}, {"content": 1, "filename": "x"}, {"content": "x", "filename": "x", "mode": 0o1777},
            {"content": "x", "filename": "x", "mode": -1}):
    eq(post("/create/" + F, bad).status, 422, "create %s" % json.dumps(bad))
# links are the tenant's own: they end in its own root
execute(F, "ln -s /etc/hostname out; ln -s / top; ln -s ../../../../../../etc/passwd up; mkfifo pipe")
a = get("/download/%s/up" % F)
ok(a.status == 200 and b":1000:" in a.body and a.body == execute(F, "cat /etc/passwd").json["stdout"].encode(),
   "a link out of the workspace ends in the sandbox's own root", a)
eq(get("/download/%s/pipe" % F).status, 400, "a FIFO is no file, and holds nobody up")
execute(F, "rm out top up pipe")

eq(names(F), ["a.py", "empty", "up.bin"], "the list of files")
eq(names(F, "/"), ["a.py", "empty", "up.bin"], "with a slash")
eq(names(F, "?recursive=true"), ["a.py", "dir/up2.bin", "empty", "q/n m.txt", "sub/deep/b", "up.bin"], "recursive")
eq(get("/files/%s?recursive=perhaps" % F).status, 422, "neither yes nor no")
eq(names(F, "/sub?recursive=true"), ["sub/deep/b"], "recursive, of a directory")
eq(names(F, "/dir"), ["dir/up2.bin"], "of a directory")
eq([f for f in get("/files/" + F).json["files"] if f["filename"] == "a.py"], [{"filename": "a.py", "size": 13, "type": "py"}],
   "what is told of a file")
eq({f["filename"]: f["type"] for f in get("/files/" + F).json["files"]}, {"a.py": "py", "empty": "unknown", "up.bin": "bin"}, "its type")
eq(get("/files/%s/none" % F).status, 404, "a list of none")
eq(get("/files/%s/a.py" % F).status, 400, "of a file")
f = [f for f in get("/status/" + F).json["files"] if f["filename"] == "a.py"][0]
ok(abs(f["modified_at"] - time.time()) < 600 and f["size"] == 13 and f["type"] == "py", "the status has times", f)

# --- readfile
TEXT = "".join("line %d é€😀\n" % i for i in range(800))
post("/create/" + F, {"content": TEXT, "filename": "t.txt"})
got, at, pages = "", 0, 0
while True:
    a = get("/readfile/%s/t.txt?offset=%d&buffer_size=101" % (F, at))
    if a.status != 200 or a.json["is_binary"]:
        break
    got, at, pages = got + a.json["content"], a.json["offset"], pages + 1
    if a.json["is_eof"] or pages > 1000:
        break
eq((got, at, a.json["size"]), (TEXT, len(TEXT.encode()), len(TEXT.encode())), "pages of text make the text, characters whole")
a = get("/readfile/%s/up.bin" % F)
eq((a.json["is_binary"], base64.b64decode(a.json["content"]), a.json["offset"], a.json["size"], a.json["is_eof"]),
   (True, bytes(range(256)), 256, 256, True), "bytes are base64")
a = get("/readfile/%s/up.bin?offset=250&buffer_size=3" % F)
eq((base64.b64decode(a.json["content"]), a.json["offset"], a.json["is_eof"]), (bytes((250, 251, 252)), 253, False), "some of them")
upload(F, "latin.txt", b"caf\xe9\n")
a = get("/readfile/%s/latin.txt" % F)
eq((a.json["is_binary"], base64.b64decode(a.json["content"])), (True, b"caf\xe9\n"), "text that is no UTF-8 is not guessed at")
a = get("/readfile/%s/t.txt?offset=%d" % (F, len(TEXT.encode())))
eq((a.json["content"], a.json["is_eof"], a.json["size"]), ("", True, len(TEXT.encode())), "at the end")
a = get("/readfile/%s/t.txt?offset=999999" % F)
eq((a.json["content"], a.json["offset"], a.json["is_eof"]), ("", 999999, True), "beyond it")
a = get("/readfile/%s/empty" % F)
eq((a.json["content"], a.json["size"], a.json["is_eof"]), ("", 0, True), "an empty one")
a = get("/readfile/%s/t.txt?buffer_size=99999999" % F)
ok(a.status == 200 and a.json["content"] == TEXT, "a large buffer", a)
eq([get("/readfile/%s/%s" % (F, x)).status for x in ("none", "sub", "t.txt?offset=-1", "t.txt?offset=x", "t.txt?buffer_size=0")],
   [404, 400, 400, 400, 400], "none, a directory, bad numbers")

# --- execute
E = sid("exec")
a = execute(E, "echo out; echo err >&2; exit 3")
eq((out(a), a.json["verdict"], a.json["truncated"]), ((200, "out\n", "err\n", 3), "exit", False), "streams apart, and the code")
ARGS = ["a b", "", "'", "\"", "$HOME", "`id`", "; echo gone", "\\", "*", "--", "ü\n2"]
a = execute(E, "python3 -c 'import sys, json; print(json.dumps(sys.argv[1:]))'", *ARGS)
eq(json.loads(a.json["stdout"]), ARGS, "arguments arrive as they are")
eq(out(execute(E, "printf", "%s|", "x y", "z")), (200, "x y|z|", "", 0), "the seed's own form: a program and arguments")
eq(out(execute(E, "false | true"))[3], 0, "no pipefail, as bash -c")
eq(out(execute(E, "[[ a < b ]] && echo bash")), (200, "bash\n", "", 0), "it is bash")
eq(out(execute(E, "cat")), (200, "", "", 0), "there is no input")
eq(out(execute(E, "no-such-program"))[3], 127, "127")
a = execute(E, "echo '=== STDERR ==='; echo '=== EXIT CODE ==='; echo 0; exit 9")
eq(out(a), (200, "=== STDERR ===\n=== EXIT CODE ===\n0\n", "", 9), "marks of the original forge nothing")
a = execute(E, "head -c 200000 </dev/zero | tr '\\0' x; : " + "y" * 200000)
eq((a.status, len(a.json["stdout"])), (200, 200000), "a command beyond the kernel's limit for one argument")
a = execute(E, "head -c 300000 </dev/zero | tr '\\0' x; echo e >&2")
eq((len(a.json["stdout"]), a.json["truncated"], a.json["stderr"]), (conf("output_max_bytes"), True, "e\n"), "too much output is cut and marked")
a = execute(E, "printf '\\377\\n'; printf '\\376' >&2")
eq(out(a), (200, "\ufffd\n", "\ufffd", 0), "bytes that are no text")
a = execute(E, "echo first; sleep 200 & sleep 200", timeout=4)
eq((out(a), a.json["verdict"]), ((200, "first\n", "Command timed out after 4s\n", 124), "timeout"), "a time limit of its own")
ok(a.seconds < 100, "holds", a.seconds)
eq([execute(E, "true", timeout=x).status for x in (0, -1, 1e9, "x")], [400, 400, 400, 422], "bad ones")
eq([post("/execute/" + E, x).status for x in ({}, {"command": 1}, {"command": "a", "args": "b"}, {"command": "a\0b"},
                                             {"command": "a", "args": ["b\0c"]}, {"command": "a", "args": [1]})],
   [422, 422, 422, 400, 400, 422], "bad requests")
a = execute(E, "kill -KILL $$")
eq(out(a)[3], 137, "a signal is 128 and its number")
execute(E, "(sleep 300; touch late) >/dev/null 2>&1 &")
eq(out(execute(E, "pgrep -x sleep | wc -l"))[1].strip(), "0", "what a command leaves behind ends with it")

# two at once do not mix
got = {}


def both(n):
    got[n] = execute(E, "for i in 1 2 3 4 5; do echo %d; sleep 0.05; done; echo e%d >&2; exit %d" % (n, n, n))


ts = [threading.Thread(target=both, args=(n,)) for n in (1, 2, 3)]
[t.start() for t in ts]
[t.join() for t in ts]
eq([out(got[n]) for n in (1, 2, 3)], [(200, "%d\n" % n * 5, "e%d\n" % n, n) for n in (1, 2, 3)], "commands of one session at once")

# --- execute_code
X = sid("code")
eq(out(code(X, "print('hi')\nimport sys\nprint('e', file=sys.stderr)")), (200, "hi\n", "e\n", 0), "python")
eq(names(X), [], "code without a name leaves no file")
a = code(X, "import sys\nprint(sys.argv, __file__, __name__)", filename="dir/my", args=["1", "a b"])
eq(out(a)[1], "['/workspace/dir/my.py', '1', 'a b'] /workspace/dir/my.py __main__\n", "its name and arguments")
eq(names(X, "?recursive=true"), ["dir/my.py"], "code with a name is a file")
eq(out(code(X, "import mod\nprint(mod.X)", filename="m"))[3], 1, "a module that is not there") 
post("/create/" + X, {"content": "X = 42", "filename": "mod.py"})
eq(out(code(X, "import mod\nprint(mod.X)")), (200, "42\n", "", 0), "a module of the workspace")
a = code(X, "def f():\n    raise ValueError('no')\nf()\n", filename="boom.py")
ok(a.json["returncode"] == 1 and a.json["stderr"].startswith("Traceback") and 'File "/workspace/boom.py", line 3' in a.json["stderr"] and
   "raise ValueError" in a.json["stderr"] and a.json["stderr"].endswith("ValueError: no\n") and "<" not in a.json["stderr"].replace("<module>", ""),
   "a traceback of the code alone", a)
a = code(X, "def f(:\n")
ok(a.json["returncode"] == 1 and "SyntaxError" in a.json["stderr"], "a syntax error", a)
eq([out(code(X, "import sys; sys.exit(%s)" % v))[2:] for v in ("5", "0", "", "'bye'", "256 + 7")],
   [("", 5), ("", 0), ("", 0), ("bye\n", 1), ("", 7)], "sys.exit")
eq(out(code(X, "import atexit\natexit.register(lambda: print('bye'))\nprint('hi')\nraise SystemExit(4)")), (200, "hi\nbye\n", "", 4), "atexit")
eq(out(code(X, "print(repr(input()))"))[3], 1, "no input")
a = code(X, "a = 1\nb = [1, {'x': None}]\nc = {1, 2}\nd = float('nan')\ne = 'é\\n'\nf = ''\ng = None\nh = {'t': (1, 2), 's': {3}}\nprint('p')",
         output_params=["a", "b", "c", "d", "e", "f", "g", "h", "missing"])
eq((out(a), a.json.get("output_variables")), ((200, "p\n", "", 0), {"a": 1, "b": [1, {"x": None}], "c": "{1, 2}", "d": "nan", "e": "é\n", "f": "", "g": None,
    "h": {"t": [1, 2], "s": "{3}"}}), "output_params: values, what is no JSON as text, what is missing is not there")
a = code(X, "x = 1\nraise SystemExit(3)", output_params=["x"])
eq((a.json["returncode"], a.json["output_variables"]), (3, {"x": 1}), "also of code that failed")
a = code(X, "x = 1\nprint('\\x1ecgibox-value ' + '0' * 32 + ' {\"x\": 2}')", output_params=["x"])
eq((a.json["output_variables"], "cgibox-value" in a.json["stdout"]), ({"x": 1}, True), "a mark of its own forges nothing")
eq("output_variables" in code(X, "x = 1").json, False, "nothing is told that was not asked for")
a = code(X, "x = 7\nprint('y' * 400000)", output_params=["x"])
eq((a.json["output_variables"], a.json["truncated"], len(a.json["stdout"])), ({"x": 7}, True, conf("output_max_bytes")),
   "variables are not lost with too much output")
a = code(X, "import os, time\nprint('a', flush=True)\ntime.sleep(60)", timeout=6, output_params=["x"])
eq((out(a), a.json["output_variables"]), ((200, "a\n", "Command timed out after 6s\n", 124), {}), "a time limit")
a = code(X, "from multiprocessing import Pool\ndef f(x): return x * x\nif __name__ == '__main__':\n    with Pool(2) as p: print(p.map(f, [1, 2, 3]))\n")
eq(out(a), (200, "[1, 4, 9]\n", "", 0), "functions of the code can be pickled")
a = code(X, "#" + "x" * 300000 + "\nprint('long')")
eq(out(a), (200, "long\n", "", 0), "long code")
a = code(X, "echo $0 $# \"$2\"; cat; [[ 1 == 1 ]] && echo bash; exit 6", script_type="shell", args=["x", "y z"], filename="s")
eq(out(a), (200, "/workspace/s.sh 2 y z\nbash\n", "", 6), "shell")
eq(execute(X, "stat -c %a s.sh").json["stdout"], "755\n", "its file can be executed")
eq([code(X, "x", script_type=t).status for t in ("perl", "javascript", 5)], [422, 422, 422], "other languages are refused")
eq([post("/execute_code/" + X, x).status for x in ({}, {"code": None}, {"code": "a\0b"}, {"code": "a", "args": 1}, {"code": "a", "output_params": "x"})],
   [422, 422, 400, 422, 422], "bad requests")

# --- two sessions do not see each other
A, B = sid("a"), sid("b")
post("/create/" + A, {"content": "secret", "filename": "s.txt"})
execute(A, "echo t > /tmp/t; echo h > ~/h")
eq(out(execute(B, "ls -A /workspace /tmp; cat /tmp/t; cat s.txt 2>/dev/null; ls -d /tmp/sandbox_* 2>/dev/null"))[1].replace("/workspace:\n", "").replace("/tmp:\n", "").strip(),
   "", "a session sees nothing of another one")
eq((names(B), get("/download/%s/s.txt" % B).status), ([], 404), "nor do its files")
eq(sorted(set((A, B)) & set(get("/workspaces").json["workspaces"])), sorted((A, B)), "both are listed")

# --- sizes
Z = sid("size")
post("/session/" + Z, {"size": "2M"})
a = upload(Z, "a", b"x" * (2097152 + 1))
eq(a.status, 507, "a byte more than the size")
ok("No space" in a.detail, "says why", a)
eq(upload(Z, "a", b"x" * 2097152).status, 200, "as much as the size")
eq(post("/create/" + Z, {"content": "x", "filename": "b"}).status, 507, "then it is full")
eq(code(Z, "pass", filename="c").status, 507, "for scripts, too")
eq(out(execute(Z, "rm a; ls"))[:2], (200, ""), "a command makes room")
eq(post("/create/" + Z, {"content": "x", "filename": "b"}).status, 200, "and there is room")
a = execute(Z, "for i in $(seq 300); do head -c 100000 /dev/zero > f$i; sleep 0.05; done; echo done")
eq((a.status, a.json.get("verdict"), "disk limit" in a.json.get("stderr", "")), (200, "disk", True), "a command that passes the size is ended")
st = request("GET", "/session/%s/status" % get("/workspaces").json["workspaces"][Z]["session"]).json
eq(st["limits"]["disk_bytes"], 2097152, "the native status tells the limit")
many = sid("many")
post("/session/" + many, {"size": "1M"})
codes = [post("/create/" + many, {"content": "x" * 4000, "filename": "f%d" % i}).status for i in range(320)]
ok(codes[:100] == [200] * 100 and codes[-1] == 507 and codes.index(507) <= 300, "many small files are counted: full after %d" %
   (codes.index(507) if 507 in codes else -1))

# --- one session, all dialects
a = request("POST", "/session/%s/" % w.get(E, get("/workspaces").json["workspaces"][E])["session"], {"commands": ["pwd -P; ls /repo/ | head -1; echo hello > from-daiv"]})
eq((a.status, a.json["results"][0]["output"].split("\n")[0]), (200, "/workspace"), "the daiv routes work in the same session")
eq(get("/download/%s/from-daiv" % E).body, b"hello\n", "and what they write is here")
NE = get("/workspaces").json["workspaces"][E]["session"]
eq(request("GET", "/session/%s/files/workspace/from-daiv" % NE).body, b"hello\n", "native files, too")
a = request("POST", "/session/%s/fork" % NE, {})
child = a.json["session_ids"][0]
eq(request("GET", "/session/%s/files/workspace/from-daiv" % child).body, b"hello\n", "a fork has its files")
request("DELETE", "/session/%s/" % child)
request("DELETE", "/session/%s/" % NE)
eq((get("/status/" + E).json["exists"], E in get("/workspaces").json["workspaces"]), (False, False), "deleted natively, it is gone here")
eq(out(execute(E, "ls; echo new")), (200, "new\n", "", 0), "and the name makes a new one")

# --- made by many requests at once, it is one
R = sid("race")
got = {}


def racer(n):
    got[n] = post("/create/" + R, {"content": str(n), "filename": "f%d" % n})


ts = [threading.Thread(target=racer, args=(n,)) for n in range(4)]
[t.start() for t in ts]
[t.join() for t in ts]
ok(all(a.status == 200 for a in got.values()), "four first requests at once", *got.values())
eq(names(R), ["f%d" % n for n in range(4)], "are one session")
request("DELETE", "/session/%s/" % get("/workspaces").json["workspaces"][R]["session"])
ts = [threading.Thread(target=racer, args=(n,)) for n in range(4)]
[t.start() for t in ts]
[t.join() for t in ts]
ok(all(a.status == 200 for a in got.values()) and names(R) == ["f%d" % n for n in range(4)], "and again when it has gone", names(R), *got.values())
if client.STATE:
    there = {d for d in os.listdir(client.STATE + "/sessions") if d[0] != "."}
    listed = {x["session"] for x in get("/workspaces").json["workspaces"].values()}
    ok(listed <= there, "no session is named that is not there")

# --- v2: handler(event)
H = "def handler(event):\n    print('out')\n    return {'got': event}\n"
a = lambda_(H, {"name": "é", "n": [1, 2.5, None]})
eq((a.status, a.json["stdout"], a.json["stderr"], a.json["result"], a.json["exit_code"]),
   (200, "out\n", "", {"got": {"name": "é", "n": [1, 2.5, None]}}, 0), "handler(event)")
m = a.json["metrics"]
ok(list(m) == ["duration_ms", "memory_peak_mb", "cpu_time_ms", "timeout_seconds"] and m["duration_ms"] > 0 and
   m["cpu_time_ms"] > 0 and m["memory_peak_mb"] > 1 and m["timeout_seconds"] == 300, "metrics", m)
eq(lambda_(H).json["result"], {"got": {}}, "no event is an empty one")
LARGE = 123456789012345678901234567890
a = post("/v2/execute_code", ('{"handler_code": %s, "event": {"n": %d, "x": 0.1, "event": [1e2]}}' % (json.dumps(H), LARGE)).encode(),
         headers={"Content-Type": "application/json"})
eq((a.status, json.loads(a.body)["result"]), (200, {"got": {"n": LARGE, "x": 0.1, "event": [100.0]}}), "numbers beyond 64 bits arrive")
a = post("/v2/execute_code", ('{"handler_code": %s, "\\u0065vent": {"a": 1}}' % json.dumps(H)).encode(), headers={"Content-Type": "application/json"})
eq(a.json["result"], {"got": {"a": 1}}, "a name written with escapes")
eq(lambda_(H, {"__timeout": 7}).json["result"], {"got": {"__timeout": 7}}, "__timeout stays in the event")
eq([lambda_(H, {"__timeout": t}).json["metrics"]["timeout_seconds"] for t in (7, 0, -3, 99999, 1.5)], [7, 300, 300, 3600, 1.5], "its meaning")
eq(lambda_(H, {"__timeout": "x"}).status, 422, "one that is no number")
eq([lambda_("def handler(event): return %s" % v).json["result"] for v in ("0", "False", "''", "[]", "{}", "None")],
   [0, False, "", [], {}, None], "falsy results are kept")
a = lambda_("def handler(event):\n    raise KeyError('k')\n")
ok(a.status == 200 and a.json["result"] is None and "KeyError" in a.json["stderr"] and a.json["exit_code"] == 2, "a handler that fails", a)
a = lambda_("x = 1")
ok(a.status == 200 and a.json["result"] is None and a.json["exit_code"] == 1 and "handler" in a.json["stderr"], "no handler", a)
a = lambda_("def handler(:")
ok(a.status == 200 and "SyntaxError" in a.json["stderr"] and a.json["exit_code"] == 1, "bad code", a)
a = lambda_("def handler(event): return {1, 2}")
ok(a.status == 200 and a.json["result"] is None and a.json["exit_code"] == 3 and a.json["stderr"], "a result that is no JSON", a)
a = lambda_("import sys\ndef handler(event): sys.exit(9)")
eq((a.status, a.json["exit_code"], a.json["result"]), (200, 9, None), "sys.exit")
a = lambda_("import time\ndef handler(event):\n    time.sleep(200)", {"__timeout": 1})
eq((a.status, a.detail["error_code"], a.detail["error_detail"]), (500, "Sandbox.ExecTimeout", "Execution timed out after 1 seconds"), "a timeout")
eq(sorted(a.detail), ["description", "error_code", "error_detail", "solution"], "in the original's form")
ok(a.seconds < 100, "in time", a.seconds)
a = lambda_("import os, signal\ndef handler(event): os.kill(os.getpid(), signal.SIGKILL)")
eq((a.status, a.json["exit_code"], a.json["result"]), (200, 137, None), "a handler that is killed")
big = {"x": "y" * 500000}
eq(lambda_("def handler(event): return len(event['x'])", big).json["result"], 500000, "a large event")
a = lambda_("def handler(event):\n    print('z' * 400000)\n    return 5")
eq((a.json["result"], a.json["truncated"], len(a.json["stdout"])), (5, True, conf("output_max_bytes")), "too much output does not lose the result")
a = lambda_("import os\ndef handler(event):\n    open('f', 'w').write('x')\n    return [os.getcwd(), os.listdir('.'), os.listdir('/tmp')]")
b = lambda_("import os\ndef handler(event): return [os.getcwd(), os.listdir('.'), os.listdir('/tmp')]")
eq((a.json["result"], b.json["result"]), (["/workspace", ["f"], []], ["/workspace", [], []]), "each call has a sandbox of its own")
eq(lambda_(H, {}, context={"function_name": "f"}).status, 200, "a context is accepted")
eq([post("/v2/execute_code", x).status for x in ({}, {"handler_code": 1}, {"handler_code": H, "event": []}, {"handler_code": H, "event": "x"},
                                                {"handler_code": H, "context": 3}, {"handler_code": "a\0b"})],
   [422, 422, 422, 422, 422, 422], "bad requests")

# a client that goes away leaves nothing
def sessions():
    """Those made here, but for the workspaces'."""
    return here() - THEIRS - kept


def hang():
    return lambda_("import time\ndef handler(event): time.sleep(100)")


kept = {x["session"] for x in get("/workspaces").json["workspaces"].values()}
ok(wait_for(lambda: not sessions(), 60), "finished calls leave no session", sessions())


def fastcgi(body):
    """The request on a FastCGI connection of one's own: most web servers do not tell when a client has gone."""
    found = [os.path.join(client.STATE, "web", d, "cgibox.sock") for d in ("sock", "")]
    with open(os.path.join(client.STATE, "web", "lighttpd.conf")) as f:
        found += re.findall(r"[^\s\"':]*/cgibox\.sock", f.read())

    def pair(k, v):
        return bytes((len(k), len(v))) + k.encode() + v.encode()

    def rec(kind, data=b""):
        return struct.pack(">BBHHBB", 1, kind, 1, len(data), 0, 0) + data

    v = {"REQUEST_METHOD": "POST", "REQUEST_URI": SE + "/v2/execute_code", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
         "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json", "HTTP_X_API_KEY": client.KEY}
    s = socket.socket(socket.AF_UNIX)
    s.connect([x for x in found if os.path.exists(x)][0])
    s.sendall(rec(1, struct.pack(">HB5x", 1, 0)) + rec(4, b"".join(pair(*x) for x in v.items())) + rec(4) + rec(5, body) + rec(5))
    return s


if client.STATE and client.SERVER == "lighttpd":
    s = fastcgi(json.dumps({"handler_code": "import time\ndef handler(event): time.sleep(100)"}).encode())
    ok(wait_for(lambda: len(sessions()) == 1, 60), "while one runs there is a session for it")
    s.close()
    ok(wait_for(lambda: not sessions(), 60), "who asked is gone: it goes", sessions())

# so does one whose worker is killed
if client.STATE and os.environ.get("CGIBOX_TEST_PID") and not client.SELF_STARTING:
    def workers():
        """Processes of this service by who is whose child: workers are main's, and main the supervisor's."""
        all_ = client.processes()
        ours = {p: v for p, v in all_.items() if client.STATE in client.cmdline(p) and
                os.path.basename(client.cmdline(p)[0]) == "cgibox.fcgi"}
        return [p for p, v in ours.items() if v[0] in ours and ours[v[0]][0] in ours and v[2] not in ("cgibox-keeper", "cgibox-tree")
                and ours[v[0]][2] != "cgibox-keeper" and ours[ours[v[0]][0]][2] != "cgibox-keeper"]

    t = threading.Thread(target=lambda: got.__setitem__("killed", hang()))
    t.start()
    wait_for(sessions, 60)
    for p in workers():
        os.kill(p, signal.SIGKILL)
    t.join()
    ok(got["killed"].status in (500, 502, 503), "a worker that is killed answers nothing false", got["killed"])
    ok(wait_for(lambda: request("GET", "/system/").status == 200, 60) and wait_for(lambda: not sessions(), 60),
       "and leaves no session", sessions())

# --- the vendor's store
a = post("/download_from_efast/" + F, {"file_params": [{"docid": "gns://1", "savename": "x"}]})
ok(a.status == 501 and "not supported" in a.detail, "download_from_efast is refused with a reason", a)

# --- cleanup-all
slow = threading.Thread(target=lambda: got.__setitem__("slow", execute(A, "touch began; until [ -e go ]; do sleep 0.05; done; echo end")))
slow.start()
wait_for(lambda: "began" in str(names(A)), 60)  # 409 while its sandbox takes long to start
a = post("/cleanup-all", {"force": False})
total = a.json["total"]
ok(a.status == 200 and [x.split(":")[0] for x in a.json["skipped"]] == [A] and a.json["failed"] == [] and
   a.json["success"] == total - 1 and total > 5, "clean-up leaves what runs", a)
post("/create/" + A, {"content": "", "filename": "go"})
slow.join()
eq(out(got["slow"]), (200, "end\n", "", 0), "which goes on")
eq(list(get("/workspaces").json["workspaces"]), [A], "the others are gone")
slow = threading.Thread(target=lambda: got.__setitem__("slow", execute(A, "touch again; sleep 300; echo end")))
slow.start()
wait_for(lambda: "again" in names(A), 60)
a = post("/cleanup-all", {"force": True})
eq((a.status, a.json), (200, {"total": 1, "success": 1, "failed": [], "skipped": []}), "with force all go")
slow.join()
note("its client got: %r" % got["slow"])
ok(got["slow"].status != 200 or got["slow"].json["verdict"] == "killed", "the client of what ran learns it", got["slow"])
eq((get("/workspaces").json, post("/cleanup-all").json["total"]), ({"workspaces": {}}, 0), "nothing is left")
kept = set()
ok(wait_for(lambda: not sessions(), 60), "and no session of ours", sessions())
eq([post("/healthy").status, get("/execute/x").status, get("/nothing").status], [405, 405, 404], "other methods and paths")
done()
