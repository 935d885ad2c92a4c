"""Going on with a stream that was cut: another model's stream, of which only what the caller does not have is handed on.

A model that continues a last assistant turn (`prefill`) is given the text, and all that it says is new. Any other answers
afresh: as long as its answer is, character by character, the text that has been sent, it is swallowed; where it departs from
it, going on would be a lie, and the stream fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from orchestrator.config.settings import Quirks
from orchestrator.dialects.base import StreamDecoder
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Piece, Request, Sent, Usage

REDUCE_BYTES = 64 * 1024
MAX_CHARACTERS = 500_000
"""About 125,000 tokens: as long as the longest answers that models give."""
_REASONING = ("role", "reasoning", "reasoning_content", "reasoning_details")
"""Not sent again: the caller has had a role, and how an answer was come to is no part of it."""


class SoFar:
    """What a caller has been sent, kept for whoever may have to go on with it.

    Costs an append a chunk; what has come together is reduced to its text each `REDUCE_BYTES`. A text of more than
    `MAX_CHARACTERS` is let go of: nobody goes on with it, and a coordinator's memory is bounded.
    """

    __slots__ = ("_characters", "_chunks", "_head", "_lost", "_size", "_text")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._head: Json = {}
        self._text: list[str] = []
        self._characters = 0
        self._lost = False
        """Nobody can go on: tool calls, several choices, logprobs, or too much of it."""

    def add(self, chunks: Sequence[bytes]) -> None:
        """These have been sent."""
        if not self._lost:
            self._chunks += chunks
            self._size += sum(map(len, chunks))
            if self._size > REDUCE_BYTES:
                self._reduce()

    def sent(self) -> Sent | None:
        """What the caller has; None where nobody can go on with it."""
        self._reduce()
        return None if self._lost or not self._head else Sent("".join(self._text), self._head)

    def _reduce(self) -> None:
        chunks, self._chunks, self._size = self._chunks, [], 0
        self._lost = self._lost or not all(map(self._take, chunks)) or self._characters > MAX_CHARACTERS
        if self._lost:
            self._text = []
        else:
            self._text = ["".join(self._text)]

    def _take(self, data: bytes) -> bool:
        chunk = orjson.loads(data)
        self._head = self._head or {name: chunk[name] for name in ("id", "object", "created", "model")}
        for choice in chunk["choices"]:
            if choice["index"] != 0 or choice.get("logprobs"):
                return False
            for name, value in choice["delta"].items():
                if name == "content" and isinstance(value, str):
                    self._text.append(value)
                    self._characters += len(value)
                elif value and name not in _REASONING:
                    return False
        return True


def continuing(request: Request, quirks: Quirks) -> Request:
    """The request that has a model continue the text: it ends with an assistant turn."""
    assert request.resume is not None
    turn = {"role": "assistant", "content": request.resume.text, **quirks.prefill_turn}
    body = {**request.body, **quirks.prefill_fields, "messages": [*request.body["messages"], turn]}
    extension = body.get("anthropic")
    if isinstance(extension, dict) and isinstance(extension.get("messages"), list):
        body["anthropic"] = {**extension, "messages": [*extension["messages"], turn]}
    return request._replace(body=body)


class Resumed:
    """A decoder around the one of the stream that goes on (`StreamDecoder`)."""

    def __init__(self, inner: StreamDecoder, sent: Sent, *, continues: bool) -> None:
        self._inner = inner
        self._head = sent.head
        self._left = "" if continues else sent.text
        """What the caller has and this stream has not said again yet."""
        self._ended = False

    @property
    def opened(self) -> bool:
        """See `StreamDecoder`."""
        return self._inner.opened

    @property
    def holding(self) -> bool:
        """See `StreamDecoder`."""
        return self._inner.holding

    @property
    def model(self) -> str:
        """See `StreamDecoder`."""
        return self._inner.model

    @property
    def deltas(self) -> int:
        """See `StreamDecoder`."""
        return self._inner.deltas

    @property
    def used(self) -> Usage | None:
        """See `StreamDecoder`."""
        return self._inner.used

    def feed(self, data: bytes) -> list[Piece]:
        """See `StreamDecoder.feed`."""
        return self._pass(self._inner.feed(data))

    def close(self) -> list[Piece]:
        """See `StreamDecoder.close`."""
        return self._pass(self._inner.close())

    def _pass(self, pieces: list[Piece]) -> list[Piece]:
        passed: list[Piece] = []
        for piece in pieces:
            if self._ended:
                break
            found = self._one(piece)
            if found is not None:
                passed.append(found)
            self._ended = found is not None and not isinstance(found, Chunk)
        return passed

    def _one(self, piece: Piece) -> Piece | None:
        if isinstance(piece, Finish):
            if self._left:
                return Failure(FailureKind.NO_RESUME, "its answer ends before the text that was already sent")
            return replace(piece, last={**piece.last, **self._head})
        if isinstance(piece, Failure):
            return piece
        chunk = orjson.loads(piece.data)
        said = []
        for choice in chunk["choices"]:
            delta = {name: value for name, value in choice["delta"].items() if name not in _REASONING}
            if self._left:
                content = delta.get("content")
                text = content if isinstance(content, str) else ""
                both = min(len(text), len(self._left))
                if text[:both] != self._left[:both] or any(value for name, value in delta.items() if name != "content"):
                    return Failure(FailureKind.NO_RESUME, "its answer is another one than was begun")
                self._left = self._left[both:]
                delta["content"] = text[both:]
            if any(delta.values()):
                said.append({**choice, "delta": delta})
        return Chunk(orjson.dumps({**chunk, **self._head, "choices": said})) if said else None
