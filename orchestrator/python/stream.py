"""A model's answer as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson

from orchestrator.errors import OrchestratorError
from orchestrator.python.asking import AnswerStream, ending
from orchestrator.python.conversation import Conversation
from orchestrator.python.reply import ModelReply, step_of
from orchestrator.types import Json
from orchestrator.wire.within import Coordinating


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. At least one of `text`, `reasoning` and `tool_calls` is not empty."""

    text: str
    reasoning: str
    """What the model thinks, where it is shown."""
    tool_calls: tuple[Json, ...]
    """Pieces of calls in OpenAI's shape: `index` always, `id` and name in the first piece, then parts of the arguments."""
    raw: Json
    """The chunk, as HTTP's callers get it."""


class ModelStream:
    """The deltas of an answer: `async for`. Where functions are called, those of all steps, one step after the other.

    A loop that is left stops what goes on upstream; so do `aclose` and the end of `async with`, which wait until it has.
    A time-out around one delta ends the stream, too. Raises what `Model.generate` raises, CallFailed also in the middle of
    an answer.
    """

    def __init__(self, coordinator: Coordinating, conversation: Conversation) -> None:
        self._coordinator = coordinator
        self._conversation = conversation
        self._answer: AnswerStream | None = None
        self._whole = _Whole()
        self._ready: deque[Delta] = deque()
        self._reply: ModelReply | None = None
        self._closed = False

    @property
    def reply(self) -> ModelReply:
        """The whole answer, once the last delta has come. Raises OrchestratorError before."""
        if self._reply is None:
            raise OrchestratorError("the stream has not come to its end: there is no whole reply")
        return self._reply

    async def __anext__(self) -> Delta:
        try:
            while not self._ready and self._reply is None and not self._closed:
                await self._read()
        except BaseException:
            await self.aclose()
            raise
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _read(self) -> None:
        if self._answer is None:
            ask = self._conversation.ask(stream=True)
            self._answer, self._whole = AnswerStream(self._coordinator, ask), _Whole()
        answer = self._answer
        if chunks := await answer.read():
            self._take(chunks)
        elif not self._closed:
            await self._end(answer)

    def _take(self, chunks: Sequence[bytes]) -> None:
        self._ready.extend(filter(None, map(self._whole.add, chunks)))

    async def _end(self, stream: AnswerStream) -> None:
        """A step has come to its end."""
        self._answer = None
        chunks, finish = ending(stream.answer)
        self._take(chunks)
        step = step_of(stream.answer, self._whole.body(finish.last))
        if not await self._conversation.take(step):
            self._reply = self._conversation.reply()

    def __aiter__(self) -> AsyncGenerator[Delta, None]:
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[Delta, None]:
        # A generator, since Python closes one whose loop was left.
        try:
            while True:
                try:
                    delta = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield delta
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stops it, upstream too, and waits until it has ended. Harmless after the end."""
        self._closed = True
        self._ready.clear()
        if self._answer is not None:
            answer, self._answer = self._answer, None
            await answer.aclose()

    async def __aenter__(self) -> ModelStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Whole:
    """The answer that the deltas of a step add up to: its first choice."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._details: list[Any] = []
        self._signed: Json = {}
        self._calls: dict[int, Json] = {}

    def add(self, chunk: bytes) -> Delta | None:
        """The delta of a chunk; None for one that says nothing."""
        raw: Json = orjson.loads(chunk)
        said: Json = next((choice["delta"] for choice in raw["choices"] if not choice.get("index")), {})
        text = _text(said.get("content"))
        reasoning = _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
        calls = tuple(call for call in _list(said.get("tool_calls")) if isinstance(call, dict))
        self._text.append(text)
        self._reasoning.append(reasoning)
        self._refusal.append(_text(said.get("refusal")))
        self._details += _list(said.get("reasoning_details"))
        if isinstance(signed := said.get("extra_content"), dict):
            self._signed |= signed
        for call in calls:
            self._call(call)
        return Delta(text, reasoning, calls, raw) if text or reasoning or calls else None

    def _call(self, part: Json) -> None:
        kind, said = ("custom", "input") if part.get("type") == "custom" else ("function", "arguments")
        beside = {name: value for name, value in part.items() if name not in ("index", "function", "custom")}
        begun = {"id": None, **beside, "type": kind, kind: {"name": "", said: ""}}
        call = self._calls.setdefault(part["index"], begun)
        if isinstance(signed := part.get("extra_content"), dict):
            before = call.get("extra_content")
            call["extra_content"] = {**(before if isinstance(before, dict) else {}), **signed}
        made, whole = part.get(call["type"]), call[call["type"]]
        if isinstance(made, dict):
            for name in whole:
                whole[name] += _text(made.get(name))

    def body(self, last: Json) -> Json:
        """The chat completion; `last` is the chunk that ends it."""
        text = "".join(self._text)
        message: Json = {"role": "assistant", "content": text if text or not self._calls else None}
        for name, value in (
            ("refusal", "".join(self._refusal)),
            ("reasoning_content", "".join(self._reasoning)),
            ("reasoning_details", self._details),
            ("extra_content", self._signed),
            ("tool_calls", [self._calls[index] for index in sorted(self._calls)]),
        ):
            if value:
                message[name] = value
        finish = next((choice.get("finish_reason") for choice in last["choices"] if not choice.get("index")), None)
        choice = {"index": 0, "message": message, "finish_reason": finish}
        head = {name: value for name, value in last.items() if name not in ("choices", "orchestrator", "provider")}
        return {**head, "object": "chat.completion", "choices": [choice]}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
