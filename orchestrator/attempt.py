"""One request upstream while it lasts: the permit that it holds, what is recorded of it, and its stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

from orchestrator.config.settings import Provider
from orchestrator.dialects import StreamDecoder
from orchestrator.resilience.admission import Permit
from orchestrator.resilience.gate import Gate
from orchestrator.resilience.latency import Latencies
from orchestrator.transport import Response, TransportError
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Opened, Piece, Reply, Try, Usage

HOLD_S = 0.25
"""How long a finish chunk is held back for the usage to come (contract §3)."""
SHORTEST_KEY = 6
"""What is shorter is none, but a word that stands where none is needed: `none`, `x`."""
_SLOW = frozenset({FailureKind.CANCELLED, FailureKind.SILENT, FailureKind.DEADLINE})
"""Ends that say of a call's latency that it is longer."""


def too_late(provider: Provider) -> Failure:
    """The call's deadline has passed."""
    return Failure(FailureKind.DEADLINE, f"no answer within total_s ({provider.timeouts.total_s:g} s)")


def failed(provider: Provider, failure: Failure, model: str, tries: tuple[Try, ...]) -> Failure:
    """A failure as it leaves an endpoint: it names the candidate and carries its tries."""
    return replace(failure, message=f"{provider.name}/{model}: {failure.message}", tries=tries)


class Attempt:
    """A permit in use, and the record of the request upstream that it let through: both end exactly once.

    `call_s` is when the call began, of which this is one try.
    """

    __slots__ = (
        "_began_s",
        "_clock",
        "_gate",
        "_latencies",
        "_model",
        "_permit",
        "_start_s",
        "_stream",
        "_tries",
        "first_token_s",
        "status",
    )

    def __init__(
        self,
        gate: Gate,
        latencies: Latencies,
        clock: Callable[[], float],
        permit: Permit,
        model: str,
        tries: list[Try],
        *,
        stream: bool,
        call_s: float,
    ) -> None:
        began_s = clock()
        self._gate = gate
        self._latencies = latencies
        self._clock = clock
        self._permit = permit
        self._model = model
        self._stream = stream
        self._began_s = began_s
        self._tries = tries
        self._start_s = began_s - call_s
        self.status: int | None = None
        self.first_token_s: float | None = None

    def opened(self) -> None:
        """The first token has come."""
        self.first_token_s = self.elapsed_s()
        self._latencies.record(self._model, self.first_token_s, stream=True)

    @property
    def number(self) -> int:
        """How manieth try of its call it is, while it lasts; the first is 0."""
        return len(self._tries)

    @property
    def ended(self) -> bool:
        """Whether the permit has been given back."""
        return self._permit.released

    def elapsed_s(self) -> float:
        """Since the try began."""
        return self._clock() - self._began_s

    def since_call_s(self) -> float:
        """Since the call began."""
        return self._start_s + self.elapsed_s()

    def without_key(self, failure: Failure) -> Failure:
        """A failure whose words do not repeat the key that its provider was asked with. (What looks like a key is masked
        where a failure is made; not every key does.)"""
        key = self._permit.account.upstream.key or ""
        if len(key) < SHORTEST_KEY or key not in repr(failure):
            return failure
        body = failure.body and {name: _without(key, value) for name, value in failure.body.items()}
        message, code, param = (_without(key, said) for said in (failure.message, failure.code, failure.param))
        return replace(failure, message=message, code=code, param=param, body=body)

    def end(self, outcome: Reply | Finish | Failure) -> tuple[Try, ...]:
        """Gives the permit back, unless that has been done, and returns all tries of the call."""
        if not self._permit.released:
            failure = outcome if isinstance(outcome, Failure) else None
            seconds = self.elapsed_s()
            name = "ok" if failure is None else failure.kind.value
            self._tries.append(Try(name, self._start_s, seconds, self.status, self.first_token_s))
            if self.first_token_s is None and (failure is None or failure.kind in _SLOW):
                self._latencies.record(self._model, seconds, stream=self._stream, cut_off=failure is not None)
            self._gate.release(self._permit, failure, seconds=seconds, usage=outcome.usage)
        return tuple(self._tries)


