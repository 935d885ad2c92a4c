"""Where requests are answered: one configuration over one runtime. A plain class; where it runs is not its concern."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from orchestrator import current
from orchestrator.accounting import Asked
from orchestrator.asks import Answer, Ask, Sink
from orchestrator.cache.terms import Wanting
from orchestrator.callers import Caller
from orchestrator.config.operations import CallerKey
from orchestrator.config.settings import Config, Provider, Server, Strategy
from orchestrator.drive import Record, Runtime
from orchestrator.errors import NotAllowed, UnknownSelector
from orchestrator.lasting import Lasting
from orchestrator.request import OneRequest
from orchestrator.resilience.budget import Budget, Turns
from orchestrator.resilience.latency import Quantiles
from orchestrator.rollout import decide
from orchestrator.routes import Candidate, Route
from orchestrator.selectors import Selectors
from orchestrator.types import Failure, Json

HEDGE_FLOOR_PER_S = 0.1
"""Hedges a second that a quiet tier may make beyond its share."""


class Pools(Protocol):
    """What there is to know of the pools besides calling them."""

    async def models(self, provider: str) -> tuple[str, ...]:
        """The models that a provider lists; empty where it cannot be asked."""
        ...

    async def stats(self) -> list[Json]:
        """One entry a pool."""
        ...

    async def ready(self) -> dict[str, str]:
        """Provider -> what keeps its pool from answering. Empty: all are ready."""
        ...

    async def absent(self) -> dict[str, str]:
        """Provider -> why none of its local model's replicas is up, where there should be one."""
        ...


class Coordinator:
    """Answers requests by one configuration over one runtime."""

    def __init__(
        self,
        config: Config,
        runtime: Runtime[Any],
        pools: Pools,
        *,
        clock: Callable[[], float] = time.monotonic,
        lasting: Lasting | None = None,
    ) -> None:
        self.config = config
        self.in_flight = 0
        """What holds the coordinator: requests that have not been answered to their end, at the edge and within."""
        self.lasting = lasting or Lasting()
        self.lasting.telemetry.configure(config.telemetry)
        self.scores = self.lasting.scores
        self.runtime = runtime
        self._pools = pools
        self.clock = clock
        self._selectors = Selectors(config)
        self._wanting = Wanting(config)
        self.lasting.cache.store.bound(int(config.cache.max_mb * 1_000_000))
        self._budgets: dict[str, Turns] = {}
        """Hedge budgets, by the selector of the tier."""

    async def answer(self, ask: Ask) -> Answer:
        """A whole answer. Raises UnknownSelector, NotAllowed, BadChoice and Denied."""
        return await self._run(ask, None)

    async def stream(self, ask: Ask, sink: Sink) -> Answer:
        """A streamed answer; what is returned tells how it ended. Raises like `answer`, and what the sink raises.

        Where the strategy decides by whole answers the outcome is a Reply, and nothing was sent to the sink.
        """
        return await self._run(ask, sink)

    @property
    def server(self) -> Server:
        """How it is served."""
        return self.config.server

    @property
    def callers(self) -> tuple[CallerKey, ...]:
        """The endpoint's own keys."""
        return self.config.callers

    def rollout(self, user: str) -> Json:
        """Whether a user is sent through the orchestrator, and why (`orchestrator.rollout`)."""
        return decide(self.config.rollout, user)._asdict()

    async def idle(self) -> None:
        """Waits until nothing is in flight."""
        while self.in_flight:
            await asyncio.sleep(0.1)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Counts as in flight meanwhile: its pools stay open."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _run(self, ask: Ask, sink: Sink | None) -> Answer:
        trace = self.lasting.telemetry.begin(ask, self.config)
        with self.hold(), current.request(ask.request_id, b"" if trace is None else trace.context):
            route = self._selectors.resolve(ask.selector, ask.override, ask.user, ask.caller)
            self._selectors.check_extensions(ask.request.body, ask.caller)
            asked = Asked(ask, route, self.config, time.time(), trace)
            return await OneRequest(self, asked, sink).answer(self._wanting.of(asked))

    def learn(self, records: Sequence[Record]) -> None:
        """What the calls of one request say of their candidates; one that was cancelled says nothing."""
        now_s = self.clock()
        for record in records:
            outcome, name = record.outcome, str(record.candidate)
            if isinstance(outcome, Failure):
                if outcome.kind.traits.try_other:
                    self.scores.learn(name, now_s, None, alone_s=outcome.retry_after_s)
            elif outcome is not None and outcome.tries:
                last = outcome.tries[-1]
                self.scores.learn(name, now_s, last.latency_s if last.first_token_s is None else last.first_token_s)

    def quantiles(self, candidate: Candidate, *, stream: bool) -> Quantiles | None:
        """How long a candidate takes, as far as its pool has told."""
        return self.runtime.quantiles(candidate, stream=stream)

    def turns(self, route: Route) -> Turns:
        """The hedge budget of a tier. What requests choose by themselves (no selector) shares one of the default share:
        callers could otherwise give themselves as much as they like."""
        turns = self._budgets.get(route.selector)
        if turns is None:
            share = route.strategy.extra_calls if route.selector else Strategy().extra_calls
            budget = Budget(share, self.clock(), floor_per_s=HEDGE_FLOOR_PER_S)
            turns = self._budgets[route.selector] = Turns(budget)
        return turns

    async def models(self, caller: Caller | None = None) -> list[Json]:
        """What /v1/models lists: tiers, experiments, aliases, then providers' models; as far as the caller may use them."""
        providers = self.config.providers.values()
        # Side by side: clients wait for the list before they show anything, and several providers may be slow or away.
        listed = await asyncio.gather(*map(self._listed, providers))
        rows = [
            _row(f"{one.name}/{model}", one.name)
            for one, names in zip(providers, listed, strict=True)
            for model in names
        ]
        own = [f"tier:{name}" for name in self.config.tiers] + [f"user:{name}" for name in self.config.experiments]
        own += self._selectors.aliases([row["id"] for row in rows])
        rows = [_row(name, "orchestrator") for name in own] + rows
        return [row for row in rows if self._selectors.usable(row["id"], caller)]

    async def _listed(self, provider: Provider) -> tuple[str, ...]:
        return provider.models if provider.models is not None else await self._pools.models(provider.name)

    async def model(self, name: str, caller: Caller | None = None) -> Json | None:
        """The row of a selector, also of one that is not listed and can be asked for all the same; None: there is none, or it
        is not for this caller."""
        listed = next((row for row in await self.models(caller) if row["id"] == name), None)
        if listed is not None:
            return listed
        try:
            return _row(name, next(self._selectors.resolve(name, caller=caller).leaves()).provider)
        except (UnknownSelector, NotAllowed):
            return None

    async def pools(self) -> list[Json]:
        """What /admin/pools shows; providers that were left out stand there with their reason."""
        left_out = [{"provider": name, "left_out": reason} for name, reason in self.config.left_out.items()]
        return [*await self._pools.stats(), *left_out]

    async def ready(self) -> tuple[bool, Json]:
        """Whether every pool answers (its provider may well be down), and what does not; local models that are not up."""
        problems = await self._pools.ready()
        body: Json = {"status": "ready" if not problems else "not ready", "pools": problems}
        if any(provider.hosted is not None for provider in self.config.providers.values()):
            body["models"] = await self._pools.absent()
        return not problems, body


def _row(selector: str, owner: str) -> Json:
    return {"id": selector, "object": "model", "created": 0, "owned_by": owner}
