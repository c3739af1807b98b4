#!/usr/bin/python3
"""Limits on whole sandboxes, by a real service in a delegated cgroup v2, asked over FastCGI. TAP.

Needs a delegated subtree: run it in a unit with Delegate=yes, or by
	systemd-run --user --scope -p Delegate=yes tests/cli/cgroup.t
Without one the test says why and is skipped. CGIBOX_BUILD: where the programs are.
"""
import fcntl
import glob
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, eq, ok, skip_all  # noqa: E402

BUILD = os.environ.get("CGIBOX_BUILD") or os.path.join(HERE, "../../build")
MIB = 1 << 20
MEMORY = 160 * MIB
PROCESSES = 60
KEY = "cgroup-test"


# --- a service, and FastCGI to it
top = tempfile.mkdtemp(prefix="cgibox-cgroup.")
os.chmod(top, 0o755)


class Service:
    def __init__(self, name, **conf):
        self.dir = os.path.join(top, name)
        self.sock = os.path.join(top, name + ".sock")
        self.log = os.path.join(top, name + ".log")
        env = dict({"PATH": os.environ["PATH"], "CGIBOX_API_KEY": KEY}, **conf)
        self.p = subprocess.Popen([BUILD + "/cgibox.fcgi", "--state", self.dir, "--listen", self.sock], env=env,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "w"))
        for _ in range(2400):
            if self.p.poll() is not None or "serves " in self.text():
                break
            time.sleep(0.05)

    def text(self):
        return open(self.log).read()

    def ask(self, method, path, body=None):
        def record(kind, content=b""):
            return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content

        data = json.dumps(body).encode() if body is not None else b""
        params = {"REQUEST_METHOD": method, "REQUEST_URI": path, "CONTENT_LENGTH": str(len(data)),
                  "CONTENT_TYPE": "application/json", "HTTP_X_API_KEY": KEY, "SERVER_PROTOCOL": "HTTP/1.1"}
        pairs = b"".join(struct.pack(">BB", len(k), len(v)) + k.encode() + v.encode() for k, v in params.items())
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(600)
        s.connect(self.sock)
        s.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, pairs) + record(4) +
                  (record(5, data) if data else b"") + record(5))
        raw = b""
        while True:
            part = s.recv(65536)
            if not part:
                break
            raw += part
        out = b""
        while len(raw) >= 8:
            _, kind, _, n, pad, _ = struct.unpack(">BBHHBB", raw[:8])
            if kind == 6:
                out += raw[8:8 + n]
            raw = raw[8 + n + pad:]
        head, _, text = out.partition(b"\r\n\r\n")
        status = 200
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"status:"):
                status = int(line.split()[1])
        return status, json.loads(text or b"null")

    def session(self, **spec):
        return self.ask("POST", "/session/", dict({"base_image": "host"}, **spec))

    def run(self, sid, *commands, **more):
        status, body = self.ask("POST", "/session/%s/" % sid, dict({"commands": list(commands)}, **more))
        if status != 200:
            print("#", status, body, flush=True)
        return body["results"] if status == 200 else []

    def stop(self):
        self.p.terminate()
        return self.p.wait(60)


def python(code):
    return "/usr/bin/python3 -c '%s'" % code


def fresh(svc, *commands, **more):
    sid = svc.session()[1]["session_id"]
    return svc.run(sid, *commands, **more)


svc = Service("s", CGIBOX_MEMORY_MAX_BYTES=str(MEMORY), CGIBOX_PROCESSES_MAX=str(PROCESSES),
              CGIBOX_COMMAND_TIMEOUT_S="300")
lines = [x for x in svc.text().splitlines() if "cgroup: " in x]
if not any("cgroup: in force" in x for x in lines):
    svc.stop()
    skip_all("no delegated cgroup v2: " + (lines[0] if lines else svc.text()[-300:]))
print("#", lines[0], flush=True)
ok("in force: memory pids cpu" in lines[0], "the service found its delegated group", lines)
base = lines[0].split(", below ", 1)[1].strip()
own = open("/proc/self/cgroup").read().split("0::", 1)[1].strip()
ok(base.startswith("/sys/fs/cgroup/") and own.endswith("/service"), "what was there moved to the leaf service", base, own)
eq(open(base + "/cgroup.procs").read(), "", "so that no process is beside the groups")


