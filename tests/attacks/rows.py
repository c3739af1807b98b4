"""Which attack is run how, and which mechanisms stand behind each promise."""
import os
import resource
import signal

from lab import CANARY, KERNEL, ROOT, Outcome, host_namespaces, landlock_abi

MIB = 1 << 20
PATIENCE_S = 60  # for what is to come to an end, on a busy machine
SMALL = {"processes_max": 64, "files_open_max": 256, "file_max_bytes": MIB, "tmpfs_max_bytes": 2 * MIB,
         "tmpfs_max_inodes": 256, "memory_process_max_bytes": 64 * MIB, "address_space_max_bytes": 256 * MIB}


def small(*keys):
    return {k: SMALL[k] for k in keys}


def shown(lab):
    return ["--bind", lab.share + ":/share"]


def foreign_shm(lab, *words, **kw):
    """The token of another process of the same uid outside: in its ipc namespace, and alive."""
    import subprocess
    token = "outside-%d" % os.getpid()
    other = subprocess.Popen(lab.become + [lab.atk, "arm", token, "stay"], stdout=subprocess.PIPE, cwd=lab.state,
                             env={}, text=True, start_new_session=True)
    said = []
    while not said or (said[-1] and "ARMED" not in said[-1]):
        said.append(other.stdout.readline())
    try:
        if not said[-1]:
            out = Outcome(0, "", "", False)
            out.word, out.why = "UNPROVEN", "nobody outside has the token: %s" % said
            return out
        return lab.attack("check-ipc", token, **kw)
    finally:
        other.kill()
        other.wait()
        subprocess.run(lab.become + [lab.atk, "disarm", token], cwd=lab.state, timeout=20)


def shared_mounts(lab, *words, **kw):
    """Started where mounts are shared, as systemd leaves them."""
    return lab.attack("propagation", wrap=["unshare", "--user", "--map-current-user", "--mount", "--propagation",
                                           "shared", "--"], args=shown(lab), **kw)


def hostile_root(lab, *words, **kw):
    """An image in which the target of a mount is a link to a directory of the host."""
    victim = os.path.join(lab.top, "victim")
    if not os.path.isdir(victim):
        lab.mine("victim", directory=True)
        lab.mine("trap", directory=True)
        os.symlink(victim, os.path.join(lab.top, "trap/link"))
    for name in os.listdir(victim):
        os.rmdir(os.path.join(victim, name))
    out = lab.attack("fds", args=["--bind", lab.top + "/trap:/trap:rw", "--bind", lab.share + ":/trap/link/made"], **kw)
    left = os.listdir(victim)
    if out.word == "REFUSES" and not left:
        out.word = "HELD"  # inside, the link leads nowhere: no sandbox
    if left:
        out.word, out.why = "BREACH", "made in a directory of the host: %s" % left
    return out


def group_kill(lab, *words, **kw):
    out = lab.attack("kill-group", **kw)
    if out.rc != 0:
        out.word, out.why = "BREACH", "what started the sandbox was killed: %s" % out.rc
    return out


def privileged(lab, *words, **kw):
    out = None
    for path in lab.copies():
        out = lab.attack("privileged", path, args=shown(lab), **kw)
        if out.word != "HELD":
            break
    return out


def ended_by(name, seconds, *words):
    """Held means that the sandbox ends it in time, by a signal or with 124. A busy machine gets ten times the seconds;
    not where the one mechanism is off, which is to be seen in them."""
    def run(lab, **kw):
        limit = seconds if kw.get("mutate") else 10 * seconds
        out = lab.attack(name, *words, timeout=limit, **kw)
        if out.word == "TIMEOUT":
            out.word, out.why = "BREACH", "still there after %s s" % limit
        elif out.rc in (124, 128 + signal.SIGXCPU, 128 + signal.SIGKILL):
            out.word = "HELD"
        return out
    return run


def of_service(test):
    """Runs a test with a service of the same build; it ends with the service."""
    def run(lab, mutate=(), **kw):
        import service
        program = os.path.join(lab.top, "sbin/cgibox.fcgi")
        if not os.path.exists(program):
            lab._copy(os.path.join(lab.build, "cgibox.fcgi"), "sbin/cgibox.fcgi")
        s = service.Service(lab, program, mutate, workers_min=2, workers_max=4, output_max_bytes=65536)
        out = Outcome(0, "", "", False)
        try:
            out.word, out.why = test(s) if s.start() else ("REFUSES", open(s.log).read()[-300:])
        finally:
            s.stop()
        return out
    return run


