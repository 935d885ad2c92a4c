"""From a Python call to what coordinators are asked, and from what they stream to something that is read.

The one way in is HTTP's: arguments become the body of a chat completion and are checked as such.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from orchestrator.asks import Answer, Ask
from orchestrator.dialects.openai import as_chunks
from orchestrator.errors import BadChoice, CallFailed
from orchestrator.types import Failure, Finish, Json, Reply
from orchestrator.wire.chat import ChatSpeaker, parse_chat, with_cost
from orchestrator.wire.http import Refused
from orchestrator.wire.within import Coordinating


def ask_for(
    selector: str, messages: Sequence[Any], params: Mapping[str, Any], *, stream: bool, user: str | None = None
) -> Ask:
    """The request. Messages may be objects of OpenAI's client, too. Raises BadChoice that names what is wrong."""
    for name, instead in (("model", "the selector says which"), ("stream", "there is a method for it: stream(...)")):
        if name in params:
            raise BadChoice(name, f"is no parameter here: {instead}")
    try:
        body = orjson.dumps({**params, "model": selector, "messages": messages, "stream": stream}, default=_plain)
        parsed = parse_chat(body)
    except orjson.JSONEncodeError as error:
        raise BadChoice("request", f"cannot be written as JSON: {error}") from None
    except Refused as refused:
        param = refused.param or "request"
        raise BadChoice(param, str(refused).removeprefix(f"'{param}' ")) from None
    return Ask(parsed.selector, parsed.request, parsed.override, uuid4().hex, user or parsed.user)


def _plain(value: Any) -> Any:
    """A pydantic model, such as a message of OpenAI's client."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    raise TypeError


def whole(answer: Answer, body: Json | None = None) -> Json:
    """The body of an answer, as HTTP's callers get a whole one; `body`: of one that was streamed. Raises CallFailed."""
    if isinstance(answer.outcome, Failure):
        raise CallFailed(answer.outcome)
    if body is None:
        assert isinstance(answer.outcome, Reply), "what is not streamed comes whole"
        body = answer.outcome.body
    return ChatSpeaker().whole(body, answer)


class Opened(NamedTuple):
    """What is known of a streamed answer when its first chunk comes; see `Sink.open`."""

    provider: str
    model: str
    strategy: str
    report: Json


class _Pipe:
    """`orchestrator.asks.Sink` whose other end is read. What has been sent is read before more is taken from upstream."""

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.chunks: list[bytes] = []
        self.filled = asyncio.Event()
        self.taken = asyncio.Event()

    async def open(self, provider: str, model: str, strategy: str, report: Json) -> None:
        self.opened = Opened(provider, model, strategy, report)

    async def send(self, chunks: Sequence[bytes]) -> None:
        self.chunks += chunks
        self.taken.clear()
        self.filled.set()
        await self.taken.wait()


class AnswerStream:
    """A streamed answer that is read rather than sent. Closed, or let go of, it stops what it had started upstream."""

    def __init__(self, coordinator: Coordinating, ask: Ask) -> None:
        self._pipe = _Pipe()
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(coordinator.stream(ask, self._pipe))
        filled = self._pipe.filled
        self._task.add_done_callback(lambda _: filled.set())
        self._closed = False

    @property
    def opened(self) -> Opened | None:
        """Known from the first chunk on; None for an answer that came whole."""
        return self._pipe.opened

    async def read(self) -> Sequence[bytes]:
        """The chunks that are at hand, at least one; none: it has ended, or was closed meanwhile. Raises UnknownSelector and
        BadChoice."""
        pipe = self._pipe
        while not pipe.chunks and not self._task.done():
            pipe.filled.clear()
            await pipe.filled.wait()
        chunks, pipe.chunks = pipe.chunks, []
        pipe.taken.set()
        if not chunks and not self._closed:
            self._task.result()
        return chunks

    @property
    def answer(self) -> Answer:
        """How it went; once `read` has given nothing."""
        return self._task.result()

    async def aclose(self) -> None:
        """Stops it, upstream too, and waits until it has ended. Harmless after the end."""
        self._closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def __del__(self) -> None:
        if not self._task.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


def ending(answer: Answer) -> tuple[Sequence[bytes], Finish]:
    """The chunks of a streamed answer that are still to come (all, where the strategy decided by whole answers), and its
    end: `last` as HTTP's callers get it, and with the usage. Raises CallFailed."""
    outcome = answer.outcome
    if isinstance(outcome, Failure):
        raise CallFailed(outcome)
    chunks: Sequence[bytes] = ()
    if isinstance(outcome, Reply):
        chunks, last = as_chunks(outcome.body)
        outcome = Finish(last, outcome.model, outcome.usage, outcome.body.get("usage"))
    added = {"provider": answer.provider, "orchestrator": answer.report, "usage": with_cost(outcome.usage_body, answer)}
    return chunks, replace(outcome, last={**outcome.last, **added})
