#!/usr/bin/python3
"""cgibox run: options, exit codes, and the posture of what runs inside. TAP.

CGIBOX names the program (default build/cgibox). As root the tests run as an ordinary uid, from a copy.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from tap import done, eq, ok  # noqa: E402

PROGRAM = os.environ.get("CGIBOX") or os.path.join(HERE, "../../build/cgibox")
UID = 12345


top = tempfile.mkdtemp(prefix="cgibox-run.")
os.chmod(top, 0o755)
program = shutil.copy(PROGRAM, os.path.join(top, "cgibox"))
os.chmod(program, 0o755)
state = os.path.join(top, "state")
os.mkdir(state)
become = []
if os.getuid() == 0:
    os.chown(state, UID, UID)
    become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]


def run(*args, conf=(), timeout=300, env=None, pass_fds=()):
    p = subprocess.run(become + [program, "--state", state, *conf, "run", *args], timeout=timeout,
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=pass_fds,
                       env=dict({"PATH": "/usr/bin:/bin"}, **(env or {})))
    return p.returncode, p.stdout, p.stderr


def inside(code, *args, **kw):
    """Runs Python inside and returns what it prints as JSON."""
    rc, out, err = run(*args, "--", "/usr/bin/python3", "-c", "import json,os,sys\n" + code, **kw)
    if rc != 0:
        print("#", rc, err, flush=True)
    return json.loads(out or "null")


# --- exit codes and streams
eq(run("--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7"), (7, "out\n", "err\n"), "status and streams pass through")
eq(run("true")[0], 0, "a program is found along PATH")
eq(run("no-such-program")[0], 127, "127 for a program that is not there")
eq(run("/etc/passwd")[0], 126, "126 for one that cannot be executed")
eq(run("--", "sh", "-c", "kill -TERM $$")[0], 143, "128 + n for a signal")
t = time.monotonic()
eq(run("--timeout", "1", "--", "sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000")[0], 124, "124 for a timeout")
ok(time.monotonic() - t < 200, "which ends the whole tree, not the first process")

# --- strict options
for bad in (["--nonsense", "true"], ["--bind", "x", "true"], ["--uid", "1x", "true"], ["--timeout", "-1", "true"],
            ["--env", "=x", "true"], ["--cwd", "rel", "true"], ["--network", "maybe", "true"], []):
    rc, out, err = run(*bad)
    ok(rc == 64 and out == "" and "usage" in err, "refused: %s" % " ".join(bad), rc, out, err)
rc, out, err = run("--network", "host", "true")
ok(rc == 64 and "sandbox.conf" in err, "the host's network needs sandbox.conf", rc, err)
rc, out, err = run("--image", "no/such", "true")
ok(rc == 66 and "cgibox image pull" in err, "an unknown image says what to type", rc, err)
rc, out, err = run("--image", "../etc", "true")
eq(rc, 65, "a malformed reference is refused")

# --- what is seen inside
eq(inside("print(json.dumps(dict(os.environ)))", "--env", "A=b c", env={"SECRET": "x"}).get("SECRET"), None,
   "the caller's environment stays outside")
eq(inside("print(json.dumps(os.environ['A']))", "--env", "A=b c"), "b c", "--env")
eq(inside("print(json.dumps(os.getcwd()))", "--cwd", "/usr"), "/usr", "--cwd")
eq(inside("print(json.dumps([os.getuid(),os.getgid(),[g for g in os.getgroups() if g!=8]]))", "--uid", "7", "--gid", "8"),
   [7, 8, []], "--uid, --gid and no other group")
eq(inside("print(json.dumps(os.uname().nodename))", "--hostname", "box"), "box", "--hostname")
share = os.path.join(top, "share")
os.mkdir(share)
open(os.path.join(share, "f"), "w").write("x")
if become:
    os.chown(share, UID, UID)
eq(run("--bind", share + ":/in", "--", "sh", "-c", "cat /in/f; touch /in/g")[0:2], (1, "x"), "--bind is read-only")
eq(run("--bind", share + ":/deep/er/in:rw", "--", "sh", "-c", "echo y > /deep/er/in/g")[0], 0, "--bind :rw writes")
eq(open(os.path.join(share, "g")).read(), "y\n", "to the host's directory")
eq(run("--bind", share + "/f:/etc/one", "--", "cat", "/etc/one")[1], "x", "a single file can be bound")
eq(run("--", "sh", "-c", "touch /etc/new && rm -r /opt && mkdir /opt && touch /opt/x && ls /opt")[1], "x\n",
   "the root is writable, whatever is replaced")
eq(run("--", "sh", "-c", "ls /etc/new /opt/x")[0], 2, "and forgotten")
leak = os.open("/", os.O_RDONLY)
eq(inside("print(json.dumps(sorted(os.listdir('/proc/self/fd'))))", pass_fds=(leak,)), ["0", "1", "2", "3"],
   "no descriptor but 0, 1, 2 (3 is the listing itself)")

# What pid 1 had open when the root was built must be gone: a child's path may go by /proc/self/fd until its exec.
up = "/.." * 12
eq(run("--", "/proc/self/root/usr/bin/true")[0], 0, "control: a program is found by a link of /proc/self")
eq([n for n in range(3, 20) if run("--", "/proc/self/fd/%d%s/usr/bin/true" % (n, up))[0] != 127], [],
   "no descriptor of pid 1 leads a program out")
eq([n for n in range(3, 20) if run("--cwd", "/proc/self/fd/%d" % n, "true")[0] != 65], [],
   "nor a working directory, which goes through no link of /proc")
eq(run("--cwd", "/proc/self/fd/7" + up, "true")[0], 65, "nor the two together")
eq(inside("print(json.dumps(os.getcwd()))", "--cwd", "/bin/../lib"), "/usr/lib", "control: other links are followed")

# --- posture
STATUS = "s=dict(l.rstrip('\\n').split(':\\t',1) for l in open('/proc/self/status') if ':\\t' in l)\nprint(json.dumps(s))"
s = inside(STATUS)
for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    eq(int(s[cap], 16), 0, "%s is empty" % cap)
eq(s["NoNewPrivs"], "1", "no_new_privs")
eq(s["Seccomp"], "2", "a seccomp filter")
eq(s["SigBlk"].strip("0") + s["SigIgn"].replace("0000000001001000", "").strip("0"), "",
   "no blocked and no inherited ignored signal (Python ignores PIPE and XFSZ itself)")
kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
mine = {k: os.readlink("/proc/self/ns/" + k) for k in kinds}
theirs = inside("print(json.dumps({k:os.readlink('/proc/self/ns/'+k) for k in %r}))" % (kinds,))
eq([k for k in kinds if mine[k] == theirs[k]], [], "every namespace is another one")
eq(inside("print(json.dumps(open('/proc/1/comm').read()))"), "init\n", "pid 1 is ours")
for path in ("/proc/1/environ", "/proc/1/mem", "/proc/1/exe", "/proc/1/root"):
    got = inside("import errno\ntry:\n  (os.readlink if %r[-1] in 'et' and 'mem' not in %r else open)(%r); r='opened'\n"
                 "except OSError as x: r=errno.errorcode[x.errno]\nprint(json.dumps(r))" % (path, path, path))
    ok(got in ("EACCES", "EPERM", "opened") and not (got == "opened" and path != "/proc/1/environ"),
       "%s is closed (%s)" % (path, got), got)
CALL = """import ctypes,errno
libc=ctypes.CDLL(None,use_errno=True)
def call(*a):
    ctypes.set_errno(0)
    r=libc.syscall(*a)
    return 'ok' if r>=0 else errno.errorcode[ctypes.get_errno()]
