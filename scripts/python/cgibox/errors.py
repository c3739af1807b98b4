"""What can go wrong, under the names that clients of other sandbox services know."""
from __future__ import annotations

from typing import Any, Optional


class SandboxError(Exception):
    """Base of all. status: of the answer, None when there was none; detail: what the answer said."""

    def __init__(self, message: str, original_error: Optional[BaseException] = None, context: Optional[dict[str, Any]] = None, *,
                 status: Optional[int] = None, detail: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.original_error = original_error
        self.context = context or {}
        self.status = status
        self.detail = detail


class SandboxConnectionError(SandboxError):
    """The service cannot be reached, or hung up."""


class SandboxTimeoutError(SandboxError):
    """No answer in time."""


class SandboxNotFoundError(SandboxError):
    """404: no such session, run, file or image."""


class SandboxOperationError(SandboxError):
    """The service understood and did not do it: busy, over a limit, no key, broken."""


class SandboxValidationError(SandboxError):
    """400 or 422: the request is wrong; detail says where."""


class SandboxVolumeError(SandboxError):
    """A volume could not be made, mounted or used."""


def text_of(detail: Any) -> str:
    """A detail as one line: lists of problems are shortened to field and message."""
    if isinstance(detail, list):
        return "; ".join("%s: %s" % (".".join(str(x) for x in p.get("loc", [])[1:]), p.get("msg", "")) if isinstance(p, dict) else str(p)
                         for p in detail)
    if isinstance(detail, dict):
        return str(detail.get("description") or detail.get("error_detail") or detail)
    return str(detail)


def error_of(status: int, body: Any, what: str) -> SandboxError:
    """The exception for an answer."""
    detail = body.get("detail", body.get("message")) if isinstance(body, dict) else body
    kind = (SandboxNotFoundError if status == 404 else SandboxValidationError if status in (400, 422)
            else SandboxTimeoutError if status in (408, 504) else SandboxOperationError)
    return kind("%s: %d %s" % (what, status, text_of(detail) if detail else ""), status=status, detail=detail,
                context=body if isinstance(body, dict) else None)