def groups(pattern):
    return sorted(glob.glob("%s/%s" % (base, pattern)))


def keepers():
    """Groups of keepers with a live keeper."""
    return [g for g in groups("keeper-*") if open(g + "/main/cgroup.procs").read().strip()]


# --- memory
EAT = "x = bytearray(%d << 20); print(len(x))"
ALIVE = "echo alive; cut -d\" \" -f22 /proc/1/stat"
r = fresh(svc, ALIVE, python(EAT % 60), python(EAT % 400), ALIVE)
if ok(len(r) == 4, "four results", r):
    eq((r[1]["verdict"], r[1]["output"]), ("ok", "%d\n" % (60 * MIB)), "control: 60 MiB are fine")
    eq((r[2]["verdict"], r[2]["exit_code"]), ("memory", 137), "400 MiB of one process: verdict memory")
    ok(r[2]["usage"]["oom_kills"] >= 1, "which the kernel ended", r[2])
    eq((r[3]["verdict"], r[3]["output"]), ("ok", r[0]["output"]), "the same pid 1 runs the next command")
    eq(r[3]["usage"]["oom_kills"], 0, "of which no process was ended")
    u = r[2]["usage"]
    ok(MEMORY * 0.9 <= u["memory_peak_bytes"] <= MEMORY, "the peak is at the limit", u)
    eq(u["memory_peak_of"], "sandbox", "and the sandbox's")

SUM = ("import os,sys,time\nk=[]\nfor i in range(%d):\n p=os.fork()\n if not p:\n  x=bytearray(30<<20); time.sleep(%d); os._exit(0)\n"
       " k.append(p)\nsys.exit(any(os.waitpid(p,0)[1] for p in k))")
r = fresh(svc, python(SUM % (2, 2)), python(SUM % (10, 100)), "echo alive")  # all at the same time, however slowly they start
eq([x["verdict"] for x in r], ["ok", "memory", "ok"], "30 MiB each: two processes are fine, ten are not")

MEMFD = "import os\nf=os.memfd_create(\"x\")\nfor i in range(%d): os.write(f,bytes(1<<20))\nprint(i)"
r = fresh(svc, python(MEMFD % 60), python(MEMFD % 400), "echo alive")
eq([x["verdict"] for x in r], ["ok", "memory", "ok"], "memfds that nobody maps")

SOCKETS = ("import socket\ns=[]\nn=0\nfor i in range(%d):\n a,b=socket.socketpair(); a.setblocking(False); s.append((a,b))\n"
           " try:\n  while 1: n+=a.send(bytes(60000))\n except BlockingIOError: pass\nprint(n>>20)")
r = fresh(svc, python(SOCKETS % 5), python(SOCKETS % 450), python(SOCKETS % 450) + " & " + python(SOCKETS % 450) +
          " & " + python(SOCKETS % 450) + " & " + python(SOCKETS % 450) + " & r=0; for j in $(jobs -p); do wait $j || r=$?; done; exit $r")
print("# sockets:", [(x["verdict"], x["output"][-60:], x["usage"]["memory_peak_bytes"] >> 20) for x in r], flush=True)
ok(len(r) == 3 and r[0]["verdict"] == "ok", "control: a few sockets' buffers are fine", r)
if len(r) == 3:
    peak = [x["usage"]["memory_peak_bytes"] for x in r]
    ok(peak[1] - peak[0] > 40 * MIB, "socket buffers are counted as the sandbox's memory", peak)
    eq(r[2]["verdict"], "memory", "and end at the limit")

# A full tmpfs stays when all that filled it are dead: the kernel would take pid 1 next.
FILL = "head -c 220M /dev/zero > /dev/shm/x"
r = fresh(svc, FILL, "echo alive", "echo alive")
ok(len(r) == 3 and r[0]["verdict"] == "memory", "a tmpfs over the limit: verdict memory", r)
ok(len(r) == 3 and all(x["verdict"] in ("ok", "memory") for x in r[1:]), "pid 1 survives that and goes on", r)