"""
eq(inside(CALL + "print(json.dumps(call(39)))"), "ok", "control: getpid(2) works through the same probe")
for name, args, want in (
        ("unshare(CLONE_NEWUSER)", "272,0x10000000", "EPERM"), ("clone3", "435,0,0", "ENOSYS"),
        ("mount", "165,0,0,0,0,0", "EPERM"), ("setns", "308,0,0", "EPERM"), ("bpf", "321,0,0,0", "EPERM"),
        ("keyctl", "250,0,0,0", "EPERM"), ("io_uring_setup", "425,1,0", "EPERM"), ("userfaultfd", "323,0", "EPERM"),
        ("perf_event_open", "298,0,0,0,0,0", "EPERM"), ("open_by_handle_at", "304,0,0,0", "EPERM"),
        ("personality(ADDR_NO_RANDOMIZE)", "135,0x0040000", "EPERM"), ("socket(AF_VSOCK)", "41,40,1,0", "EAFNOSUPPORT"),
        ("ioctl(TIOCSTI) with high bits", "16,0,0xffffffff00005412,0", "EPERM"),
        ("a call newer than the table", "600", "ENOSYS")):
    eq(inside(CALL + "print(json.dumps(call(%s)))" % ",".join("ctypes.c_long(%s)" % a for a in args.split(","))), want,
       "%s: %s" % (name, want))
if os.uname().machine == "x86_64":
    eq(inside("print(json.dumps(os.access('/proc/sys/kernel/hostname',os.W_OK)))"), False, "/proc/sys is read-only")
eq(inside("print(json.dumps([os.path.exists('/proc/'+p) and open('/proc/'+p).read() for p in ('keys','interrupts','timer_list')]))"
          ).count(""), 3, "masked files of /proc are empty")
eq(sorted(inside("print(json.dumps(os.listdir('/dev')))")),
   ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"],
   "a /dev of our own")
eq(inside("import resource as r\nprint(json.dumps([r.getrlimit(r.RLIMIT_CORE),r.getrlimit(r.RLIMIT_NOFILE)]))"),
   [[1, 1], [1024, 1024]], "no core files and no handler for them, the configured number of descriptors")
with open("/proc/sys/kernel/core_pattern") as f:
    handler = f.read().startswith("|")
eq(inside("""import errno, resource as r
out=[]
for n in (0,2):
    try:
        r.setrlimit(r.RLIMIT_CORE,(n,n)); out.append('set')
    except (OSError,ValueError) as e:
        out.append('refused')