def spool_bytes(s):
    """The largest file that a pid 1 of the service has open: the spool of a command's output."""
    sizes = [0]
    for pid in s.roles().get("pid1", []):
        try:
            for fd in os.listdir("/proc/%d/fd" % pid):
                sizes.append(os.stat("/proc/%d/fd/%s" % (pid, fd)).st_size)
        except OSError:
            pass
    return max(sizes)


def much_output(s):
    import threading
    import time
    answer, most = [], 0
    sid = s.session()
    t = threading.Thread(target=lambda: answer.append(s.run(sid, ["head -c 3000000 /dev/zero | tr '\\0' x; sleep 1"])))
    t.start()
    while t.is_alive():
        most = max(most, spool_bytes(s))
        time.sleep(0.05)
    if not answer or answer[0][0] != 200 or most < 60000:
        return "UNPROVEN", "%s, %d bytes" % (answer, most)
    shown = len(answer[0][1]["results"][0]["output"])
    if shown > 65536 + 200:  # a mark says that it was cut
        return "BREACH", "%d bytes in the answer" % shown
    return ("BREACH" if most > 65536 else "HELD"), "%d bytes on the disk" % most


def dead_supervisor(s):
    import signal as sig
    sid = s.session()
    if not sid:
        return "UNPROVEN", "no session"
    os.kill(s.proc.pid, sig.SIGKILL)
    s.proc.wait()
    left = s.left(PATIENCE_S if "," not in s.env.get("CGIBOX_MUTATE", "") else 3)
    return ("BREACH", "%d processes live on" % len(left)) if left else ("HELD", "")


def killed(how, mechanisms):
    """A sandbox full of processes that will not die; then what started it ends. Who is left? mechanisms: so many hold it."""
    def run(lab, **kw):
        from lab import gone
        mark = "mark-%d-%d" % (os.getpid(), id(kw))
        holds = len(kw.get("mutate") or ()) < mechanisms
        p = lab.popen(["/atk/atk", "stay", mark] + (["once"] if how == "end" else []), **kw)
        line = p.stdout.readline()
        if how == "kill":
            p.kill()
        else:
            try:
                p.wait(PATIENCE_S if holds else 4)
            except Exception:  # still there: its processes are counted below
                pass
        left = gone(mark, PATIENCE_S if holds else 3)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        out = lab.finish(p)
        if "ARMED" not in line:
            out.word = "REFUSES" if out.word == "REFUSES" else "UNPROVEN"
        else:
            out.word, out.why = ("BREACH", "%d processes live on" % len(left)) if left else ("HELD", "")
        return out
    return run


class Row:
    """promise, what tries to break it, and the mechanisms: each alone must hold it, without all it must break.

    A mechanism "a+b" is several switches. broken: what is seen without all of them: BREACH, or REFUSES when no
    sandbox starts then, or HELD for mechanisms that only double something that no switch turns off.
    """

    def __init__(self, promise, attack, mechanisms, words=(), args=(), conf={}, run=None, broken="BREACH", when=True,
                 why_not="", partner="", **kw):
        self.promise, self.attack, self.mechanisms = promise, attack, list(mechanisms)
        self.words, self.args, self.conf, self.run_, self.kw = words, args, conf, run, kw
        self.broken, self.when, self.why_not, self.partner = broken, when, why_not, partner

    def run(self, lab, mutate=()):
        kw = dict(self.kw, mutate=mutate, conf=self.conf)
        if self.run_:
            return self.run_(lab, **kw)
        words = [w(lab) if callable(w) else w for w in self.words]
        args = self.args(lab) if callable(self.args) else list(self.args)
        if self.attack in ("tiocsti", "ctty"):
            return lab.on_terminal(self.attack, *words, args=args, **kw)
        return lab.attack(self.attack, *words, args=args, **kw)


NESTED = "sys-unshare+sys-clone3+clone-flags+sys-setns"
MOUNT_CALLS = "sys-mount+sys-umount2+sys-pivot_root+sys-open_tree+sys-move_mount+sys-mount_setattr"
CAPS = "caps-ambient+caps-bounding+caps-securebits+caps-drop+caps-proof"
HARD = {k: resource.getrlimit(getattr(resource, "RLIMIT_" + k))[1] for k in
        ("CORE", "NOFILE", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "NPROC")}


def above(kind, n):
    return HARD[kind] == resource.RLIM_INFINITY or HARD[kind] > n


ABI = landlock_abi()
SCOPES = ["landlock"] if ABI >= 6 else []

