#!/usr/bin/python3
"""cgibox run at a terminal, driven through a real pty: job control, sizes, Ctrl-C, and that the caller's terminal is
neither given away nor left in another mode. TAP."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from box import Box  # noqa: E402

b = Box("run-tty")
ok, eq = b.ok, b.eq


def winsize(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class Terminal:
    """A terminal with a program in it, as a session leader would start it. files: {fd: path} to redirect."""

    def __init__(self, *args, program=None, files=None, rows=31, cols=97, env=None):
        self.master, slave = pty.openpty()
        self.slave = slave
        winsize(self.master, rows, cols)
        self.before = termios.tcgetattr(slave)
        self.seen = b""
        argv = (program or b.command) + list(args)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(slave, fd)
            for fd, path in (files or {}).items():
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), fd)
            os.closerange(3, 100)
            os.chdir(b.top)
            try:
                os.execvpe(argv[0], argv, dict({"PATH": "/usr/bin:/bin"}, **(env or {})))
            finally:
                os._exit(99)

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, pattern, timeout=120):
        """Reads on until the pattern is there; what was read since the last call, or None."""
        end = time.monotonic() + timeout
        while True:
            text = self.seen.decode(errors="replace")
            m = re.search(pattern, text)
            if m:
                self.seen = text[m.end():].encode()
                return text[:m.end()]
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                print("# waited for %r, have %r" % (pattern, text), flush=True)
                return None
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                return None

    def wait(self, timeout=120):
        """The exit code, 128 + n for a signal; None when it does not end."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            while select.select([self.master], [], [], 0)[0]:
                self.seen += os.read(self.master, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.master], [], [], 0)[0]:
                    self.seen += os.read(self.master, 65536)
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            time.sleep(0.01)
        return None

    def modes(self):
        return termios.tcgetattr(self.slave)

    def raw(self):
        return not self.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def restored(self, what):
        eq(self.modes(), self.before, "terminal restored: " + what)

    def text(self):
        return self.seen.decode(errors="replace")

    def close(self):
        os.close(self.master)
        os.close(self.slave)


# --- what is a terminal inside
t = Terminal("sh", "-c", "tty; stty size; for i in 0 1 2; do test -t $i && echo is$i; done; exit 5")
eq(t.wait(), 5, "the exit code passes")
eq(t.text(), "/dev/pts/0\r\n31 97\r\nis0\r\nis1\r\nis2\r\n", "a terminal inside, with the caller's size, and its output once")
t.restored("after an exit")
t = Terminal("bash", "-c", "read -p name: x; echo hi $x; echo $TERM")
t.until("name:")
ok(t.raw(), "the caller's terminal is raw meanwhile", t.modes())
t.type("bob\r")
eq(t.wait(), 0, "typing arrives")
eq(t.text(), "bob\r\nhi bob\r\nxterm\r\n", "echoed once, by the inner terminal")
t.restored("after input")
t = Terminal("--env", "TERM", "printenv", "TERM", env={"TERM": "vt52"})
eq((t.wait(), t.text()), (0, "vt52\r\n"), "--env TERM passes the caller's")
t = Terminal("sh", "-c", "yes 0123456789 | head -n 100000; echo end")
eq((t.wait(60), t.text().count("0123456789\r\n"), t.text()[-5:]), (0, 100000, "end\r\n"), "1.2 MB of output arrive whole, to the last line")
t = Terminal("sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 0.2; echo late >/dev/tty")
eq((t.wait(), t.text()), (0, "late\r\n"), "/dev/tty works after all three were closed")

# --- Ctrl-C, Ctrl-\, Ctrl-D, Ctrl-Z
t = Terminal("sh", "-c", "trap 'echo caught; exit 3' INT; echo go; while :; do sleep 0.05; done")
t.until("go")
t.type("\x03")
eq(t.wait(), 3, "Ctrl-C reaches a handler")
ok("caught" in t.text(), "which speaks", t.text())
t = Terminal("sh", "-c", "echo go; exec sleep 1000")
t.until("go")
t.type("\x03")
eq(t.wait(), 130, "Ctrl-C ends a command: 130")
t.restored("after Ctrl-C")
t = Terminal("sh", "-c", "echo go; exec sleep 1000")
t.until("go")
t.type("\x1c")
eq(t.wait(), 131, "Ctrl-\\: 131")
t = Terminal("cat")
t.type("line\r")
t.until("line\r\nline\r\n")
t.type("\x04")
eq(t.wait(), 0, "Ctrl-D ends the input")
t = Terminal("python3", "-c", "import sys,tty\ntty.setraw(0)\nprint('go',flush=True)\nprint(ascii(sys.stdin.read(4)))")
t.until("go")
t.type("\x03\x1a\x04\x11")
eq((t.wait(), "'\\x03\\x1a\\x04\\x11'" in t.text()), (0, True), "a program in raw mode gets the keys themselves")

