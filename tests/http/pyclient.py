#!/usr/bin/python3
"""The Python client library against the service: sync, async, through connections that break."""
import asyncio
import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse

from client import HERE, IMAGE, KEY, URL, done, eq, ok

sys.path.insert(0, os.environ.get("CGIBOX_TEST_PYTHON") or os.path.join(HERE, "../../scripts/python"))
import cgibox  # noqa: E402
from cgibox import archive  # noqa: E402


class Front:
    """Stands before the service and passes bytes on. cut: bytes of each answer's connection after which it is reset; busy: how many
    requests get a 503 that says when to ask again, and never reach the service."""

    def __init__(self, cut=0, busy=0, after="0"):
        self.cut, self.busy, self.after, self.seen = cut, busy, after, 0
        self.at = urllib.parse.urlsplit(URL)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            c, _ = self.listener.accept()
            self.seen += 1
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        if self.busy > 0:
            self.busy -= 1
            c.recv(65536)
            c.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %s\r\nContent-Length: 17\r\n\r\n{\"detail\":\"busy\"}" % self.after.encode())
            c.close()
            return
        up = socket.create_connection((self.at.hostname, self.at.port or 80))
        threading.Thread(target=self.pump, args=(c, up, 0), daemon=True).start()
        self.pump(up, c, self.cut)

    @staticmethod
    def pump(a, b, cut):
        left = cut
        try:
            while True:
                data = a.recv(min(4096, left) if cut else 65536)
                if not data:
                    break
                b.sendall(data)
                left -= len(data)
                if cut and left <= 0:
                    break
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def raises(kind, call, what, text=""):
    try:
        got = call()
        ok(False, what, "no exception", got)
    except Exception as e:
        ok(type(e) is kind and text in str(e), what, type(e), e)
        return e
    return None


c = cgibox.Client(URL, KEY)
ok(c.health() and c.version().startswith("v"), "health and version")
ok(c.system()["backend"] and "cgibox_up" in c.metrics(), "system and metrics")

