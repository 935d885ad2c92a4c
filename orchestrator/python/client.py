"""OpenAI's clients over the HTTP application of this process: no server, no socket.

The transport hands the body on as it comes (httpx's own for ASGI applications collects it first), holds the application back
while nobody reads, and cancels it when an answer is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

# What OpenAI's client is made of; it comes along with it.
import httpx2
import openai

from orchestrator.asks import Reloaded
from orchestrator.ledger.asking import Asking
from orchestrator.types import Json
from orchestrator.wire.app import App, Coordinating
from orchestrator.wire.http import Header, Refused

URL = "http://orchestrator/v1"
T = TypeVar("T")


class Run(Protocol):
    """Runs something on the loop of the application, from another thread, and waits for it."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


End = Callable[[Coroutine[Any, Any, None]], None]
"""The same for what ends something: harmless when the loop has ended, and all that ran there with it."""


class _Above:
    """`orchestrator.wire.app.Admin` for an application that nobody serves."""

    draining = False

    async def config(self) -> Json:
        raise Refused(404, "not_found", "what is opened from Python has no administration")

    async def spend(self, _: Asking) -> Json | None:
        raise Refused(404, "not_found", "what is opened from Python has no administration")

    async def budgets(self) -> list[Json] | None:
        raise Refused(404, "not_found", "what is opened from Python has no administration")

    async def reload(self) -> Reloaded:
        raise Refused(404, "not_found", "what is opened from Python is not reloaded; open it again")


class Call:
    """One request that the application answers in a task of its own."""

    def __init__(self, app: App, request: httpx2.Request, content: bytes) -> None:
        self._content: bytes | None = content
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._start: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 0),
            "server": (request.url.host, request.url.port),
        }
        self._broken: httpx2.RemoteProtocolError | None = None
        self._task = asyncio.ensure_future(self._run(app, scope))

    async def _run(self, app: App, scope: Json) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            self._broken = httpx2.RemoteProtocolError(f"the application broke off: {type(error).__name__}: {error}")
            if not self._start.done():
                self._start.set_exception(self._broken)
                return
        await self._parts.put(None)

    async def _receive(self) -> Json:
        # The application is cancelled when the caller leaves: it waits here for nothing.
        content, self._content = self._content, b""
        return {"type": "http.request", "body": content, "more_body": False}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start.set_result(message)
        elif message["body"]:
            await self._parts.put(message["body"])

    async def started(self) -> tuple[int, list[Header]]:
        """Status and headers, when they have come. Cancelled, it cancels the application."""
        try:
            start = await self._start
        except BaseException:
            await self.aclose()
            raise
        return start["status"], start["headers"]

    async def part(self) -> bytes | None:
        """The next part of the body; None at its end. Raises httpx2.RemoteProtocolError."""
        part = await self._parts.get()
        if part is None and self._broken is not None:
            raise self._broken
        return part

    async def aclose(self) -> None:
        """Cancels the application, and waits until it has ended; whoever reads meanwhile is told. Harmless after the end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._task.cancelled() and self._broken is None:
            self._broken = httpx2.RemoteProtocolError("the answer was closed while it was read")
        while not self._parts.empty():
            self._parts.get_nowait()
        self._parts.put_nowait(None)


class _Body(httpx2.AsyncByteStream):
    """The body of an answer while the application still writes it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._call.part()) is not None:
            yield part

    async def aclose(self) -> None:
        await self._call.aclose()


class AppTransport(httpx2.AsyncBaseTransport):
    """Requests answered by an application of this process."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns when the headers have come; the body is read as it is written."""
        call = Call(self._app, request, await request.aread())
        status, headers = await call.started()
        return httpx2.Response(status, headers=headers, stream=_Body(call))


class _PlainBody(httpx2.SyncByteStream):
    """The same for a caller of another thread."""

    def __init__(self, call: Call, run: Run, end: End) -> None:
        self._call = call
        self._run = run
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        while (part := self._run(self._call.part())) is not None:
            yield part

    def close(self) -> None:
        self._end(self._call.aclose())


class PlainTransport(httpx2.BaseTransport):
    """The same, by plain calls; `run` waits for what runs on the application's loop, and so does `end` while it runs."""

    def __init__(self, app: App, run: Run, end: End) -> None:
        self._app = app
        self._run = run
        self._end = end

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `AppTransport.handle_async_request`."""
        call, (status, headers) = self._run(self._begin(request, request.read()))
        return httpx2.Response(status, headers=headers, stream=_PlainBody(call, self._run, self._end))

    async def _begin(self, request: httpx2.Request, content: bytes) -> tuple[Call, tuple[int, list[Header]]]:
        call = Call(self._app, request, content)
        return call, await call.started()


def app_over(current: Callable[[], Coordinating]) -> App:
    """The application, over whatever coordinator is current. Callers' going away is noticed by the transport."""
    return App(current, _Above(), watch=False)


# Neither retries by itself, which is what strategies are for; time-outs are the configuration's.
def async_client(app: App) -> openai.AsyncOpenAI:
    """The asynchronous client."""
    http = httpx2.AsyncClient(transport=AppTransport(app), base_url=URL)
    return openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0, http_client=http)


def plain_client(app: App, run: Run, end: End) -> openai.OpenAI:
    """The one of plain calls."""
    http = httpx2.Client(transport=PlainTransport(app, run, end), base_url=URL)
    return openai.OpenAI(base_url=URL, api_key="none", max_retries=0, http_client=http)