# --- job control
t = Terminal("bash", "--norc", "-i", env={})
t.type("PS1=P'>'\r")
t.until("P>$")
t.type("sh -c 'echo u''p; exec sleep 1061'\r")
t.until("up\r\n")  # it has the terminal; what was typed has quotes there
t.type("\x1a")
ok(t.until(r"Stopped +sh -c"), "Ctrl-Z stops a job inside")
t.type("jobs; bg; jobs\r")
ok(t.until(r"Running +sh -c"), "bg continues it")
t.type("fg\r")
t.until("sleep 1061'\r\n")
for _ in range(60):  # the shell says so before the job has the terminal, and takes no prompt before its end
    t.type("\x03")
    if t.until("P>", 2):
        break
t.type("echo st=$?\r")
ok(t.until("\rst=130\r\n"), "fg and Ctrl-C end it")
t.type("kill -9 $$\r")
eq(t.wait(), 137, "a shell that is killed: 137")
t.restored("after a killed shell")

# --- size
t = Terminal("python3", "-c", "import os,signal as s\ns.pthread_sigmask(s.SIG_BLOCK,[s.SIGWINCH])\nprint('go')\n"
             "while s.sigwait([s.SIGWINCH]):\n x=os.get_terminal_size()\n print(x.lines,x.columns)")
t.until("go\r\n")
winsize(t.master, 40, 132)
ok(t.until("40 132\r\n"), "a new size arrives with SIGWINCH")
winsize(t.master, 10, 20)
ok(t.until("10 20\r\n"), "and the next one")
os.kill(t.pid, signal.SIGTERM)
eq(t.wait(), 143, "SIGTERM to cgibox ends it: 143")
t.restored("after SIGTERM")

# --- every way out
for name, args, act, code in (
        ("a timeout", ["--timeout", "0.5", "sleep", "60"], None, 124),
        ("a program that is not there", ["no-such"], None, 127),
        ("a directory that is not there", ["--cwd", "/no/such", "true"], None, 65),
        ("a wrong option", ["--nonsense", "true"], None, 64),
        ("SIGHUP", ["sh", "-c", "echo go; exec sleep 1000"], signal.SIGHUP, 129),
        ("SIGINT", ["sh", "-c", "echo go; exec sleep 1000"], signal.SIGINT, 130),
        ("SIGQUIT", ["sh", "-c", "echo go; exec sleep 1000"], signal.SIGQUIT, 131),
        ("SIGTERM that is ignored for 5 s", ["sh", "-c", "trap '' TERM; echo go; while :; do sleep 0.2; done"], signal.SIGTERM, 137),
        ("the output limit", ["--limit", "output=100", "yes"], None, 137),
        ("a segmentation fault", ["sh", "-c", "kill -SEGV $$"], None, 139)):
    t = Terminal(*args)
    if act:
        t.until("go")
        ok(t.raw(), "control: raw before %s" % name)
        os.kill(t.pid, act)
    eq(t.wait(), code, "%s: %d" % (name, code))
    t.restored("after %s" % name)
    t.close()

# --- suspension from outside: the shell that started us gets a usable terminal
t = Terminal("--norc", "-i", program=["bash"], env={"PS1": "H>"})
t.until("H>")
t.type(" ".join(b.command) + " sh -c 'i=0; while :; do i=$((i+1)); echo n=$i; sleep 0.1; done'\r")
ok(t.until(r"n=3\r\n"), "control: started from an interactive shell")
fg = os.tcgetpgrp(t.master)
os.killpg(fg, signal.SIGTSTP)
ok(t.until(r"Stopped"), "SIGTSTP stops cgibox")
t.until("H>")
ok(not t.raw() or t.modes()[3] & termios.ISIG, "and the shell has its terminal", t.modes())
t.seen = b""
time.sleep(0.5)
ok(not select.select([t.master], [], [], 0)[0], "the command is stopped too")
t.type("fg\r")
ok(t.until(r"n=\d+\r\n"), "fg continues both")
end = time.monotonic() + 60
while not t.raw() and time.monotonic() < end:
    time.sleep(0.02)
ok(t.raw(), "the terminal is raw again", t.modes())
t.type("\x03")
ok(t.until("H>"), "and Ctrl-C works as before")
t.type("exit\r")
t.wait()

# --- hang-up of the terminal
t = Terminal("sh", "-c", "trap '' HUP; echo go; while :; do sleep 0.2; done")
t.until("go")
pid = t.pid
os.close(t.slave)
os.close(t.master)
end = time.monotonic() + 90
gone = None
while time.monotonic() < end and not gone:
    gone = os.waitpid(pid, os.WNOHANG)[0]
    time.sleep(0.05)
ok(gone == pid, "a terminal that goes away ends all, after 5 s where SIGHUP is ignored")

