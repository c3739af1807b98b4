"""
The service from Python: sessions, commands, runs, files, archives, patches, forks, images.

    with Client("https://sandbox.example", key="...") as c, c.session("host") as s:
        s.files.write("/repo/a.py", b"print(6 * 7)")
        print(s.run("python3 a.py").stdout)
"""
from __future__ import annotations

import base64
import json
import math
import time
from types import TracebackType
from typing import Any, BinaryIO, Callable, Iterator, Mapping, Optional, Sequence, Type, Union

from . import models
from .errors import SandboxConnectionError, SandboxError, SandboxNotFoundError, SandboxOperationError, SandboxTimeoutError
from .models import CommandResults, FileEntry, Output, RunInfo, RunResult, SessionInfo, Snapshot
from .transport import Answer, Transport, quote

API = "/api/v1"
WAIT_S = 30  # of one request that waits for a run
Progress = Callable[[dict[str, Any]], None]
Command = Union[str, Sequence[str]]


def drop_none(**members: Any) -> dict[str, Any]:
    return {k: v for k, v in members.items() if v is not None}


class Client:
    """
    url: CGIBOX_URL, or http://127.0.0.1:8080. key: CGIBOX_API_KEY, or of the file CGIBOX_API_KEY_FILE. timeout: seconds
    without a byte from the service. retries: how often a 503 with Retry-After is asked again, and a stream without progress.
    Any thread may use it.
    """

    def __init__(self, url: Optional[str] = None, key: Optional[str] = None, *, timeout: float = 120.0, retries: int = 5,
                 prefix: str = API) -> None:
        self.transport = Transport(url, key, timeout, retries)
        self.prefix = prefix.rstrip("/")
        self.images = Images(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held between requests; for symmetry."""

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """A request below the prefix, for what has no method here."""
        return self.transport.ask(method, self.prefix + path, body, **more)

    def health(self) -> bool:
        try:
            return bool(self.ask("GET", "/-/health/").json()["status"] == "ok")
        except SandboxOperationError:
            return False

    def version(self) -> str:
        return str(self.ask("GET", "/-/version/").json()["version"])

    def system(self) -> dict[str, Any]:
        """What the machine allows and which limits are in force."""
        return dict(self.ask("GET", "/system/").json())

    def metrics(self) -> str:
        with self.ask("GET", "/-/metrics", headers={"Accept": "text/plain"}) as a:
            return a.read().decode()

    def session(self, image: str = "host", *, live: bool = False, ephemeral: bool = False, extract_patch: bool = False,
                network: bool = False, environment: Optional[Mapping[str, str]] = None, memory_bytes: Optional[int] = None,
                cpus: Optional[float] = None) -> Session:
        """A new session. As a context manager it is deleted at the end."""
        o = self.ask("POST", "/session/", drop_none(
            base_image=image, live=live, ephemeral=ephemeral, extract_patch=extract_patch, network_enabled=network,
            environment=dict(environment) if environment else None, memory_bytes=memory_bytes, cpus=cpus)).json()
        return Session(self, o["session_id"], o)

    def attach(self, session_id: str) -> Session:
        """A session that is there already; nothing is asked."""
        return Session(self, session_id)

    def sessions(self) -> Iterator[SessionInfo]:
        after: Optional[str] = None
        while True:
            page = self.ask("GET", "/session/", query={"after": after}).json()
            for o in page["sessions"]:
                yield SessionInfo(o["session_id"], o["image"], o["state"], o["live"], o["runs"], o["used_at"])
            after = page["next"]
            if not after:
                return


class Images:
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> list[dict[str, Any]]:
        return list(self._client.ask("GET", "/images/").json())

    def inspect(self, reference: str) -> dict[str, Any]:
        return dict(self._client.ask("GET", "/images/" + quote(reference)).json())

    def remove(self, reference: str) -> dict[str, Any]:
        return dict(self._client.ask("DELETE", "/images/" + quote(reference)).json())

    def pull(self, reference: str, progress: Optional[Progress] = None) -> str:
        """Pulls and returns the id. progress gets each event, as docs/api.md has them."""
        with self._client.ask("POST", "/images/pull", {"image": reference}) as a:
            while True:
                line = a.line()
                if not line:
                    raise SandboxConnectionError("the pull of %s broke off; it goes on at the service" % reference)
                event = json.loads(line)
                if progress:
                    progress(event)
                if event["event"] == "error":
                    raise SandboxOperationError("pull %s: %s" % (reference, event["message"]), detail=event["message"])
                if event["event"] == "done":
                    return str(event["id"])


class Session:
    """A session at the service. Use it with `with`, or call delete()."""

    def __init__(self, client: Client, session_id: str, made: Optional[dict[str, Any]] = None) -> None:
        self.client, self.id, self.made = client, session_id, made or {}
        self.files = Files(self)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        try:
            self.delete()
        except SandboxError:
            if kind is None:
                raise

    def ask(self, method: str, path: str = "/", body: Any = None, **more: Any) -> Answer:
        return self.client.ask(method, "/session/" + quote(self.id) + path, body, **more)

    # --- commands and runs
    def commands(self, commands: Sequence[str], *, archive: Optional[bytes] = None, fail_fast: bool = False,
                 timeout: Optional[int] = None, workdir: Optional[str] = None) -> CommandResults:
        """Commands in one request, each in a shell of its own; the patch when the session was made for it."""
        # a command may be silent for as long as it is allowed to run
        wait = max(self.client.transport.timeout, (timeout or 3600) * max(1, len(commands)) + 60.0)
        return models.command_results(self.ask("POST", "/", drop_none(
            commands=list(commands), archive=base64.b64encode(archive).decode() if archive is not None else None,
            fail_fast=fail_fast, timeout=timeout, workdir=workdir), timeout=wait).json())

    def start(self, command: Command, *, env: Optional[Mapping[str, str]] = None, workdir: Optional[str] = None,
              timeout: Optional[float] = None, stdin: Optional[str] = None, stdin_open: bool = False,
              pty: Union[bool, Mapping[str, int]] = False, merge: bool = False) -> Run:
        """Begins a run, which goes on whatever becomes of this client. A text is for the shell, a list is executed."""
        what: dict[str, Any] = {"command": command} if isinstance(command, str) else {"argv": list(command)}
        o = self.ask("POST", "/runs", drop_none(
            **what, env=dict(env) if env else None, workdir=workdir, timeout=timeout, stdin=stdin, stdin_open=stdin_open or None,
            pty=dict(pty) if isinstance(pty, Mapping) else pty or None, merge=merge or None, detach=True)).json()
        return Run(self, o["id"])

    def run(self, command: Command, *, on_output: Optional[Callable[[Output], None]] = None, **more: Any) -> RunResult:
        """A run to its end, followed through broken connections. Arguments as start()."""
        return self.start(command, **more).follow(on_output)

    def runs(self) -> list[RunInfo]:
        return [models.run_info(o) for o in self.ask("GET", "/runs").json()["runs"]]

    def get_run(self, run_id: str) -> Run:
        return Run(self, run_id)

    # --- the workspace
    def upload(self, archive: Union[bytes, BinaryIO], path: str = "/repo") -> dict[str, Any]:
        """Lays a tar (plain or compressed) or zip over a directory."""
        return dict(self.ask("POST", "/upload", archive, query={"path": path},
                             headers={"Content-Type": "application/octet-stream"}).json())

    def patch(self, since: Optional[str] = None, *, stop: bool = False) -> bytes:
        """What changed since the baseline, or a snapshot; for `git apply`. b"": nothing."""
        with self.ask("GET", "/patch", query={"since": since, "stop": stop or None}, headers={"Accept": "*/*"}) as a:
            return a.read()

    def commit(self, name: Optional[str] = None, *, stop: bool = False) -> None:
        self.ask("POST", "/commit", drop_none(name=name, stop=stop or None)).close()

    def discard(self, *, stop: bool = False) -> None:
        self.ask("POST", "/discard", drop_none(stop=stop or None)).close()

    def fork(self, count: int = 1, *, stop: bool = False) -> list[Session]:
        o = self.ask("POST", "/fork", drop_none(count=count, stop=stop or None)).json()
        return [Session(self.client, i) for i in o["session_ids"]]

    def snapshot(self, name: str, *, stop: bool = False) -> None:
        self.ask("POST", "/snapshots", drop_none(name=name, stop=stop or None)).close()

    def snapshots(self) -> list[Snapshot]:
        return [Snapshot(o["name"], o["created_at"]) for o in self.ask("GET", "/snapshots").json()["snapshots"]]

    def restore(self, name: str, *, stop: bool = False) -> None:
        self.ask("POST", "/snapshots/" + quote(name) + "/restore", drop_none(stop=stop or None)).close()

    def forget_snapshot(self, name: str) -> None:
        self.ask("DELETE", "/snapshots/" + quote(name)).close()

    def export(self, format: str = "tar", path: Optional[str] = None) -> Iterator[bytes]:
        """The workspace as tar, tar.gz or zip, in pieces as they come."""
        return self.ask("GET", "/export", query={"format": format, "path": path}, headers={"Accept": "*/*"}).pieces()

    # --- its state
    def status(self) -> dict[str, Any]:
        return dict(self.ask("GET", "/status").json())

    def exists(self) -> bool:
        try:
            self.ask("GET").close()
            return True
        except SandboxNotFoundError:
            return False

    def stop(self) -> None:
        """Ends what runs; files stay."""
        self.ask("POST", "/stop").close()

    def delete(self) -> None:
        self.ask("DELETE").close()


class Files:
    """Files of a session's whole root; paths are absolute, or begin at /repo."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        at = path if path.startswith("/") else "/repo/" + path
        return self._session.ask(method, "/files/" + quote(at), body, **more)

    def read(self, path: str, first: int = 0, count: Optional[int] = None) -> bytes:
        """The whole file, or count bytes from first on."""
        headers = {"Accept": "*/*"}
        if first or count is not None:
            headers["Range"] = "bytes=%d-%s" % (first, "" if count is None else first + count - 1)
        with self._ask("GET", path, headers=headers) as a:
            if a.headers.get("Content-Type", "").startswith("application/json") and "ETag" not in a.headers:
                raise SandboxOperationError("%s is a directory" % path)
            return a.read()

    def write(self, path: str, data: Union[bytes, str, BinaryIO], *, mode: Optional[int] = None, create: bool = False) -> dict[str, Any]:
        """Makes or replaces a file in one step, parents too. create: 409 when it is there."""
        body = data.encode() if isinstance(data, str) else data
        return dict(self._ask("PUT", path, body, query={"mode": None if mode is None else "%04o" % mode, "create": create or None},
                              headers={"Content-Type": "application/octet-stream"}).json())

    def list(self, path: str = "/repo") -> list[FileEntry]:
        o = self._ask("GET", path).json()
        return [FileEntry(e["name"], e["type"], e["mode"], e["size"], e["mtime"]) for e in o["entries"]]

    def tar(self, path: str = "/repo") -> Iterator[bytes]:
        return self._ask("GET", path, query={"format": "tar"}, headers={"Accept": "*/*"}).pieces()

    def mkdir(self, path: str) -> None:
        self._ask("PUT", path, b"", query={"type": "directory"}).close()

    def delete(self, path: str, *, recursive: bool = False) -> None:
        self._ask("DELETE", path, query={"recursive": recursive or None}).close()

    def exists(self, path: str) -> bool:
        try:
            self._ask("HEAD", path).close()
            return True
        except SandboxNotFoundError:
            return False

    def call(self, verb: str, **members: Any) -> dict[str, Any]:
        """One of fs/ls read grep glob write edit delete; an `error` in the answer is raised."""
        o = dict(self._session.ask("POST", "/fs/" + verb, members).json())
        if o.get("error"):
            kind = SandboxNotFoundError if o["error"]["code"] == "not_found" else SandboxOperationError
            raise kind("fs/%s: %s" % (verb, o["error"]["message"]), detail=o["error"]["code"])
        return o


class Run:
    """A run of a session. The end of an answer is not its end: output() asks on until it has seen that."""

    def __init__(self, session: Session, run_id: str) -> None:
        self.session, self.id = session, run_id
        self.lost = False
        self.end: Optional[RunInfo] = None

    def _ask(self, method: str, path: str = "", body: Any = None, **more: Any) -> Answer:
        return self.session.ask(method, "/runs/" + quote(self.id) + path, body, **more)

    def info(self) -> RunInfo:
        return models.run_info(self._ask("GET").json())

    def _events(self, at: int) -> Iterator[dict[str, Any]]:
        """Events of one answer; a broken one ends like a whole one."""
        try:
            with self._ask("GET", "/output", query={"from": at}, headers={"Accept": "application/x-ndjson"}) as a:
                while True:
                    line = a.line()
                    if not line.endswith(b"\n"):
                        return
                    yield json.loads(line)
        except (SandboxConnectionError, SandboxTimeoutError):
            return
        except SandboxOperationError as e:
            if e.status == 410:
                yield {"type": "expired", "first_offset": e.context["first_offset"]}
            elif e.status != 502:
                raise

    def output(self, offset: int = 0) -> Iterator[Output]:
        """Output from a byte on, as it comes, until the run has ended; then `end` says how. No byte is lost or repeated
        when connections break, but those that the service keeps no longer: then `lost` is set."""
        silent = 0
        while True:
            before = offset
            for e in self._events(offset):
                if e["type"] == "output":
                    data = base64.b64decode(e["data"]) if e.get("encoding") == "base64" else e["data"].encode()
                    offset = e["next"]
                    yield Output(e["stream"], data, e["offset"], e["next"])
                elif e["type"] == "expired":
                    self.lost, offset = True, e["first_offset"]
                elif e["type"] == "exit":
                    self.end = models.run_info({**e, "id": self.id})
                    return
                elif e["type"] == "ping":
                    silent = 0
            silent = 0 if offset > before else silent + 1
            if silent > self.session.client.transport.retries:
                raise SandboxConnectionError("run %s: its output cannot be followed; ask again from %d" % (self.id, offset))
            if silent:
                time.sleep(min(2.0, 0.1 * 2 ** silent))

    def follow(self, on_output: Optional[Callable[[Output], None]] = None) -> RunResult:
        """Everything until the end."""
        out: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for piece in self.output():
            if on_output:
                on_output(piece)
            out["stderr" if piece.stream == "stderr" else "stdout"].append(piece.data)
        return self._result(b"".join(out["stdout"]), b"".join(out["stderr"]))

    def _result(self, stdout: bytes, stderr: bytes) -> RunResult:
        end = self.end or self.info()
        if end.verdict is None:
            end = self.info()
        if end.state == "failed" or end.error:
            raise SandboxOperationError("run %s could not be started: %s" % (self.id, end.error), detail=end.error)
        return RunResult(end.id, end.state, end.verdict, end.exit_code, end.signal, end.output_bytes, end.truncated, end.error, end.raw,
                         stdout, stderr, self.lost)

    def wait(self, timeout: Optional[float] = None) -> RunInfo:
        """Until it has ended; SandboxTimeoutError after timeout seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_S + 1.0 if until is None else until - time.monotonic()
            try:
                # the service counts whole seconds; what is less is ours to count
                info = models.run_info(self._ask("GET", "/wait", query={"timeout": min(WAIT_S, max(0, math.ceil(left)))},
                                                 timeout=max(0.001, left) if left <= WAIT_S else WAIT_S + 30.0).json())
            except SandboxTimeoutError:
                if until is None or time.monotonic() < until:
                    raise
                raise SandboxTimeoutError("run %s has not ended in %s s" % (self.id, timeout)) from None
            if info.state != "running":
                return info
            if until is not None and time.monotonic() >= until:
                raise SandboxTimeoutError("run %s has not ended in %s s" % (self.id, timeout))

    def write(self, data: Union[bytes, str], *, eof: bool = False) -> int:
        """Input of the run; the number of bytes taken."""
        body = data.encode() if isinstance(data, str) else data
        return int(self._ask("POST", "/stdin", body, query={"eof": "1" if eof else None},
                             headers={"Content-Type": "application/octet-stream"}).json()["written"])

    def signal(self, signal: Union[str, int]) -> None:
        self._ask("POST", "/signal", {"signal": signal}).close()

    def resize(self, rows: int, cols: int) -> None:
        self._ask("POST", "/resize", {"rows": rows, "cols": cols}).close()

    def delete(self) -> None:
        """Ends it and forgets it."""
        self._ask("DELETE").close()
