"""
Client of the Docker Sandbox Manager's routes, under the names that its own client library has.

    async with SandboxClient("http://host", key="...") as client:
        sandbox = await client.create_sandbox(CreateSandboxRequest(image="python:3.9", command="python app.py"))
"""
from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, AsyncIterator, Optional, Type, Union

from .aio import each, later
from .errors import SandboxError, SandboxNotFoundError, SandboxOperationError, SandboxValidationError, SandboxVolumeError
from .transport import Answer, Transport, quote

API = "/api/v1"
Words = Union[str, list[str]]


def _within(name: str, value: Union[int, float, None], low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise SandboxValidationError("%s: %s is not between %s and %s" % (name, value, low, high))


@dataclass
class VolumeConfig:
    size: Optional[str] = None
    driver: str = "local"
    network: bool = False


@dataclass
class ResourceConfig:
    cpu: float = 1.0
    memory: str = "512m"
    gpu: Optional[str] = None
    timeout: Optional[int] = None
    max_retries: Optional[int] = None

    def __post_init__(self) -> None:
        _within("cpu", self.cpu, 0.1, 8.0)
        _within("timeout", self.timeout, 1, float("inf"))
        _within("max_retries", self.max_retries, 0, float("inf"))


@dataclass
class PortConfig:
    internal: int
    external: Optional[int] = None
    protocol: str = "http"
    subdomain: Optional[str] = None

    def __post_init__(self) -> None:
        _within("internal", self.internal, 1, 65535)


@dataclass
class CreateSandboxRequest:
    image: str
    volumes: Optional[dict[str, VolumeConfig]] = None
    environment: Optional[dict[str, str]] = None
    resources: Optional[ResourceConfig] = None
    command: Optional[Words] = None
    force_build: Optional[bool] = False
    build_context: Optional[dict[str, str]] = None
    ports: Optional[list[PortConfig]] = None
    entrypoint: Optional[Words] = None
    name: Optional[str] = None

    def body(self) -> dict[str, Any]:
        o = {k: v for k, v in asdict(self).items() if v is not None}
        for p in o.get("ports", []):
            p["port"] = p["internal"]
        return o


class SandboxClient:
    """timeout: seconds without a byte from the service; None: 30. key: as of cgibox.Client. Nothing is held between requests."""

    def __init__(self, base_url: Optional[str] = None, timeout: Optional[float] = 30, key: Optional[str] = None) -> None:
        self._transport = Transport(base_url, key, timeout or 30, 5)

    async def __aenter__(self) -> SandboxClient:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        await self.close()

    async def close(self) -> None:
        """For symmetry."""

    async def _json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        def ask() -> Any:
            return self._transport.ask(method, API + path, body, **more).json()
        return await later(ask)

    async def _volume(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        try:
            return await self._json(method, path, body, **more)
        except (SandboxNotFoundError, SandboxOperationError, SandboxValidationError) as e:
            raise SandboxVolumeError(str(e), e, e.context, status=e.status, detail=e.detail) from e

    @staticmethod
    def _at(sandbox_id: str, rest: str = "") -> str:
        return "/sandboxes/" + quote(sandbox_id) + rest

    # --- sandboxes
    async def create_sandbox(self, request: CreateSandboxRequest) -> dict[str, Any]:
        return dict(await self._json("POST", "/sandboxes", request.body()))

    async def delete_sandbox(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("DELETE", self._at(sandbox_id)))

    async def get_sandbox_status(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("GET", self._at(sandbox_id)))

    async def list_sandboxes(self, status: Optional[str] = None) -> list[dict[str, Any]]:
        return list((await self._json("GET", "/sandboxes", query={"status": status}))["sandboxes"])

    async def stop_sandbox(self, sandbox_id: str, timeout: int = 10) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/stop"), query={"timeout": timeout}, timeout=timeout + 60))

    async def start_sandbox(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/start")))

    async def restart_sandbox(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/restart"), timeout=90))

    async def get_sandbox_logs(self, sandbox_id: str, tail: Optional[int] = None) -> list[dict[str, Any]]:
        return list((await self._json("GET", self._at(sandbox_id, "/logs"), query={"tail": tail}))["logs"])

    async def get_sandbox_metrics(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("GET", self._at(sandbox_id, "/stats")))

    async def get_sandbox_alerts(self, sandbox_id: str) -> list[dict[str, Any]]:
        return list((await self._json("GET", self._at(sandbox_id, "/alerts")))["alerts"])

    async def get_urls(self, sandbox_id: str) -> dict[str, str]:
        """Port -> where it is published; below the base URL."""
        return dict((await self._json("GET", self._at(sandbox_id, "/urls")))["urls"])

    # --- commands
    async def execute_command(self, sandbox_id: str, command: str) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/exec"), {"command": command}, timeout=3660))

    async def stream_command(self, sandbox_id: str, command: str) -> AsyncIterator[str]:
        """Lines as they come, without their ends."""
        def begin() -> Answer:
            return self._transport.ask("POST", API + self._at(sandbox_id, "/exec/stream"), {"command": command},
                                       headers={"Accept": "text/plain"}, timeout=3660)
        a = await later(begin)
        try:
            while True:
                line = await later(a.line)
                if not line:
                    return
                yield line.decode("utf-8", "replace").rstrip("\n")
        finally:
            await asyncio.shield(later(a.close))

    # --- settings
    async def update_environment(self, sandbox_id: str, environment: dict[str, str], merge: bool = True) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/env"), {"environment": environment, "merge": merge}))

    async def get_environment(self, sandbox_id: str) -> dict[str, str]:
        return dict((await self._json("GET", self._at(sandbox_id, "/env")))["environment"])

    async def update_entrypoint(self, sandbox_id: str, entrypoint: Optional[Words] = None, command: Optional[Words] = None) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/entrypoint"), {"entrypoint": entrypoint, "command": command}))

    async def get_entrypoint(self, sandbox_id: str) -> dict[str, Any]:
        return dict(await self._json("GET", self._at(sandbox_id, "/entrypoint")))

    async def update_timeout(self, sandbox_id: str, timeout: int) -> dict[str, Any]:
        return dict(await self._json("POST", self._at(sandbox_id, "/timeout"), {"timeout": timeout}))

    # --- volumes
    def _in(self, sandbox_id: str, volume_id: str, verb: str) -> str:
        return self._at(sandbox_id, "/volumes/" + quote(volume_id) + "/" + verb)

    async def list_directory(self, sandbox_id: str, volume_id: str, path: str = "/") -> list[dict[str, Any]]:
        return list((await self._volume("GET", self._in(sandbox_id, volume_id, "ls"), query={"path": path}))["entries"])

    async def make_directory(self, sandbox_id: str, volume_id: str, path: str) -> dict[str, Any]:
        return dict(await self._volume("POST", self._in(sandbox_id, volume_id, "mkdir"), query={"path": path}) or {})

    async def read_file(self, sandbox_id: str, volume_id: str, path: str) -> str:
        return str((await self._volume("GET", self._in(sandbox_id, volume_id, "read"), query={"path": path}))["content"])

    async def write_file(self, sandbox_id: str, volume_id: str, path: str, content: str) -> dict[str, Any]:
        return dict(await self._volume("POST", self._in(sandbox_id, volume_id, "write"), {"content": content}, query={"path": path}) or {})

    async def upload_file(self, sandbox_id: str, volume_id: str, path: str, file_path: str) -> dict[str, Any]:
        """The file file_path of this machine becomes path in the volume."""
        with open(file_path, "rb") as f:
            body, kind = form(os.path.basename(path.rstrip("/")) or os.path.basename(file_path), f.read())
        return dict(await self._volume("POST", self._in(sandbox_id, volume_id, "upload"), body, query={"path": path},
                                       headers={"Content-Type": kind}) or {})

    async def export_container(self, sandbox_id: str, folder_path: str = "/", output_path: Optional[str] = None) -> Union[bytes, str]:
        """A directory as a zip: its bytes, or written to output_path, which is returned."""
        def begin() -> Answer:
            return self._transport.ask("GET", API + self._at(sandbox_id, "/export"), query={"folder_path": folder_path}, headers={"Accept": "*/*"})
        pieces = each((await later(begin)).pieces())
        if output_path is None:
            return b"".join([p async for p in pieces])
        with open(output_path, "wb") as f:
            async for p in pieces:
                f.write(p)
        return output_path

    async def create_network_volume(self, name: str, driver: str = "local", size: Optional[str] = None,
                                    mount_path: Optional[str] = None) -> dict[str, Any]:
        o = {"name": name, "driver": driver, "size": size, "mount_path": mount_path}
        return dict(await self._volume("POST", "/volumes/network", {k: v for k, v in o.items() if v is not None}))

    async def mount_volume(self, sandbox_id: str, volume_name: str, mount_path: str) -> dict[str, Any]:
        return dict(await self._volume("POST", self._in(sandbox_id, volume_name, "mount"), query={"mount_path": mount_path}))

    async def unmount_volume(self, sandbox_id: str, volume_name: str) -> dict[str, Any]:
        return dict(await self._volume("POST", self._in(sandbox_id, volume_name, "unmount")))


def form(name: str, data: bytes) -> tuple[bytes, str]:
    """A form with one file, and its type."""
    edge = uuid.uuid4().hex
    safe = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    head = '--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: application/octet-stream\r\n\r\n' % (edge, safe)
    return head.encode() + data + b"\r\n--%s--\r\n" % edge.encode(), "multipart/form-data; boundary=" + edge


__all__ = ["CreateSandboxRequest", "PortConfig", "ResourceConfig", "SandboxClient", "SandboxError", "VolumeConfig"]
