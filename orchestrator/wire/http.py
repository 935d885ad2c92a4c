"""Small ASGI pieces: bodies with a bound, JSON answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from math import ceil
from typing import Any, Literal

import orjson

from orchestrator.asks import Gone

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]


class Refused(Exception):
    """A request that is answered with an error before anybody is called."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: tuple[Header, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers


DISCARD_BYTES = 256_000_000


def noticing(send: Send) -> Send:
    """`send`, raising Gone where a server says by an OSError that the caller left (ASGI 2.4, "send exceptions")."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        try:
            await send(message)
        except OSError as error:
            raise Gone from error

    return sending


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The body. Raises Refused (413) for one over the limit, or (415) in an encoding; Gone if the caller leaves.

    What is over the limit is read on and thrown away (up to `DISCARD_BYTES`), never kept: a connection that is closed
    while its client still sends is reset, and the client would see that instead of the answer.
    """
    encodings = (value for name, value in scope["headers"] if name == b"content-encoding")
    # Their names have no case (RFC 9110, section 8.4.1), and some clients send the header empty.
    encoding = next((value for value in encodings if value.strip().lower() not in (b"", b"identity")), None)
    if encoding is not None:
        what = f"the body is encoded as {header_value(encoding.decode('latin-1')).decode()}: send it as it is"
        raise Refused(415, "unsupported_encoding", what, headers=((b"accept-encoding", b"identity"),))
    declared = next((int(v) for name, v in scope["headers"] if name == b"content-length" and v.isdigit()), 0)
    too_large = declared > limit_bytes
    parts: list[bytes] = []
    size = 0
    while declared <= DISCARD_BYTES and size <= DISCARD_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if too_large or size > limit_bytes:
            too_large = True
            parts.clear()
        else:
            parts.append(part)
        if not message.get("more_body"):
            break
    if too_large:
        limit = f"the body is larger than {limit_bytes / 1e6:g} MB"
        raise Refused(413, "request_too_large", limit, headers=((b"connection", b"close"),))
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_json(send: Send, status: int, body: Any, headers: Sequence[Header] = ()) -> None:
    """A whole JSON answer."""
    await send_body(send, status, b"application/json", body if isinstance(body, bytes) else orjson.dumps(body), headers)


async def send_body(send: Send, status: int, kind: bytes, body: bytes, headers: Sequence[Header] = ()) -> None:
    """A whole answer of a content type."""
    start = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def cache_control(scope: Scope) -> Literal["no-store", "no-cache"] | None:
    """What a request says of caches (RFC 9111, section 5.2.1); of both, the stronger."""
    said = b",".join(value for name, value in scope["headers"] if name == b"cache-control").lower()
    if not said:
        return None
    names = {part.partition(b"=")[0].strip() for part in said.split(b",")}
    return "no-store" if b"no-store" in names else "no-cache" if b"no-cache" in names else None


def header_value(text: str) -> bytes:
    """A header's value that cannot break the header: anything but printable ASCII becomes '?'."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")[:500]


def duration(seconds: float) -> str:
    """As OpenAI writes them, which is Go's way: `120ms`, `12s`, `1m0s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    whole = ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