# --- sessions and commands
with tempfile.TemporaryDirectory() as d:
    os.mkdir(d + "/sub")
    with open(d + "/sub/a.txt", "w") as f:
        f.write("one\n")
    os.symlink("sub/a.txt", d + "/link")
    os.link(d + "/sub/a.txt", d + "/twin")
    os.mkfifo(d + "/fifo")
    with open(d + "/skip.o", "w") as f:
        f.write("x")
    packed = archive.pack(d, exclude=["*.o"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as t:
        eq(sorted(t.getnames()), ["link", "sub", "sub/a.txt", "twin"], "pack: files, directories and links")
    subprocess.run(["git", "init", "-q", d], check=True)
    with open(d + "/.gitignore", "w") as f:
        f.write("sub/b*\n")
    with open(d + "/sub/big", "w") as f:
        f.write("x")
    with tarfile.open(fileobj=io.BytesIO(archive.pack(d))) as t:
        eq(sorted(t.getnames()), [".gitignore", "link", "skip.o", "sub/a.txt", "twin"], "in a work tree what git would take")
    with tarfile.open(fileobj=io.BytesIO(archive.pack(d, all=True))) as t:
        eq(sorted(t.getnames()), [".gitignore", "link", "skip.o", "sub", "sub/a.txt", "sub/big", "twin"], "or all of it")
with c.session(IMAGE, extract_patch=True, environment={"A": "b"}) as s:
    r = s.commands(["echo $A", "exit 3", "echo two >>sub/a.txt"], archive=packed)
    eq([(x.output, x.exit_code, x.verdict) for x in r.results], [("b\n", 0, "ok"), ("", 3, "exit"), ("", 0, "ok")], "commands")
    ok(not r.ok and b"+two" in r.patch, "and their patch", r)
    ok(s.exists() and s.id in [i.session_id for i in c.sessions()], "the session is listed")
    eq(c.attach(s.id).commands(["cat sub/a.txt"]).results[0].output, "one\ntwo\n", "attached by its id")
    gone = s
eq(gone.exists(), False, "a session ends with its block")
raises(cgibox.SandboxNotFoundError, lambda: gone.commands(["true"]), "and then is not found", "404")

with c.session(IMAGE, live=True) as s:
    # --- runs
    r = s.run("echo out; echo err >&2; exit 5")
    eq((r.stdout, r.stderr, r.exit_code, r.verdict, r.ok, r.lost), (b"out\n", b"err\n", 5, "exit", False, False), "a run")
    eq(s.run(["sh", "-c", 'printf %s "$1$V"', "x", "a b"], env={"V": "c"}).stdout, b"a bc", "with arguments and variables")
    eq(s.run("cat", stdin="h\u00e9\n").stdout.decode(), "h\u00e9\n", "and input")
    pieces = []
    r = s.run("printf '\\377\\000'; sleep 3; printf b", on_output=pieces.append)
    eq((r.stdout, b"".join(p.data for p in pieces), len(pieces) > 1), (b"\xff\0b", b"\xff\0b", True), "bytes, as they come")
    run = s.start("while read x; do echo got $x; done; echo end", stdin_open=True)
    eq(run.write(b"1\n") + run.write("2\n", eof=True), 4, "input in pieces")
    eq(run.follow().stdout, b"got 1\ngot 2\nend\n", "until its end")
    run = s.start("sleep 60")
    raises(cgibox.SandboxTimeoutError, lambda: run.wait(0.3), "wait has a time", "has not ended in 0.3 s")
    run.signal("TERM")
    eq((run.wait(60).verdict, run.info().signal), ("killed", 15), "a signal ends it")
    eq(s.get_run(run.id).info().id in [i.id for i in s.runs()], True, "runs are listed")
    run.delete()
    raises(cgibox.SandboxNotFoundError, run.info, "a deleted run")
    run = s.start("stty size; read x; stty size", pty={"rows": 10, "cols": 20})
    out = run.output()
    first = next(out).data
    run.resize(11, 22)
    run.write("\n")
    ok(b"10 20" in first and b"11 22" in b"".join(p.data for p in out), "a terminal and its size", first)
    raises(cgibox.SandboxOperationError, lambda: run.signal("TERM"), "no signal to what has ended", "409")
    raises(cgibox.SandboxValidationError, lambda: s.run("true", timeout=-1), "a bad timeout", "422")
    e = raises(cgibox.SandboxOperationError, lambda: s.run(["/no/such/program"]) if s.run(["/no/such/program"]).exit_code != 127
               else s.files.call("read", path="/workspace/none/../x"), "an fs verb's error", "fs/read")
    eq(e.detail, "invalid_path", "has its code")

    # --- files
    f = s.files
    put = f.write("/repo/d/a.bin", bytes(range(256)), mode=0o600)
    eq((put["size"], f.read("/repo/d/a.bin"), f.read("d/a.bin", 10, 3)), (256, bytes(range(256)), bytes([10, 11, 12])), "a file, and a part of it")
    raises(cgibox.SandboxOperationError, lambda: f.write("d/a.bin", b"", create=True), "not over what is there", "409")
    f.write("d/\u00e9 %?#&.txt", "text")
    eq(f.read("d/\u00e9 %?#&.txt"), b"text", "any name")
    with tempfile.TemporaryFile() as big:
        big.write(b"z" * 300000)
        big.seek(0)
        f.write("big", big)
    eq(len(f.read("big")), 300000, "from an open file")
    f.mkdir("d/e")
    eq([(x.name, x.type) for x in sorted(f.list("/repo/d"), key=lambda x: x.name)],
       [("a.bin", "file"), ("e", "directory"), ("\u00e9 %?#&.txt", "file")], "a directory")
    raises(cgibox.SandboxOperationError, lambda: f.read("d"), "is no file", "is a directory")
    ok(f.exists("big") and not f.exists("none"), "exists")
    with tarfile.open(fileobj=io.BytesIO(b"".join(f.tar("/repo/d")))) as t:
        ok(any(n.endswith("a.bin") for n in t.getnames()), "a directory as tar", t.getnames())
    f.delete("big")
    raises(cgibox.SandboxNotFoundError, lambda: f.read("big"), "deleted")
    raises(cgibox.SandboxOperationError, lambda: f.delete("d"), "a full directory stays", "409")
    f.delete("d", recursive=True)
    eq(s.upload(packed)["entries"] > 0, True, "an archive over it")
    eq(f.call("grep", pattern="^one", path="/workspace/repo")["matches"][0]["text"], "one", "grep") if s.stop() is None else None

    # --- the workspace
    s.commit("base", stop=True)
    f.write("new", "1\n")
    ok(b"+1" in s.patch(), "a patch", s.patch())
    s.snapshot("two")
    eq(sorted(x.name for x in s.snapshots()), ["base", "two"], "snapshots")
    child, = s.fork()
    child.files.write("new", "2\n")
    eq((s.files.read("new"), child.files.read("new")), (b"1\n", b"2\n"), "a fork is another")
    child.delete()
    s.restore("base")
    eq((f.exists("new"), s.patch()), (False, b""), "restored")
    f.write("junk", "x")
    s.discard()
    eq(f.exists("junk"), False, "discarded")
    s.forget_snapshot("two")
    with tarfile.open(fileobj=io.BytesIO(b"".join(s.export("tar.gz")))) as t:
        ok("sub/a.txt" in [n.lstrip("./") for n in t.getnames()], "exported", t.getnames())
    eq((s.status()["session_id"], s.status()["state"]), (s.id, "stopped"), "status")

    # --- through what breaks
    cut = Front(cut=60000)
    broken = cgibox.Client(cut.url, KEY).attach(s.id)
    r = broken.run("seq 100000")
    want = b"".join(b"%d\n" % i for i in range(1, 100001))
    ok(r.stdout == want and cut.seen > 8, "no byte is lost or doubled through %d connections" % cut.seen, len(r.stdout), len(want))
    raises(cgibox.SandboxConnectionError, lambda: cgibox.Client("http://127.0.0.1:1", KEY).version(), "nobody there")
    busy = Front(busy=2)
    eq(cgibox.Client(busy.url, KEY).version(), c.version(), "busy twice, then served")
    eq(busy.seen, 3, "with three requests")
    e = raises(cgibox.SandboxOperationError, lambda: cgibox.Client(Front(busy=3).url, KEY, retries=1).version(), "busy for too long", "503 busy")
    eq(e.status, 503, "and says so")
    raises(cgibox.SandboxOperationError, lambda: cgibox.Client(Front(busy=1, after="soon").url, KEY).version(), "no number of seconds: not repeated")
    run = s.start("head -c %d /dev/zero; printf end" % (5 << 20))
    run.wait()
    r = run.follow()
    ok(r.lost and r.stdout.endswith(b"end") and r.output_bytes == (5 << 20) + 3, "what the service keeps no longer is said to be lost", len(r.stdout))

# --- keys
raises(cgibox.SandboxOperationError, lambda: cgibox.Client(URL, "wrong").system(), "a wrong key", "403 Invalid API Key")
with tempfile.NamedTemporaryFile("w") as f:
    f.write(KEY + "\n")
    f.flush()
    env = {"CGIBOX_URL": URL, "CGIBOX_API_KEY_FILE": f.name, "PYTHONPATH": os.path.dirname(os.path.dirname(cgibox.__file__)), "PATH": os.environ["PATH"]}
    p = subprocess.run([sys.executable, "-c", "import cgibox; print(cgibox.Client().system()['backend'])"], env=env, stdout=subprocess.PIPE, text=True)
    eq(p.stdout.strip(), c.system()["backend"], "URL and key file from the environment")
raises(cgibox.SandboxValidationError, lambda: cgibox.Client("ftp://x"), "no URL of a service")

# --- images
ok(any(i["reference"].split("/")[-1].split(":")[0] == IMAGE for i in c.images.list()), "images")
raises(cgibox.SandboxNotFoundError, lambda: c.images.inspect("no.such/image:1"), "no such image")
raises(cgibox.SandboxValidationError, lambda: c.images.remove("host"), "host stays", "cannot be removed")
events = []
raises(cgibox.SandboxValidationError, lambda: c.images.pull("no.such/image:1", events.append), "pulls are off here", "422")


# --- async
async def main():
    async with cgibox.AsyncClient(URL, KEY) as a:
        ok(await a.health(), "async: health")
        async with await a.session(IMAGE, live=True) as s:
            slow = asyncio.create_task(s.run("until [ -e go ]; do sleep 0.05; done; rm go; echo slow"))
            quick = await s.run("echo quick")
            eq((quick.stdout, slow.done()), (b"quick\n", False), "async: two at once")
            await s.run("touch go")
            eq((await slow).stdout, b"slow\n", "async: and the other")
            run = await s.start("echo a; sleep 0.2; echo b >&2; exit 4")
            got = [p async for p in run.output()]
            eq([(p.stream, p.data) for p in got], [("stdout", b"a\n"), ("stderr", b"b\n")], "async: a stream")
            eq(run.end.exit_code, 4, "async: its end")
            run = await s.start("echo 1; sleep 60")
            async for p in run.output():
                break
            await run.delete()
            await s.files.write("x", "y")
            eq((await s.files.read("x"), [e.name for e in await s.files.list()]), (b"y", ["x"]), "async: files")
            await s.commit("c", stop=True)
            eq([x.name for x in await s.snapshots()], ["c"], "async: snapshots")
            two = await s.fork(2)
            eq(len({x.id for x in two}), 2, "async: forks")
            await asyncio.gather(*(x.delete() for x in two))
            ok(b"".join([p async for p in s.export()]), "async: export")
            try:
                await s.restore("none")
                ok(False, "async: no such snapshot")
            except cgibox.SandboxNotFoundError:
                ok(True, "async: no such snapshot")
        eq(await s.exists(), False, "async: the block deletes it")

asyncio.run(main())

# --- an answer that ends before the length that it said
short = socket.create_server(("127.0.0.1", 0))


def half():
    with short.accept()[0] as peer:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


threading.Thread(target=half, daemon=True).start()
raises(cgibox.SandboxConnectionError, lambda: list(cgibox.Client("http://127.0.0.1:%d" % short.getsockname()[1], KEY).attach("x").export()),
       "half an archive is not taken for a whole one", "broke off")
done()