print(json.dumps(out))"""), ["refused"] * 2 if handler else ["set", "refused"], "which cannot be raised, nor lowered where that matters")
n = inside("""import errno
n=0
try:
    for i in range(600):
        if os.fork()==0:
            import signal; signal.pause()
        n+=1
except OSError as x: print(json.dumps([n,errno.errorcode[x.errno]]))""")
ok(n and n[0] < 512 and n[1] == "EAGAIN", "the process limit holds inside", n)
n = inside("""import errno
try:
    with open('/dev/shm/f','wb') as f:
        for i in range(1000): f.write(bytes(1<<20)); f.flush()
    print(json.dumps('no limit'))
except OSError as x: print(json.dumps(errno.errorcode[x.errno]))""")
eq(n, "ENOSPC", "a tmpfs has a size")
n = inside("""import mmap,errno
m=[]
try:
    for i in range(2000): m.append(mmap.mmap(-1,1<<20,mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS))
    print(json.dumps([len(m),'no limit']))
except OSError as x: n=len(m); m.clear(); print(json.dumps([n,errno.errorcode[x.errno]]))""")
ok(n and 500 < n[0] < 1024 and n[1] == "ENOMEM", "private memory of a process has a limit", n)
n = inside("""import mmap,errno
def reserve(gib):
    try: mmap.mmap(-1,gib<<30,mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS,mmap.PROT_READ).close(); return 'ok'
    except OSError as x: return errno.errorcode[x.errno]
print(json.dumps([reserve(8),reserve(64)]))""")
eq(n, ["ok", "ENOMEM"], "so has its address space; 8 GiB can be reserved")
for size, want in ((65536, "ok"), (65537, "EINVAL")):
    eq(inside(CALL + "print(json.dumps(call(29,0,ctypes.c_long(%d),0o1600)))" % size), want,
       "a SysV segment of %d bytes: %s" % (size, want))
n = inside(CALL + """n=0
while call(253)=='ok': n+=1
print(json.dumps([n,call(253)]))""")
eq(n, [32, "EMFILE"], "inotify instances, of which the uid has 128 in all")

# --- death
def processes(mark):
    out = []
    for p in os.listdir("/proc"):
        try:
            if p.isdigit() and mark.encode() in open("/proc/%s/cmdline" % p, "rb").read():
                out.append(int(p))
        except OSError:
            pass
    return out


eq(inside("""import errno
n, why = 0, None
try:
    while n < 100:
        os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        n += 1
