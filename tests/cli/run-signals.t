#!/usr/bin/python3
"""cgibox run: signals to it, its exit codes, its own death, and the report of --json. TAP."""
import json
import os
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box, UID  # noqa: E402

b = Box("run-signals")
ok, eq, run = b.ok, b.eq, b.run


def start(*args, **kw):
    """Starts a run and waits for the first line of it."""
    p = subprocess.Popen(b.command + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         cwd=b.top, bufsize=0, **kw)
    eq(p.stdout.readline(), b"go\n", "control: it runs")
    return p


def ends(p, code, what, sig=None, least=0.0, most=60.0):
    """Whether it ends with the code, so many seconds after the signal: of those only what is promised is narrow."""
    t = time.monotonic()
    if sig:
        p.send_signal(sig)
    try:
        out, err = p.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        p.kill()
        return ok(False, what, "does not end")
    t = time.monotonic() - t
    return ok(p.returncode == code and least <= t <= most, "%s: %d" % (what, code), p.returncode, t, out, err)


def processes(mark):
    found = []
    for p in os.listdir("/proc"):
        try:
            if p.isdigit() and mark.encode() in open("/proc/%s/cmdline" % p, "rb").read():
                found.append(int(p))
        except OSError:
            pass
    return found


def wait_gone(mark, what):
    end = time.monotonic() + 60
    while processes(mark) and time.monotonic() < end:
        time.sleep(0.01)
    eq(processes(mark), [], what)


LOOP = "while :; do sleep 0.05; done"
# --- forwarding
for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    p = start("sh", "-c", "echo go; exec sleep 1000")
    ends(p, 128 + sig, "%s ends the command" % sig.name, sig)
    p = start("sh", "-c", "trap 'exit 9' %s; echo go; %s" % (sig.name[3:], LOOP))
    ends(p, 9, "%s reaches a handler" % sig.name, sig)
p = start("sh", "-c", "trap 'wait; exit 8' TERM; sh -c \"trap 'echo child; exit 1' TERM; echo go; %s\" & wait; wait" % LOOP)
p.send_signal(signal.SIGTERM)
eq((p.communicate()[0], p.returncode), (b"child\n", 8), "a signal goes to the process group, as from a terminal")
p = start("sh", "-c", "trap '' INT; echo go; " + LOOP)
p.send_signal(signal.SIGINT)
ok(b.taken(p.pid, signal.SIGINT), "the first one has arrived")
time.sleep(0.5)
eq(p.poll(), None, "one SIGINT may be ignored")
ends(p, 137, "a second one ends all", signal.SIGINT)
for sig in (signal.SIGTERM, signal.SIGHUP):
    p = start("sh", "-c", "trap '' TERM HUP; echo go; " + LOOP)
    ends(p, 137, "%s that is ignored ends all after 5 s" % sig.name, sig, 4.5)
p = start("sh", "-c", "trap '' TERM; echo go; " + LOOP)
end = time.monotonic() + 90
while p.poll() is None and time.monotonic() < end:  # put off by each it would never end
    p.send_signal(signal.SIGTERM)
    time.sleep(1)
ends(p, 137, "another SIGTERM does not put that off")
p = start("sh", "-c", "trap '' QUIT; echo go; sleep 0.7; exit 4")
ends(p, 4, "SIGQUIT is the command's alone", signal.SIGQUIT)
p = start("sh", "-c", "echo go; sleep 0.7; exit 4", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
ends(p, 4, "what the caller ignores (nohup) stays ignored", signal.SIGHUP)
p = start("python3", "-c", "import signal\nprint('go',flush=True)\nprint(signal.getsignal(1)==signal.SIG_DFL)",
          preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
eq(p.communicate()[0], b"True\n", "but not with the command")
p = start("python3", "-c", "import signal\nprint('go',flush=True)\nprint(signal.pthread_sigmask(signal.SIG_BLOCK,[]))",
          preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM]))
eq(p.communicate()[0], b"set()\n", "a mask of the caller's is not the command's")

# --- stopping
p = start("sh", "-c", "echo go; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.05; done",
          preexec_fn=lambda: os.setpgid(0, 0))
