"""What is asked next: which item of which arm, again or for the first time, and whether there is still money for it.

Plain decisions that are told what happened and what time it is. Every arm goes through the file by itself, the one that is
behind is served first, and so their answers come of the same time of day. What has to wait (a breaker is open, a queue is
full) holds up its own arm alone: an arm that has its share of the window waiting begins nothing new.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from orchestrator.batch.grading import OPINIONS
from orchestrator.batch.items import Asked, Item
from orchestrator.money import DECIMALS
from orchestrator.types import Failure, FailureKind

PATIENCE_S = 600.0
"""For so long a pair is asked again whose request never came to be answered by a model: an outage of that length is sat
out."""
WAIT_S = (1.0, 30.0)
"""Between two such tries: the first wait, doubled each time, and the longest."""
_K = FailureKind
LATER = frozenset(
    {_K.QUEUE_FULL, _K.QUEUE_TIMEOUT, _K.BUSY, _K.BREAKER_OPEN, _K.PAUSED, _K.OVER_BUDGET, _K.RATE_LIMITED}
    | {_K.POOL_LOST, _K.DRAINING, _K.UNREACHABLE, _K.STARTING, _K.DOWN}
)
"""Failures of the moment, which say nothing about the item. What a provider itself failed at has been tried again by its
pool."""


def is_later(failure: Failure) -> bool:
    """Whether the same request is to be asked again by and by: of several causes, one is enough, since one answer is."""
    return failure.kind in LATER or any(is_later(cause) for _, cause in failure.causes)


def wait_s(failure: Failure, asks: int, jitter: float) -> float:
    """How long to wait after the `asks`th try: what the failure asks for, or longer each time; `jitter` is in [0, 1)."""
    least_s = min(WAIT_S[0] * 2.0 ** min(asks - 1, 10), WAIT_S[1])
    asked_s = max([failure.retry_after_s or 0.0, *(cause.retry_after_s or 0.0 for _, cause in failure.causes)])
    return max(asked_s, least_s) * (1 + jitter / 2)


@dataclass(slots=True, eq=False)
class Pair:
    """An item and an arm, on their way."""

    item: Item
    arm: str
    asked: Asked
    worst_usd: float
    """The most that one try may cost; 0 where nobody counts."""
    opinion_usd: float = 0.0
    """The most that one opinion of a judge on its answer may cost, of which there are `OPINIONS`."""
    asks: int = 0
    first_s: float = 0.0
    """When it was first asked."""
    cost_usd: float | None = 0.0
    """What all tries have cost; None: nobody knows it of one."""
    charged_usd: float = 0.0
    """What a budget counts for them, and for opinions on the answer."""

    @property
    def most_usd(self) -> float:
        """What is set aside for a try."""
        return self.worst_usd + OPINIONS * self.opinion_usd

    def spend(self, cost_usd: float | None, charged_usd: float) -> None:
        """A try has ended."""
        self.cost_usd = None if cost_usd is None or self.cost_usd is None else self.cost_usd + cost_usd
        self.charged_usd += charged_usd


class Purse:
    """The money of a run: nothing is begun that could take it over its budget, whatever happens."""

    def __init__(self, budget_usd: float | None, spent_usd: float = 0.0) -> None:
        self.budget_usd = inf if budget_usd is None else budget_usd
        self.spent_usd = spent_usd
        self.held_usd = 0.0
        """The worst case of what is in flight."""

    def take(self, worst_usd: float) -> bool:
        """Sets the worst case of a request aside; False: there is not so much left."""
        # To a step of the grid: sums of floats are a hair off, and a budget of just what all may cost is enough for all.
        if round(self.spent_usd + self.held_usd + worst_usd - self.budget_usd, DECIMALS) > 0:
            return False
        self.held_usd += worst_usd
        return True

    def free(self, usd: float) -> None:
        """So much of what was set aside is not needed."""
        self.held_usd = max(0.0, self.held_usd - usd)

    def settle(self, worst_usd: float, spent_usd: float | None) -> float:
        """A request has ended: what is counted of it, which is its worst case where nobody knows (None)."""
        self.free(worst_usd)
        counted = worst_usd if spent_usd is None else spent_usd
        self.spent_usd += counted
        return counted


class _Next(NamedTuple):
    """A pair that waits for its time."""

    at_s: float
    order: int
    pair: Pair


class _Arm:
    """The way of one arm through the items."""

    def __init__(self, pairs: Iterator[Pair | None]) -> None:
        self.pairs = pairs
        self.begun = 0
        self.held: Pair | None = None
        """The next one, looked at already."""
        self.waiting: list[_Next] = []
        self.over = False

    def next(self) -> Pair | None:
        """The next new pair, which stays the next until it is taken; None: there is none, for now or for good (`over`)."""
        if self.held is None and not self.over:
            try:
                self.held = next(self.pairs)
            except StopIteration:
                self.over = True
        return self.held


class Schedule:
    """The pairs of a run, in the order in which they are asked. An arm that gives None has nothing yet, and will be asked
    for the next one again."""

    def __init__(self, arms: Mapping[str, Iterator[Pair | None]], window: int, purse: Purse) -> None:
        self.purse = purse
        self.out_of_money = False
        """Whether something was not begun for want of money. What is in flight may give some back."""
        self._arms = {name: _Arm(pairs) for name, pairs in arms.items()}
        self._share = max(1, window // len(self._arms))
        self._order = 0

    def next(self, now_s: float) -> Pair | None:
        """What to ask now; None: nothing, for want of money, or until `wake_s`. It is in flight from then on."""
        pair = self._due(now_s)
        if pair is None or not self.purse.take(pair.most_usd):
            self.out_of_money = pair is not None
            return None
        self.out_of_money = False
        arm = self._arms[pair.arm]
        if pair.asks:
            heapq.heappop(arm.waiting)
        else:
            arm.held = None
            arm.begun += 1
            pair.first_s = now_s
        pair.asks += 1
        return pair

    def _due(self, now_s: float) -> Pair | None:
        """The first of those whose time has come; else the next one of the arm that is behind."""
        due = [arm.waiting[0] for arm in self._arms.values() if arm.waiting and arm.waiting[0].at_s <= now_s]
        if due:
            return min(due).pair
        for arm in sorted(self._arms.values(), key=_begun):
            if len(arm.waiting) < self._share and (pair := arm.next()) is not None:
                return pair
        return None

    def again(self, pair: Pair, at_s: float) -> None:
        """A pair that was in flight is to be asked again, from some time on."""
        self._order += 1
        heapq.heappush(self._arms[pair.arm].waiting, _Next(at_s, self._order, pair))

    def wake_s(self, now_s: float) -> float:
        """When the first of those that wait has its time, after now; infinity: none does. (What is due is begun by `next`, or
        waits for something else than time.)"""
        times = (one.at_s for arm in self._arms.values() for one in arm.waiting)
        return min((at_s for at_s in times if at_s > now_s), default=inf)

    def is_over(self) -> bool:
        """Whether there is nothing left to be begun, and nothing that waits to be asked again."""
        return all(not arm.waiting and arm.next() is None and arm.over for arm in self._arms.values())


def _begun(arm: _Arm) -> int:
    return arm.begun
