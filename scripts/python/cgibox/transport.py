"""HTTP by Python's own library: one connection a request, answers whole or as they come."""
from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
import urllib.parse
from typing import Any, BinaryIO, Iterator, Mapping, Optional, Union

from .errors import SandboxConnectionError, SandboxError, SandboxTimeoutError, SandboxValidationError, error_of

Body = Union[None, bytes, BinaryIO, dict, list]
RETRY_MAX_S = 30.0  # the longest wait that a Retry-After is given


class Answer:
    """An answer: status, headers, and the body, which is read when asked for. Close it, or use it with `with`."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, what: str) -> None:
        self._connection, self._response, self.what = connection, response, what
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def read(self, n: int = -1) -> bytes:
        try:
            got = self._response.read(None if n < 0 else n)
            if n > 0 and not got and self._response.length:  # which the library takes for the end
                raise http.client.IncompleteRead(got, self._response.length)
            return got
        except socket.timeout as e:
            raise SandboxTimeoutError("%s: no answer in time" % self.what, e) from e
        except (http.client.HTTPException, OSError) as e:
            raise SandboxConnectionError("%s: the answer broke off: %s" % (self.what, e), e) from e

    def line(self) -> bytes:
        """The next line, b"" at the end."""
        try:
            return self._response.readline()
        except socket.timeout as e:
            raise SandboxTimeoutError("%s: nothing came in time" % self.what, e) from e
        except (http.client.HTTPException, OSError) as e:
            raise SandboxConnectionError("%s: the answer broke off: %s" % (self.what, e), e) from e

    def pieces(self, size: int = 1 << 16) -> Iterator[bytes]:
        with self:
            while True:
                piece = self.read(size)
                if not piece:
                    return
                yield piece

    def json(self) -> Any:
        with self:
            body = self.read()
        try:
            return json.loads(body) if body else None
        except ValueError as e:
            raise SandboxConnectionError("%s: the answer is no JSON" % self.what, e) from e


class Transport:
    """Where the service is, and the key. Holds no connection; any thread may use it."""

    def __init__(self, url: Optional[str], key: Optional[str], timeout: float, retries: int) -> None:
        url = url or os.environ.get("CGIBOX_URL") or "http://127.0.0.1:8080"
        at = urllib.parse.urlsplit(url)
        if at.scheme not in ("http", "https") or not at.hostname:
            raise SandboxValidationError("no URL of a service: %r" % url)
        self.url, self._at, self.key, self.timeout, self.retries = url, at, key if key is not None else default_key(), timeout, retries
        self.prefix = at.path.rstrip("/")

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        host = self._at.hostname or ""
        if self._at.scheme == "https":
            return http.client.HTTPSConnection(host, self._at.port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, self._at.port, timeout=timeout)

    def _once(self, method: str, path: str, body: Union[None, bytes, BinaryIO], headers: dict[str, str], timeout: float) -> Answer:
        what = "%s %s" % (method, path)
        connection = self._connect(timeout)
        try:
            connection.request(method, self.prefix + path, body, headers)
            return Answer(connection, connection.getresponse(), what)
        except socket.timeout as e:
            connection.close()
            raise SandboxTimeoutError("%s: no answer in %g s" % (what, timeout), e) from e
        except (http.client.HTTPException, OSError) as e:
            connection.close()
            raise SandboxConnectionError("%s: %s: %s" % (what, self.url, e), e) from e

    def ask(self, method: str, path: str, body: Body = None, *, query: Optional[Mapping[str, Any]] = None,
            headers: Optional[Mapping[str, str]] = None, timeout: Optional[float] = None) -> Answer:
        """
        One request. A 503 that says when to ask again is asked again, `retries` times at most: nothing was done
        then. Any other error status is raised. What else may have happened, a connection that broke in the
        middle say, is for the caller to judge, and is not repeated.
        """
        h = {"Accept": "application/json", **(headers or {})}
        if self.key:
            h["X-API-Key"] = self.key
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            h.setdefault("Content-Type", "application/json")
        if query:
            path += "?" + urllib.parse.urlencode({k: word(v) for k, v in query.items() if v is not None})
        start = body.tell() if body is not None and not isinstance(body, bytes) and body.seekable() else None
        for left in range(self.retries, -1, -1):
            a = self._once(method, path, body, h, timeout or self.timeout)
            if a.status < 400:
                return a
            wait = a.headers.get("Retry-After", "")
            replay = body is None or isinstance(body, bytes) or start is not None
            if a.status != 503 or not left or not wait.isdigit() or not replay:
                break
            a.close()
            time.sleep(min(float(wait), RETRY_MAX_S))
            if start is not None and body is not None and not isinstance(body, bytes):
                body.seek(start)
        raise failure(a)


def failure(a: Answer) -> SandboxError:
    with a:
        try:
            text = a.read()
        except SandboxError as e:
            return e
    try:
        return error_of(a.status, json.loads(text), a.what)
    except ValueError:
        return error_of(a.status, text[:200].decode("utf-8", "replace"), a.what)


def word(v: Any) -> str:
    return ("true" if v else "false") if isinstance(v, bool) else str(v)


def quote(path: str) -> str:
    """A path of a file for a URL: each byte, slashes kept."""
    return urllib.parse.quote(path.lstrip("/"), safe="/")


def default_key() -> str:
    """CGIBOX_API_KEY, or what the file CGIBOX_API_KEY_FILE holds, or nothing."""
    if os.environ.get("CGIBOX_API_KEY"):
        return os.environ["CGIBOX_API_KEY"]
    name = os.environ.get("CGIBOX_API_KEY_FILE")
    if not name:
        return ""
    try:
        with open(name, encoding="utf-8") as f:
            return f.read().strip("\r\n")
    except OSError as e:
        raise SandboxValidationError("the key: %s" % e, e) from e
