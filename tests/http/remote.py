#!/usr/bin/python3
"""`cgibox remote` against the service: output, exit codes, patches, files, errors."""
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

from client import HERE, IMAGE, KEY, URL, done, eq, ok, request, sessions, wait_for

PROGRAM = os.environ.get("CGIBOX") or os.path.join(os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build"), "cgibox")
if not os.path.exists(PROGRAM):
    PROGRAM = os.path.join(HERE, "../../build/cgibox")
ENV = {"CGIBOX_URL": URL, "CGIBOX_API_KEY": KEY, "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}


def none_left():
    """Sessions of commands that have ended are deleted; those of the tests before may go meanwhile."""
    wait_for(lambda: not sessions() - before, 60)
    eq(sessions() - before, set(), "no session is left")


def remote(*words, input=b"", env=ENV):
    """Sessions that the command makes are of the tests' image, which is no default of its own."""
    if words[:1] == ("run",):
        words = ("run", "--image", IMAGE) + words[1:]
    p = subprocess.run([PROGRAM, "remote", *words], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=300)
    return p.returncode, p.stdout, p.stderr.decode()


before = sessions()
eq(remote("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"), (7, b"out\n", "err\n"), "output and exit code")
eq(remote("run", "-c", "printf '\\377\\000'; pwd >&2"), (0, b"\xff\0", "/repo\n"), "bytes as they are")
eq(remote("run", "-i", "wc", "-c", input=b"x" * 200000)[:2], (0, b"200000\n"), "standard input")
eq(remote("run", "cat", input=b"no")[:2], (0, b""), "which without -i is not the command's")
eq(remote("run", "--env", "A=b", "--env", "HOME", "-c", 'echo $A $HOME', env=dict(ENV, HOME="/h"))[:2], (0, b"b /h\n"), "variables")
a = remote("run", "--timeout", "1", "sleep", "60")
eq((a[0], a[2]), (124, "cgibox remote: verdict: timeout\n"), "a command that takes too long")
eq(remote("run", "-c", "kill -9 $$")[0], 137, "a signal")
eq(remote("run", "/no/such/program")[0], 127, "no such program")
none_left()

# --- directories and patches
with tempfile.TemporaryDirectory() as d:
    os.mkdir(d + "/src")
    for name, text in (("src/a.txt", "one\n"), ("src/b.txt", "b\n"), ("big.o", "x")):
        with open(os.path.join(d, name), "w") as f:
            f.write(text)
    a = remote("run", "--dir", d, "--exclude", "*.o", "--patch", "-", "-c", "ls >&2; echo two >>src/a.txt; rm src/b.txt; echo n >new")
    eq((a[0], a[2]), (0, "src\n"), "a directory is sent, but what is excluded")
    ok(b"+two" in a[1] and b"deleted file" in a[1] and b"+++ b/new" in a[1], "and what changed is a patch", a[1])
    eq(os.path.exists(d + "/new"), False, "nothing is applied without --apply")
    eq(remote("run", "--dir", d, "--apply", "-c", "echo two >>src/a.txt; rm src/b.txt; echo n >new; exit 3")[0], 3, "--apply")
    eq((open(d + "/src/a.txt").read(), os.path.exists(d + "/src/b.txt"), open(d + "/new").read()), ("one\ntwo\n", False, "n\n"), "applies it")
    subprocess.run(["git", "init", "-q", d], check=True)
    eq((remote("run", "--dir", d + "/src", "--apply", "-c", "echo three >>a.txt")[0], open(d + "/src/a.txt").read()),
       (0, "one\ntwo\nthree\n"), "also below the top of a work tree")
    with open(d + "/.gitignore", "w") as f:
        f.write("*.o\n")
    eq((remote("run", "--dir", d, "ls")[1], b"big.o" in remote("run", "--dir", d, "--all", "ls")[1]), (b"new\nsrc\n", True), "what git ignores stays here")
    a = remote("run", "--dir", d, "--patch", d + "/none.diff", "true")
    eq((a[0], os.path.getsize(d + "/none.diff")), (0, 0), "nothing changed: an empty patch")
    eq(remote("run", "--apply", "true")[0::2], (64, "cgibox remote: run: --patch and --apply need --dir\n"), "--apply without a directory")
    eq(remote("run", "--dir", d + "/nowhere", "true")[0], 64, "no such directory")

# --- what a sandbox makes is no repository here: its settings name programs
with tempfile.TemporaryDirectory() as d:
    plant = ("mkdir -p objects/x refs/x && echo k >objects/x/k && echo k >refs/x/k && echo 'ref: refs/heads/main' >HEAD && "
             "printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = .\\n"
             "\\tfsmonitor = \"touch %s/ran; false\"\\n' '" + d + "' >config")
    os.mkdir(d + "/p")
    eq(remote("run", "--dir", d + "/p", "--apply", "-c", plant)[0], 0, "a sandbox plants a bare repository")
    eq((remote("run", "--dir", d + "/p", "cat", "HEAD")[1], os.path.exists(d + "/ran")), (b"ref: refs/heads/main\n", False), "which is not acted on")
    eq((remote("run", "--dir", d + "/p", "--apply", "-c", "echo x >new")[0], os.path.exists(d + "/ran"), os.path.exists(d + "/p/new")),
       (0, False, True), "nor by what applies a patch")
    subprocess.run(["git", "-C", d + "/p", "ls-files"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    ok(os.path.exists(d + "/ran"), "git alone would have")

# --- sessions and files
sid = remote("session", "new", IMAGE, "--live")[1].decode().strip()
ok(re.fullmatch(r"[0-9a-f-]{36}", sid) and sid in remote("session", "ls")[1].decode(), "a session is made and listed", sid)
eq(remote("files", "put", sid, "/repo/x/f", input=b"via stdin")[0], 0, "a file is put")
eq(remote("files", "get", sid, "/repo/x/f")[:2], (0, b"via stdin"), "and got")
with tempfile.NamedTemporaryFile() as f:
    f.write(b"#!/bin/sh\necho ran\n")
    f.flush()
    os.chmod(f.name, 0o755)
    remote("files", "put", sid, "/repo/x/g", f.name)
    eq(remote("run", "--session", sid, "./x/g")[:2], (0, b"ran\n"), "with its mode")
ok(re.search(r"^0755 file .* g$", remote("files", "ls", sid, "/repo/x")[1].decode(), re.M), "a directory is listed")
remote("run", "--session", sid, "-c", "mkdir y; touch \"y/$(printf 'a\\033]0;t\\007\\nb')\" y/é")
eq([line.split(b" ")[-1] for line in remote("files", "ls", sid, "/repo/y")[1].splitlines()], [b"a\\x1b]0;t\\x07\\nb", "é".encode()],
   "names that would steer a terminal do not")
eq((remote("files", "rm", sid, "/repo/x")[0], remote("files", "rm", "-r", sid, "/repo/x")[0]), (75, 0), "and removed with -r")
eq((remote("session", "status", sid)[1][:1], remote("session", "stop", sid)[0]), (b"{", 0), "status and stop")
eq((remote("session", "rm", sid)[0], remote("session", "status", sid)[0]), (0, 66), "a session is removed")
a = remote("run", "--keep", "-c", "echo k")
kept = a[2].split()[-1]
ok(kept in sessions(), "--keep keeps and names it", a)
remote("session", "rm", kept)
ok(IMAGE.encode() in remote("images", "ls")[1], "images")
eq(remote("images", "inspect", "no.such/image:1")[0], 66, "no such image")

# --- signals and terminals
p = subprocess.Popen([PROGRAM, "remote", "run", "--image", IMAGE, "-c", "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"], stdout=subprocess.PIPE, env=ENV)
p.stdout.readline()
p.send_signal(signal.SIGTERM)
out = p.communicate(timeout=120)[0]
eq((out, p.returncode), (b"got\n", 9), "a signal goes to the command")
pid, fd = pty.fork()
if pid == 0:
    os.execve(PROGRAM, [PROGRAM, "remote", "run", "--image", IMAGE, "-t", "-c", "stty size; read x; echo \"<$x>\"; exit 6"], ENV)
text, sent, end = b"", False, time.monotonic() + 120
while time.monotonic() < end:
    if not select.select([fd], [], [], 1)[0]:
        continue
    try:
        text += os.read(fd, 4096)
    except OSError:
        break
    if b"24 80" in text and not sent:
        sent = os.write(fd, b"hello\r")
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
ok(b"<hello>" in text and code == 6, "a terminal: size, input, exit code", text, code)

# --- errors
eq(remote("run", "true", env=dict(ENV, CGIBOX_API_KEY="wrong"))[0::2],
   (77, "cgibox remote: POST /api/v1/session/: 403 Invalid API Key\n"), "a wrong key")
eq(remote("run", "true", env=dict(ENV, CGIBOX_URL="http://127.0.0.1:1"))[0], 69, "nobody there")
eq(remote("run", "--image", "no.such/image:1", "true")[0], 65, "no such image")
eq(remote("run")[0], 64, "no command")
eq((remote("sing")[0], remote()[0], remote("run", "--cpus", "many", "true")[0]), (64, 64, 64), "wrong use")
eq(remote("--key-file", "/no/such", "images", "ls")[0], 74, "no such key file")
eq(remote("run", "--env", "NO_SUCH_VARIABLE", "true")[0], 64, "no such variable")
none_left()
sys.stdout.flush()
done()
