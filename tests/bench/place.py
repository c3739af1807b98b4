"""Where things are measured: a scratch directory, a root file system, an installed copy of cgibox, an ordinary user."""
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile

UID = 12345
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = "bash dash true cat sleep env"


def libraries(path):
    """What ldd(1) says that a program loads."""
    out = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    return [w for line in out.splitlines() for w in line.split() if w.startswith("/")]


class Place:
    def __init__(self):
        # A build directory, or the place where `make install-bench` put us: PREFIX/share/cgibox/bench.
        self.build = os.environ.get("CGIBOX_BENCH_BUILD")
        self.libexec = os.path.join(self.build, "libexec") if self.build else os.path.normpath(os.path.join(HERE, "../../../libexec/cgibox"))
        self.is_root = os.getuid() == 0
        self.top = tempfile.mkdtemp(prefix="cgibox-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.shm = tempfile.mkdtemp(prefix="cgibox-bench-", dir="/dev/shm")
        self.root = self.top + "/root"
        self.prefix = self.top + "/prefix"
        self.home = self.top + "/home"
        for d in (self.top, self.shm):
            os.chmod(d, 0o755)
        self.own(self.shm)
        self.make_dir("home")
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin", "HOME": self.home, "LC_ALL": "C.UTF-8",
                    "XDG_RUNTIME_DIR": self.make_dir("runtime"), "TMPDIR": self.make_dir("tmp"), "USER": "bench",
                    "CGIBOX_STATE_DIR": self.make_dir("state")}

    def own(self, path):
        if self.is_root:
            os.chown(path, UID, UID)

    def make_dir(self, name):
        """A directory of the ordinary user."""
        path = os.path.join(self.top, name)
        os.makedirs(path, exist_ok=True)
        self.own(path)
        return path

    def identity(self):
        """For subprocess: as the ordinary user."""
        return {"user": UID, "group": UID, "extra_groups": []} if self.is_root else {}

    def program(self, name):
        return os.path.join(self.libexec, "bench-" + name)

    def run(self, args, **more):
        """A program as the ordinary user, output captured; its standard output, or an exception with what it said."""
        env = dict(self.env, **more.pop("env", {}))
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=more.pop("cwd", self.top), env=env,
                           **self.identity(), **more)
        if p.returncode:
            raise RuntimeError("%s: status %d: %s" % (" ".join(args[:3]), p.returncode, (p.stderr or p.stdout)[-600:].strip()))
        return p.stdout

    def start(self, args, **more):
        env = dict(self.env, **more.pop("env", {}))
        return subprocess.Popen(args, cwd=self.top, env=env, **{**self.identity(), **more})

    def install(self):
        """A copy of what is measured where the ordinary user can read it."""
        if self.build:
            subprocess.run(["make", "-s", "-C", os.path.join(HERE, "../.."), "install", "PREFIX=" + self.prefix, "B=" + self.build], check=True,
                           stdout=sys.stderr)
        else:
            installed = os.path.normpath(os.path.join(HERE, "../../.."))
            for d in ("bin/cgibox", "sbin/cgibox.fcgi", "libexec/cgibox", "share/cgibox"):
                at, to = os.path.join(installed, d), os.path.join(self.prefix, d)
                os.makedirs(os.path.dirname(to), exist_ok=True)
                (shutil.copytree if os.path.isdir(at) else shutil.copy)(at, to)
        tools = self.top + "/tools"
        os.mkdir(tools)
        for f in glob.glob(self.libexec + "/bench-*"):
            shutil.copy(f, tools)
        self.libexec = tools
        self.plain_prefix = self.top + "/plain"
        shutil.copytree(self.prefix, self.plain_prefix)
        shutil.copy(self.program("plain.fcgi"), self.plain_prefix + "/sbin/cgibox.fcgi")

    def make_root(self):
        """This machine's own shell, true and Python with what they load: a few tens of MB, the same for everyone who is compared."""
        for d in "usr/bin usr/lib usr/lib64 etc proc sys dev tmp run root home repo".split():
            os.makedirs(os.path.join(self.root, d))
        for d in "bin lib lib64".split():
            os.symlink("usr/" + d, os.path.join(self.root, d))
        python = os.path.realpath("/usr/bin/python3")
        for f in [shutil.which(p) for p in PROGRAMS.split()] + [python]:
            self.copy_program(os.path.realpath(f))
        lib = "/usr/lib/" + os.path.basename(python)
        shutil.copytree(lib, self.root + lib, ignore=shutil.ignore_patterns("test", "dist-packages", "idlelib", "config-*", "sitecustomize.py"), symlinks=True)
        os.symlink(os.path.basename(python), self.root + "/usr/bin/python3")
        os.symlink("dash", self.root + "/usr/bin/sh")
        shutil.copy(self.program("true"), self.root + "/usr/bin/static-true")
        shutil.copy("/etc/ld.so.cache", self.root + "/etc")
        with open(self.root + "/etc/passwd", "w") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n")

    def copy_program(self, path):
        for f in [path] + libraries(path):
            at = os.path.join(os.path.realpath(os.path.dirname(f)), os.path.basename(f))
            to = self.root + at
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(os.path.realpath(at), to)

    def end(self, process, seconds=20):
        """Ends a process that we started: asks, waits, insists."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def clear(self):
        for d in (self.top, self.shm):
            subprocess.run(["chmod", "-R", "u+rwx", d], stderr=subprocess.DEVNULL)
            shutil.rmtree(d, ignore_errors=True)
