"""The same for asyncio: each request in a thread, so that the loop goes on."""
from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, AsyncIterator, BinaryIO, Callable, Iterator, Optional, Sequence, Type, TypeVar, Union

from .client import Client, Command, Progress, Run, Session
from .models import CommandResults, FileEntry, Output, RunInfo, RunResult, SessionInfo, Snapshot

T = TypeVar("T")
_END: Any = object()
later = asyncio.to_thread


async def each(items: Iterator[T]) -> AsyncIterator[T]:
    """An iterator that waits for the network, without the loop waiting for it."""
    try:
        while True:
            item = await later(lambda: next(items, _END))
            if item is _END:
                return
            yield item
    finally:
        close = getattr(items, "close", None)
        if close:
            await later(close)


class AsyncClient:
    """As Client."""

    def __init__(self, url: Optional[str] = None, key: Optional[str] = None, *, timeout: float = 120.0, retries: int = 5,
                 prefix: str = "/api/v1") -> None:
        self.sync = Client(url, key, timeout=timeout, retries=retries, prefix=prefix)
        self.images = AsyncImages(self.sync)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.sync.close()

    async def health(self) -> bool:
        return await later(self.sync.health)

    async def version(self) -> str:
        return await later(self.sync.version)

    async def system(self) -> dict[str, Any]:
        return await later(self.sync.system)

    async def session(self, image: str = "host", **more: Any) -> AsyncSession:
        return AsyncSession(await later(lambda: self.sync.session(image, **more)))

    def attach(self, session_id: str) -> AsyncSession:
        return AsyncSession(self.sync.attach(session_id))

    def sessions(self) -> AsyncIterator[SessionInfo]:
        return each(self.sync.sessions())


class AsyncImages:
    def __init__(self, client: Client) -> None:
        self._images = client.images

    async def list(self) -> list[dict[str, Any]]:
        return await later(self._images.list)

    async def inspect(self, reference: str) -> dict[str, Any]:
        return await later(self._images.inspect, reference)

    async def remove(self, reference: str) -> dict[str, Any]:
        return await later(self._images.remove, reference)

    async def pull(self, reference: str, progress: Optional[Progress] = None) -> str:
        """progress is called in the loop's thread."""
        loop = asyncio.get_running_loop()

        def call(event: dict[str, Any]) -> None:
            if progress:
                loop.call_soon_threadsafe(progress, event)

        return await later(self._images.pull, reference, call)


class AsyncSession:
    """As Session; `async with` deletes it at the end."""

    def __init__(self, session: Session) -> None:
        self.sync, self.id = session, session.id
        self.files = AsyncFiles(session)

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        await later(self.sync.__exit__, kind, e, trace)

    async def commands(self, commands: Sequence[str], **more: Any) -> CommandResults:
        return await later(lambda: self.sync.commands(commands, **more))

    async def start(self, command: Command, **more: Any) -> AsyncRun:
        return AsyncRun(await later(lambda: self.sync.start(command, **more)))

    async def run(self, command: Command, *, on_output: Optional[Callable[[Output], None]] = None, **more: Any) -> RunResult:
        run = await self.start(command, **more)
        return await run.follow(on_output)

    async def runs(self) -> list[RunInfo]:
        return await later(self.sync.runs)

    def get_run(self, run_id: str) -> AsyncRun:
        return AsyncRun(self.sync.get_run(run_id))

    async def upload(self, archive: Union[bytes, BinaryIO], path: str = "/repo") -> dict[str, Any]:
        return await later(self.sync.upload, archive, path)

    async def patch(self, since: Optional[str] = None, *, stop: bool = False) -> bytes:
        return await later(lambda: self.sync.patch(since, stop=stop))

    async def commit(self, name: Optional[str] = None, *, stop: bool = False) -> None:
        await later(lambda: self.sync.commit(name, stop=stop))

    async def discard(self, *, stop: bool = False) -> None:
        await later(lambda: self.sync.discard(stop=stop))

    async def fork(self, count: int = 1, *, stop: bool = False) -> list[AsyncSession]:
        return [AsyncSession(s) for s in await later(lambda: self.sync.fork(count, stop=stop))]

    async def snapshot(self, name: str, *, stop: bool = False) -> None:
        await later(lambda: self.sync.snapshot(name, stop=stop))

    async def snapshots(self) -> list[Snapshot]:
        return await later(self.sync.snapshots)

    async def restore(self, name: str, *, stop: bool = False) -> None:
        await later(lambda: self.sync.restore(name, stop=stop))

    async def forget_snapshot(self, name: str) -> None:
        await later(self.sync.forget_snapshot, name)

    async def export(self, format: str = "tar", path: Optional[str] = None) -> AsyncIterator[bytes]:
        async for piece in each(await later(self.sync.export, format, path)):
            yield piece

    async def status(self) -> dict[str, Any]:
        return await later(self.sync.status)

    async def exists(self) -> bool:
        return await later(self.sync.exists)

    async def stop(self) -> None:
        await later(self.sync.stop)

    async def delete(self) -> None:
        await later(self.sync.delete)


class AsyncFiles:
    def __init__(self, session: Session) -> None:
        self._files = session.files

    async def read(self, path: str, first: int = 0, count: Optional[int] = None) -> bytes:
        return await later(self._files.read, path, first, count)

    async def write(self, path: str, data: Union[bytes, str, BinaryIO], *, mode: Optional[int] = None, create: bool = False) -> dict[str, Any]:
        return await later(lambda: self._files.write(path, data, mode=mode, create=create))

    async def list(self, path: str = "/repo") -> list[FileEntry]:
        return await later(self._files.list, path)

    async def mkdir(self, path: str) -> None:
        await later(self._files.mkdir, path)

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        await later(lambda: self._files.delete(path, recursive=recursive))

    async def exists(self, path: str) -> bool:
        return await later(self._files.exists, path)

    async def call(self, verb: str, **members: Any) -> dict[str, Any]:
        return await later(lambda: self._files.call(verb, **members))


class AsyncRun:
    """As Run."""

    def __init__(self, run: Run) -> None:
        self.sync, self.id = run, run.id

    @property
    def end(self) -> Optional[RunInfo]:
        return self.sync.end

    def output(self, offset: int = 0) -> AsyncIterator[Output]:
        return each(self.sync.output(offset))

    async def follow(self, on_output: Optional[Callable[[Output], None]] = None) -> RunResult:
        out: dict[bool, list[bytes]] = {False: [], True: []}
        async for piece in self.output():
            if on_output:
                on_output(piece)
            out[piece.stream == "stderr"].append(piece.data)
        return await later(self.sync._result, b"".join(out[False]), b"".join(out[True]))

    async def info(self) -> RunInfo:
        return await later(self.sync.info)

    async def wait(self, timeout: Optional[float] = None) -> RunInfo:
        return await later(self.sync.wait, timeout)

    async def write(self, data: Union[bytes, str], *, eof: bool = False) -> int:
        return await later(lambda: self.sync.write(data, eof=eof))

    async def signal(self, signal: Union[str, int]) -> None:
        await later(self.sync.signal, signal)

    async def resize(self, rows: int, cols: int) -> None:
        await later(self.sync.resize, rows, cols)

    async def delete(self) -> None:
        await later(self.sync.delete)


__all__ = ["AsyncClient", "AsyncFiles", "AsyncImages", "AsyncRun", "AsyncSession"]