def _without(key: str, said: Any) -> Any:
    return str(said).replace(key, "***") if key in str(said) else said


class EndpointStream:
    """A streamed answer (`orchestrator.drive.Stream`). Holds its permit until it ends or is closed."""

    def __init__(
        self,
        provider: Provider,
        clock: Callable[[], float],
        response: Response,
        decoder: StreamDecoder,
        attempt: Attempt,
        deadline_s: float,
        ended: Callable[[], None],
    ) -> None:
        self.opened = Opened("", 0.0)
        self._response = response
        self._provider = provider
        self._clock = clock
        self._body = response.chunks()
        self._decoder = decoder
        self._attempt = attempt
        self._deadline_s = deadline_s
        self._first: list[Piece] = []
        self._hold_until_s = inf
        """Until when the finish chunk is held back, once it is."""
        self._ended = False
        self._tell = ended

    async def first(self) -> Failure | None:
        """Reads until the first token has come. A failure before that is returned, and the stream is over."""
        while not self._decoder.opened and not self._ended:
            self._first += self._take(await self._next())
        if not self._decoder.opened and isinstance(failure := self._first[-1], Failure):
            return failure
        self._attempt.opened()
        self.opened = Opened(self._decoder.model, self._attempt.since_call_s())
        return None

    async def read(self) -> list[Piece]:
        """See `orchestrator.drive.Stream.read`. The idle clock runs only while this is awaited."""
        pieces, self._first = self._first, []
        while not pieces:
            # `_clock` is read once a chunk, for the deadline.
            now_s = self._clock()
            left_s, idle_s = self._deadline_s - now_s, self._provider.timeouts.idle_s
            if self._decoder.holding:
                # Whatever trickles in meanwhile, such as comments: they are waited for no longer.
                self._hold_until_s = min(self._hold_until_s, now_s + HOLD_S)
                idle_s = self._hold_until_s - now_s
            try:
                async with asyncio.timeout(min(left_s, idle_s)):
                    data = await self._next()
            except TimeoutError:
                if self._decoder.holding:
                    pieces = self._take(None)
                elif left_s <= idle_s:
                    pieces = [too_late(self._provider)]
                else:
                    pieces = [Failure(FailureKind.STALLED, f"the stream was silent for {idle_s:g} s")]
            except TransportError as error:
                pieces = self._take(None) if self._decoder.holding else [Failure(error.kind, error.message)]
            else:
                pieces = self._take(data)
        if isinstance(pieces[-1], Chunk):
            return pieces
        return [*pieces[:-1], await self._end(pieces[-1])]

    async def _next(self) -> bytes | None:
        """The next bytes; None at the proper end of the body."""
        return await anext(self._body, None)

    def _take(self, data: bytes | None) -> list[Piece]:
        pieces = self._decoder.close() if data is None else self._decoder.feed(data)
        self._ended = bool(pieces) and not isinstance(pieces[-1], Chunk)
        return pieces

    async def _end(self, last: Finish | Failure) -> Finish | Failure:
        if not self._attempt.ended:
            self._tell()
        if isinstance(last, Failure):
            last = self._attempt.without_key(last)
        tries = self._attempt.end(last)
        if isinstance(last, Finish):
            self._response.recycle(self._body)
            return Finish(last.last, last.model, last.usage, last.usage_body, tries)
        await self._response.aclose()
        if last.usage is None:
            last = replace(last, usage=self.usage_so_far)
        return failed(self._provider, last, self._decoder.model, tries)

    @property
    def usage_so_far(self) -> Usage:
        """What a stream that is cut off has used: what its provider has said so far, and the number of its deltas, which are
        an estimate. An input that it has not said is 0."""
        said = self._decoder.used or Usage()
        return said._replace(output_tokens=max(said.output_tokens, self._decoder.deltas))

    async def aclose(self) -> None:
        """Closes the upstream connection at once; harmless after the end."""
        self._ended = True
        if not self._attempt.ended:
            self._tell()
            self._attempt.end(Failure(FailureKind.CANCELLED, "cancelled"))
            await self._response.aclose()
