#!/usr/bin/python3
"""POST /run/commands/ and /run/code/, the first generation's: schemas, results, changed files, nothing left."""
import io
import os
import signal
import tarfile
import threading
import time
import uuid

import client
from client import IMAGE, b64, eq, ok, request, tar, wait_for


def commands(cmds, files=None, **more):
    body = {"run_id": str(uuid.uuid4()), "base_image": IMAGE, "commands": cmds,
            "archive": b64(tar(files if files is not None else {"a.txt": b"a\n"}))}
    body.update(more)
    return request("POST", "/run/commands/", body)


def code(text, language="python", **more):
    body = {"run_id": str(uuid.uuid4()), "language": language, "code": text}
    body.update(more)
    return request("POST", "/run/code/", body)


def changed(a):
    """name -> contents of the archive of an answer; None when it is null."""
    if a.json["archive"] is None:
        return None
    import base64
    raw = base64.b64decode(a.json["archive"], validate=True)
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as t:
        ok(all(m.isreg() for m in t), "regular files alone")
        return {m.name: t.extractfile(m).read() for m in t}


def new():
    """Sessions made since this file began. Those of other files may end meanwhile."""
    return client.sessions_on_disk() - before


def gone(what):
    wait_for(lambda: not new(), 60)
    eq(new(), set(), what)


def while_it_runs():
    ok(wait_for(new, 60), "a session is there while it runs")


before = client.sessions_on_disk()
listed = client.sessions()

# --- results ---
a = commands(["cat a.txt", "exit 3", "echo out; echo err >&2; pwd"])
ok(a.status == 200, "three commands", a)
eq([sorted(r) for r in a.json["results"]], [["command", "exit_code", "output"]] * 3, "the original's members")
eq([r["exit_code"] for r in a.json["results"]], [0, 3, 0], "all run, whatever the codes")
eq([r["output"] for r in a.json["results"]], ["a\n", "", "out\nerr\n/repo\n"], "outputs, merged")
eq(sorted(a.json), ["archive", "results"], "the answer's members")
eq(a.json["archive"], None, "no file was changed")

a = commands(["printf 'x\\377y'", "no-such-command-x"])
eq([(r["output"][:3], r["exit_code"]) for r in a.json["results"]][0], ("x\ufffdy", 0), "output that is no UTF-8 (the original: 500)")
eq(a.json["results"][1]["exit_code"], 127, "a command that is missing")
a = commands([])
ok(a.status == 200 and a.json == {"results": [], "archive": None}, "no commands (the original: 500)", a)

# --- changed files: of the last command alone ---
files = {"a.txt": b"a\n", "b.txt": b"b\n", "d/c.txt": b"c\n", ".hidden": b"h\n", ".git/x": b"x\n"}
a = commands(["echo first > first.txt; echo x >> b.txt", "echo last > last.txt; echo y >> a.txt; mkdir -p e/f; echo z > e/f/z; "
              "echo h > .hidden; echo h > .git/x; mkdir .n; echo n > .n/n; ln -s a.txt link; mkfifo p; rm d/c.txt; cat b.txt"], files)
eq(a.json["results"][1]["output"], "b\nx\n", "files carry over")
eq(changed(a), {"last.txt": b"last\n", "a.txt": b"a\ny\n", "e/f/z": b"z\n"}, "what the last command changed")
a = commands(["true", "touch -d '2001-01-01' old.txt; echo same > a.txt"], {"a.txt": b"same\n"})
eq(changed(a), {"old.txt": b"", "a.txt": b"same\n"}, "times that a command sets hide nothing")
for i in range(5):
    a = commands(["echo 1 > one", "true"])
    if a.json["archive"] is not None:
        break
