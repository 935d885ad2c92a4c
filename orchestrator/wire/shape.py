"""What a shape that callers speak has to provide. Within, everything is OpenAI's chat completion (or its embeddings).

To add a shape: a module with a `Shape`, and a line in `orchestrator.wire.shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from orchestrator.asks import Answer
from orchestrator.types import Json, Request


class Speaker(Protocol):
    """Says one answer in the caller's shape. Where it is streamed: any number of `chunks`, then `end` or `failed`."""

    def whole(self, body: Json, answer: Answer) -> Json:
        """A whole answer; `body` is the provider's own, as a chat completion."""
        ...

    def chunks(self, chunks: Sequence[bytes]) -> bytes:
        """Chunks of a chat completion as events: a whole number of them."""
        ...

    def end(self, last: Json, usage: Any, answer: Answer) -> bytes:
        """The last events: `last` is the chunk that carries `finish_reason`, `usage` the provider's object."""
        ...

    def failed(self, error: Json, report: Json | None) -> bytes:
        """The event that a stream ends with which cannot be completed."""
        ...


class Parsed(NamedTuple):
    """A request as it was understood."""

    selector: str
    request: Request
    override: dict[str, Any] | None
    user: str | None
    speaker: Speaker


class Shape(Protocol):
    """One of the shapes."""

    def parse(self, body: bytes, headers: Mapping[bytes, bytes]) -> Parsed:
        """Raises Refused (400) that names the field."""
        ...

    def error(self, status: int, error: Json) -> Json:
        """The body of an error, from OpenAI's error object."""
        ...


def sse(event: bytes, data: bytes) -> bytes:
    """An event with a name."""
    return b"event: " + event + b"\ndata: " + data + b"\n\n"
