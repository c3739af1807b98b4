"""`cgibox remote`: commands in the sandboxes of a service, from the shell. cgibox-remote(1) says how."""
from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import Any, Iterator, NoReturn, Optional, Sequence

from . import archive
from .client import Client, Run, Session
from .errors import (SandboxConnectionError, SandboxError, SandboxNotFoundError, SandboxOperationError, SandboxTimeoutError,
                     SandboxValidationError)

# sysexits(3); a command's own code is what it is
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_SOFTWARE, EX_IOERR, EX_TEMPFAIL, EX_NOPERM = 64, 65, 66, 69, 70, 74, 75, 77


class Wrong(Exception):
    """The command line asks for what makes no sense."""


def exit_code(e: SandboxError) -> int:
    if isinstance(e, SandboxOperationError):
        return {403: EX_NOPERM, 409: EX_TEMPFAIL, 503: EX_TEMPFAIL}.get(e.status or 0, EX_SOFTWARE)
    for kind, code in ((SandboxConnectionError, EX_UNAVAILABLE), (SandboxNotFoundError, EX_NOINPUT), (SandboxTimeoutError, EX_TEMPFAIL),
                       (SandboxValidationError, EX_DATAERR)):
        if isinstance(e, kind):
            return code
    return EX_SOFTWARE


def printable(text: str) -> str:
    """A text on one line of a terminal, which it cannot steer: what is no character to be seen is escaped as in Python."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def say(text: str) -> None:
    print("cgibox remote: " + printable(text), file=sys.stderr, flush=True)


def put(data: bytes, to: int) -> None:
    while data:
        data = data[os.write(to, data):]


# --- run ---------------------------------------------------------------------------------------------
@contextmanager
def raw_terminal() -> Iterator[None]:
    import termios
    import tty
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def window() -> dict[str, int]:
    size = shutil.get_terminal_size((80, 24))
    return {"rows": size.lines, "cols": size.columns}


def feed(run: Run) -> None:
    """Standard input becomes the run's, until either ends."""
    try:
        while True:
            data = os.read(0, 65536)
            run.write(data, eof=not data)
            if not data:
                return
    except (SandboxError, OSError):
        return  # the run has ended; what became of it is told elsewhere


def forward(run: Run, number: int) -> None:
    try:
        run.signal(signal.Signals(number).name[3:])
    except SandboxError:
        pass


def resize(run: Run) -> None:
    try:
        run.resize(**window())
    except SandboxError:
        pass