# --- the payload and the caller's terminal
REACH = """
import os,errno,fcntl,termios,sys
def name(f):
    try: f(); return 'ok'
    except OSError as x: return errno.errorcode[x.errno]
print('ttys', sorted(set(os.ttyname(i) if os.isatty(i) else '-' for i in range(3))))
print('sti', name(lambda: fcntl.ioctl(0, termios.TIOCSTI, b'x')))
print('sti high', name(lambda: fcntl.ioctl(0, 0x5412, b'x')))
print('linux', name(lambda: fcntl.ioctl(0, 0x541c, b'\\x02')))
print('pts', sorted(os.listdir('/dev/pts')))
print('ctty', name(lambda: os.close(os.open('/dev/tty', os.O_RDWR))))
print('ppid sid', os.getsid(0) == os.getpid())
"""
t = Terminal("python3", "-c", REACH)
eq(t.wait(), 0, "probe")
want = ["ttys ['/dev/pts/0']", "sti EPERM", "sti high EPERM", "linux EPERM", "pts ['0', 'ptmx']", "ctty ok", "ppid sid True"]
for line in want:
    ok(line + "\r\n" in t.text(), "inside: " + line, t.text())
t = Terminal("sh", "-c", "stty -echo raw; stty 300; exit 0")
t.wait()
t.restored("whatever modes the command sets")
SLEEP = "sleep 6%07d" % os.getpid()
t = Terminal("sh", "-c", "echo go; stty -echo; " + SLEEP)
t.until("go")
os.kill(t.pid, signal.SIGKILL)
t.wait()
left = time.monotonic() + 60
while time.monotonic() < left and subprocess.run(["pgrep", "-f", "^%s$" % SLEEP], capture_output=True).stdout:
    time.sleep(0.02)
ok(not subprocess.run(["pgrep", "-f", "^%s$" % SLEEP], capture_output=True).stdout, "kill -9 of cgibox leaves no process")

# --- only some of the three are terminals
HAS = "import os,sys;os.write(%d, repr([os.isatty(i) for i in range(3)]).encode())"
inp = b.file("input", "from a file\n")
t = Terminal("python3", "-c", HAS % 1, files={0: inp})
eq((t.wait(), t.text()), (0, "[False, True, True]"), "input from a file: a terminal for output only")
t = Terminal("sh", "-c", "cat; printf 'a\\nb\\n' >&2; : </dev/tty", files={0: inp})
rc = t.wait()
ok(rc != 0 and t.text().startswith("from a file\r\na\r\nb\r\n") and "/dev/tty" in t.text(),
   "whose lines end as the caller's terminal ends them, and which is no controlling terminal", rc, t.text())
outp = b.file("output", "")
t = Terminal("python3", "-c", HAS % 1, files={1: outp})
eq((t.wait(), open(outp).read()), (0, "[False, False, True]"), "output to a file: no terminal as input")
outp = b.file("output2", "")
t = Terminal("sh", "-c", "cat; echo end", files={1: outp})
t.type("typed for the next program\r")
eq((t.wait(), open(outp).read()), (0, "end\n"), "nor is its keyboard read")
t.restored("which was not touched")
errp = b.file("errors", "")
t = Terminal("sh", "-c", "echo out; echo err >&2; test -t 0 && test -t 1 && ! test -t 2", files={2: errp})
eq((t.wait(), t.text(), open(errp).read()), (0, "out\r\n", "err\n"), "errors to a file stay apart from the terminal")

# --- --tty, --no-tty
p = subprocess.run(b.command + ["--tty", "sh", "-c", "tty; cat; echo done"], input=b"one\ntwo", capture_output=True, timeout=300)
ok(p.returncode == 0 and b"/dev/pts/0\r\n" in p.stdout and p.stdout.endswith(b"one\r\ntwodone\r\n"),
   "--tty without a terminal: input is typed, with its end", p)
p = subprocess.run(b.command + ["--tty", "stty", "size"], stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
eq(p.stdout, b"24 80\r\n", "of 24 lines and 80 columns")
t = Terminal("--no-tty", "sh", "-c", "for i in 0 1 2; do test -t $i && echo is$i; done; read x; echo got $x; echo err >&2")
t.type("word\r")
eq((t.wait(), t.text()), (0, "word\r\ngot word\r\nerr\r\n"), "--no-tty: pipes, and the caller's terminal as it was")
t = Terminal("--no-tty", "cat")
t.type("a\r")
t.until("a\r\na\r\n")
t.type("\x04")
eq(t.wait(), 0, "Ctrl-D there")
t = Terminal("--no-tty", "sh", "-c", "echo go; exec sleep 1000")
t.until("go")
t.type("\x03")
eq(t.wait(), 130, "Ctrl-C there")
t = Terminal("--no-tty", "sh", "-c", "trap '' INT; echo go; while :; do sleep 0.1; done")
t.until("go")
code = None
for _ in range(100):  # two that come too close are one
    t.type("\x03")
    code = t.wait(1)
    if code is not None:
        break
eq(code, 137, "a second Ctrl-C ends what ignores the first")
b.done()
