"""What a wire format of an upstream has to provide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from orchestrator.config.settings import ModelOptions, Quirks
from orchestrator.types import Failure, Piece, Reply, Request, Usage


class HttpCall(NamedTuple):
    """A POST to be made: `path` is appended to the provider's base URL."""

    path: str
    headers: dict[str, str]
    content: bytes


class StreamDecoder(Protocol):
    """Decodes one streamed answer, fed with bytes however they were split."""

    @property
    def opened(self) -> bool:
        """A first token has come: text, refusal, reasoning, a tool call, or an end; not the bare role."""
        ...

    @property
    def holding(self) -> bool:
        """The finish chunk has come and is held back until the usage has, too. Whoever feeds waits a little, then closes."""
        ...

    @property
    def model(self) -> str:
        """As the provider reports it; what was asked for until it has."""
        ...

    @property
    def deltas(self) -> int:
        """Content deltas so far: for most providers one a token, so an estimate of the output of a cut stream."""
        ...

    @property
    def used(self) -> Usage | None:
        """What the provider has said of its usage before the end; None: nothing."""
        ...

    def feed(self, data: bytes) -> list[Piece]:
        """What `data` completes. After a Finish or Failure nothing more comes."""
        ...

    def close(self) -> list[Piece]:
        """The upstream ended properly, or the time to hold is over: whatever is left, and the end."""
        ...


PLAIN = Quirks()
"""A provider that wants everything as OpenAI has it."""


class Dialect(Protocol):
    """One upstream wire format."""

    models_path: str

    headers: Mapping[str, str]
    """Of every request, also of those for `models_path`."""

    def encode(self, request: Request, model: str, options: ModelOptions, quirks: Quirks, /) -> HttpCall | Failure:
        """The call that asks `model`, without credentials; or why it cannot be asked (UNSUPPORTED). The request fits the
        provider's quirks."""
        ...

    def decode(
        self, request: Request, model: str, status: int, headers: Mapping[str, str], content: bytes, /
    ) -> Reply | Failure:
        """A whole answer, of any status."""
        ...

    def decoder(self, request: Request, model: str, /) -> StreamDecoder:
        """For the body of a 200 to a streamed call: a stream, or a whole answer in its place."""
        ...

    def decode_models(self, content: bytes) -> tuple[str, ...]:
        """The names in an answer to GET `models_path`; empty where it is not one."""
        ...
