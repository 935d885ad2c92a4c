"""The application at its edges: failures after the headers, callers that leave, comments, the official client."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import httpx2
import openai
import orjson
import pytest

from orchestrator.asks import Answer, Ask, Reloaded, Sink
from orchestrator.config.settings import Server
from orchestrator.errors import BadChoice, NotAllowed, UnknownSelector
from orchestrator.ledger.asking import Asking
from orchestrator.types import Failure, FailureKind, Finish, Json, Reply, Usage
from orchestrator.wire.app import App

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
LAST = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
TOKENS = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
REPORT: Json = {"attempts": [{}], "cost_usd": None}
WHOLE = {
    **HEAD, "object": "chat.completion", "usage": TOKENS,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}  # fmt: skip
Serve = Callable[[Sink | None], Awaitable[Answer]]


def answer(outcome: Reply | Finish | Failure) -> Answer:
    return Answer(outcome, REPORT, "first", "p", "m")


class Fake:
    """A coordinator, and what stands above it."""

    def __init__(self, serve: Serve, server: Server) -> None:
        self._serve = serve
        self.server = server

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def config(self) -> Json:
        return {}

    async def reload(self) -> Reloaded:
        return Reloaded(0, ())

    async def spend(self, asked: Asking) -> Json | None:
        return None

    async def budgets(self) -> list[Json] | None:
        return None

    def rollout(self, user: str) -> Json:
        return {}

    async def answer(self, ask: Ask) -> Answer:
        return await self._serve(None)

    async def stream(self, ask: Ask, sink: Sink) -> Answer:
        return await self._serve(sink)

    async def models(self) -> list[Json]:
        return []

    async def model(self, name: str) -> Json | None:
        return None

    async def pools(self) -> list[Json]:
        return []

    async def ready(self) -> tuple[bool, Json]:
        return True, {}

    draining = False


class Caller:
    """An ASGI server's side of one streamed request."""

    def __init__(self, serve: Serve, keepalive_s: float = 60.0, **fields: Any) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.left = asyncio.Event()
        self.hook: Callable[[MutableMapping[str, Any]], Awaitable[None]] | None = None
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, **fields}
        self._messages = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]
        fake = Fake(serve, Server(keepalive_s=keepalive_s))
        self._app = App(lambda: fake, fake)

    async def run(self) -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        if self.hook is not None:
            await self.hook(message)

    @property
    def starts(self) -> list[int]:
        return [one["status"] for one in self.sent if one["type"] == "http.response.start"]

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.sent)


async def one_chunk(sink: Sink | None) -> Answer:
    if sink is None:
        return answer(Reply(WHOLE, "m", Usage(1, 2)))
    await sink.open("p", "m", "first", REPORT)
    delta = {"role": "assistant", "content": "hi"}
    await sink.send([orjson.dumps({**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})])
    return answer(Finish(LAST, "m", Usage(1, 2), TOKENS))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownSelector("x"), b"model_not_found"),
        (BadChoice("models", "no"), b"invalid_request"),
        (NotAllowed("user:john:x", "eve"), b"model_not_allowed"),
        (RuntimeError("secret"), b"internal_error"),
    ],
)
async def test_an_error_after_a_comment_is_an_event(error: Exception, code: bytes) -> None:
    """Once a comment has sent the headers there is one start, an error event, no [DONE], and no inner detail."""

    async def serve(sink: Sink | None) -> Answer:
        while not caller.sent:
            await asyncio.sleep(0)
        raise error

    caller = Caller(serve, keepalive_s=0.01)
    await caller.run()
    assert [200] == caller.starts
    assert code in caller.body
    assert b"[DONE]" not in caller.body
    assert b"secret" not in caller.body


async def test_a_failure_that_crosses_a_comment_starts_one_response() -> None:
    """A comment that is just sending the headers when the failure comes makes it an event."""
    crossing = asyncio.Event()

    async def serve(sink: Sink | None) -> Answer:
        sink._beating = asyncio.ensure_future(sink._comment())  # type: ignore[union-attr]
        crossing.set()
        return answer(Failure(FailureKind.SERVER_ERROR, "down"))

    caller = Caller(serve)
    await caller.run()
    assert [200] == caller.starts
    assert b"data: {" in caller.body


async def test_a_server_that_says_the_caller_left_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    """An OSError from send ends the request quietly."""
    caller = Caller(one_chunk)

    async def broken(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    caller.hook = broken
    await caller.run()
    assert (2, []) == (len(caller.sent), caplog.records)


async def test_a_caller_that_takes_nothing_does_not_hold_the_request() -> None:
    """A cancelled request lets go even while a comment cannot be sent."""
    caller = Caller(one_never, keepalive_s=0.01)
    stuck = asyncio.Event()

    async def block(message: MutableMapping[str, Any]) -> None:
        stuck.set()
        await asyncio.Event().wait()

    caller.hook = block
    running = asyncio.ensure_future(caller.run())
    await stuck.wait()
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=5)
    assert {running} == done
    assert running.cancelled()


async def one_never(sink: Sink | None) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_caller_that_leaves_stops_the_call() -> None:
    """A disconnect cancels the coordinator's call, and nothing is sent."""
    stopped = asyncio.Event()

    async def serve(sink: Sink | None) -> Answer:
        caller.left.set()
        try:
            return await one_never(sink)
        finally:
            stopped.set()

    caller = Caller(serve)
    await caller.run()
    assert (True, []) == (stopped.is_set(), caller.sent)


def client(serve: Serve) -> openai.AsyncOpenAI:
    fake = Fake(serve, Server())
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(App(lambda: fake, fake)))
    return openai.AsyncOpenAI(base_url="http://t/v1", api_key="k", http_client=http, max_retries=0)


async def test_the_official_client_reads_whole_and_streamed_answers() -> None:
    """Unary, streamed, streamed from a whole answer, and usage when asked for."""

    async def whole(sink: Sink | None) -> Answer:
        return await one_chunk(None)

    for serve in (one_chunk, whole):
        async with client(serve) as api:
            unary = await api.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
            stream = await api.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "x"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
        assert "hi" == unary.choices[0].message.content
        assert "hi" == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert ([], 3) == (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.total_tokens)


async def test_the_official_client_raises_its_own_errors() -> None:
    """Statuses become the classes that its users catch."""
    for kind, error in (
        (FailureKind.CONTEXT_LENGTH, openai.BadRequestError),
        (FailureKind.NOT_FOUND, openai.NotFoundError),
        (FailureKind.RATE_LIMITED, openai.RateLimitError),
        (FailureKind.SILENT, openai.InternalServerError),
    ):

        async def serve(sink: Sink | None, kind: FailureKind = kind) -> Answer:
            return answer(Failure(kind, "why"))

        async with client(serve) as api:
            with pytest.raises(error):
                await api.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