os.kill(p.pid, signal.SIGTSTP)
pid, status = os.waitpid(p.pid, os.WUNTRACED)
ok(os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP, "SIGTSTP stops cgibox", status)
time.sleep(0.2)
os.set_blocking(p.stdout.fileno(), False)
p.stdout.read()
time.sleep(0.5)
eq(p.stdout.read(), None, "and the command")
os.set_blocking(p.stdout.fileno(), True)
os.kill(p.pid, signal.SIGCONT)
out, err = p.communicate(timeout=120)
ok(p.returncode == 0 and out.endswith(b"60\n"), "SIGCONT continues both", p.returncode, out, err)

# --- what it leaves
mark = "31537%03d" % (os.getpid() % 1000)
for how, act in (("SIGKILL", lambda p: p.kill()), ("a second SIGINT", lambda p: (p.send_signal(2), b.taken(p.pid, 2), p.send_signal(2)))):
    p = start("sh", "-c", "trap '' INT; setsid sleep %s & sleep %s & until [ $(pgrep -c sleep) = 2 ]; do :; done; echo go; wait; wait; %s"
              % (mark, mark, LOOP))
    ok(len(processes(mark)) > 2, "control: daemons are seen from outside")
    act(p)
    p.wait()
    wait_gone(mark, "%s leaves no process" % how)
p = start("sh", "-c", "setsid sleep %s & echo go; exit 3" % mark)
ends(p, 3, "the end of the command is the end of the run")
wait_gone(mark, "and of its daemons")
p = subprocess.Popen(["sh", "-c", " ".join(b.command) + " --die-with-parent sleep %s & echo go; exec sleep 1000" % mark],
                     stdout=subprocess.PIPE)
p.stdout.readline()
end = time.monotonic() + 60
while len(processes(mark)) < 2 and time.monotonic() < end:
    time.sleep(0.02)
time.sleep(0.3)
ok(len(processes(mark)) >= 2, "control: the child of a shell runs", processes(mark))
p.kill()
p.wait()
wait_gone(mark, "--die-with-parent")

# --- json
KEYS = {"verdict", "exit_code", "signal", "wall_us", "user_us", "system_us", "rss_peak_kib", "disk_read_bytes", "disk_write_bytes", "processes",
        "output_bytes", "truncated", "oom_kills",
        "pids_denied", "pids_peak", "memory_peak_bytes", "cpu_us", "throttled_us", "error"}


def report(*args, code, **want):
    path = b.path("report.json")
    if os.path.exists(path):
        os.unlink(path)
    rc, out, err = run("--json", path, *args)
    try:
        got = json.load(open(path))
    except (OSError, ValueError) as x:
        ok(False, "--json of %s" % " ".join(args), x, rc, err)
        return {}, out
    ok(rc == code == got["exit_code"] and set(got) == KEYS and all(got[k] == v for k, v in want.items()),
       "--json: %s" % ascii(" ".join(args))[:80], rc, got, err)
    return got, out


