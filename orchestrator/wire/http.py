"""Small ASGI pieces: bodies with a bound, JSON answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

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
    encoding = next((v for name, v in scope["headers"] if name == b"content-encoding" and v != b"identity"), None)
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


async def send_json(send: Send, status: int, body: Any, headers: tuple[Header, ...] | list[Header] = ()) -> None:
    """A whole JSON answer."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    await send_body(send, status, b"application/json", data, headers)


async def send_body(send: Send, status: int, kind: bytes, data: bytes, headers: Sequence[Header] = ()) -> None:
    """A whole answer of any content type."""
    length = str(len(data)).encode()
    start = [(b"content-type", kind), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": data})


def header_value(text: str) -> bytes:
    """A header's value that cannot break the header: anything but printable ASCII becomes '?'."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")[:500]
