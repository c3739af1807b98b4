"""Client of a cgibox service. Python's own library is all it needs."""
from .aio import AsyncClient, AsyncRun, AsyncSession
from .archive import pack
from .client import Client, Files, Images, Run, Session
from .errors import (SandboxConnectionError, SandboxError, SandboxNotFoundError, SandboxOperationError, SandboxTimeoutError,
                     SandboxValidationError, SandboxVolumeError)
from .models import CommandResult, CommandResults, FileEntry, Output, RunInfo, RunResult, SessionInfo, Snapshot

__all__ = ["AsyncClient", "AsyncRun", "AsyncSession", "Client", "CommandResult", "CommandResults", "FileEntry", "Files", "Images", "Output",
           "Run", "RunInfo", "RunResult", "SandboxConnectionError", "SandboxError", "SandboxNotFoundError", "SandboxOperationError",
           "SandboxTimeoutError", "SandboxValidationError", "SandboxVolumeError", "Session", "SessionInfo", "Snapshot", "pack"]
