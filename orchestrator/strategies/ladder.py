"""First, fallback, race, hedge and spill: one ladder, told apart by its stagger and by how long a call may wait at a rung.

A rung is a candidate. The first rung is asked at once; each next one is asked `stagger_s` after the one before it, or
at once when a call fails. An infinite stagger is a fallback, 0 a race, anything between a hedge; a fallback over one
rung is `first`. A spill is a fallback whose rungs, save for the last one, refuse a call that would wait too long for a place;
should nobody else answer, it waits there after all. The idea that the delay alone tells the others apart is Polly's (its
Hedging strategy).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from math import inf
from typing import assert_never

from orchestrator.strategies.plan import Call, Event, Plan, Step, Verdict
from orchestrator.types import Failure, FailureKind, Finish, Opened, Reply, Request, Sent

REFUSED_SHARE, REFUSED_S = 0.1, 0.01
"""How soon a refused hedge is asked for again: after a tenth of the stagger, and not sooner than 10 ms."""


def ladder(
    names: Sequence[str],
    request: Request,
    *,
    stagger_s: float = inf,
    may_hedge: Callable[[float], bool] = lambda _at_s: True,
    order: Sequence[int] | None = None,
    resume: bool = True,
    around: frozenset[FailureKind] = frozenset(),
    max_wait_s: float | None = None,
) -> Plan:
    """A plan over the members `names` (used in messages alone).

    `may_hedge(at_s)` is asked before a rung is started because time ran out, not because a call failed; after a no it is
    asked again a little later, while nothing has come. `order`: in which the rungs are asked; left out: as they stand.
    `resume`: a stream that is cut is gone on with by another member. `around`: kinds of failure after which others are asked
    although they forbid it. `max_wait_s`: how long a call may wait for a place, save at the last rung and where nothing else
    is left. Guaranteed: each rung is asked at most once, save that a rung whose pool was lost, or which was too busy, is
    asked once more when nothing else is left, and that one which was stopped may be asked to go on with a stream; after a
    failure that forbids others (a malformed request), nothing new is started, and what is in flight may still answer; once a
    call is committed, no other is started until it is cut; a rung that is asked while others wait for their turn does not
    wait for its model to be started (`Request.waits`), unless time brings them their turn.
    """
    rungs = range(len(names)) if order is None else order
    patient = stagger_s < inf
    return _Ladder(names, rungs, request, resume, around, max_wait_s, patient=patient).run(stagger_s, may_hedge)


class _Ladder:
    def __init__(
        self,
        names: Sequence[str],
        rungs: Sequence[int],
        request: Request,
        resume: bool,
        around: frozenset[FailureKind],
        max_wait_s: float | None,
        *,
        patient: bool,
    ) -> None:
        self._patient = patient
        self._names = names
        self._request = request
        self._resume = resume
        self._around = around
        self._waiting = list(rungs)
        self._last = self._waiting[-1]
        self._asked = 0
        self._running: dict[int, int] = {}
        """Call -> rung."""
        self._failures: dict[int, Failure] = {}
        self._again: set[int] = set()
        """Rungs that are asked once more, or have been."""
        self._max_wait_s = max_wait_s

    def _begin(self, *, extra: bool = False) -> Call:
        rung = self._waiting.pop(0)
        request = self._request if self._patient or not self._waiting else self._request._replace(waits=False)
        if self._max_wait_s is not None and rung != self._last and rung not in self._again:
            # Within another spill, its limit holds as well.
            limits_s = (self._max_wait_s, request.max_wait_s)
            request = request._replace(max_wait_s=min(limit_s for limit_s in limits_s if limit_s is not None))
        call = Call(self._asked, rung, request, extra)
        self._asked += 1
        self._running[call.id] = rung
        return call

    def run(self, stagger_s: float, may_hedge: Callable[[float], bool]) -> Plan:
        barred: Failure | None = None
        start = [self._begin()]
        while stagger_s == 0 and self._waiting:
            start.append(self._begin())
        step = Step(tuple(start), wake_at_s=stagger_s if self._waiting else inf)
        while True:
            event = yield step
            match event.outcome:
                case Opened():
                    assert event.call is not None
                    return (yield from self._serve(event.call))
                case Reply() | Finish():
                    return Verdict(event.outcome, event.call)
                case Failure() as failure:
                    assert event.call is not None
                    if self._bars(self._running.pop(event.call), failure):
                        barred = failure
                    start = [self._begin()] if self._waiting and barred is None else []
                    next_at_s = event.at_s + stagger_s if self._waiting and barred is None else inf
                case None:
                    # A hedge that the budget refuses is asked for again: the longer a call takes, the more it is worth,
                    # and those that end meanwhile do without. See `resilience.budget.Turns` for what that makes.
                    start = [self._begin(extra=True)] if may_hedge(event.at_s) else []
                    again_s = stagger_s if start else max(stagger_s * REFUSED_SHARE, REFUSED_S)
                    next_at_s = event.at_s + again_s if self._waiting else inf
                case _:
                    assert_never(event.outcome)
            if not self._running:
                return Verdict(barred or all_failed(self._names, self._failures))
            step = Step(tuple(start), wake_at_s=next_at_s)

    def _bars(self, rung: int, failure: Failure) -> bool:
        """Notes a failure. Says whether nobody else may be asked after it."""
        self._failures[rung] = failure
        if not failure.kind.traits.try_other and failure.kind not in self._around:
            return True
        again = failure.kind is FailureKind.POOL_LOST or (self._max_wait_s is not None and _passes(failure))
        if again and rung not in self._again:
            self._again.add(rung)
            self._waiting.append(rung)
        return False

    def _serve(self, call: int) -> Plan:
        """The caller is being served by `call`: wait for its end, and if it is cut, go on with another."""
        served_by = call
        first: Failure | None = None
        sent: Sent | None = None
        since: list[str] = []
        serving: int | None = call
        while serving is not None:
            others = tuple(id_ for id_ in self._running if id_ != serving)
            # Whoever was stopped may be asked to go on, should it come to that.
            self._waiting += [self._running.pop(id_) for id_ in others]
            event: Event = yield Step(stop=others, commit=serving)
            if isinstance(event.outcome, Finish):
                return Verdict(event.outcome, serving)
            assert isinstance(event.outcome, Failure)
            cut, sent = event.outcome, event.sent
            del self._running[serving]
            if first is None:
                first = cut
            else:
                since.append(cut.message)
            if sent is None or not self._resume or not cut.kind.traits.try_other:
                break
            self._request = self._request._replace(resume=sent)
            serving = yield from self._reopen(since)
        assert first is not None
        return Verdict(_cut(first, since), served_by, sent)

    def _reopen(self, since: list[str]) -> Generator[Step, Event, int | None]:
        """Asks one after the other to go on, until one has opened; None: nobody does."""
        while self._waiting:
            call = self._begin()
            event = yield Step((call,))
            if isinstance(event.outcome, Opened):
                return call.id
            del self._running[call.id]
            # A tier that decides by whole answers has no stream to go on with.
            what = event.outcome.message if isinstance(event.outcome, Failure) else "it does not stream"
            since.append(what)
        return None


def _passes(failure: Failure) -> bool:
    """Whether waiting would have helped, for a place or for a model that starts; of a nested route, somewhere in it."""
    return failure.kind in (FailureKind.BUSY, FailureKind.STARTING) or any(_passes(one) for _, one in failure.causes)


def _cut(first: Failure, since: Sequence[str]) -> Failure:
    """Why a stream ended: what befell it first, whatever kept others from going on with it."""
    return replace(first, message=f"{first.message}; going on elsewhere failed: {'; '.join(since)}") if since else first


def all_failed(names: Sequence[str], failures: dict[int, Failure]) -> Failure:
    """One failure for all: a single candidate's own, or one that names each candidate and why."""
    if len(failures) == 1:
        return next(iter(failures.values()))
    causes: list[tuple[str, Failure]] = []
    for candidate, failure in failures.items():
        # A nested route that failed brings its own candidates; the caller sees one flat list.
        causes += failure.causes or ((names[candidate], failure),)
    message = "all candidates failed: " + "; ".join(failure.message for _, failure in causes)
    waits = [failure.retry_after_s for _, failure in causes if failure.retry_after_s is not None]
    return Failure(FailureKind.ALL_FAILED, message, retry_after_s=min(waits, default=None), causes=tuple(causes))
