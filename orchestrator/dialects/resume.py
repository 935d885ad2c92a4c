"""Going on with a stream that was cut: another model's stream, of which only what the caller does not have is handed on.

A model that continues a last assistant turn (`prefill`) is given the text, and all that it says is new. Any other answers
afresh: as long as its answer is, character by character, the text that has been sent, it is swallowed; where it departs from
it, going on would be a lie, and the stream fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from orchestrator.dialects.base import StreamDecoder
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Piece, Request, Sent

_REASONING = ("role", "reasoning", "reasoning_content", "reasoning_details")
"""Not sent again: the caller has had a role, and how an answer was come to is no part of it."""


def sent_of(chunks: Sequence[bytes]) -> Sent | None:
    """What a caller has who was sent these chunks; None where nobody can go on: tool calls, several choices, logprobs."""
    head: Json = {}
    text: list[str] = []
    for data in chunks:
        chunk = orjson.loads(data)
        head = head or {name: chunk[name] for name in ("id", "object", "created", "model")}
        for choice in chunk["choices"]:
            if choice["index"] != 0 or choice.get("logprobs"):
                return None
            for name, value in choice["delta"].items():
                if name == "content" and isinstance(value, str):
                    text.append(value)
                elif value and name not in _REASONING:
                    return None
    return Sent("".join(text), head) if head else None


def continuing(request: Request, fields: Json) -> Request:
    """The request that has a model continue the text: it ends with an assistant turn."""
    assert request.resume is not None
    turn = {"role": "assistant", "content": request.resume.text}
    return request._replace(body={**request.body, **fields, "messages": [*request.body["messages"], turn]})


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
