"""First, fallback, race and hedge: one ladder, told apart by its stagger alone.

A rung is a candidate. The first rung is asked at once; each next one is asked `stagger_s` after the one before it, or
at once when a call fails. An infinite stagger is a fallback, 0 a race, anything between a hedge; a fallback over one
rung is `first`. The idea that the delay alone tells these apart is Polly's (its Hedging strategy).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import assert_never

from orchestrator.strategies.plan import Call, Event, Plan, Step, Verdict
from orchestrator.types import Failure, FailureKind, Finish, Opened, Reply, Request


def ladder(
    names: Sequence[str],
    request: Request,
    *,
    stagger_s: float = inf,
    may_hedge: Callable[[float], bool] = lambda _at_s: True,
) -> Plan:
    """A plan over the members `names` (used in messages alone).

    `may_hedge(at_s)` is asked before a rung is started because time ran out, not because a call failed; a no means that
    the calls in flight are waited for. Guaranteed: each rung is asked at most once, save that a rung whose pool was
    lost is asked once more when nothing else is left; after a failure that forbids others (a malformed request),
    nothing new is started, and what is in flight may still answer; once a call is committed, no other is started.
    """
    waiting = list(range(len(names)))
    asked: list[int] = []
    running: dict[int, int] = {}
    failures: dict[int, Failure] = {}
    lost_once: set[int] = set()
    barred: Failure | None = None

    def begin(*, extra: bool = False) -> Call:
        candidate = waiting.pop(0)
        call = Call(len(asked), candidate, request, extra)
        asked.append(candidate)
        running[call.id] = candidate
        return call

    start = [begin()]
    while stagger_s == 0 and waiting:
        start.append(begin())
    next_at_s = stagger_s if waiting else inf
    step = Step(tuple(start), wake_at_s=next_at_s)
    while True:
        event = yield step
        match event.outcome:
            case Opened():
                assert event.call is not None
                return (yield from _committed(event.call, tuple(id_ for id_ in running if id_ != event.call)))
            case Reply() | Finish():
                return Verdict(event.outcome, event.call)
            case Failure() as failure:
                assert event.call is not None
                candidate = running.pop(event.call)
                failures[candidate] = failure
                if not failure.kind.traits.try_other:
                    barred = failure
                elif failure.kind is FailureKind.POOL_LOST and candidate not in lost_once:
                    lost_once.add(candidate)
                    waiting.append(candidate)
                start = [begin()] if waiting and barred is None else []
                next_at_s = event.at_s + stagger_s if waiting and barred is None else inf
            case None:
                # A hedge that the budget refuses is not asked for again until a call fails: the budget refills slowly.
                start = [begin(extra=True)] if may_hedge(event.at_s) else []
                next_at_s = event.at_s + stagger_s if start and waiting else inf
            case _:
                assert_never(event.outcome)
        if not running:
            return Verdict(barred or _all_failed(names, failures))
        step = Step(tuple(start), wake_at_s=next_at_s)


def _committed(call: int, others: tuple[int, ...]) -> Plan:
    """The caller is being served by `call`: wait for its end. (A cut is answered by resuming; not available yet.)"""
    event: Event = yield Step(stop=others, commit=call)
    assert isinstance(event.outcome, Finish | Failure)
    return Verdict(event.outcome, call)


def _all_failed(names: Sequence[str], failures: dict[int, Failure]) -> Failure:
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