eq(a.json["archive"], None, "what the command before changed is never in it")
a = commands(["head -c 3000000 /dev/urandom > big; sha256sum < big"])
import hashlib
eq(hashlib.sha256(changed(a)["big"]).hexdigest(), a.json["results"][0]["output"].split()[0], "3 MB, byte by byte")
many = {"t/%d/%d" % (i % 40, i): b"x" for i in range(2500)}
a = commands(["echo new > t/1/new; echo y > t/2/2; rm t/3/3"], many)
eq(changed(a), {"t/1/new": b"new\n", "t/2/2": b"y\n"}, "of a large archive")
a = commands(["(sleep 0.2; echo late > late) & true"])
ok(a.status == 200, "a command leaves a process behind", a)

# --- the working directory ---
files = {"src/m.py": b"", "a": b""}
eq(commands(["pwd; echo > new"], files, workdir="src").json["results"][0]["output"], "/repo/src\n", "workdir, relative")
eq(changed(commands(["echo n > new"], files, workdir="./src/")), {"src/new": b"n\n"}, "names begin at the run's directory")
eq(commands(["pwd"], files, workdir="/tmp").json["results"][0]["output"], "/tmp\n", "an absolute one replaces it")
eq(commands(["pwd"], files, workdir=None).json["results"][0]["output"], "/repo\n", "null is none")
eq(commands(["pwd"], files, workdir="../x").status, 422, "no ..")
eq(commands(["pwd"], files, workdir="//tmp").status, 422, "nor two slashes")

# --- what is refused, and how ---
def problem(a, what):
    if not ok(a.status == 422 and isinstance(a.detail, list) and len(a.detail) == 1, what, a):
        return {}
    return a.detail[0]

p = problem(commands(["true"], run_id="x"), "run_id: no UUID")
eq((p.get("type"), p.get("loc"), p.get("msg")), ("uuid_parsing", ["body", "run_id"],
   "Input should be a valid UUID, invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-], found `x` at 1"),
   "in the original's words")
p = problem(commands(["true"], run_id=""), "run_id: empty")
eq(p.get("msg"), "Input should be a valid UUID, invalid length: expected length 32 for simple format, found 0", "its length")
p = problem(commands(["true"], run_id="00000000-0000-1000-8000-000000000000"), "run_id: version 1")
eq((p.get("type"), p.get("msg"), p.get("ctx")), ("uuid_version", "UUID version 4 expected", {"expected_version": 4}), "its version")
p = problem(commands(["true"], run_id=5), "run_id: a number")
eq(p.get("type"), "uuid_type", "its type")
eq(commands(["true"], run_id=uuid.uuid4().hex).status, 200, "run_id without hyphens")
p = problem(commands("true"), "commands: a string")
eq(p.get("type"), "list_type", "no list")
p = problem(commands(["true"], archive="a"), "archive: no base64")
eq((p.get("type"), p.get("loc")), ("base64_decode", ["body", "archive"]), "named")
p = problem(request("POST", "/run/commands/", {"run_id": str(uuid.uuid4()), "base_image": IMAGE, "commands": []}), "no archive")
eq((p.get("type"), p.get("loc")), ("missing", ["body", "archive"]), "it is required")
a = commands(["true"], archive=b64(b"no tar" * 200))
ok(a.status == 422 and "archive is invalid" in str(a.detail), "an archive that is none", a)
p = problem(commands(["true"], base_image="no-such-image-x"), "an image that is not there")
eq(p.get("loc"), ["body", "base_image"], "named")
eq(request("POST", "/run/commands/", {}, key="wrong").detail, "Invalid API Key", "a wrong key")
eq(request("POST", "/run/code/", {}, key=None).detail, "API Key header is missing", "no key")
eq(request("GET", "/run/code/").status, 405, "another method")

# --- code ---
a = code("import sys\nprint('hi', sys.version_info[0], flush=True)\nprint('e', file=sys.stderr)")
ok(a.status == 200 and sorted(a.json) == ["output"], "python", a)
eq(a.json["output"], "hi 3\ne\n", "its output")
a = code("print('before')\nraise SystemExit(7)")
eq((a.status, a.detail), (400, "before\n"), "a code other than 0: 400 with the output")
a = code("1/0")
ok(a.status == 400 and "ZeroDivisionError" in a.detail and 'File "/repo/main.py", line 1' in a.detail, "a traceback", a)
eq(code("echo $((6*7)); pwd", "shell").json, {"output": "42\n/repo\n"}, "shell")
if client.image_has("node"):
    eq(code("console.log([1, 2].map(x => x * 2))", "javascript").json, {"output": "[ 2, 4 ]\n"}, "javascript")