# So little that the command dies while it is started: the kernel then ends all who share its memory.
status, body = svc.session(memory_bytes=4096)
r = svc.run(body["session_id"], "echo one", "echo two", "echo three")
eq([x["verdict"] for x in r], ["memory"] * 3, "memory_bytes = 4096: nothing can run, and pid 1 survives that")

# --- what a client asks for, on every call
status, body = svc.session(memory_bytes=64 * MIB, cpus=0.2)
ok(status == 200 and not body.get("unenforced"), "memory_bytes and cpus are accepted", status, body)
sid = body["session_id"]
for n in ("first", "second"):
    r = svc.run(sid, python(EAT % 40), python(EAT % 100), "echo alive")
    eq([x["verdict"] for x in r], ["ok", "memory", "ok"], "memory_bytes = 64 MiB holds on the %s call" % n)
# A processor of the guest that stands still for seconds is counted as used: a longer time evens that out, or another one.
spin = "timeout 5 sh -c 'while :; do :; done'; true"
for _ in range(4):
    r = svc.run(sid, spin) + fresh(svc, spin)
    print("# cpus 0.2, none:", [x["usage"] for x in r], flush=True)
    share = [x["usage"]["cpu_ms"] / x["usage"]["wall_ms"] for x in r]
    if len(r) == 2 and share[0] < 0.4 and share[1] > 0.5:
        break
ok(len(r) == 2 and r[0]["usage"]["throttled_ms"] > 300, "cpus = 0.2 is throttled", r)
ok(r[0]["usage"]["cpu_ms"] < 0.4 * r[0]["usage"]["wall_ms"], "to that share", r)
ok(r[1]["usage"]["throttled_ms"] == 0 and r[1]["usage"]["cpu_ms"] > 0.5 * r[1]["usage"]["wall_ms"],
   "control: who did not ask is not", r)
status, body = svc.session(memory_bytes=1 << 40)
ok(status == 422 and "memory_max_bytes" in str(body), "a client cannot ask for more than memory_max_bytes", status, body)

# --- processes
FORKS = ("import os,sys,time\nn=0\nr=0\nfor i in range(%d):\n try:\n  p=os.fork()\n except OSError as e: r=e.errno; break\n"
         " if not p: time.sleep(%d); os._exit(0)\n n+=1\nprint(n, r)\nsys.exit(r)")
r = fresh(svc, python(FORKS % (20, 3)), python(FORKS % (500, 100)))
if ok(len(r) == 2, "results", r):
    eq((r[0]["verdict"], r[0]["output"]), ("ok", "20 0\n"), "control: 20 processes are fine")
    eq((r[1]["verdict"], r[1]["exit_code"]), ("pids", 11), "500: EAGAIN, and the verdict is pids")
    ok(r[1]["usage"]["pids_denied"] >= 1 and r[1]["usage"]["pids_peak"] in (0, PROCESSES),
       "processes_max at once, never more", r[1])

# --- usage
r = fresh(svc, "sleep 8", python("import time\nt=time.time()\nwhile time.time()-t<3: pass"),
          "head -c 1000 /dev/zero | tr '\\0' x", "exit 3")
if ok(len(r) == 4, "results", r):
    u = [x["usage"] for x in r]
    ok(u[0]["wall_ms"] >= 8000 and u[0]["cpu_ms"] < 5000, "a sleep costs time and no processor", u[0])
    ok(u[1]["cpu_ms"] >= 300 and u[1]["user_ms"] + u[1]["system_ms"] >= 300, "a loop costs processor", u[1])
    eq(u[2]["output_bytes"], 1000, "output is counted")
    ok(all(x["oom_kills"] == x["pids_denied"] == 0 for x in u), "nothing was denied", u)
    eq((r[3]["verdict"], r[3]["exit_code"]), ("exit", 3), "an exit code alone is no limit's doing")

# --- nothing of it reaches a payload
PROBE = ("import ctypes,errno,json,os\nc=ctypes.CDLL(None,use_errno=True)\n"
         "a=ctypes.create_string_buffer(88)\nc.syscall(435,a,88)\n"
         "print(json.dumps([{f:os.readlink(\"/proc/self/fd/\"+f) for f in os.listdir(\"/proc/self/fd\") if os.path.islink(\"/proc/self/fd/\"+f)},"
         "ctypes.get_errno(),open(\"/proc/self/cgroup\").read(),os.path.exists(\"/sys/fs/cgroup/cgroup.procs\"),"
         "open(\"/proc/self/status\").read().split(\"Seccomp_filters:\")[1].split()[0]]))")