def relay(run: Run, o: argparse.Namespace) -> int:
    """Output here, input and signals there; the run's exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda n, _: threading.Thread(target=forward, args=(run, n), daemon=True).start())
    if o.tty:
        signal.signal(signal.SIGWINCH, lambda *_: threading.Thread(target=resize, args=(run,), daemon=True).start())
    if o.input or o.tty:
        threading.Thread(target=feed, args=(run,), daemon=True).start()
    for piece in run.output():
        put(piece.data, 2 if piece.stream == "stderr" else 1)
    if run.lost:
        say("the beginning of the output was not kept")
    end = run.end
    if end is None or end.verdict is None:
        end = run.info()
    if end.error:
        raise SandboxOperationError("could not be started: %s" % end.error)
    if end.verdict not in ("ok", "exit", "signal"):
        say("verdict: %s" % end.verdict)
    return EX_SOFTWARE if end.exit_code is None else end.exit_code


def take_patch(s: Session, o: argparse.Namespace) -> int:
    patch = s.patch(stop=True)
    if o.patch == "-":
        put(patch, 1)
    elif o.patch:
        with open(o.patch, "wb") as f:
            f.write(patch)
    if not o.apply or not patch:
        return 0
    at = os.path.realpath(o.dir)
    # names in the patch begin at the directory, also when that is inside of a work tree
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(at))
    return subprocess.run([*archive.GIT, "apply", "--whitespace=nowarn", "-"], input=patch, cwd=at, env=env, check=False).returncode


def variables(words: Sequence[str]) -> dict[str, str]:
    out = {}
    for w in words:
        name, eq, value = w.partition("=")
        if not eq and name not in os.environ:
            raise Wrong("--env %s: there is no such variable" % name)
        out[name] = value if eq else os.environ[name]
    return out


def run(c: Client, o: argparse.Namespace) -> int:
    if o.shell is None and not o.command:
        raise Wrong("run: no command")
    if o.shell is not None and o.command:
        raise Wrong("run: -c TEXT takes no arguments behind it")
    if (o.apply or o.patch) and not o.dir:
        raise Wrong("run: --patch and --apply need --dir")
    s = c.attach(o.session) if o.session else c.session(
        o.image, network=o.network, memory_bytes=o.memory_bytes, cpus=o.cpus)
    try:
        if o.dir:
            if not os.path.isdir(o.dir):
                raise Wrong("--dir %s: no directory" % o.dir)
            s.commands([], archive=archive.pack(o.dir, o.exclude, o.all))
        r = s.start(o.shell if o.shell is not None else o.command, env=variables(o.env), workdir=o.workdir, timeout=o.timeout,
                    stdin_open=o.input, pty=window() if o.tty else False)
        if o.tty and os.isatty(0):
            with raw_terminal():
                code = relay(r, o)
        else:
            code = relay(r, o)
        if o.patch or o.apply:
            applied = take_patch(s, o)
            code = code or (EX_DATAERR if applied else 0)
        return code
    finally:
        if o.keep and not o.session:
            say("session " + s.id)
        elif not o.session:
            s.delete()


# --- sessions, files, images -----------------------------------------------------------------------
def show(o: Any) -> None:
    print(json.dumps(o, indent=2, ensure_ascii=False))


def session(c: Client, o: argparse.Namespace) -> int:
    if o.verb == "new":
        print(c.session(o.what or "host", live=o.live, network=o.network).id)
    elif o.verb == "ls":
        for i in c.sessions():
            print("%s  %-8s  %s  runs %d" % (i.session_id, i.state, i.image[:19], i.runs))
    elif not o.what:
        raise Wrong("session %s: which one?" % o.verb)
    else:
        s = c.attach(o.what)
        if o.verb == "status":
            show(s.status())
        elif o.verb == "stop":
            s.stop()
        elif o.verb == "patch":
            put(s.patch(), 1)
        else:
            s.delete()
    return 0


def files(c: Client, o: argparse.Namespace) -> int:
    f = c.attach(o.session).files
    if o.verb == "ls":
        for e in f.list(o.path):
            print("%s %-9s %10d %s" % (e.mode, e.type, e.size, printable(e.name)))
    elif o.verb == "get":
        data = f.read(o.path)
        if o.local in (None, "-"):
            put(data, 1)
        else:
            with open(o.local, "wb") as to:
                to.write(data)
    elif o.verb == "put":
        if o.local in (None, "-"):
            f.write(o.path, sys.stdin.buffer.read())
        else:
            with open(o.local, "rb") as source:
                f.write(o.path, source, mode=os.stat(o.local).st_mode & 0o777)
    else:
        f.delete(o.path, recursive=o.recursive)
    return 0


def progress(event: dict[str, Any]) -> None:
    if event["event"] == "layer":
        say("%s %s %s" % (event.get("layer", "")[:19], event.get("state", ""), event.get("bytes", "")))
    elif event["event"] == "warning":
        say(event["message"])


def images(c: Client, o: argparse.Namespace) -> int:
    if o.verb == "ls":
        for i in c.images.list():
            print("%-50s %s %12d" % (i["reference"], str(i["id"])[:19], i["bytes"]))
    elif not o.reference:
        raise Wrong("images %s: which one?" % o.verb)
    elif o.verb == "pull":
        print(c.images.pull(o.reference, progress))
    elif o.verb == "inspect":
        show(c.images.inspect(o.reference))
    else:
        show(c.images.remove(o.reference))
    return 0


# --- options ---------------------------------------------------------------------------------------
class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        say(message)
        sys.exit(EX_USAGE)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="cgibox remote", description="Commands in the sandboxes of a service.", epilog="See cgibox-remote(1).")
    p.add_argument("--url", help="CGIBOX_URL, or http://127.0.0.1:8080")
    p.add_argument("--key-file", help="file that holds the key; CGIBOX_API_KEY or CGIBOX_API_KEY_FILE say it too")
    verbs = p.add_subparsers(dest="what_for", required=True, metavar="run|session|files|images", parser_class=Parser)
    r = verbs.add_parser("run", help="run a command in a sandbox there")
    r.add_argument("--image", default="host", metavar="REFERENCE", help="what the session is made of (default: host, the service's own system)")
    r.add_argument("--session", metavar="ID", help="an existing session, which stays")
    r.add_argument("--keep", action="store_true", help="keep the new session and name it")
    r.add_argument("--dir", metavar="DIRECTORY", help="send this directory as /repo")
    r.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="leave out what matches; may be repeated")
    r.add_argument("--all", action="store_true", help="also what git ignores")
    r.add_argument("--patch", metavar="FILE", help="write what changed, for git apply; - is standard output")
    r.add_argument("--apply", action="store_true", help="apply what changed to the directory")
    r.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="a variable, or the one here; may be repeated")
    r.add_argument("--workdir", metavar="DIRECTORY", help="where the command runs (default: /repo)")
    r.add_argument("--timeout", type=float, metavar="SECONDS", help="how long the command may run")
    r.add_argument("--memory-bytes", type=int, metavar="N", help="memory of all processes of the sandbox")
    r.add_argument("--cpus", type=float, metavar="N", help="processors, also parts of one")
    r.add_argument("--network", action="store_true", help="a network, if the service allows one")
    r.add_argument("-i", "--input", action="store_true", help="standard input is the command's")
    r.add_argument("-t", "--tty", action="store_true", help="a terminal")
    r.add_argument("-c", dest="shell", metavar="TEXT", help="for the shell")
    r.add_argument("command", nargs=argparse.REMAINDER, metavar="...", help="the program and its arguments")
    s = verbs.add_parser("session", help="sessions")
    s.add_argument("verb", choices=["new", "ls", "status", "patch", "stop", "rm"], help="patch: what changed since the archive or the last commit; stop: end what runs")
    s.add_argument("what", nargs="?", metavar="ID|IMAGE", help="the session; for new its image")
    s.add_argument("--live", action="store_true", help="new: processes stay between commands")
    s.add_argument("--network", action="store_true", help="new: with a network, if the service allows one")
    f = verbs.add_parser("files", help="files of a session")
    f.add_argument("verb", choices=["ls", "get", "put", "rm"])
    f.add_argument("session", metavar="ID")
    f.add_argument("path", nargs="?", default="/repo", help="there (default: /repo)")
    f.add_argument("local", nargs="?", metavar="FILE", help="here; standard input or output without it")
    f.add_argument("-r", "--recursive", action="store_true", help="rm: directories, too")
    i = verbs.add_parser("images", help="images of the service")
    i.add_argument("verb", choices=["ls", "pull", "inspect", "rm"])
    i.add_argument("reference", nargs="?")
    return p


def read_key(name: Optional[str]) -> Optional[str]:
    if not name:
        return None
    with open(name, encoding="utf-8") as f:
        return f.read().strip("\r\n")


def main(words: Optional[Sequence[str]] = None) -> int:
    o = parser().parse_args(words)
    if getattr(o, "command", None) and o.command[0] == "--":
        o.command = o.command[1:]
    try:
        c = Client(o.url, read_key(o.key_file))
        verb = {"run": run, "session": session, "files": files, "images": images}[o.what_for]
        return verb(c, o)
    except Wrong as e:
        say(str(e))
        return EX_USAGE
    except SandboxError as e:
        say(str(e))
        return exit_code(e)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EX_IOERR
    except OSError as e:
        say(str(e))
        return EX_IOERR
    except KeyboardInterrupt:
        return 130
