"""A request from selector to priced answer: resolve, plan, drive, report. A plain class; where it runs is not its concern."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from orchestrator.accounting import Allowance, Asked, Ended, Lasting
from orchestrator.asks import Answer, Ask, Gone, Sink
from orchestrator.config.settings import Config, Server, Strategy
from orchestrator.dialects.resume import SoFar
from orchestrator.drive import Record, Run, Runtime, drive
from orchestrator.errors import UnknownSelector
from orchestrator.report import cost_of_call, report_of
from orchestrator.resilience.budget import Budget, Turns
from orchestrator.resilience.latency import Quantiles
from orchestrator.rollout import decide
from orchestrator.routes import Candidate, Route
from orchestrator.selectors import Selectors
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Finish, Json, Opened, Reply
from orchestrator.world import RequestWorld

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
        self.scores = self.lasting.scores
        self._runtime = runtime
        self._pools = pools
        self._clock = clock
        self._selectors = Selectors(config)
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
        with self.hold():
            return await self._answer(ask, sink)

    async def _answer(self, ask: Ask, sink: Sink | None) -> Answer:
        route = self._selectors.resolve(ask.selector, ask.override, ask.user)
        asked = Asked(ask, route, self.config, time.time())
        began_s = self._clock()
        allowances = await self._allowed(asked)
        world = RequestWorld(self, self._clock, ask)
        keep = self.config.ledger is not None and self.config.ledger.store_text
        reporting = None if sink is None else _Reporting(sink, ask, route, world.arms, self._clock, keep=keep)
        records: list[Record] = []
        run: Run | None = None
        outcome: Reply | Finish | Failure = Failure(FailureKind.INTERNAL, "it failed unexpectedly")
        try:
            run = await drive(
                plan(route, ask.request, world),
                tuple(route.leaves()),
                self._runtime,
                sink=reporting,
                clock=self._clock,
                records=records,
            )
            outcome = run.outcome
        except (asyncio.CancelledError, Gone):
            outcome = Failure(FailureKind.CANCELLED, "the caller left")
            raise
        finally:
            world.end()
            self._learn(records)
            winner = None if run is None else run.winner
            report = report_of(ask, route, records, winner, world.arms, self.config.prices)
            if run is not None and run.consensus is not None:
                report["consensus"] = run.consensus
            opened_s = None if reporting is None or reporting.opened_s is None else reporting.opened_s - began_s
            text = None if reporting is None else reporting.text()
            ended = Ended(asked, outcome, report, self._clock() - began_s, opened_s, world.outcomes, text)
            self._tell(ended, allowances)
        model = outcome.model if isinstance(outcome, Reply | Finish) else None
        cost_usd = None if run.call is None else cost_of_call(report, records, run.call)
        return Answer(outcome, report, route.strategy.name, winner.provider if winner else None, model, cost_usd)

    async def _allowed(self, asked: Asked) -> list[Allowance]:
        """What the request may spend, by everybody who has a say. Raises Denied."""
        allowances: list[Allowance] = []
        try:
            for allowing in self.lasting.allowing:
                allowance = await allowing.allow(asked)
                allowances += () if allowance is None else (allowance,)
        except BaseException:
            for allowance in allowances:
                allowance.settle(None)
            raise
        return allowances

    def _tell(self, ended: Ended, allowances: Sequence[Allowance]) -> None:
        for allowance in allowances:
            allowance.settle(ended)
        for observer in (self.lasting.counters, *self.lasting.observers):
            observer.ended(ended)

    def _learn(self, records: Sequence[Record]) -> None:
        """What the calls of one request say of their candidates; one that was cancelled says nothing."""
        now_s = self._clock()
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
        return self._runtime.quantiles(candidate, stream=stream)

    def turns(self, route: Route) -> Turns:
        """The hedge budget of a tier. What requests choose by themselves (no selector) shares one of the default share:
        callers could otherwise give themselves as much as they like."""
        turns = self._budgets.get(route.selector)
        if turns is None:
            share = route.strategy.extra_calls if route.selector else Strategy().extra_calls
            budget = Budget(share, self._clock(), floor_per_s=HEDGE_FLOOR_PER_S)
            turns = self._budgets[route.selector] = Turns(budget)
        return turns

    async def models(self) -> list[Json]:
        """What /v1/models lists: tiers, experiments, aliases, then every provider's models."""
        rows: list[Json] = []
        for provider in self.config.providers.values():
            names = provider.models if provider.models is not None else await self._pools.models(provider.name)
            rows += [_row(f"{provider.name}/{model}", provider.name) for model in names]
        own = [f"tier:{name}" for name in self.config.tiers] + [f"user:{name}" for name in self.config.experiments]
        own += self._selectors.aliases([row["id"] for row in rows])
        return [_row(name, "orchestrator") for name in own] + rows

    async def model(self, name: str) -> Json | None:
        """The row of a selector, also of one that is not listed and can be asked for all the same; None: there is none."""
        listed = next((row for row in await self.models() if row["id"] == name), None)
        if listed is not None:
            return listed
        try:
            return _row(name, next(self._selectors.resolve(name).leaves()).provider)
        except UnknownSelector:
            return None

    async def pools(self) -> list[Json]:
        """What /admin/pools shows; providers that were left out stand there with their reason."""
        left_out = [{"provider": name, "left_out": reason} for name, reason in self.config.left_out.items()]
        return [*await self._pools.stats(), *left_out]

    async def ready(self) -> tuple[bool, Json]:
        """Whether every pool answers (its provider may well be down), and what does not."""
        problems = await self._pools.ready()
        return not problems, {"status": "ready" if not problems else "not ready", "pools": problems}


class _Reporting:
    """A sink of the edge's as a sink of the driver's."""

    def __init__(
        self, sink: Sink, ask: Ask, route: Route, arms: Mapping[str, str], clock: Callable[[], float], *, keep: bool
    ) -> None:
        self.opened_s: float | None = None
        """When the first token came, by the clock."""
        self._clock = clock
        self._sink = sink
        self._ask = ask
        self._route = route
        self._arms = arms
        self._sent = SoFar() if keep else None
        self.send = self._send if keep else sink.send

    def text(self) -> str | None:
        """What was sent, where it is kept."""
        sent = None if self._sent is None else self._sent.sent()
        return None if sent is None else sent.text

    async def _send(self, chunks: Sequence[bytes]) -> None:
        assert self._sent is not None
        self._sent.add(chunks)
        await self._sink.send(chunks)

    async def open(self, candidate: Candidate, opened: Opened, records: Sequence[Record]) -> None:
        self.opened_s = self._clock()
        report = report_of(self._ask, self._route, records, candidate, self._arms)
        await self._sink.open(candidate.provider, opened.model, self._route.strategy.name, report)


def _row(selector: str, owner: str) -> Json:
    return {"id": selector, "object": "model", "created": 0, "owned_by": owner}
