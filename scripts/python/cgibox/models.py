"""What the service tells, as it tells it. Members that are not known here are in `raw`."""
from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class CommandResult:
    command: str
    output: str
    exit_code: int
    verdict: str
    duration_ms: int
    truncated: bool
    usage: dict[str, Any] = field(repr=False)

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


@dataclass(frozen=True)
class CommandResults:
    results: list[CommandResult]
    patch: Optional[bytes]

    @property
    def ok(self) -> bool:
        return all(r.ok for r in self.results)


@dataclass(frozen=True)
class Output:
    """A piece of a run's output; next is where to ask on. stream: stdout, stderr or output."""
    stream: str
    data: bytes
    offset: int
    next: int


@dataclass(frozen=True)
class RunInfo:
    """state: running, ended or failed. exit_code is None when nobody saw the end (verdict interrupted)."""
    id: str
    state: str
    verdict: Optional[str]
    exit_code: Optional[int]
    signal: Optional[int]
    output_bytes: int
    truncated: bool
    error: Optional[str]
    raw: dict[str, Any] = field(repr=False)

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


@dataclass(frozen=True)
class RunResult(RunInfo):
    """The end of a run, and what of its output was kept. lost: bytes at the beginning had expired."""
    stdout: bytes = field(repr=False, default=b"")
    stderr: bytes = field(repr=False, default=b"")
    lost: bool = False


@dataclass(frozen=True)
class FileEntry:
    name: str
    type: str
    mode: str
    size: int
    mtime: float


@dataclass(frozen=True)
class SessionInfo:
    session_id: str
    image: str
    state: str
    live: bool
    runs: int
    used_at: int


@dataclass(frozen=True)
class Snapshot:
    name: str
    created_at: int


def command_results(o: dict[str, Any]) -> CommandResults:
    results = [CommandResult(r["command"], r["output"], r["exit_code"], r.get("verdict", "ok" if r["exit_code"] == 0 else "exit"),
                             r.get("duration_ms", 0), r.get("truncated", False), r.get("usage", {})) for r in o["results"]]
    patch = o.get("patch")
    return CommandResults(results, base64.b64decode(patch) if patch else None)


def run_info(o: dict[str, Any]) -> RunInfo:
    return RunInfo(o["id"], o.get("state", "ended"), o.get("verdict"), o.get("exit_code"), o.get("signal"), o.get("output_bytes", 0),
                   o.get("truncated", False), o.get("error"), o)
