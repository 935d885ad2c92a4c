"""What one coordinator has leased of one budget, and what of that is reserved by requests. Synchronous; `purse` asks.

What is leased is `held`: part of it is reserved by requests, the rest is free. A request that ends is `settled`: what it cost
leaves the lease, and what it had reserved beyond that is free again. The ledger hears of both with the records of requests
(`orchestrator.ledger.recorder`); until it has acknowledged them it may take them for leased, and `kept` counts them in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from orchestrator.errors import Denied

AHEAD = 8
"""A lease is asked for so many requests like the one that needs it, to begin with."""
MOST_AHEAD = 1 << 40
"""About 110 USD: what is wanted doubles up to here while leases are used up fast."""


class Tell(Protocol):
    """Tells the ledger with the next batch of records (`orchestrator.ledger.recorder.Recorder.settle`)."""

    def __call__(self, account: str, *, spent: int = 0, returned: int = 0) -> None: ...


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for its turn."""

    units: int
    until_s: float
    """When it has waited long enough."""
    granted: asyncio.Future[None]
    """Done: they are reserved for it. Raises Denied."""


@dataclass(slots=True, eq=False)
class Lease:
    """One account, as far as one coordinator is concerned."""

    account: str
    limit: int
    tell: Tell
    held: int = 0
    """Leased, and neither spent nor given back. Below `reserved` where an answer has cost more than was thought possible."""
    reserved: int = 0
    running: int = 0
    """Requests that have begun and not ended."""
    unacknowledged: int = 0
    """What was spent and given back without the ledger's having acknowledged it."""
    left: int = 0
    """Of the whole budget, when the ledger last said so."""
    answered_s: float = -inf
    """When that was."""
    scarce: bool = False
    """Others need it: nothing is kept without a need."""
    waiting: deque[Waiter] = field(default_factory=deque)
    asking: asyncio.Task[None] | None = None
    """Asks the ledger, for all who wait."""
    away: bool = False
    """The ledger could not be asked the last time: there is nothing but what is leased."""
    unsure: bool = False
    """Something may be leased that nobody knows of here: the ledger was asked and its answer never came, or it was handed in
    while the ledger was ahead of what it had acknowledged. Asked again once everything is acknowledged, it says."""
    waits: bool = False
    """The ledger has been asked for what the first in line needs, and was given all that was free."""
    ahead: int = 0
    """What was wanted last beyond the need."""
    asked_s: float = 0.0
    """When."""
    pins: int = 0
    """Requests that wait for it, or for another budget besides: it is theirs, and stays."""
    used: int = 0
    """What was reserved since the last sweep."""

    @property
    def free(self) -> int:
        """What may be reserved at once; below 0 where there is a debt to be made up for first."""
        return self.held - self.reserved

    @property
    def idle(self) -> bool:
        """Whether there is nothing that it would have to be remembered for."""
        busy = self.running or self.pins or self.waiting or self.asking or self.unsure
        return not (busy or self.held or self.unacknowledged)

    def reserve(self, units: int) -> None:
        """For a request that may begin."""
        self.running += 1
        self.reserved += units
        self.used += units

    def settle(self, reserved: int, cost: int) -> None:
        """A request has ended that had reserved so much, and has cost so much."""
        self.running -= 1
        self.reserved -= reserved
        self.held -= cost
        self._tell(cost, 0)
        self.serve()

    def serve(self, *, out_of_turn: bool = False) -> None:
        """Lets those begin who are first in line, as far as there is enough; `out_of_turn`: whoever there is enough for. What
        is over goes back where others need it."""
        kept: deque[Waiter] = deque()
        while self.waiting:
            waiter = self.waiting.popleft()
            if waiter.units <= self.free:
                self.reserve(waiter.units)
                waiter.granted.set_result(None)
            else:
                kept.append(waiter)
                if not out_of_turn:
                    break
        self.waiting.extendleft(reversed(kept))
        if self.waits or (self.scarce and not self.waiting):
            self.give_back(self.free)

    def give_back(self, units: int) -> None:
        """Returns what is free; harmless where nothing is."""
        if units > 0:
            self.held -= units
            self._tell(0, units)

    def _tell(self, spent: int, returned: int) -> None:
        if spent or returned:
            self.unacknowledged += spent + returned
            self.tell(self.account, spent=spent, returned=returned)

    def lend_back(self) -> int:
        """For a question: what is kept when all that is free is handed in with it."""
        self.held -= max(0, self.free)
        return self.held + self.unacknowledged

    def wanted(self, now_s: float, need: int) -> int:
        """What to ask for beyond the need: twice as much as the last time where that is used up within a second."""
        doubled = self.ahead * 2 if now_s - self.asked_s < 1.0 else self.ahead // 2
        self.ahead = min(max(doubled, need * AHEAD), MOST_AHEAD)
        self.asked_s = now_s
        return self.ahead

    def refuse(self, most: int, denied: Callable[[int], Denied]) -> None:
        """Refuses all in line that need more than that."""
        for waiter in self.waiting:
            if waiter.units > most:
                waiter.granted.set_exception(denied(waiter.units))
        self.waiting = deque(waiter for waiter in self.waiting if waiter.units <= most)
