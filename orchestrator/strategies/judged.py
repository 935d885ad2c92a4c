"""Consensus by another model: a judge picks one of the answers, or a model merges them into one.

A judge is asked twice at once, with the answers in one order and in its reverse. Only a pick that is the same both times
counts, so one that goes by where an answer stands decides nothing: it comes to what a disagreement comes to.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

import orjson

from orchestrator.consensus import normal
from orchestrator.consensus.ballot import Result
from orchestrator.consensus.election import Ballot
from orchestrator.consensus.extract import calls_of, text_of
from orchestrator.consensus.judging import judging, merging, picked, shuffled
from orchestrator.strategies.panel import Panel
from orchestrator.strategies.plan import Event, Plan, Step, Verdict
from orchestrator.types import Failure, FailureKind, Json, Reply

Asking = Generator[Step, Event, Verdict | None]


class _Deciding(Panel):
    """Waits for as many answers as the quorum says (left out: all), then has somebody decide.

    Where there is one answer, or all say the same, there is nothing to decide, and nobody is asked.
    """

    def _settled(self) -> Result | None:
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
        return [_said(self._replies[place][1].body["choices"][0]["message"]) for place in order]


def _said(message: Json) -> str:
    """What an answer says; of one that calls tools, which, and with what."""
    calls = calls_of(message)
    with suppress(RecursionError):
        return orjson.dumps(normal.writable(calls)).decode() if calls else text_of(message)
    return text_of(message)


class Judged(_Deciding):
    """A judge picks."""

    _verdict: Json | None = None

    def _decide(self, order: Sequence[int]) -> Asking:
        orders = (list(order), list(order)[::-1])
        asked = [judging(self._request, self._texts(one)) for one in orders]
        waiting = {(call := self._call(self._judge, request)).id: (which, call) for which, request in enumerate(asked)}
        step = Step(tuple(call for _, call in waiting.values()), self._stopped())
        picks: list[int] = []
        lost: set[int] = set()
        while waiting:
            event = yield step
            assert event.call is not None
            self._now_s, step = event.at_s, Step()
            (which, _), outcome = waiting.pop(event.call), event.outcome
            assert isinstance(outcome, Reply | Failure)
            if isinstance(outcome, Failure) and outcome.kind is FailureKind.POOL_LOST and which not in lost:
                lost.add(which)
                call = self._call(self._judge, asked[which])
                waiting[call.id], step = (which, call), Step((call,))
                continue
            if isinstance(outcome, Failure):
                self._failures[self._judge] = outcome
            pick = picked(outcome.body, len(order)) if isinstance(outcome, Reply) else None
            if pick is None:
                # One pick alone would go by where the answers stand. The other asking is stopped by whatever comes next.
                self._running = dict.fromkeys(waiting, -1)
                break
            picks.append(orders[which][pick])
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
        call, outcome = yield from self._ask(self._judge, merging(self._request, self._texts(order)))
        if isinstance(outcome, Failure):
            return None
        return Verdict(outcome, call, consensus=self._report(self._election.read(outcome.body)))