elif IMAGE == "host":
    client.skip("no node here")
else:
    client.note("the image has no node")
p = problem(code("", "cobol"), "a language that is none")
eq((p.get("type"), p.get("loc"), p.get("msg")), ("literal_error", ["body", "language"],
   "Input should be 'python', 'javascript', 'shell' or 'awk'"), "those of the table are named, the operator's with them")
eq(code("BEGIN { print 6 * 7 }", "awk").json, {"output": "42\n"}, "a language of sandbox.conf")
eq(code("").json, {"output": ""}, "no code at all")
eq(code("print('ü€\\0'.encode())\nprint(len('''%s'''))" % ("x" * 200000)).json["output"], "b'\\xc3\\xbc\\xe2\\x82\\xac\\x00'\n200000\n", "large code")
p = problem(code("1", dependencies=["-r /etc/passwd"]), "a dependency that is an option")
eq(p.get("loc"), ["body", "dependencies", 0], "by its place")
a = code("1", dependencies=["demo"])
ok(a.status == 422 and ("network = none" if client.can("dependencies") else '"dependencies"') in str(a.detail), "dependencies where there is no network", a)
p = problem(code("1", "shell", dependencies=["x"]), "dependencies of a language without an installer")
eq(p.get("loc"), ["body", "dependencies"], "named")

# --- nothing is left, nor when the client goes, nor when the worker dies ---
if client.STATE:
    gone("no session is left behind")
eq(client.sessions() - listed, set(), "nor listed")

c = client.connect()
import json
c.request("POST", client.PREFIX + "/run/commands/", json.dumps({"run_id": str(uuid.uuid4()), "base_image": IMAGE,
          "commands": ["sleep 3"], "archive": b64(tar({"a": b""}))}), {"X-API-Key": client.KEY, "Content-Type": "application/json"})
if client.STATE:
    while_it_runs()
else:
    time.sleep(0.5)
c.close()
if client.STATE:
    gone("a client that hangs up leaves nothing")


def workers():
    """Pids of our workers: children of main, which is a child of the supervisor."""
    me, out = int(os.environ.get("CGIBOX_TEST_PID", "0")), []
    tree = {}
    for n in os.listdir("/proc"):
        if n.isdigit():
            try:
                with open("/proc/%s/stat" % n) as f:
                    s = f.read()
            except OSError:
                continue
            tree.setdefault(int(s.rpartition(")")[2].split()[1]), []).append((int(n), s[s.index("(") + 1:s.rindex(")")]))
    todo = [me]
    while todo:
        for pid, name in tree.get(todo.pop(), []):
            todo.append(pid)
            out.append((pid, name))
    return out


found = [pid for pid, name in workers() if name == "cgibox-worker"]
if not client.STATE or not found:
    client.skip("the workers are not ours to end")
else:
    t = threading.Thread(target=lambda: commands(["sleep 30"]))
    t.start()
    while_it_runs()
    for pid, name in workers():
        if name == "cgibox-worker":
            os.kill(pid, signal.SIGKILL)
    t.join()
    gone("a worker that is killed leaves nothing")
    t = threading.Thread(target=lambda: commands(["sleep 30"]))
    t.start()
    while_it_runs()
    for pid, name in workers():
        if name == "cgibox-keeper":
            os.kill(pid, signal.SIGKILL)
    t.join()
    wait_for(lambda: commands(["echo again"]).status == 200, 60, 0.1)
    a = commands(["echo again"])
    ok(a.status == 200 and a.json["results"][0]["output"] == "again\n", "a new keeper serves", a)
    gone("and what the killed one had left is gone")
eq(code("print(1)").json, {"output": "1\n"}, "and it goes on")
client.done()