r = fresh(svc, python(PROBE))
fds, why, group, shown, filters = json.loads(r[0]["output"])
ok(set(fds) <= {"0", "1", "2", "3"} and not any("cgroup" in x or "events" in x for x in fds.values()),
   "no descriptor of pid 1 is there", fds)
eq(why, 38, "clone3 is ENOSYS as without a group")
ok(group.startswith("0::/box-") and group.count("/") == 1, "its group has no path of the host", group)
ok(not shown, "and its files are not mounted")
eq(filters, "2", "the second filter is what closes clone3")

# --- the end
for _ in range(600):
    if not groups("keeper-*/box-*"):
        break
    time.sleep(0.1)
eq(groups("keeper-*/box-*"), [], "no group of an ended sandbox is left")
before = keepers()
eq(len(before), 1, "one keeper has one group")
answers = []
t = threading.Thread(target=lambda: answers.append(svc.ask("POST", "/session/%s/" % sid, {"commands": ["sleep 1000 & sleep 1000"]})))
t.start()
for _ in range(1200):
    live = groups("keeper-*/box-*")
    if live and open(live[0] + "/cgroup.procs").read().count("\n") >= 2:
        break
    time.sleep(0.05)
eq(len(live), 1, "a running sandbox has its group")
victims = [int(x) for x in open(live[0] + "/cgroup.procs").read().split()]
eq(open(live[0] + "/memory.max").read().strip(), str(64 * MIB), "with the session's limit")
eq((open(live[0] + "/memory.swap.max").read().strip(), open(live[0] + "/memory.oom.group").read().strip()), ("0", "0"),
   "no swap, and not everything dies at once")
keeper = min(int(x) for x in open(before[0] + "/main/cgroup.procs").read().split())
eq(open("/proc/%d/comm" % keeper).read().strip(), "cgibox-keeper", "the keeper is in its leaf")
os.kill(keeper, signal.SIGKILL)
t.join()
ok(answers and answers[0][0] == 503, "kill -9 of the keeper: 503", answers)
for _ in range(1200):
    if len(groups("keeper-*")) == 1 and groups("keeper-*") != before:
        break
    time.sleep(0.05)
after = groups("keeper-*")
ok(len(after) == 1 and after != before, "the next keeper has swept the old one's groups", before, after)
for _ in range(1200):  # a group is empty before whoever was in it is reaped
    if not any(os.path.exists("/proc/%d" % p) for p in victims):
        break
    time.sleep(0.05)
ok(not any(os.path.exists("/proc/%d" % p) for p in victims), "no process of them is left", victims)
for _ in range(1200):  # its group is there before it listens
    if svc.session()[0] != 503:
        break
    time.sleep(0.05)
r = fresh(svc, "echo again")
eq([x["output"] for x in r], ["again\n"], "and serves")

