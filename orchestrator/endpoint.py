"""Calling one provider: dialect, transport and the layers of resilience, in their order.

From the outside in, each with the reason for its place:

- deadline (`total_s`): bounds all that follows, waiting and retries included;
- retry: outside the gate, so that nobody sleeps holding a permit; outside the breaker, so that every try is observed;
- admission (account, breaker, pause, rate limits, semaphore, queue): charged together, when a try is really sent;
- time-outs of a try: they measure the provider, so the time in the queue is not in them;
- transport.

The layers above the transport cost about 40 µs a call.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable

from orchestrator.config.settings import Provider
from orchestrator.dialects import DIALECTS, StreamDecoder
from orchestrator.dialects.resume import Resumed, continuing
from orchestrator.providers import credentials
from orchestrator.resilience import retry
from orchestrator.resilience.admission import Admission, Permit
from orchestrator.resilience.budget import Budget
from orchestrator.resilience.gate import Gate
from orchestrator.resilience.latency import Latencies, Quantiles
from orchestrator.transport import Response, Transport, TransportError
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Json, Opened, Piece, Reply, Request, Try, Usage

HOLD_S = 0.25
"""How long a finish chunk is held back for the usage to come (contract §3)."""
RETRY_SHARE = 0.2
"""Retries and hedges stay under a fifth of the calls: Finagle's default."""
MODELS_S = 300.0
"""How long a provider's list of models is kept."""
DRAIN_S = 1.0
_SLOW = frozenset({FailureKind.CANCELLED, FailureKind.SILENT, FailureKind.DEADLINE})
"""Ends that say of a call's latency that it is longer."""

_log = logging.getLogger("orchestrator.endpoint")


