"""The only module that speaks HTTP upstream: httpx's transport interface over aiohttp's wire.

The interface is httpx's, so that any ASGI app or function can stand in for an upstream in tests (`httpx.ASGITransport`,
`httpx.MockTransport`); the wire is aiohttp's, at 0.09 ms of CPU a call against 1.73 ms for httpcore. The transport is
called directly, without `httpx.AsyncClient` (redirects, cookies and authentication flows are not wanted here).

Nothing of httpx's or aiohttp's errors leaves this module: it raises `TransportError` alone, which names host and port and
never a path, a header or a body.
"""

from __future__ import annotations

import asyncio
import os
import socket
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import cast

import aiohttp
import httpx

from orchestrator.config.settings import Connections, Timeouts
from orchestrator.types import FailureKind

MAX_BODY_BYTES = 64 * 1024 * 1024
READ_BYTES = 16 * 1024
"""What is taken at a time: a stream that its caller holds back is held in pieces of this size at every stage."""
HEADER_BYTES = 64 * 1024
"""Of one header of an answer: aiohttp's 8 KB are too few for the policies and cookies that proxies add."""
KERNEL_BYTES = 256 * 1024
"""Receive buffer of a connection upstream: 2.5 MB/s at a round trip of 100 ms."""
DRAIN_S = 1.0
"""How long the end of a stream is waited for, once its answer is whole."""


class TransportError(Exception):
    """The wire failed. `kind` says how: UNREACHABLE, RESET (before the answer began), CUT (within it) or BAD_ANSWER."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._response.content.read(READ_BYTES):
                yield data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # What had come before the connection broke is the answer's, perhaps its very end. aiohttp would drop it.
            if rest := self._response.content._read_nowait(-1):
                yield rest
            raise httpx.ReadError(str(error)) from error

    async def aclose(self) -> None:
        # A body that was read to its end has given its connection back; any other is closed, and the upstream with it.
        self._response.close()


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose kernel keeps little of an answer that nobody reads: left to itself, it would take 6 MB."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
    return made


class AiohttpTransport(httpx.AsyncBaseTransport):
    """httpx's transport interface over one aiohttp session, which it makes when it is first used."""

    def __init__(self, connections: Connections, timeouts: Timeouts) -> None:
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s, connect=None)
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str], str | None] = {}

    def _proxy(self, url: httpx.URL) -> str | None:
        """The proxy that the environment names for a host (`HTTPS_PROXY`, `NO_PROXY` and their like), looked up once.

        aiohttp's own `trust_env` reads the environment and ~/.netrc anew in a thread for each call: measured at 0.3 ms of
        CPU and 1 ms of latency a call. And a ~/.netrc entry for a provider's host would clash with its API key.
        """
        at = (url.scheme, url.host)
        if at not in self._proxies:
            bypassed = urllib.request.proxy_bypass(url.host)
            self._proxies[at] = None if bypassed else urllib.request.getproxies().get(url.scheme)
        return self._proxies[at]

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The gate bounds connections; keepalive_timeout bounds how long an idle one stays.
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=self._connections.idle_s, ttl_dns_cache=60, socket_factory=_socket
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=2 * READ_BYTES,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
                skip_auto_headers=("User-Agent",),
                headers={"accept-encoding": "gzip, deflate", "user-agent": "orchestrator"},
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError, httpx.RemoteProtocolError (no answer came) or httpx.ReadError."""
        session = self._open()
        try:
            response = await session.request(
                request.method,
                str(request.url),
                headers=dict(request.headers),
                data=request.content or None,
                allow_redirects=False,
                proxy=self._proxy(request.url),
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise httpx.ConnectError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        headers = [(name, value) for name, value in response.raw_headers if name.lower() != b"content-encoding"]
        return httpx.Response(response.status, headers=headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class Response:
    """An answer whose headers have come. Close it, whatever happens."""

    __slots__ = ("_draining", "_response", "_where", "headers", "status")

    def __init__(self, response: httpx.Response, where: str, draining: set[asyncio.Task[None]]) -> None:
        self._draining = draining
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        """Looked up without regard to case."""
        self._response = response
        self._where = where

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TransportError(CUT)."""
        try:
            async for data in cast(httpx.AsyncByteStream, self._response.stream):
                yield data
        except (httpx.HTTPError, OSError) as error:
            raise TransportError(FailureKind.CUT, f"{self._where} broke off its answer") from error

    async def read(self, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises TransportError: CUT, or BAD_ANSWER for one over the limit."""
        parts: list[bytes] = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > limit_bytes:
                raise TransportError(FailureKind.BAD_ANSWER, f"{self._where} answered with over {limit_bytes} bytes")
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def recycle(self, rest: AsyncIterator[bytes]) -> None:
        """Closes a stream that has said all it has to, once what is left of it has been read: its connection can then
        be used again. Returns at once."""
        task = asyncio.ensure_future(self._drain(rest))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, rest: AsyncIterator[bytes]) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                async for _ in rest:
                    pass
        except (TimeoutError, TransportError):
            pass  # the connection is of no more use; the answer is whole all the same
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Closes the answer, and its connection unless the body was read to the end."""
        await cast(httpx.AsyncByteStream, self._response.stream).aclose()


class Transport:
    """Sends requests to one provider. `http` replaces the wire in tests."""

    def __init__(
        self, connections: Connections, timeouts: Timeouts, http: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = http or AiohttpTransport(connections, timeouts)
        self._draining: set[asyncio.Task[None]] = set()
        self._urls: dict[str, httpx.URL] = {}
        """Parsed once: a provider has a handful of paths, and parsing one is a quarter of what a request costs here."""

    def _url(self, text: str) -> httpx.URL:
        url = self._urls.get(text)
        if url is None:
            if len(self._urls) > 64:
                self._urls.clear()
            url = self._urls[text] = httpx.URL(text)
        return url

    async def send(self, url: str, headers: Mapping[str, str], content: bytes, *, method: str = "POST") -> Response:
        """Returns when the answer's headers have come. Raises TransportError. Cancelling closes the connection."""
        request = httpx.Request(method, self._url(url), headers=headers, content=content)
        where = f"{request.url.host}:{request.url.port or {'http': 80, 'https': 443}.get(request.url.scheme)}"
        try:
            return Response(await self._http.handle_async_request(request), where, self._draining)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise TransportError(FailureKind.UNREACHABLE, f"{where} cannot be reached: {_reason(error)}") from error
        except (httpx.HTTPError, OSError) as error:
            raise TransportError(FailureKind.RESET, f"{where} closed the connection before it answered") from error

    async def aclose(self) -> None:
        """Closes all connections."""
        await asyncio.sleep(0)  # a drain that has not begun yet would not close its answer when it is cancelled
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        await self._http.aclose()
        await asyncio.sleep(0)  # lets aiohttp's transports run their connection_lost


def _reason(error: Exception) -> str:
    """The operating system's words, without addresses that the message has already named."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return getattr(cause, "strerror", None) or type(cause).__name__
