"""What the tests of `cgibox run` share: TAP, a copy of the program, and a user to run it as.

CGIBOX names the program (default build/cgibox). As root the tests run as an ordinary uid, from a copy.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
UID = 12345


class Box:
    def __init__(self, name):
        self.count = self.failed = 0
        self.top = tempfile.mkdtemp(prefix="cgibox-%s." % name)
        os.chmod(self.top, 0o755)
        self.program = shutil.copy(os.environ.get("CGIBOX") or os.path.join(HERE, "../../../build/cgibox"),
                                   os.path.join(self.top, "cgibox"))
        os.chmod(self.program, 0o755)
        self.become = []
        if os.getuid() == 0:
            self.become = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        self.own(self.top)
        self.state = self.dir("state")
        self.command = self.become + [self.program, "--state", self.state, "run"]

    def ok(self, good, what, *detail):
        self.count += 1
        print("%sok %d - %s" % ("" if good else "not ", self.count, what), flush=True)
        if not good:
            self.failed += 1
            for d in detail:
                print("#", repr(d)[:1500], flush=True)
        return good

    def eq(self, got, want, what):
        return self.ok(got == want, what, got, want)

    def path(self, *names):
        return os.path.join(self.top, *names)

    def own(self, path):
        """Gives a file or tree to the user of the tests."""
        if self.become:
            os.lchown(path, UID, UID)
            for base, dirs, files in os.walk(path):
                for f in dirs + files:
                    os.lchown(os.path.join(base, f), UID, UID)
        return path

    def dir(self, *names):
        os.makedirs(self.path(*names), exist_ok=True)
        return self.own(self.path(*names))

    def file(self, name, text, mode=0o644):
        with open(self.path(name), "w") as f:
            f.write(text)
        os.chmod(self.path(name), mode)
        return self.own(self.path(name))

    def run(self, *args, env=None, timeout=300, stdin=subprocess.DEVNULL, pass_fds=(), conf=()):
        p = subprocess.run(self.become + [self.program, "--state", self.state, *conf, "run", *args], timeout=timeout,
                           stdin=stdin, capture_output=True, pass_fds=pass_fds, cwd=self.top,
                           env=dict({"PATH": "/usr/bin:/bin"}, **(env or {})))
        return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")

    def out(self, *args, **kw):
        """What a run prints; None when it fails."""
        rc, out, err = self.run(*args, **kw)
        if rc != 0:
            print("#", rc, err, flush=True)
        return out if rc == 0 else None

    def taken(self, pid, sig, seconds=60):
        """Waits until the process has taken the signal: two of a kind that are pending are one (signal(7))."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with open("/proc/%d/status" % pid) as f:
                pending = [int(x.split()[1], 16) for x in f if x.startswith(("SigPnd", "ShdPnd"))]
            if not any(p >> (sig - 1) & 1 for p in pending):
                return True
            time.sleep(0.01)
        return False

    def done(self):
        shutil.rmtree(self.top, ignore_errors=True)
        print("1..%d" % self.count)
        sys.exit(self.failed != 0)