class Endpoint:
    """One provider and its accounts. Belongs to the event loop in which it is first used."""

    def __init__(
        self,
        provider: Provider,
        keys: tuple[str, ...] = (),
        transport: Transport | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        before: Endpoint | None = None,
    ) -> None:
        self.provider = provider
        self._dialect = DIALECTS[provider.dialect]
        self._clock = clock
        self._listed: tuple[float, tuple[str, ...]] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        self._calls = 0
        """Calls and streams that have not ended."""
        self._shared = False
        """Whether the transport has gone over to a successor."""
        accounts: tuple[str | None, ...] = keys or (None,)
        if before is None:
            self._rng = rng or random.Random()  # noqa: S311 - jitter is no secret
            self._gate = Gate(Admission(provider, accounts, clock(), self._rng), clock)
            self._budget = Budget(RETRY_SHARE, clock())
            self._latencies = Latencies()
            self._transport = transport or Transport(provider.connections, provider.timeouts)
        else:
            self._rng, self._gate, self._budget = before._rng, before._gate, before._budget
            self._latencies = before._latencies
            self._gate.configure(provider, accounts)
            same = (provider.connections, provider.timeouts.connect_s)
            before._shared = same == (before.provider.connections, before.provider.timeouts.connect_s)
            own = before._transport if before._shared else Transport(provider.connections, provider.timeouts)
            self._transport = own

    def successor(self, provider: Provider, keys: tuple[str, ...]) -> Endpoint:
        """The endpoint by other settings, which takes over queue, semaphore, health and budget.

        Calls of this one go on by their own settings, and count: the semaphore holds across the change. `retire` follows.
        """
        return Endpoint(provider, keys, clock=self._clock, before=self)

    async def retire(self) -> None:
        """Waits for the calls of an endpoint that has a successor, and closes what nobody uses any more."""
        while self._calls:
            await asyncio.sleep(0.2)
        if not self._shared:
            await self._transport.aclose()

    async def call(self, request: Request, model: str, *, extra: bool = False) -> Reply | Failure:
        """A whole answer, or why there is none. Raises nothing but CancelledError."""
        self._calls += 1
        try:
            outcome = await self._tries(request, model, extra)
        finally:
            self._calls -= 1
        assert not isinstance(outcome, EndpointStream)
        return outcome

    async def open(self, request: Request, model: str, *, extra: bool = False) -> EndpointStream | Failure:
        """A stream whose first token has come, or why there is none. Raises nothing but CancelledError."""
        self._calls += 1
        outcome: Reply | Failure | EndpointStream | None = None
        try:
            outcome = await self._tries(request, model, extra)
        finally:
            if not isinstance(outcome, EndpointStream):
                self._calls -= 1
        assert not isinstance(outcome, Reply)
        return outcome

    async def _tries(self, request: Request, model: str, extra: bool) -> Reply | Failure | EndpointStream:
        started_s = self._clock()
        deadline_s = started_s + self.provider.timeouts.total_s
        tries: list[Try] = []
        if not extra:
            self._budget.deposit(started_s)
        elif not self._budget.take(started_s):
            return self._failed(Failure(FailureKind.OVER_BUDGET, "no budget for another hedge"), model, tries)
        while True:
            outcome: Reply | Failure | EndpointStream
            try:
                async with asyncio.timeout(deadline_s - self._clock()):
                    permit = await self._gate.admit(model, request.input_tokens, request.priority)
            except TimeoutError:
                return self._failed(self._too_late(), model, tries)
            if isinstance(permit, Failure):
                # What stopped the last try says more than the pause that it led to.
                return self._failed(permit, model, tries)
            outcome = await self._try(request, model, permit, started_s, deadline_s, tries)
            if not isinstance(outcome, Failure):
                return outcome
            wait_s = retry.wait_s(self.provider.retry, outcome, len(tries), self._rng)
            now_s = self._clock()
            if wait_s is None or now_s + wait_s >= deadline_s or not self._budget.take(now_s):
                return self._failed(outcome, model, tries)
            if wait_s:
                await asyncio.sleep(wait_s)

    async def _try(
        self, request: Request, model: str, permit: Permit, started_s: float, deadline_s: float, tries: list[Try]
    ) -> Reply | Failure | EndpointStream:
        """One request upstream. The permit is given back, except when a stream is returned, which then owns it."""
        began_s = self._clock()
        held = _Held(self, permit, model, request.stream, began_s, tries, began_s - started_s)
        timeouts = self.provider.timeouts
        limit_s = timeouts.first_token_s if request.stream else timeouts.answer_s
        try:
            async with asyncio.timeout(min(limit_s, deadline_s - began_s)):
                outcome = await self._send(request, model, permit, held, deadline_s)
        except TimeoutError:
            if self._clock() >= deadline_s:
                outcome = self._too_late()
            else:
                what = "first token" if request.stream else "answer"
                outcome = Failure(FailureKind.SILENT, f"no {what} within {limit_s:g} s")
        except BaseException:
            held.end(Failure(FailureKind.CANCELLED, "cancelled"))
            raise
        if isinstance(outcome, EndpointStream):
            return outcome
        held.end(outcome)
        return (
            Reply(outcome.body, outcome.model, outcome.usage, tuple(tries)) if isinstance(outcome, Reply) else outcome
        )

    async def _send(
        self, request: Request, model: str, permit: Permit, held: _Held, deadline_s: float
    ) -> Reply | Failure | EndpointStream:
        continues = request.resume is not None and self.provider.options_of(model).prefill is True
        asked = continuing(request, dict(self.provider.prefill_fields)) if continues else request
        call = self._dialect.encode(asked, model)
        headers = {**call.headers, **credentials(self.provider.key_header, permit.account.key)}
        response: Response | None = None
        kept = False
        try:
            response = await self._transport.send(self.provider.base_url + call.path, headers, call.content)
            held.status = response.status
            if not request.stream or response.status != 200:
                return self._dialect.decode(response.status, response.headers, await response.read(), model)
            choices = request.body.get("n")
            content_type = response.headers.get("content-type", "")
            decoder = self._dialect.decoder(model, choices if isinstance(choices, int) else 1, content_type)
            if request.resume is not None:
                decoder = Resumed(decoder, request.resume, continues=continues)
            stream = EndpointStream(self, response, decoder, held, deadline_s)
            failure = await stream.first()
            if failure is not None:
                return failure
            kept = True
            return stream
        except TransportError as error:
            return Failure(error.kind, error.message)
        finally:
            if response is not None and not kept:
                await response.aclose()

    def _too_late(self) -> Failure:
        return Failure(FailureKind.DEADLINE, f"no answer within total_s ({self.provider.timeouts.total_s:g} s)")

    def _failed(self, failure: Failure, model: str, tries: list[Try]) -> Failure:
        """A failure as it leaves: it names the candidate and carries its tries."""
        message = f"{self.provider.name}/{model}: {failure.message}"
        return Failure(
            failure.kind,
            message,
            failure.status,
            failure.code,
            failure.param,
            failure.retry_after_s,
            failure.body,
            tuple(tries),
            failure.usage,
        )

    def discard(self, response: Response, rest: AsyncIterator[bytes]) -> None:
        """Reads what is left of a stream that has said [DONE], so that its connection can be used again."""
        task = asyncio.ensure_future(self._drain(response, rest))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self, response: Response, rest: AsyncIterator[bytes]) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                async for _ in rest:
                    pass
        except (TimeoutError, TransportError):
            pass  # the connection is of no more use; the answer is whole all the same
        finally:
            await response.aclose()

    def quantiles(self, model: str, *, stream: bool) -> Quantiles | None:
        """How long the model takes; see `Latencies.quantiles`."""
        return self._latencies.quantiles(model, stream=stream)

    def stats(self) -> Json:
        """What /admin/pools shows."""
        return {"provider": self.provider.name, **self._gate.admission.stats(self._clock())}

    def drain(self) -> None:
        """Refuses new calls; those in flight go on."""
        self._gate.drain()

    async def models(self) -> tuple[str, ...]:
        """The models' names: the configured ones, or those that the provider lists, asked at most every 5 minutes."""
        if self.provider.models is not None:
            return self.provider.models
        if self._listed is None or self._clock() - self._listed[0] > MODELS_S:
            self._listed = (self._clock(), await self._ask_models())
        return self._listed[1]

    async def _ask_models(self) -> tuple[str, ...]:
        headers = credentials(self.provider.key_header, self._gate.admission.accounts[0].key)
        try:
            async with asyncio.timeout(self.provider.timeouts.connect_s):
                response = await self._transport.send(
                    self.provider.base_url + self._dialect.models_path, headers, b"", method="GET"
                )
                try:
                    if response.status == 200:
                        names = self._dialect.decode_models(await response.read())
                        return tuple(name.removeprefix(self.provider.model_prefix) for name in names)
                    reason = f"HTTP {response.status}"
                finally:
                    await response.aclose()
        except (TransportError, TimeoutError) as error:
            reason = str(error) or "it did not answer in time"
        _log.warning("the models of %s are not listed: %s", self.provider.name, reason)
        return ()

    async def aclose(self) -> None:
        """Closes all connections. What is in flight fails."""
        self.drain()
        for task in self._draining:
            task.cancel()
        if not self._shared:
            await self._transport.aclose()