got, out = report("echo", "hi", code=0, verdict="ok", signal=None, error=None, truncated=False, output_bytes=None)
ok(out == "hi\n" and 0 < got["wall_us"] < 30e6 and got["rss_peak_kib"] > 100, "with the program's own output untouched", got)
report("sh", "-c", "exit 7", code=7, verdict="exit", signal=None)
report("sh", "-c", "kill -SEGV $$", code=139, verdict="signal", signal=11)
report("sh", "-c", "exit 139", code=139, verdict="exit", signal=None)
got, _ = report("--timeout", "0.5", "sh", "-c", "while :; do :; done", code=124, verdict="timeout", signal=None)
ok(got["wall_us"] >= 500000 and got["user_us"] + got["system_us"] > 5000, "what a command used until its timeout is known", got)
report("sh", "-c", "exit 124", code=124, verdict="exit")
got, out = report("--limit", "output=10", "sh", "-c", "printf 0123456789abc; exec sleep 1000", code=137, verdict="output", truncated=True)
ok(out == "0123456789" and got["output_bytes"] == 13, "10 of 13 bytes", out, got)
report("--limit", "output=10", "printf", "0123456789", code=0, verdict="ok", truncated=False, output_bytes=10)
got, out = report("--limit", "output=10", "printf", "0123456789a", code=137, verdict="output", truncated=True, output_bytes=11)
eq(out, "0123456789", "also when the command ends first")
report("--limit", "cpu-time=1", "sh", "-c", "while :; do :; done", code=152, verdict="timeout", signal=24)
got, _ = report("no-such", code=127, verdict=None, wall_us=None)
ok("no-such" in (got.get("error") or ""), "an error of ours says what", got)
report("/etc/passwd", code=126, verdict=None)
report("--image", "no/such", "true", code=66, verdict=None)
report("--cwd", "/no/such", "true", code=65, verdict=None)
got, _ = report("--image", "a\"\\\n\x01\u00e4", "true", code=65, verdict=None)
rc, out, err = run("--json", "-", "sh", "-c", "echo mine")
ok(out.startswith("mine\n{") and json.loads(out[5:])["verdict"] == "ok" and out.endswith("}\n"), "--json -: behind the output", out)
r, w = os.pipe()
rc, out, err = run("--json-fd", str(w), "sh", "-c", "ls /proc/self/fd | wc -l", pass_fds=(w,))
os.close(w)
eq((json.loads(os.read(r, 65536))["verdict"], out), ("ok", "4\n"), "--json-fd N, which the command does not get")
os.close(r)
r, w = os.pipe()
os.close(r)
rc, out, err = run("--json-fd", str(w), "true", pass_fds=(w,))
ok(rc == 71 and "--json" in err, "a reader that is gone is an error", rc, err)
os.close(w)
rc, out, err = run("--json", "/dev/full", "true")
ok(rc == 71 and "--json" in err, "a report that cannot be written is an error", rc, err)
for bad in (["--json", "/no/such/file"], ["--json", "."], ["--json-fd", "99"], ["--json-fd", "x"], ["--json-fd", "-1"]):
    rc, out, err = run(*bad, "touch", "/x")
    ok(rc == 64 and bad[0] in err, "refused before anything runs: %s" % " ".join(bad), rc, err)

# --- exit codes
for args, code in ((["true"], 0), (["sh", "-c", "exit 255"], 255), (["no-such"], 127), (["/no/such"], 127), (["/etc/passwd"], 126), (["/etc"], 126),
                   (["/etc/passwd/x"], 127), (["--nonsense"], 64), (["--image", "../x", "true"], 65), (["--image", "no/such", "true"], 66)):
    eq(run(*args)[0], code, "exit status of %s: %d" % (" ".join(args), code))
eq(run("true", conf=["--conf", b.file("bad.conf", "nonsense = 1\n")])[0], 78, "wrong settings: 78")
busy = subprocess.Popen(b.command + ["--upper", b.path("kept"), "sh", "-c", "echo go; sleep 1000"], stdout=subprocess.PIPE)
busy.stdout.readline()
rc, out, err = run("--upper", b.path("kept"), "true")
ok(rc == 75 and "in use" in err, "a kept layer in use: 75", rc, err)
busy.kill()
busy.wait()
end = time.monotonic() + 60
while run("--upper", b.path("kept"), "true")[0] == 75 and time.monotonic() < end:
    pass
eq(run("--upper", b.path("kept"), "true")[0], 0, "free again when its user was killed")
eq(run("sh", "-c", "exec 1>&-; exit 0")[0], 0, "closed outputs are the command's business")
p = subprocess.run(b.command + ["echo", "x"], stdin=subprocess.DEVNULL, stdout=open("/dev/full", "w"), stderr=subprocess.PIPE)
ok(p.returncode == 1 and b"No space" in p.stderr, "so is a full disk", p)
p = subprocess.Popen(b.command + ["--limit", "output=1G", "yes"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
p.stdout.read(10)
p.stdout.close()
eq(p.wait(120), 141, "a reader that goes away is the writer's SIGPIPE, through our pipe too")
run("true")
eq(os.listdir(os.path.join(b.state, "tmp")), [], "no file is left in the state directory")
b.done()