ROWS = [
    # files of the host
    Row("no descriptor of the host", "fds", ["init-close", "payload-close"]),
    Row("no way up to the old root", "chroot", ["root-detach"], [lambda l: l.canary]),
    Row("what is shown read-only stays so", "writes", ["read-only"], ["/share/file"], shown),
    Row("no mount, unmount, remount", "mounts", [CAPS, MOUNT_CALLS, "landlock"]),
    Row("mounts of the host do not spread inwards", "propagation", ["mounts-private+bind-private"],
        run=shared_mounts),
    Row("a hostile root redirects no mount", "fds", ["in-root"], run=hostile_root),
    Row("/proc shows no secrets of the kernel", "masked", ["proc-masks"]),
    Row("/proc/sys cannot be written", "proc-sys", ["proc-read-only"], args=["--uid", "0"],
        when=KERNEL >= (6, 14), why_not="before Linux 6.14 this user may write nothing there anyway"),
    Row("set-uid and capable files give nothing", "privileged", ["nosuid+no-new-privs+seccomp"], run=privileged,
        broken="HELD", partner="only one id is mapped, and the file's owner is not it", when=ROOT,
        why_not="only root can make such files"),
    # devices
    Row("only harmless devices", "devices", ["private-dev"]),
    Row("/dev takes no files", "devices", ["dev-read-only"]),
    Row("devices of shown directories do not open", "nodev", ["nodev"], ["/devs/zero"],
        ["--bind", "/dev:/devs"]),
    Row("no whiteouts planted in a layer", "whiteout", (["landlock"] if ABI >= 6 else []) + ["device-nodes"], ["/layer/whiteout"],
        lambda l: ["--root-emulation", "off", "--bind", l.layer + ":/layer:rw"]),
    Row("no terminal of the host", "foreign-pty", ["own-devpts"], [lambda l: l.foreign_pty()]),
    Row("no typing into the caller's terminal", "tiocsti", ["tiocsti", "setsid-init", "setsid-payload"]),
    Row("no controlling terminal of the caller", "ctty", ["setsid-init", "setsid-payload"]),
    # processes
    Row("pid 1 cannot be traced or read", "trace", ["dumpable"]),
    Row("the paths of pid 1 are closed", "pid1-paths", ["dumpable"]),
    Row("pid 1's program cannot be written", "exe", ["dumpable"]),
    Row("no environment of the host", "secrets", ["init-env", "dumpable"], [CANARY]),
    Row("limits and scheduling of pid 1 are out of reach", "pid1-calls", ["pid1-calls"]),
    Row("kill(0) reaches nobody outside", "kill-group", ["setsid-init", "setsid-payload"] + SCOPES, run=group_kill),
    Row("a session of its own", "session", ["setsid-payload"]),
    Row("no signal is ignored", "signals", ["signal-dispositions"], ignore=(signal.SIGUSR2, signal.SIGHUP)),
    Row("no signal is blocked", "signals", ["signal-mask"], block=(signal.SIGUSR2,)),
    Row("no core dump", "core", ["RLIMIT_CORE"], when=above("CORE", 0), why_not="the caller's own limit is 0"),
    # namespaces
    Row("a user, mount and pid namespace", "namespaces", ["ns-pid"], host_namespaces(), broken="REFUSES"),
    Row("an ipc namespace", "namespaces", ["ns-ipc"], host_namespaces()),
    Row("another's SysV memory and queues", "check-ipc", ["ns-ipc"], run=foreign_shm),
    Row("a uts namespace", "namespaces", ["ns-uts"], host_namespaces(), broken="REFUSES"),
    Row("a cgroup namespace", "namespaces", ["ns-cgroup"], host_namespaces()),
    Row("a network namespace", "namespaces", ["ns-net"], host_namespaces()),
    # network
    Row("nothing of the host's loopback", "loopback", ["ns-net"], [lambda l: l.port]),
    Row("no route and no interface", "routes", ["ns-net"], when=len(open("/proc/net/route").readlines()) > 1,
        why_not="the machine has no route itself"),
    Row("no abstract socket of the host", "abstract", ["ns-net"] + SCOPES, [lambda l: l.abstract]),
    # kernel surface
    Row("no capability", "caps", [CAPS]),
    Row("no capability by executing as uid 0", "regain",
        ["caps-bounding+caps-proof", "caps-securebits", "no-new-privs+seccomp"], args=["--uid", "0"]),
    Row("no namespace inside", "nested", ["quota-namespaces", NESTED]),
    Row("a seccomp filter", "filtered", ["seccomp"]),
    Row("no_new_privs", "no-new-privs", ["no-new-privs+seccomp"]),
    Row("no filter without no_new_privs", "no-new-privs", ["no-new-privs"], broken="REFUSES"),
    Row("no other architecture's calls", "foreign-arch", ["foreign-arch", "newest-calls"], when=os.uname().machine == "x86_64",
        why_not="x86-64 only"),
    Row("no call newer than the list", "surface", ["newest-calls"], ["setxattrat"], when=KERNEL >= (6, 13),
        why_not="setxattrat(2) is of Linux 6.13"),
    Row("no other socket family", "families", ["families"]),
    Row("nor by socketpair", "family-pairs", ["family-pairs"]),
    Row("addresses stay random", "personality", ["personality"]),
    Row("pipes keep their size", "pipes", ["pipe-size"]),
    Row("no large SysV segment", "sysv", ["shmget"]),
    Row("no memory in attributes of files in memory", "memory-xattrs", ["sys-setxattr+sys-fsetxattr"], when=KERNEL >= (6, 6),
        why_not="before Linux 6.6 files in memory have no user attributes"),
    Row("nor in lists of access", "memory-acls", ["sys-fsetxattr"]),
    Row("nor in rules of Landlock", "landlock-rules", ["sys-landlock_create_ruleset+sys-landlock_add_rule"],
        when=ABI >= 1, why_not="no Landlock"),
    Row("the machine's contexts of asynchronous I/O", "aio", ["sys-io_setup"]),
    Row("no filters behind a descriptor", "listeners", ["listeners"]),
    Row("the machine's huge pages", "huge-pages", ["huge-pages"]),
    Row("no drivers behind a terminal", "line-disciplines", ["line-disciplines"]),
    Row("of netlink routes and events alone", "netlink", ["netlink"]),
    Row("nothing on top of TCP", "upper-protocols", ["upper-protocols"]),
    # limits
    Row("processes", "forks", ["RLIMIT_NPROC"] + (["pid-max"] if KERNEL >= (6, 14) else []), [800],
        conf=small("processes_max"), when=above("NPROC", 800), why_not="the caller's own limit is lower"),
    Row("threads", "threads", ["RLIMIT_NPROC"] + (["pid-max"] if KERNEL >= (6, 14) else []), [800],
        conf=small("processes_max"), when=above("NPROC", 800), why_not="the caller's own limit is lower"),
    Row("open files", "descriptors", ["RLIMIT_NOFILE"], [900], conf=small("files_open_max"),
        when=above("NOFILE", 1000), why_not="the caller's own limit is lower"),
    Row("size of a file", "file-size", ["RLIMIT_FSIZE"], ["/tmp", 4], conf=small("file_max_bytes")),
    Row("private memory of a process", "memory", ["RLIMIT_DATA", "RLIMIT_AS"], [300],
        conf=small("memory_process_max_bytes", "address_space_max_bytes")),
    Row("address space of a process", "address-space", ["RLIMIT_AS"], [64]),
    Row("bytes of a tmpfs", "fill", ["tmpfs-bytes"], ["/dev/shm", 8], conf=small("tmpfs_max_bytes")),
    Row("files of a tmpfs", "inodes", ["tmpfs-inodes"], ["/dev/shm", 3000], conf=small("tmpfs_max_inodes")),
    Row("locked memory", "locked", ["RLIMIT_MEMLOCK"], [16], when=above("MEMLOCK", 17 * MIB),
        why_not="the caller's own limit is no higher"),
    Row("queued signals", "pending", ["RLIMIT_SIGPENDING"], [8192], when=above("SIGPENDING", 8200),
        why_not="the caller's own limit is lower"),
    Row("message queues", "mqueues", ["RLIMIT_MSGQUEUE"], [50], when=above("MSGQUEUE", 5 * MIB),
        why_not="the caller's own limit is no higher"),
    Row("inotify instances", "inotify", ["quota-inotify"], [100]),
    Row("fanotify groups", "fanotify", ["quota-fanotify", "sys-fanotify_init"]),
    Row("processor time of a process", "spin", ["RLIMIT_CPU"], conf={"cpu_time_max_s": 1},
        run=ended_by("spin", 20, 4)),
    Row("wall time", "stay", ["kill-timeout"], args=(), run=None),
    # lifetime
    Row("a killed caller leaves nothing", "stay", ["ctl-end", "pdeathsig"], run=killed("kill", 2)),
    Row("an ended command leaves nothing", "stay", ["kill-stop", "ctl-end", "last-run"], run=killed("end", 3)),
    Row("output kept of a command of the service", "flood", ["output-cap"], run=of_service(much_output),
        when=ROOT, why_not="the spool is seen through /proc/PID of pid 1"),
    Row("a killed service leaves nothing", "stay", ["lifeline", "pdeathsig-service"], run=of_service(dead_supervisor),
        when=ROOT, why_not="the service's processes are known by their uid"),
]


def timed(lab, mutate=(), conf={}, **kw):
    return ended_by("stay", 12, "mark-timed")(lab, mutate=mutate, conf=conf, args=["--timeout", "1"])


for _r in ROWS:
    if _r.promise == "wall time":
        _r.run_ = timed