class _Held:
    """A permit in use, and the record of its try: both end exactly once."""

    __slots__ = (
        "_began_s",
        "_endpoint",
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
        endpoint: Endpoint,
        permit: Permit,
        model: str,
        stream: bool,
        began_s: float,
        tries: list[Try],
        start_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._permit = permit
        self._model = model
        self._stream = stream
        self._began_s = began_s
        self._tries = tries
        self._start_s = start_s
        self.status: int | None = None
        self.first_token_s: float | None = None

    def opened(self) -> None:
        """The first token has come."""
        self.first_token_s = self.elapsed_s()
        self._endpoint._latencies.record(self._model, self.first_token_s, stream=True)

    @property
    def ended(self) -> bool:
        """Whether the permit has been given back."""
        return self._permit.released

    def elapsed_s(self) -> float:
        """Since the try began."""
        return self._endpoint._clock() - self._began_s

    def since_call_s(self) -> float:
        """Since the call began."""
        return self._start_s + self.elapsed_s()

    def end(self, outcome: Reply | Finish | Failure) -> tuple[Try, ...]:
        """Gives the permit back, unless that has been done, and returns all tries of the call."""
        if not self._permit.released:
            failure = outcome if isinstance(outcome, Failure) else None
            seconds = self.elapsed_s()
            name = "ok" if failure is None else failure.kind.value
            self._tries.append(Try(name, self._start_s, seconds, self.status, self.first_token_s))
            if self.first_token_s is None and (failure is None or failure.kind in _SLOW):
                self._endpoint._latencies.record(self._model, seconds, stream=self._stream, cut_off=failure is not None)
            self._endpoint._gate.release(self._permit, failure, seconds=seconds, usage=outcome.usage)
        return tuple(self._tries)


class EndpointStream:
    """A streamed answer (`orchestrator.drive.Stream`). Holds its permit until it ends or is closed."""

    def __init__(
        self, endpoint: Endpoint, response: Response, decoder: StreamDecoder, held: _Held, deadline_s: float
    ) -> None:
        self.opened = Opened("", 0.0)
        self._endpoint = endpoint
        self._response = response
        self._body = response.chunks()
        self._decoder = decoder
        self._held = held
        self._deadline_s = deadline_s
        self._first: list[Piece] = []
        self._ended = False

    async def first(self) -> Failure | None:
        """Reads until the first token has come. A failure before that is returned, and the stream is over."""
        while not self._decoder.opened and not self._ended:
            self._first += self._take(await self._next())
        if not self._decoder.opened and isinstance(failure := self._first[-1], Failure):
            return failure
        self._held.opened()
        self.opened = Opened(self._decoder.model, self._held.since_call_s())
        return None

    async def read(self) -> list[Piece]:
        """See `orchestrator.drive.Stream.read`. The idle clock runs only while this is awaited."""
        pieces, self._first = self._first, []
        while not pieces:
            # `_clock` is read once a chunk, for the deadline.
            left_s = self._deadline_s - self._endpoint._clock()
            idle_s = HOLD_S if self._decoder.holding else self._endpoint.provider.timeouts.idle_s
            try:
                async with asyncio.timeout(min(left_s, idle_s)):
                    data = await self._next()
            except TimeoutError:
                if self._decoder.holding:
                    pieces = self._take(None)
                elif left_s <= idle_s:
                    pieces = [self._endpoint._too_late()]
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
        if not self._held.ended:
            self._endpoint._calls -= 1
        tries = self._held.end(last)
        if isinstance(last, Finish):
            self._endpoint.discard(self._response, self._body)
            return Finish(last.last, last.model, last.usage, last.usage_body, tries)
        await self._response.aclose()
        return self._endpoint._failed(last, self._decoder.model, list(tries))

    @property
    def usage_so_far(self) -> Usage:
        """What a stream that is cut off has used, by the number of its deltas: an estimate."""
        return Usage(0, self._decoder.deltas)

    async def aclose(self) -> None:
        """Closes the upstream connection at once; harmless after the end."""
        self._ended = True
        if not self._held.ended:
            self._endpoint._calls -= 1
            self._held.end(Failure(FailureKind.CANCELLED, "cancelled"))
            await self._response.aclose()
