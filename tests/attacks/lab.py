"""What the attack tests share: TAP, a sandbox to attack, and what a careless host would have lying around.

The programs are those of CGIBOX_BUILD (default build/). As root everything runs as an ordinary uid, from a
copy, with every limit of the caller raised: what holds must be ours.
"""
import ctypes
import fcntl
import os
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("CGIBOX_BUILD") or os.path.join(TREE, "build"))
UID = 12345
ROOT = os.getuid() == 0
CANARY = "CANARY-41c7b2"
KERNEL = tuple(int(x) for x in os.uname().release.split("-")[0].split(".")[:2])
_count = _failed = 0


def note(*words):
    for line in " ".join(str(w) for w in words).splitlines() or [""]:
        print("#", line, flush=True)


def ok(good, what, *detail):
    global _count, _failed
    _count += 1
    print("%sok %d - %s" % ("" if good else "not ", _count, what.replace("#", "\\#")), flush=True)
    if not good:
        _failed += 1
        for d in detail:
            note(str(d)[:2000])
    return bool(good)


def eq(got, want, what):
    return ok(got == want, what, "     got: %r" % (got,), "expected: %r" % (want,))


def skip(why):
    """Loud and counted; a failure with MUST_WORK=1."""
    global _count, _failed
    if os.environ.get("MUST_WORK") == "1":
        ok(False, "cannot run: " + why)
        return
    _count += 1
    print("ok %d # SKIP %s" % (_count, why), flush=True)


def done():
    print("1..%d" % _count, flush=True)
    sys.exit(_failed != 0)


def landlock_abi():
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


class Outcome:
    """word: HELD, BREACH, UNPROVEN, REFUSES (the sandbox did not start), KILLED, TIMEOUT, or NONE."""

    def __init__(self, rc, out, err, timed_out):
        self.rc, self.out, self.err = rc, out, err
        self.why = ""
        self.word = "TIMEOUT" if timed_out else "NONE"
        if timed_out:
            return
        if rc is not None and (rc < 0 or 128 < rc < 160):
            self.word, self.why = "KILLED", "status %d" % rc
        for line in out.splitlines():
            word, _, why = line.partition(": ")
            if word in ("HELD", "BREACH", "UNPROVEN") and self.word != "BREACH":
                self.word, self.why = word, why
        if self.word == "NONE" and rc and err.startswith("cgibox: "):
            self.word, self.why = "REFUSES", err.strip()

    def __repr__(self):
        return "%s %s rc=%s %r %r" % (self.word, self.why, self.rc, self.out[-900:], self.err[-500:])