# --- two services in one delegated group leave each other alone
held = base + "/keeper-0123456789abcdef"  # whose keeper ends a moment after the next one has looked
def hold():
    """Made and locked; what nobody holds yet may be swept at any moment."""
    while True:
        os.makedirs(held, exist_ok=True)
        try:
            fd = os.open(held, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.isdir(held):
                return fd
            os.close(fd)
        except FileNotFoundError:
            pass


lock = hold()
other = Service("o", CGIBOX_MEMORY_MAX_BYTES=str(MEMORY))
ok("cgroup: in force" in other.text(), "a second service finds the same group", other.text()[-500:])
ok(os.path.isdir(held), "what somebody holds stays")
os.close(lock)
for _ in range(1200):
    if not os.path.exists(held):
        break
    time.sleep(0.05)
ok(not os.path.exists(held), "and goes when nobody does, soon after the start")
r = fresh(other, "echo two") + fresh(svc, "echo one")
eq([x["output"] for x in r], ["two\n", "one\n"], "and both serve")
eq(other.stop(), 0, "the second ends")
bad = Service("b", CGIBOX_CGROUP="/sys/fs/cgroup/no/such")
eq(bad.p.wait(300), 78, "a path that does not work refuses to start")
ok("no/such" in bad.text(), "and is named", bad.text())

# --- a group that somebody made for it
own = base + "/own"
os.mkdir(own)
third = Service("p", CGIBOX_CGROUP=own, CGIBOX_MEMORY_MAX_BYTES=str(MEMORY))
told = [x for x in third.text().splitlines() if "cgroup: in force" in x]
ok(told and told[0].endswith(", below " + own), "cgroup = PATH is used", third.text()[-500:])
ok(open(own + "/service/cgroup.procs").read().split()[:1] == [str(third.p.pid)], "the service has moved there")
r = fresh(third, python(EAT % 60), python(EAT % 400), "sleep 1; cat /proc/self/cgroup")
eq([x["verdict"] for x in r], ["ok", "memory", "ok"], "and its limits hold")
eq(len(glob.glob(own + "/keeper-*")), 1, "by groups below it")
eq(third.stop(), 0, "it ends")

# --- disk traffic. Without the page cache, so that what is counted is what the command waits for.
IO = 4 * MIB
WRITE = "dd if=/dev/zero of=$HOME/f bs=1M count=%d oflag=direct 2>&1"
READ = "dd if=$HOME/f of=/dev/null bs=1M count=%d iflag=direct 2>&1"
if " io" not in told[0].split(", below")[0]:
    note = "the controller io is not delegated: nothing was tried"
    ok(not os.environ.get("CGIBOX_TEST_CGROUP"), note)
else:
    slow = Service("i", CGIBOX_CGROUP=own, CGIBOX_IO_MAX_BYTES_PER_S=str(IO))
    ok("io_max_bytes_per_s" not in slow.text(), "no complaint about io_max_bytes_per_s", slow.text())
    sid = slow.session()[1]["session_id"]
    r = slow.run(sid, WRITE % 24, READ % 24)
    for _ in range(4):  # the host's disk has other work, too
        free = svc.run(svc.session()[1]["session_id"], WRITE % 24, READ % 24)
        if max(x["usage"]["wall_ms"] for x in free) < 3000:
            break
    print("# 24 MiB at 4 MiB/s, and without a limit, ms:", [x["usage"]["wall_ms"] for x in r + free], flush=True)
    if ok([x["verdict"] for x in r + free] == ["ok"] * 4, "24 MiB are written and read", r, free):
        for i, what in enumerate(("writing", "reading")):
            took = [x["usage"]["wall_ms"] for x in (r[i], free[i])]
            ok(took[1] < 3000, "control: %s 24 MiB without a limit" % what, took)
            ok(4500 <= took[0] <= 60000, "%s 24 MiB at 4 MiB/s takes 6 s" % what, took)
    eq(slow.stop(), 0, "that service ends")
none = Service("n", CGIBOX_CGROUP="none")
ok("cgroup: not in force: sandbox.conf says cgroup = none" in none.text(), "cgroup = none is obeyed", none.text())
r = fresh(none, "true")
ok(r and r[0]["usage"]["memory_peak_of"] == "process" and "cpu_ms" not in r[0]["usage"],
   "then nothing is told that nobody measured", r)
none.stop()
eq(svc.stop(), 0, "the service ends")


# --- cgibox run
def run(*command, **conf):
    return subprocess.run([BUILD + "/cgibox", "--state", os.path.join(top, "r"), "run", "--", *command], timeout=600,
                          capture_output=True, text=True, env=dict({"PATH": os.environ["PATH"]}, **conf))


small = {"CGIBOX_MEMORY_MAX_BYTES": str(MEMORY), "CGIBOX_PROCESSES_MAX": str(PROCESSES)}
p = run("/usr/bin/python3", "-c", EAT % 60, **small)
eq((p.returncode, p.stdout), (0, "%d\n" % (60 * MIB)), "cgibox run: control")
p = run("/usr/bin/python3", "-c", EAT % 400, **small)
eq(p.returncode, 137, "cgibox run: the memory of the whole sandbox is limited")
eq([run("/proc/self/fd/%d" % n, **small).returncode for n in range(4, 20)], [127] * 16,
   "cgibox run: no program by way of the group's descriptors: nothing is there")
eq(groups("run-*"), [], "and leaves no group")
subprocess.run(["rm", "-rf", top], check=False)
done()