except OSError as e:
    why = errno.errorcode[e.errno]
print(json.dumps([n, why]))"""), [64, "ENOSPC"], "64 pseudo terminals, and no more")
# by /proc/self/fd/N/.. a directory of the host leads out of the root
for n, name in enumerate(("stdin", "stdout", "stderr")):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams[name] = os.open("/", os.O_RDONLY)
    p = subprocess.run(become + [program, "--state", state, "run", "--", "sh", "-c", "ls -d /proc/self/fd/%d/../.." % n],
                       text=True, **streams)
    os.close(streams[name])
    eq((p.returncode, p.stdout or "", p.stderr or ""), (65, "", "" if n == 2 else "cgibox: descriptor %d: Is a directory\n" % n),
       "a directory as %s is refused" % name)
eq(run("/proc/self/fd/0")[0], 126, "control: its own descriptors can be looked up, and are no programs")
eq([run("/proc/self/fd/%d" % n)[0] for n in range(4, 41)], [127] * 37, "but none of pid 1's")

# descriptors on their way through sockets are counted for the uid, so for the service and all tenants
FLY = """
import socket
fd = os.open("/dev/null", os.O_RDONLY)
n, keep, word = 0, [], ""
while not word:
    keep += [socket.socketpair()]
    keep[-1][0].setblocking(False)
    try:
        while True:
            socket.send_fds(keep[-1][0], [b"x"], [fd] * 253)
            n += 253
    except BlockingIOError:
        pass
    except OSError as e:
        word = e.strerror
print(word, n, flush=True)
sys.stdin.read()
"""
few = ["prlimit", "--nofile=1024:1024"]
p = subprocess.Popen(become + few + [program, "--state", state, "run", "--", "/usr/bin/python3", "-c", "import os,sys\n" + FLY],
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
word, n = p.stdout.readline().rsplit(None, 1)
ok(word.startswith("Too many references") and int(n) > 253, "control: a tenant sends descriptors up to its limit", word, n)
q = subprocess.run(become + few + [program, "--state", state, "run", "--", "sh", "-c", "ulimit -n"], capture_output=True, text=True)
eq((q.returncode, q.stdout, q.stderr), (0, "512\n", ""), "another sandbox starts meanwhile, with half of our limit")
q = subprocess.run(become + ["prlimit", "--nofile=256:4096", program, "--state", state, "run", "--", "sh", "-c", "ulimit -n"],
                   capture_output=True, text=True)
eq((q.returncode, q.stdout, q.stderr), (0, "1024\n", ""), "and by a caller with a low soft limit")
p.communicate()

mark = "31536%03d" % (os.getpid() % 1000)
p = subprocess.Popen(become + [program, "--state", state, "run", "--", "sh", "-c",  # both sleep before it says so
                               "setsid sleep %s & sleep %s & until [ $(pgrep -c sleep) = 2 ]; do :; done; echo up; wait"
                               % (mark, mark)],
                     stdout=subprocess.PIPE, text=True)
p.stdout.readline()
control = [x for x in processes(mark) if x != p.pid]
ok(len(control) >= 2, "control: the payload and its daemon are seen from outside", control)
p.send_signal(signal.SIGKILL)
p.wait()
deadline = time.monotonic() + 60
while processes(mark) and time.monotonic() < deadline:
    time.sleep(0.01)
eq(processes(mark), [], "kill -9 of cgibox run leaves nothing, daemons included")
run("true")
eq(os.listdir(os.path.join(state, "tmp")), [], "nor a file in the state directory after the next run")
before = os.stat("/dev/null").st_mode
eq(run("--", "/bin/sh", "-c", "for d in null zero full random urandom tty; do chmod 600 /dev/$d 2>&1; done | grep -c Read-only")[1],
   "6\n", "the mode of a device of the host cannot be changed, whoever starts the sandbox")
eq(run("--", "/bin/sh", "-c", "echo x > /dev/null && echo written")[1], "written\n", "control: it can be written")
eq(os.stat("/dev/null").st_mode, before, "and is as before")
shutil.rmtree(top, ignore_errors=True)
done()