class Lab:
    def __init__(self, build=BUILD):
        self.top = tempfile.mkdtemp(prefix="cgibox-atk.")
        os.chmod(self.top, 0o755)
        self.build = build
        self.program = self._copy(os.path.join(build, "cgibox"), "cgibox")
        self.atk = self._copy(os.path.join(BUILD if os.path.exists(BUILD + "/atk") else build, "atk"), "bin/atk")
        os.makedirs(os.path.join(self.top, "libexec/cgibox"))
        image = os.path.join(build, "libexec/image")
        if os.path.exists(image):
            os.mkdir(os.path.join(self.top, "libexec/x"))
            self.image = self._copy(image, "libexec/cgibox/image")
        self.state = self.mine("state", directory=True)
        self.canary = self.mine("canary-of-the-host", b"host\n")
        self.share = self.mine("share", directory=True)
        self.mine("share/file", b"shown\n")
        self.layer = self.mine("layer", directory=True)
        self.become = []
        if ROOT:
            self.become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"]
        self._plant()
        self.prepared = {}

    def _copy(self, src, name):
        dst = os.path.join(self.top, name)
        os.makedirs(os.path.dirname(dst), exist_ok=True)
        shutil.copy(src, dst)
        os.chmod(dst, 0o755)
        return dst

    def mine(self, name, data=b"", directory=False, mode=None):
        """A file or directory of the ordinary user's."""
        path = os.path.join(self.top, name)
        if directory:
            os.mkdir(path)
        else:
            with open(path, "wb") as f:
                f.write(data)
        if ROOT:
            os.chown(path, UID, UID)
        os.chmod(path, mode or (0o755 if directory else 0o644))
        return path

    def _plant(self):
        self.abstract = "atk-canary-%d" % os.getpid()
        self.sockets = [socket.socket(socket.AF_UNIX), socket.socket(), socket.socket(socket.AF_UNIX)]
        self.sockets[0].bind("\0" + self.abstract)
        self.sockets[1].bind(("127.0.0.1", 0))
        self.path_socket = os.path.join(self.top, "host.sock")
        self.sockets[2].bind(self.path_socket)
        os.chmod(self.path_socket, 0o777)
        for s in self.sockets:
            s.listen(16)
        self.port = self.sockets[1].getsockname()[1]
        low = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        self.leak = fcntl.fcntl(low, fcntl.F_DUPFD, 40)  # above those that a sandbox starts with
        self.ptys = []

    def close(self):
        for s in self.sockets:
            s.close()
        shutil.rmtree(self.top, ignore_errors=True)

    def foreign_pty(self):
        """A terminal of this machine that belongs to the ordinary user; its number is 8 or more."""
        while True:
            m, s = pty.openpty()
            self.ptys.append((m, s))
            n = int(os.ttyname(s).rsplit("/", 1)[1])
            if n >= 8:
                break
        if ROOT:
            os.fchown(s, UID, UID)
        return n

    def _limits(self):
        """The caller's limits as high as they go, so that what holds is ours."""
        for k in ("CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NOFILE", "NPROC", "SIGPENDING"):
            what = getattr(resource, "RLIMIT_" + k)
            hard = resource.getrlimit(what)[1]
            resource.setrlimit(what, (hard, hard))

    def command(self, argv, args=(), wrap=()):
        shown = ["--bind", os.path.dirname(self.atk) + ":/atk"] if argv[0].startswith("/atk/") else []
        return self.become + list(wrap) + [self.program, "--state", self.state, "run", *shown, *args, "--", *argv]

    def environment(self, mutate, conf):
        env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "SERVER_API_KEY": CANARY}
        env.update({"CGIBOX_" + k.upper(): str(v) for k, v in conf.items()})
        if mutate:
            env["CGIBOX_MUTATE"] = ",".join(mutate)
        return env

    def popen(self, argv, args=(), mutate=(), conf={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, wrap=(),
              ignore=(), block=(), ctty=False, leak=True):
        def child():
            self._limits()
            for s in ignore:
                signal.signal(s, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, block)
            if ctty:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        return subprocess.Popen(self.command(argv, args, wrap), env=self.environment(mutate, conf), stdin=stdin,
                                stdout=stdout, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=child,
                                pass_fds=(self.leak,) if leak else (), errors="replace")

    def finish(self, p, timeout=120):
        """Waits; ends the whole group then, so that a broken mechanism leaves nothing behind."""
        timed_out = False
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self.reap(p)
            try:
                out, err = p.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                out, err = "", ""
        self.reap(p)
        return Outcome(p.returncode, out or "", err or "", timed_out)

    def reap(self, p):
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except OSError:
            pass

    def attack(self, name, *argv, timeout=120, **kw):
        """One attack in a fresh sandbox."""
        return self.finish(self.popen(["/atk/atk", name, *map(str, argv)], **kw), timeout)

    def outside(self, name, *argv, timeout=120):
        """The same attack without any sandbox, as the same user: what it says then is the control."""
        p = subprocess.Popen(self.become + [self.atk, name, *map(str, argv)], env=self.environment((), {}), text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True, pass_fds=(self.leak,), preexec_fn=self._limits)
        return self.finish(p, timeout)

    def on_terminal(self, name, *argv, **kw):
        """One attack whose standard input is a terminal, the controlling one of what starts the sandbox."""
        m, s = pty.openpty()
        if ROOT:
            os.fchown(s, UID, UID)
        p = self.popen(["/atk/atk", name, *map(str, argv)], stdin=s, ctty=True, **kw)
        os.close(s)
        out = self.finish(p)
        os.close(m)
        return out

    def copies(self):
        """Copies of the attack program that would change ids or capabilities when executed. Root only."""
        if not ROOT:
            return []
        made = []
        for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("capable", 0o755)):
            path = self._copy(self.atk, "share/" + name)
            os.chmod(path, mode)
            made.append("/share/" + name)
            if name == "capable":
                cap = bytes.fromhex("0100000200200000000000000000000000000000")  # v2, effective, net_raw
                os.setxattr(path, "security.capability", cap)
        return made


def processes(mark):
    """Pids of this machine whose arguments or environment hold the mark."""
    out = []
    me = os.getpid()
    for p in os.listdir("/proc"):
        if not p.isdigit() or int(p) == me:
            continue
        for f in ("cmdline", "environ"):
            try:
                with open("/proc/%s/%s" % (p, f), "rb") as h:
                    if mark.encode() in h.read():
                        out.append(int(p))
                        break
            except OSError:
                pass
    return out


def gone(mark, seconds=60):
    """Waits until no process has the mark; returns those that are left."""
    end = time.monotonic() + seconds
    while True:
        left = processes(mark)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.005)


def host_namespaces():
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return ["%s=%s" % (k, os.readlink("/proc/self/ns/" + k)) for k in kinds]
