"""Consensus by another model: a judge picks one of the answers, or a model merges them into one.

A judge is asked twice at once, with the answers in one order and in its reverse. Only a pick that is the same both times
counts, so one that goes by where an answer stands decides nothing: it comes to what a disagreement comes to.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from orchestrator.consensus.ballot import Result
from orchestrator.consensus.election import Ballot
from orchestrator.consensus.extract import text_of
from orchestrator.consensus.judging import judging, merging, picked, shuffled
from orchestrator.strategies.panel import Panel
from orchestrator.strategies.plan import Event, Plan, Step, Verdict
from orchestrator.types import Failure, Json, Reply

Asking = Generator[Step, Event, Verdict | None]


class _Deciding(Panel):
    """Waits for as many answers as the quorum says (left out: all), then has somebody decide.

    Where there is one answer, or all say the same, there is nothing to decide, and nobody is asked.
    """

    def _result(self) -> Result | None:
        enough = self._strategy.quorum or len(self._voters)
        if len(self._replies) < enough and self._running:
            return None
        return "agreed" if self._replies else "disagreed"

    def _conclude(self, result: Result) -> Plan:
        if result == "agreed":
            places = sorted(self._replies)
            if all(self._alike(places[0], place) for place in places[1:]):
                return self._chosen(places[0])
            verdict = yield from self._decide([places[i] for i in shuffled(len(places), self._request)])
            if verdict is not None:
                return verdict
        return (yield from super()._conclude("disagreed"))

    def _decide(self, order: Sequence[int]) -> Asking:
        """Has the answers of these positions, in this order, decided on; None: nothing that counts came of it."""
        raise NotImplementedError

    def _alike(self, one: int, other: int) -> bool:
        """Whether two positions gave the same answer."""
        keys = [self._cast[place].ballot.key for place in (one, other) if place in self._cast]
        return one == other or (len(keys) == 2 and keys[0] == keys[1])

    def _chosen(self, position: int) -> Verdict:
        call, reply = self._replies[position]
        cast = self._cast.get(position)
        return Verdict(reply, call, consensus=self._report(None if cast is None else cast.ballot))

    def _texts(self, order: Sequence[int]) -> list[str]:
        return [text_of(self._replies[place][1].body["choices"][0]["message"]) for place in order]

    def _stopped(self) -> tuple[int, ...]:
        """What still runs is of no more use."""
        stop = tuple(self._running)
        self._running.clear()
        return stop


class Judged(_Deciding):
    """A judge picks."""

    _verdict: Json | None = None

    def _decide(self, order: Sequence[int]) -> Asking:
        orders = (list(order), list(order)[::-1])
        calls = tuple(self._call(self._judge, judging(self._request, self._texts(one))) for one in orders)
        waiting = {call.id: one for call, one in zip(calls, orders, strict=True)}
        step = Step(calls, self._stopped())
        picks: list[int] = []
        while waiting:
            event = yield step
            self._now_s = event.at_s
            assert event.call is not None
            one = waiting.pop(event.call)
            pick = None
            if isinstance(event.outcome, Reply):
                pick = picked(event.outcome.body, len(one))
            elif isinstance(event.outcome, Failure):
                self._failures[self._judge] = event.outcome
            if pick is None:
                # One pick alone would go by where the answers stand. The other asking is stopped by whatever comes next.
                self._running = dict.fromkeys(waiting, -1)
                break
            picks.append(one[pick])
            step = Step()
        same = len(picks) == 2 and self._alike(*picks)
        self._verdict = {
            "model": self._names[self._judge],
            "picks": [self._names[self._voters[pick]] for pick in picks],
            "agreed": same,
        }
        return self._chosen(min(picks)) if same else None

    def _report(self, ballot: Ballot | None, **more: Any) -> Json:
        report = super()._report(ballot, **more)
        return report if self._verdict is None else report | {"judge": self._verdict}


class Synthesized(_Deciding):
    """A model writes one answer from all."""

    def _decide(self, order: Sequence[int]) -> Asking:
        call = self._call(self._judge, merging(self._request, self._texts(order)))
        event = yield Step((call,), self._stopped())
        self._now_s = event.at_s
        if not isinstance(event.outcome, Reply):
            assert isinstance(event.outcome, Failure)
            self._failures[self._judge] = event.outcome
            return None
        return Verdict(event.outcome, call.id, consensus=self._report(self._election.read(event.outcome.body)))
