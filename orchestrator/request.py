"""One request on its way through a coordinator: allowed, answered by calls or from the cache, and told to those who keep
account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from orchestrator.accounting import Allowance, Allowing, Asked, Ended, Observer
from orchestrator.asks import Answer, Gone, Sink
from orchestrator.cache.flights import Made
from orchestrator.cache.kept import Origin, report_of_hit
from orchestrator.cache.terms import Terms
from orchestrator.dialects.resume import SoFar
from orchestrator.drive import Record, Run, Runtime, drive
from orchestrator.errors import Denied
from orchestrator.lasting import Lasting
from orchestrator.logs import RequestLines
from orchestrator.report import cost_of_call, report_of
from orchestrator.routes import Candidate
from orchestrator.strategies import plan
from orchestrator.types import Failure, FailureKind, Finish, Json, Opened, Reply
from orchestrator.world import Knowing, RequestWorld

_LINES = RequestLines()


class Answering(Knowing, Protocol):
    """Where requests are answered (`orchestrator.coordinator.Coordinator`)."""

    lasting: Lasting
    runtime: Runtime[Any]
    clock: Callable[[], float]

    def learn(self, records: Sequence[Record]) -> None:
        """What the calls of one request say of their candidates."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """Counts as in flight meanwhile."""
        ...


class OneRequest:
    """One request whose route is known."""

    __slots__ = ("_asked", "_began_s", "_limits", "_sink", "_where")

    def __init__(self, where: Answering, asked: Asked, sink: Sink | None) -> None:
        self._where = where
        self._asked = asked
        self._sink = sink
        self._began_s = where.clock()
        self._limits: Sequence[Allowance] = ()

    async def answer(self, terms: Terms | None) -> Answer:
        """The answer, from the cache too, if it is asked for on any terms. Raises Denied, and what the sink raises."""
        self._limits = await self._allowed(self._where.lasting.limiting)
        if terms is not None:
            return await self._cached(terms)
        return (await self._called(self._sink)).answer

    async def _cached(self, terms: Terms) -> Answer:
        """An answer that may be another's, or become one."""
        where, asked = self._where, self._asked
        calling = False
        timed = None if self._sink is None else _Timed(self._sink, where.clock)

        async def call(into: Sink | None) -> Made:
            nonlocal calling
            calling = True  # from now on it is told of as a call, also where its caller leaves and others wait for it
            with where.hold():
                return await self._called(into, {"cache": "miss"})

        def tell(made: Made) -> None:
            if not calling:
                answer, outcomes = made
                opened_s = None if timed is None else timed.opened_s
                self._tell(self._ended(answer.outcome, answer.report, opened_s, outcomes), self._limits)

        try:
            made = await where.lasting.cache.answer(asked.ask, terms, timed, call)
        except (asyncio.CancelledError, Gone):
            left, strategy = Failure(FailureKind.CANCELLED, "the caller left"), asked.route.strategy.name
            tell(Made(Answer(left, report_of_hit(asked.ask, Origin(strategy), "miss"), strategy), {}))
            raise
        except BaseException:
            if not calling:
                _give_back(self._limits)
            raise
        tell(made)
        return made.answer

    async def _called(self, sink: Sink | None, beside: Mapping[str, Any] = {}) -> Made:
        """An answer by calls of its own. `beside`: what its report says, too."""
        where, (ask, route, config, *_) = self._where, self._asked
        try:
            allowances = [*self._limits, *await self._allowed(where.lasting.allowing)]
        except BaseException:
            _give_back(self._limits)
            raise
        world = RequestWorld(where, where.clock, ask)
        reporting = None if sink is None else _Reporting(sink, self._asked, world.arms, beside, where.clock)
        records: list[Record] = []
        run: Run | None = None
        outcome: Reply | Finish | Failure = Failure(FailureKind.INTERNAL, "it failed unexpectedly")
        try:
            run = await drive(
                plan(route, ask.request, world),
                tuple(route.leaves()),
                where.runtime,
                sink=reporting,
                clock=where.clock,
                records=records,
            )
            outcome = run.outcome
        except (asyncio.CancelledError, Gone):
            outcome = Failure(FailureKind.CANCELLED, "the caller left")
            raise
        finally:
            world.end()
            where.learn(records)
            winner = None if run is None else run.winner
            report = {**report_of(ask, route, records, winner, world.arms, config.prices), **beside}
            if run is not None and run.consensus is not None:
                report["consensus"] = run.consensus
            opened_s, text = (None, None) if reporting is None else (reporting.opened_s, reporting.text())
            ended = self._ended(outcome, report, opened_s, world.outcomes)
            self._tell(ended._replace(records=records, text=text), allowances)
        model = outcome.model if isinstance(outcome, Reply | Finish) else None
        cost_usd = None if run.call is None else cost_of_call(report, records, run.call)
        provider = winner.provider if winner else None
        return Made(Answer(outcome, report, route.strategy.name, provider, model, cost_usd), world.outcomes)

    def _ended(
        self, outcome: Reply | Finish | Failure, report: Json, opened_s: float | None, arm_outcomes: Mapping[str, str]
    ) -> Ended:
        seconds = self._where.clock() - self._began_s
        first_token_s = None if opened_s is None else opened_s - self._began_s
        return Ended(self._asked, outcome, report, seconds, first_token_s, arm_outcomes)

    async def _allowed(self, asking: Sequence[Allowing]) -> list[Allowance]:
        """What the request may spend, by everybody who has a say. Raises Denied."""
        allowances: list[Allowance] = []
        try:
            for allowing in asking:
                allowance = await allowing.allow(self._asked)
                allowances += () if allowance is None else (allowance,)
        except BaseException as refused:
            _give_back(allowances)
            if isinstance(refused, Denied):
                self._where.lasting.counters.count("orchestrator_refused_total", {"code": refused.code})
            raise
        return allowances

    def _tell(self, ended: Ended, allowances: Sequence[Allowance]) -> None:
        for allowance in allowances:
            allowance.settle(ended)
        lasting = self._where.lasting
        told: tuple[Observer, ...] = (lasting.counters, lasting.telemetry, _LINES, *lasting.observers)
        for observer in told:
            observer.ended(ended)


class _Reporting:
    """A sink of the edge's as a sink of the driver's."""

    def __init__(
        self, sink: Sink, asked: Asked, arms: Mapping[str, str], beside: Mapping[str, Any], clock: Callable[[], float]
    ) -> None:
        self.opened_s: float | None = None
        """When the first token came, by the clock."""
        self._clock = clock
        self._sink = sink
        self._ask, self._route = asked.ask, asked.route
        self._arms = arms
        self._beside = beside
        ledger = asked.config.ledger
        keep = ledger is not None and ledger.store_text
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
        report = {**report_of(self._ask, self._route, records, candidate, self._arms), **self._beside}
        await self._sink.open(candidate.provider, opened.model, self._route.strategy.name, report)


class _Timed:
    """A sink that knows when it was opened."""

    def __init__(self, sink: Sink, clock: Callable[[], float]) -> None:
        self.opened_s: float | None = None
        self.send = sink.send
        self._sink = sink
        self._clock = clock

    async def open(self, provider: str, model: str, strategy: str, report: Json) -> None:
        self.opened_s = self._clock()
        await self._sink.open(provider, model, strategy, report)


def _give_back(allowances: Sequence[Allowance]) -> None:
    """The request was not begun after all."""
    for allowance in allowances:
        allowance.settle(None)
