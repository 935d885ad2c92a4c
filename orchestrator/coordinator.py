"""A request from selector to priced answer: resolve, plan, drive, report. A plain class; where it runs is not its concern."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from orchestrator.asks import Answer, Ask, Sink
from orchestrator.balancing import Scores
from orchestrator.config.settings import Config, Server, Strategy
from orchestrator.counters import Counters
from orchestrator.drive import Record, Runtime, drive
from orchestrator.errors import UnknownSelector
from orchestrator.report import report_of
from orchestrator.resilience.budget import Budget, Turns
from orchestrator.resilience.latency import Quantiles
from orchestrator.rollout import decide
from orchestrator.routes import Candidate, Route
from orchestrator.selectors import Selectors
from orchestrator.strategies import TYPICAL_S, plan
from orchestrator.strategies.split import choose
from orchestrator.types import Failure, FailureKind, Finish, Json, Opened, Reply

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
        counters: Counters | None = None,
        scores: Scores | None = None,
    ) -> None:
        self.config = config
        self.in_flight = 0
        """What holds the coordinator: requests that have not been answered to their end, at the edge and within."""
        self.counters = counters or Counters()
        self.scores = scores or Scores()
        self._runtime = runtime
        self._pools = pools
        self._clock = clock
        self._selectors = Selectors(config)
        self._budgets: dict[str, Turns] = {}
        """Hedge budgets, by the selector of the tier."""

    async def answer(self, ask: Ask) -> Answer:
        """A whole answer. Raises UnknownSelector, NotAllowed and BadChoice."""
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
        world = _World(self, self._clock, ask)
        try:
            run = await drive(
                plan(route, ask.request, world),
                tuple(route.leaves()),
                self._runtime,
                sink=None if sink is None else _Reporting(sink, ask, route, world.arms),
                clock=self._clock,
            )
        finally:
            world.end()
        self._learn(run.records)
        model = run.outcome.model if isinstance(run.outcome, Reply | Finish) else None
        report = report_of(ask, route, run.records, run.winner, world.arms)
        if run.consensus is not None:
            report["consensus"] = run.consensus
        self.counters.request(ask.selector, route.strategy.name, _outcome(run.outcome))
        for split, arm in world.arms.items():
            self.counters.arm(split, arm, world.outcomes.get(split, FailureKind.CANCELLED.value))
        for attempt in report["attempts"]:
            self.counters.attempt(attempt["provider"], attempt["model"], attempt["outcome"])
        return Answer(run.outcome, report, route.strategy.name, run.winner.provider if run.winner else None, model)

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


class _World:
    """`orchestrator.strategies.World` of one request."""

    __slots__ = ("_ask", "_begun", "_clock", "_coordinator", "_refused", "arms", "outcomes")

    def __init__(self, coordinator: Coordinator, clock: Callable[[], float], ask: Ask) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._ask = ask
        self.arms: dict[str, str] = {}
        """Selector of a split -> the arm that was asked, the outermost first."""
        self.outcomes: dict[str, str] = {}
        """Selector of a split -> what came of the arm."""
        self._begun: list[str] = []
        self._refused: set[Turns] = set()

    def asked(self, route: Route) -> None:
        """See `World`."""
        self._coordinator.turns(route).budget.deposit(self._clock())

    def may_hedge(self, route: Route) -> bool:
        """See `World`."""
        turns = self._coordinator.turns(route)
        if turns.take(self, self._clock()):
            return True
        self._refused.add(turns)
        return False

    def after_s(self, route: Route, *, stream: bool) -> float:
        """See `World`: of the first candidate, by what its pool knows."""
        first = next(route.leaves())
        share = route.strategy.after_share
        assert share is not None, "a hedge has a delay, or a share"
        known = self._coordinator.quantiles(first, stream=stream)
        if known is not None:
            return known[share]
        return self._coordinator.config.providers[first.provider].options_of(first.model).typical_s or TYPICAL_S

    def order(self, route: Route) -> Sequence[int]:
        """See `World`. A tier among the members counts as its first candidate."""
        strategy = route.strategy
        names = [str(next(one.leaves()) if isinstance(one, Route) else one) for one in route.members]
        # Weights name members as the configuration does.
        members = [one.selector if isinstance(one, Route) else str(one) for one in route.members]
        named = zip(names, members, strict=True)
        weights = {name: strategy.weights[member] for name, member in named if member in strategy.weights}
        scores = self._coordinator.scores
        order = scores.order(names, self._clock(), by=strategy.by, explore=strategy.explore, weights=weights)
        self._begun.append(names[order[0]])
        scores.begin(names[order[0]])
        return order

    def arm(self, route: Route) -> str:
        """See `World`."""
        return self.arms.setdefault(route.selector, self._arm(route.strategy))

    def arm_ended(self, route: Route, outcome: Reply | Finish | Failure) -> None:
        """See `World`."""
        self.outcomes[route.selector] = _outcome(outcome)

    def _arm(self, split: Strategy) -> str:
        unit = self._ask.user if split.unit == "user" else None
        return choose(split.arms, split.seed, self._ask.request_id if unit is None else unit)

    def end(self) -> None:
        """The request has ended."""
        for name in self._begun:
            self._coordinator.scores.end(name)
        for turns in self._refused:
            turns.leave(self)


class _Reporting:
    """A sink of the edge's as a sink of the driver's."""

    def __init__(self, sink: Sink, ask: Ask, route: Route, arms: Mapping[str, str]) -> None:
        self._sink = sink
        self._ask = ask
        self._route = route
        self._arms = arms
        self.send = sink.send

    async def open(self, candidate: Candidate, opened: Opened, records: Sequence[Record]) -> None:
        report = report_of(self._ask, self._route, records, candidate, self._arms)
        await self._sink.open(candidate.provider, opened.model, self._route.strategy.name, report)


def _outcome(outcome: Reply | Finish | Failure) -> str:
    return outcome.kind.value if isinstance(outcome, Failure) else "ok"


def _row(selector: str, owner: str) -> Json:
    return {"id": selector, "object": "model", "created": 0, "owned_by": owner}
