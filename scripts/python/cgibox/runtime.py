"""
Client of the KWeaver sandbox runtime's routes (/workspace/se), under the names that its own SDK has.

    async with SharedEnvSandbox("my-session", servers=["http://host"], key="...") as sandbox:
        print((await sandbox.execute("echo", "hello"))["stdout"])
"""
from __future__ import annotations

import os
import zlib
from types import TracebackType
from typing import Any, Optional, Sequence, Type

from .aio import later
from .errors import SandboxError, SandboxValidationError
from .manager import form
from .transport import Transport, quote

API = "/workspace/se"
SILENT_S = 3660.0  # a command may say nothing for as long as it may run


class SharedEnvSandbox:
    """Which of several servers has a session depends on its id alone, so that every client asks the same one."""

    def __init__(self, session_id: str, servers: Optional[Sequence[str]] = None, key: Optional[str] = None, timeout: float = 120.0) -> None:
        if servers is not None and not servers:
            raise SandboxValidationError("servers: none")
        self.session_id = session_id
        self.server = servers[zlib.crc32(session_id.encode()) % len(servers)] if servers else None
        self._transport = Transport(self.server, key, timeout, 5)

    async def __aenter__(self) -> SharedEnvSandbox:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing is held between requests; the session stays."""

    async def _json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        def ask() -> Any:
            return self._transport.ask(method, API + path, body, **more).json()
        o = await later(ask)
        # some servers of this kind wrap what they answer
        return o["result"] if isinstance(o, dict) and set(o) == {"result"} else o

    def _at(self, verb: str, path: str = "") -> str:
        return "/%s/%s" % (verb, quote(self.session_id)) + ("/" + quote(path) if path else "")

    async def create_session(self, size: str = "100M") -> Any:
        return await self._json("POST", self._at("session"), {"size": size})

    async def delete_session(self) -> Any:
        return await self._json("DELETE", self._at("session"))

    async def get_status(self) -> Any:
        return await self._json("GET", self._at("status"))

    async def upload_file(self, file_path: str, filename: Optional[str] = None) -> Any:
        name = filename or os.path.basename(file_path)
        with open(file_path, "rb") as f:
            body, kind = form(os.path.basename(name), f.read())
        return await self._json("POST", self._at("upload"), body, query={"filename": name}, headers={"Content-Type": kind})

    async def download_file(self, filename: str, save_path: Optional[str] = None) -> bytes:
        def ask() -> bytes:
            with self._transport.ask("GET", API + self._at("download", filename), headers={"Accept": "*/*"}) as a:
                return a.read()
        data = await later(ask)
        if save_path:
            with open(save_path, "wb") as f:
                f.write(data)
        return data

    async def create_file(self, content: str, filename: str, mode: int = 0o644) -> Any:
        return await self._json("POST", self._at("create"), {"content": content, "filename": filename, "mode": mode})

    async def list_files(self, directory: str = "", recursive: bool = False) -> Any:
        return (await self._json("GET", self._at("files", directory) + ("" if directory else "/"), query={"recursive": recursive}))["files"]

    async def read_file(self, filename: str, offset: int = 0, buffer_size: int = 4096) -> Any:
        return await self._json("GET", self._at("readfile", filename), query={"offset": offset, "buffer_size": buffer_size})

    async def execute(self, command: str, *args: str) -> Any:
        return await self._json("POST", self._at("execute"), {"command": command, "args": list(args)}, timeout=SILENT_S)

    async def execute_code(self, code: str, filename: Optional[str] = None, args: Optional[Sequence[str]] = None, script_type: str = "python",
                           output_params: Optional[Sequence[str]] = None) -> Any:
        o = {"code": code, "filename": filename, "args": list(args) if args is not None else None, "script_type": script_type,
             "output_params": list(output_params) if output_params is not None else None}
        return await self._json("POST", self._at("execute_code"), {k: v for k, v in o.items() if v is not None}, timeout=SILENT_S)

    async def execute_handler(self, handler_code: str, event: Optional[dict[str, Any]] = None, context: Optional[dict[str, Any]] = None) -> Any:
        """handler(event) in a sandbox of its own; no session."""
        return await self._json("POST", "/v2/execute_code", {"handler_code": handler_code, "event": event or {}, "context": context or {}},
                                timeout=SILENT_S)

    async def download_from_efast(self, *_: Any, **__: Any) -> Any:
        """The vendor's store is not there."""
        return await self._json("POST", self._at("download_from_efast"), {})


__all__ = ["SandboxError", "SharedEnvSandbox"]
