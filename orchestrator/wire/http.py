"""Small ASGI pieces: bodies with a bound, JSON answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

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


class Gone(Exception):
    """The caller went away."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The body. Raises Refused (413) as soon as it is known to be over the limit, Gone if the caller leaves."""
    too_large = Refused(
        413,
        "request_too_large",
        f"the body is larger than {limit_bytes / 1e6:g} MB",
        headers=((b"connection", b"close"),),
    )
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise too_large
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_json(send: Send, status: int, body: Any, headers: tuple[Header, ...] | list[Header] = ()) -> None:
    """A whole JSON answer."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    length = str(len(data)).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": data})


def header_value(text: str) -> bytes:
    """A header's value that cannot break the header: anything but printable ASCII becomes '?'."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")[:500]
