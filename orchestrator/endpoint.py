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
import random
import time
from collections.abc import Callable

import orjson

from orchestrator.attempt import Attempt, EndpointStream, failed, too_late
from orchestrator.config.settings import Provider
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.resume import Resumed, continuing
from orchestrator.fitting import capped, fitted, is_message
from orchestrator.hosting.affinity import Load, affinity_of
from orchestrator.hosting.status import Demand
from orchestrator.inquiry import Inquiry
from orchestrator.providers import credentials
from orchestrator.resilience import retry
from orchestrator.resilience.admission import Absence, Admission, Permit, Upstream
from orchestrator.resilience.budget import Budget
from orchestrator.resilience.gate import Gate
from orchestrator.resilience.latency import Latencies, Quantiles
from orchestrator.tracing import propagated
from orchestrator.transport import Response, Transport, TransportError
from orchestrator.types import Failure, FailureKind, Json, Reply, Request, Try

_LACKING = {
    "tools": ("tools", "it calls no tools"),
    "images": ("messages", "it sees no images"),
    "json_schema": ("response_format", "it keeps to no schema"),
}
"""By what a request needs: the field that says so, and what is said of a model that cannot."""
SURELY = 1.25
"""A request is not sent whose tokens, which are estimated, are more than a model takes by this factor."""
RETRY_SHARE = 0.2
"""Retries and hedges stay under a fifth of the calls: Finagle's default."""


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
        self._probing: asyncio.Task[None] | None = None
        self._calls = 0
        """Calls and streams that have not ended."""
        self._shared = False
        """Whether the transport has gone over to a successor."""
        accounts = tuple(map(Upstream, keys or (None,)))
        if provider.hosted is not None:
            # Its replicas come and go: see `route`.
            accounts = before.upstreams if before is not None and before.provider.hosted is not None else ()
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
        self._inquiry = Inquiry(provider, self._transport, self._gate, clock)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Where calls go now."""
        return tuple(account.upstream for account in self._gate.admission.accounts)

    def route(self, upstreams: tuple[Upstream, ...], absence: Absence) -> None:
        """Of a local model: calls go to these replicas from now on; where there are none, they are told of the absence. What
        is in flight at others goes on."""
        if upstreams != self.upstreams or absence != self._gate.admission.absence:
            self._gate.configure(self.provider, upstreams, absence)

    def weigh(self, replica: int, load: Load) -> None:
        """A replica has just said how busy it is."""
        for account in self._gate.admission.accounts:
            if account.upstream.replica == replica:
                account.load = load.without(account.in_flight)

    def demand(self) -> Demand:
        """What is asked of it, of a local model."""
        admission = self._gate.admission
        begun = admission.missed + sum(account.calls for account in admission.accounts)
        return Demand(admission.in_flight + len(admission.queue), begun)

    def in_flight_at(self, base_url: str) -> int:
        """See `Admission.in_flight_at`."""
        return self._gate.admission.in_flight_at(base_url)

    def successor(self, provider: Provider, keys: tuple[str, ...]) -> Endpoint:
        """The endpoint by other settings, which takes over queue, semaphore, health and budget.

        Calls of this one go on by their own settings, and count: the semaphore holds across the change. `retire` follows.
        """
        return Endpoint(provider, keys, clock=self._clock, before=self)

    async def retire(self) -> None:
        """Waits for the calls of an endpoint that has a successor, and closes what nobody uses any more."""
        self._unwatch()
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
        if (lacking := self._lacking(request, model)) is not None:
            return failed(self.provider, lacking, model, ())
        if not extra:
            self._budget.deposit(started_s)
        elif not self._budget.take(started_s):
            return failed(
                self.provider, Failure(FailureKind.OVER_BUDGET, "no budget for another hedge"), model, tuple(tries)
            )
        several = self.provider.hosted is not None and len(self._gate.admission.accounts) > 1
        affinity = affinity_of(request, model) if several else b""
        while True:
            outcome: Reply | Failure | EndpointStream
            try:
                async with asyncio.timeout(deadline_s - self._clock()):
                    permit = await self._gate.admit(
                        model,
                        request.input_tokens,
                        request.priority,
                        max_wait_s=request.max_wait_s,
                        waits=request.waits,
                        affinity=affinity,
                    )
            except TimeoutError:
                return failed(self.provider, too_late(self.provider), model, tuple(tries))
            if isinstance(permit, Failure):
                # What stopped the last try says more than the pause that it led to.
                return failed(self.provider, permit, model, tuple(tries))
            outcome = await self._try(request, model, permit, started_s, deadline_s, tries)
            if not isinstance(outcome, Failure):
                return outcome
            wait_s = retry.wait_s(self.provider.retry, outcome, len(tries), self._rng)
            now_s = self._clock()
            if wait_s is None or now_s + wait_s >= deadline_s or not self._budget.take(now_s):
                return failed(self.provider, outcome, model, tuple(tries))
            if wait_s:
                await asyncio.sleep(wait_s)

    def _lacking(self, request: Request, model: str) -> Failure | None:
        """What the model is known not to be able to do, and the request needs. What is not known is tried."""
        options = self.provider.options_of(model)
        for need in request.needs:
            if getattr(options, need) is False:
                param, what = _LACKING[need]
                return Failure(FailureKind.UNSUPPORTED, what, param=param)
        extension = request.body.get("anthropic")
        if isinstance(extension, dict) and extension.get("betas") and self.provider.dialect == "anthropic":
            return None  # a beta may be what makes it longer
        most = options.context_tokens
        if most is not None and request.input_tokens > most * SURELY:
            what = f"it takes {most} tokens, and the request has about {request.input_tokens}"
            return Failure(FailureKind.UNSUPPORTED, what, param="messages")
        most = None if is_message(request) else options.max_tokens
        for name in ("max_completion_tokens", "max_tokens"):
            wanted = request.body.get(name)
            if most is not None and isinstance(wanted, int) and wanted > most:
                what = f"it writes {most} tokens at most, and the request asks for {wanted}"
                return Failure(FailureKind.UNSUPPORTED, what, param=name)
        return None

    async def _try(
        self, request: Request, model: str, permit: Permit, started_s: float, deadline_s: float, tries: list[Try]
    ) -> Reply | Failure | EndpointStream:
        """One request upstream. The permit is given back, except when a stream is returned, which then owns it."""
        attempt = Attempt(
            self._gate, self._latencies, self._clock, permit, model, tries, stream=request.stream, call_s=started_s
        )
        timeouts = self.provider.timeouts
        limit_s = timeouts.first_token_s if request.stream else timeouts.answer_s
        try:
            async with asyncio.timeout(min(limit_s, deadline_s - self._clock())):
                outcome = await self._send(request, model, permit, attempt, deadline_s)
        except TimeoutError:
            if self._clock() >= deadline_s:
                outcome = too_late(self.provider)
            else:
                what = "first token" if request.stream else "answer"
                outcome = Failure(FailureKind.SILENT, f"no {what} within {limit_s:g} s")
        except BaseException:
            attempt.end(Failure(FailureKind.CANCELLED, "cancelled"))
            raise
        if isinstance(outcome, EndpointStream):
            return outcome
        if isinstance(outcome, Failure):
            outcome = attempt.without_key(outcome)
        attempt.end(outcome)
        return (
            Reply(outcome.body, outcome.model, outcome.usage, tuple(tries)) if isinstance(outcome, Reply) else outcome
        )

    async def _send(
        self, request: Request, model: str, permit: Permit, attempt: Attempt, deadline_s: float
    ) -> Reply | Failure | EndpointStream:
        options, quirks = self.provider.options_of(model), self.provider.quirks
        continues = request.resume is not None and options.prefill is True
        asked = fitted(continuing(request, quirks) if continues else request, quirks, model)
        if is_message(request) and self.provider.dialect != "anthropic":
            asked = capped(asked, options.max_tokens)
        try:
            call = self._dialect.encode(asked, model, options, quirks)
        except orjson.JSONEncodeError as error:
            # Such as the arguments of a tool's call, a text with JSON of its own that stands deeper here.
            return Failure(FailureKind.MALFORMED, f"it cannot be written as JSON: {error}")
        if isinstance(call, Failure):
            return call
        upstream = permit.account.upstream
        key = credentials(self.provider.key_header, upstream.key)
        headers = {**call.headers, **key, **propagated(attempt.number)}
        response: Response | None = None
        kept = False
        try:
            url = self.provider.url(call.path, model, upstream.base_url)
            response = await self._transport.send(url, headers, call.content)
            attempt.status = response.status
            if not request.stream or response.status != 200:
                content = await response.read()
                return self._dialect.decode(asked, model, response.status, response.headers, content)
            decoder = self._dialect.decoder(asked, model)
            if request.resume is not None:
                decoder = Resumed(decoder, request.resume, continues=continues)
            stream = EndpointStream(self.provider, self._clock, response, decoder, attempt, deadline_s, self._ended)
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

    def _ended(self) -> None:
        self._calls -= 1

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
        """The models' names; see `Inquiry.models`."""
        return await self._inquiry.models()

    def watch(self) -> None:
        """Begins to probe the provider, if the configuration wants it. `retire` and `aclose` end it."""
        if self.provider.health.every_s and self._probing is None:
            self._probing = asyncio.ensure_future(self._inquiry.probe_forever())

    def _unwatch(self) -> None:
        if self._probing is not None:
            self._probing.cancel()

    async def aclose(self) -> None:
        """Closes all connections. What is in flight fails."""
        self.drain()
        self._unwatch()
        if not self._shared:
            await self._transport.aclose()
