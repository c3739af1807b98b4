#!/usr/bin/python3
"""cgibox doctor: every fact, both forms, and hosts that forbid something, by real means. TAP.

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
FACTS = """state-dir state-fs state-space kernel user groups open-files rlimits core-pattern links userns userns-limits userns-sysctl
    apparmor container mount-api proc pid-max overlay tmpfs-xattr seccomp no-new-privs landlock openat2
    close-range pidfd cgroup network tun pasta engine sandbox""".split()


top = tempfile.mkdtemp(prefix="cgibox-doctor.")
os.chmod(top, 0o755)
program = shutil.copy(PROGRAM, os.path.join(top, "cgibox"))
shutil.copytree(os.path.join(os.path.dirname(os.path.realpath(PROGRAM)), "libexec"), os.path.join(top, "libexec"))
deny = shutil.copy(os.path.join(HERE, "lib/deny-calls.py"), top)
os.chmod(deny, 0o755)
state = os.path.join(top, "state")
os.mkdir(state, 0o700)
become, uid = [], os.getuid()
if uid == 0:
    uid = UID
    os.chown(state, UID, UID)
    become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def run(*args, wrap=(), at=state, conf=(), become=None):
    p = subprocess.run((globals()["become"] if become is None else become) + [*wrap, program, "--state", at, "doctor", *args],
                       timeout=600, env=dict(env, **dict(conf)), stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, cwd="/")
    return p.returncode, p.stdout, p.stderr


def facts(*args, **kw):
    rc, out, err = run("--json", *args, **kw)
    try:
        return rc, {f["name"]: f for f in json.loads(out)}
    except ValueError:
        ok(False, "JSON", rc, out, err)
        return rc, {n: {"state": "?", "text": "?", "fix": "?"} for n in FACTS}


def tree(d):
    return sorted((p, os.lstat(p).st_mode, os.lstat(p).st_size) for b, ds, fs in os.walk(d)
                  for p in [b] + [os.path.join(b, n) for n in ds + fs])


def inside(script):
    """A wrapper: the script in namespaces of its own, then the program."""
    return ["unshare", "-Urm", "sh", "-ec", script.replace("STATE", state) + '\nexec "$@"', "sh"]


def mounts():
    """Those of our state directory: others come and go by themselves."""
    with open("/proc/self/mountinfo") as f:
        return [line for line in f if state in line]


# --- this machine
before, mounted = tree(state), mounts()
rc, out, err = run()
eq((rc, err), (0, ""), "this machine: nothing is blocked")
lines = [line.split(None, 2) for line in out.splitlines()]
eq([line[1] for line in lines], FACTS, "every fact has its line, in order")
ok(all(line[0] in ("ok", "weaker") and line[2] for line in lines), "each is ok or weaker, with a text", out)
eq(tree(state), before, "the state directory is as before")
eq(mounts(), mounted, "and so are its mounts")
rc, doc = facts()
eq((rc, list(doc)), (0, FACTS), "--json: the same facts")
volatile = ("state-space", "sandbox")
text = {n: s + " " + t for s, n, t in lines if n not in volatile}
eq({n: f["state"] + " " + f["text"] + ("; fix: " + f["fix"] if f["fix"] else "") for n, f in doc.items()
    if n not in volatile}, text, "--json: the same states, texts and fixes")
ok(all(f["fix"] for f in doc.values() if f["state"] != "ok"), "whatever is not ok says what to do", doc)
ok(all(set(f) == {"name", "state", "text", "fix"} for f in doc.values()), "each object has four members")
with open("/proc/version") as f:
    ok(doc["kernel"]["text"] in f.read(), "the kernel is the running one", doc["kernel"])
for bad in (["--nonsense"], ["extra"], ["--state", "relative"]):
    rc, out, err = run(*bad)
    ok(rc == 64 and not out and "usage" in err, "64: %s" % " ".join(bad), rc, out, err)

# --- a state directory in use, and one that is not there yet
for d in ("tmp", "mnt"):
    os.mkdir(os.path.join(state, d), 0o700)
    os.chown(os.path.join(state, d), uid, -1)
before = tree(state)
eq(run()[0], 0, "with STATE/tmp")
eq(tree(state), before, "nothing is left there")
new = os.path.join(state, "new")
rc, doc = facts(at=new)
eq((rc, doc["state-dir"]["state"], os.path.exists(new)), (0, "ok", False), "a directory that can be made is not made")
closed = os.path.join(top, "closed")
os.mkdir(closed, 0o555)
rc, doc = facts(at=os.path.join(closed, "new"))
eq((rc, doc["state-dir"]["state"], doc["overlay"]["state"], doc["sandbox"]["state"]),
   (1, "blocked", "blocked", "blocked"), "one that cannot be made")
ok("install -d -m 0700 -o %d" % uid in doc["state-dir"]["fix"], "and the fix", doc["state-dir"])

# --- as `make install` places it
prefix = os.path.join(top, "prefix")
os.makedirs(os.path.join(prefix, "bin"))
shutil.copy(program, os.path.join(prefix, "bin"))
shutil.copytree(os.path.join(top, "libexec"), os.path.join(prefix, "libexec/cgibox"))
p = subprocess.run(become + [os.path.join(prefix, "bin/cgibox"), "--state", state, "doctor"], env=env,
                   stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
ok(p.returncode == 0 and p.stdout.splitlines()[-1].startswith("ok       sandbox"), "installed: the same", p.stdout, p.stderr)

# --- ended in the middle
p = subprocess.Popen(become + [program, "--state", state, "doctor"], env=env, stdout=subprocess.PIPE)
end = time.monotonic() + 120
while not os.listdir(os.path.join(state, "tmp")) and p.poll() is None and time.monotonic() < end:
    pass
ok(os.listdir(os.path.join(state, "tmp")) != [], "control: the scratch directory is there")
p.send_signal(signal.SIGTERM)
out = p.communicate(timeout=300)[0]
eq((p.returncode, tree(state)), (-signal.SIGTERM, before), "SIGTERM ends it, and nothing is left")

# --- hosts that forbid something: blocked, exit code 1, and what fixes it
def blocked(what, fact, fix, wrap=(), conf=()):
    rc, doc = facts(wrap=wrap, conf=conf)
    eq((rc, doc[fact]["state"]), (1, "blocked"), what)
    ok(fix in doc[fact]["fix"], "%s: the fix has %r" % (fact, fix), doc[fact])
    line = [x for x in run(wrap=wrap, conf=conf)[1].splitlines() if x.split()[1] == fact]
    ok(len(line) == 1 and line[0].startswith("blocked") and fix in line[0], "%s: and in its line" % fact, line)
    return doc


rc, doc = facts(wrap=inside(":"))
eq((rc, doc["userns"]["state"], doc["user"]["state"]), (0, "ok", "weaker"), "control: in a user namespace, as its root")
off = inside("echo 0 > /proc/sys/user/max_user_namespaces")
doc = blocked("max_user_namespaces = 0", "userns-limits", "sysctl -w user.max_user_namespaces=", off)
eq([doc[n]["state"] for n in ("userns", "overlay", "mount-api", "sandbox")], ["blocked"] * 4, "and what hangs on it")
ok("user.max_user_namespaces" in doc["userns"]["fix"], "userns names the limit", doc["userns"])
few = inside("echo 5 > /proc/sys/user/max_net_namespaces")
rc, doc = facts(wrap=few)
eq((rc, doc["userns-limits"]["state"], doc["userns-limits"]["fix"]), (0, "weaker", "sysctl -w user.max_net_namespaces=15000"),
   "too few network namespaces are weaker")


def denied(*calls):
    """A wrapper: a seccomp filter that refuses these."""
    return [deny, *calls, "--"]


def weaker(what, fact, text, fix, code=0, **kw):
    rc, doc = facts(**kw)
    eq((rc, doc[fact]["state"]), (code, "weaker"), what)
    ok(text in doc[fact]["text"], "%s: the text has %r" % (fact, text), doc[fact])
    ok(fix in doc[fact]["fix"], "%s: the fix has %r" % (fact, fix), doc[fact])
    return doc


eq(facts(wrap=denied("memfd_create=EPERM"))[1]["userns"]["state"], "ok", "control: a filter that is none of our business")
doc = blocked("a filter that refuses unshare and clone", "container", "seccomp=unconfined", denied("unshare=EPERM", "clone=EPERM"))
eq((doc["userns"]["state"], doc["seccomp"]["state"], doc["sandbox"]["state"]), ("blocked", "ok", "blocked"),
   "which blocks user namespaces, not filters")
# what Docker's default profile refuses to a container without CAP_SYS_ADMIN
doc = blocked("Docker's default profile", "container", "seccomp=unconfined",
              denied("unshare=EPERM", "clone=EPERM", "clone3=ENOSYS", "setns=EPERM", "mount=EPERM", "umount2=EPERM", "fsopen=EPERM",
                     "fsmount=EPERM", "open_tree=EPERM", "move_mount=EPERM", "mount_setattr=EPERM"))
eq([doc[n]["state"] for n in ("userns", "mount-api", "overlay", "proc")], ["blocked"] * 4, "and what hangs on it")
ok("seccomp=unconfined" in doc["userns"]["fix"], "userns has the same fix", doc["userns"])
doc = weaker("openat2 is not there (RestrictSUIDSGID=, gVisor)", "openat2", "link on the way", "RestrictSUIDSGID=",
             wrap=denied("openat2=ENOSYS"))
ok("gVisor" in doc["openat2"]["fix"] and "not implemented" in doc["openat2"]["text"], "both causes are named", doc["openat2"])
weaker("openat2 is refused", "openat2", "link on the way", "SystemCallFilter=", wrap=denied("openat2=EPERM"))
blocked("no close_range", "close-range", "SystemCallFilter=", denied("close_range=ENOSYS"))
blocked("no new mount calls", "mount-api", "SystemCallFilter=", denied("fsopen=ENOSYS"))
doc = weaker("no Landlock", "landlock", "no second line", "lsm=landlock", wrap=denied("landlock_create_ruleset=ENOSYS"))
ok("abstract" not in doc["landlock"]["text"], "without network = host abstract sockets are closed", doc["landlock"])
doc = weaker("no Landlock and network = host", "landlock", "abstract sockets", "lsm=landlock",
             wrap=denied("landlock_create_ruleset=ENOSYS"), conf={"CGIBOX_NETWORK": "host"})
ok("abstract sockets" in doc["network"]["text"], "network says so, too", doc["network"])
doc = weaker("network = host", "network", "loopback", "network = none", conf={"CGIBOX_NETWORK": "host"})
if doc["landlock"]["state"] == "ok":
    ok("abstract" not in doc["network"]["text"], "with Landlock's scopes abstract sockets are closed", doc["network"])

# --- the Engine of backend = docker
eq(facts()[1]["engine"]["state"], "ok", "no Engine is needed")
blocked("no Engine and backend = docker", "engine", "systemctl start docker", conf={"CGIBOX_BACKEND": "docker", "CGIBOX_ENGINE": "unix:///no/such"})
blocked("a bad place for it", "engine", "engine", conf={"CGIBOX_BACKEND": "docker", "CGIBOX_ENGINE": "tcp://x"})

# --- the network of network = pasta
pasta = {"CGIBOX_NETWORK": "pasta"}
hide = inside("mount -t tmpfs x /dev/net")
eq(facts(wrap=hide)[1]["tun"]["state"], "ok", "/dev/net/tun is hidden: nobody needs it")
if os.path.exists("/dev/net"):
    blocked("/dev/net/tun is hidden and network = pasta", "tun", "modprobe tun", hide, pasta)
blocked("no pasta and network = pasta", "pasta", "apt-get install passt", conf=dict(pasta, CGIBOX_PASTA_PROGRAM="/no/such/pasta"))
there = os.path.join(top, "pasta")
shutil.copy("/bin/true", there)
eq(facts(conf=dict(pasta, CGIBOX_PASTA_PROGRAM=there))[1]["pasta"], {"name": "pasta", "state": "ok", "text": there, "fix": ""},
   "control: a pasta")

# --- settings of the host, by files over those of /proc/sys (which for its part blocks the fact "proc")
def sysctl(name, value):
    path = os.path.join(top, name.replace("/", "-"))
    with open(path, "w") as f:
        f.write(value + "\n")
    return "mount --bind %s /proc/sys/%s" % (path, name)


core = "kernel/core_pattern"
eq(facts(wrap=inside(sysctl(core, "core.%p")))[1]["core-pattern"]["state"], "ok", "core_pattern is a file")
pipe = inside(sysctl(core, "|/usr/share/apport/apport %p"))
eq(facts(wrap=pipe)[1]["core-pattern"]["state"], "ok", "a program, that our limit of 1 keeps out")
doc = weaker("a program, and a hard limit of 0", "core-pattern", "apport", "LimitCORE=1", 1, wrap=["prlimit", "--core=0:0", *pipe])
weaker("a socket", "core-pattern", "@/run/", "kernel.core_pattern=core", 1,
       wrap=inside(sysctl(core, "@/run/systemd/coredump")))
on = "; ".join(sysctl("fs/protected_" + n, "1") for n in ("symlinks", "hardlinks", "fifos", "regular"))
eq(facts(wrap=inside(on))[1]["links"]["state"], "ok", "protected links")
weaker("unprotected links", "links", "for hardlinks:", "sysctl -w fs.protected_hardlinks=1", 1,
       wrap=inside(on + "; " + sysctl("fs/protected_hardlinks", "0")))



def running():
    """Processes whose program is one of the copies here."""
    return [p for p in os.listdir("/proc") if p.isdigit() and os.path.exists("/proc/%s/exe" % p)
            and os.path.realpath("/proc/%s/exe" % p).startswith(top)]


# --- limits of the service
weaker("few processes", "rlimits", "nproc is 200, processes_max = 512", "LimitNPROC=infinity", wrap=["prlimit", "--nproc=200:200"])
weaker("small files", "rlimits", "fsize is 5000000,", "LimitFSIZE=infinity", wrap=["prlimit", "--fsize=5000000:5000000"])
eq(facts(wrap=["prlimit", "--nproc=512:512"])[1]["rlimits"]["state"], "ok", "control: as many as sandbox.conf's")
weaker("a limit, and none in sandbox.conf", "rlimits", "cpu is 100000, cpu_time_max_s = 0", "LimitCPU=",
       wrap=["prlimit", "--cpu=100000:100000"], conf={"CGIBOX_CPU_TIME_MAX_S": "0"})
blocked("an old kernel", "kernel", "linux-image", ["setarch", "--uname-2.6"])
blocked("covered parts of /proc", "proc", "systempaths=unconfined",
        inside("mount -t tmpfs x /proc/sys"))
blocked("a read-only state directory", "state-fs", "remount,rw",
        inside("mount --bind STATE STATE; mount -o remount,bind,ro STATE"))
blocked("a state directory without exec", "state-fs", "remount,exec",
        inside("mount --bind STATE STATE; mount -o remount,bind,noexec STATE"))
blocked("few open files", "open-files", "LimitNOFILE", ["prlimit", "--nofile=100:100"])
fifo = os.path.join(state, "fifo")
os.mkfifo(fifo, 0o644)
rc, doc = facts(wrap=inside("mount --bind STATE/fifo /proc/sys/user/max_uts_namespaces"))
eq((rc, doc["userns-limits"]["state"], doc["userns-limits"]["text"]), (1, "blocked", "no answer within 10 s"),
   "a probe that hangs is ended")
eq((len(doc), doc["sandbox"]["text"] != ""), (len(FACTS), True), "and those behind it have their turn")
end = time.monotonic() + 60  # what was killed ends when it comes to run
while running() and time.monotonic() < end:
    time.sleep(0.02)
eq(running(), [], "no process is left")
os.unlink(fifo)
rc, doc = facts(wrap=inside("mount -t tmpfs x STATE"))
eq((doc["state-fs"]["state"], doc["state-fs"]["text"].split()[0]), ("weaker", "tmpfs"), "a tmpfs is weaker")
good = doc["tmpfs-xattr"]["state"] == "ok"
eq((rc, doc["overlay"]["state"]), (0, "ok") if good else (1, "blocked"), "and blocked where it has no user xattrs")
rc, doc = facts(wrap=inside("mkdir STATE/l STATE/u STATE/w; "
                            "mount -t overlay x -o userxattr,lowerdir=STATE/l,upperdir=STATE/u,workdir=STATE/w STATE"))
eq((rc, doc["state-fs"]["state"]), (1, "blocked"), "an overlay is blocked")
if os.getuid() == 0:
    become[-1:] = ["--groups", "1,4"]
    doc = weaker("supplementary groups", "groups", " 1 4", "--clear-groups")
    doc = weaker("root", "user", "root", "setpriv", become=[], at=os.path.join(top, "roots"))
    # as scripts/serve makes it: root's, sticky, the service's group may make files
    shared = os.path.join(top, "shared")
    become[-2:] = ["--clear-groups"]
    for owner, mode, state_ in ((0, 0o1771, "ok"), (0, 0o771, "weaker"), (0, 0o1777, "weaker"), (1, 0o1771, "weaker")):
        os.path.isdir(shared) or os.mkdir(shared)
        os.chown(shared, owner, UID)
        os.chmod(shared, mode)
        eq(facts(at=shared)[1]["state-dir"]["state"], state_, "a state directory of uid %d and mode %o" % (owner, mode))

subprocess.run(["chmod", "-R", "u+rwX", top], stderr=subprocess.DEVNULL)
shutil.rmtree(top, ignore_errors=True)
done()
