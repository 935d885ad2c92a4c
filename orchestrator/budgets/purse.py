"""A coordinator's purse: reserves what a request may cost before anybody is called, and settles what it has cost.

Where what is leased suffices, nobody is asked and nothing is awaited: that costs about 10 µs a request, most of it the worst
case. Else the ledger is asked once for all who wait for the same budget, and before that runs out, in the background. What is
not needed goes back: at once where others wait for it, and after `SWEEP_S` to twice that where requests no longer use it.

A request that pays into several budgets begins when all have enough. It takes them in an order that is the same for all
requests, so that no two wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.accounting import Asked, Ended
from orchestrator.budgets.accounts import Answer, Ask, Granted
from orchestrator.budgets.leases import Lease, Tell, Waiter
from orchestrator.budgets.payments import Payment, named, payments_of
from orchestrator.budgets.worst import worst_of
from orchestrator.errors import Denied, LedgerFailed
from orchestrator.money import GRID, units_of, usd_of
from orchestrator.types import Json

SWEEP_S = 1.0
"""How often what is leased and not used is looked for."""
AGAIN_S = 0.2
"""How soon a ledger that is away is asked again."""
SOON_S = 0.05
"""How soon it is asked again about what it may know by then."""
CLOSE_S = 1.0
"""How long the ledger's last answers are waited for."""
AWAY_RETRY_S = 2.0
"""When a caller who was refused because of that is told to come again."""

_log = logging.getLogger("orchestrator.budgets")


class Bank(Protocol):
    """Who has the accounts: `orchestrator.ledger.bookkeeper`, here or behind an actor."""

    async def lease(self, ask: Ask, wait_s: float) -> Answer:
        """What came of it within `wait_s`; a Granted of nothing: there was not enough. Raises LedgerFailed."""
        ...


class Purse:
    """`orchestrator.accounting.Allowing` of one process. Belongs to one event loop."""

    def __init__(self, bank: Bank, writer: str, tell: Tell, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`writer` is the name that `tell` tells the ledger by; what that has acknowledged, `acknowledged` is to be told."""
        self.writer = writer
        self._bank = bank
        self._tell = tell
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._number = 0
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._unpriced: set[str] = set()
        """Models whose unknown price has been logged."""

    async def allow(self, asked: Asked) -> Reserved | None:
        """Reserves the worst case in every budget that the request pays into; None: it pays into none. Raises Denied."""
        if not (payments := payments_of(asked)):
            return None
        config = asked.config
        worst = worst_of(asked.route, asked.ask.request, config)
        if worst.unpriced is not None:
            self._without_price(worst.unpriced, named(payments[0].account), refused=config.budgets.unpriced == "refuse")
        units = math.ceil(worst.usd * GRID)
        leases = [self._lease(payment) for payment in payments]
        # What costs nothing goes on when a budget is spent.
        if not units or _suffice(leases, units):
            for lease in leases:
                lease.reserve(units)
                if lease.free < lease.ahead // 2 and lease.asking is None and not lease.scarce:
                    self._ask(lease, self._ahead(lease, units))
        else:
            for lease in leases:
                lease.pins += 1
            try:
                await self._in_turn(leases, units, config.budgets.wait_s)
            finally:
                for lease in leases:
                    lease.pins -= 1
        return Reserved(leases, units, priced=worst.unpriced is None)

    def _lease(self, payment: Payment) -> Lease:
        lease = self._leases.get(payment.account)
        if lease is None:
            lease = self._leases[payment.account] = Lease(payment.account, payment.limit, self._tell)
            self._sweeping = self._sweeping or asyncio.ensure_future(self._sweep_on())
        elif lease.limit != payment.limit:
            # What was leased under another limit goes back, so that the new one holds for the next request.
            lease.limit = payment.limit
            lease.give_back(lease.free)
        return lease

    def _without_price(self, model: str, budget: str, *, refused: bool) -> None:
        if refused:
            raise Denied(
                403, "unpriced", f"{budget} does not allow {model}: its price is not known; the platform can name one under "
                "`pricing: overrides`, or allow such models by `budgets: {unpriced: allow}`",
            )  # fmt: skip
        if model not in self._unpriced and len(self._unpriced) < 1_000:
            self._unpriced.add(model)
            _log.warning("the price of %s is not known: it counts as nothing in budgets", model)

    async def _in_turn(self, leases: Sequence[Lease], units: int, wait_s: float) -> None:
        """One budget after the other; all, or none of them. Raises Denied."""
        taken: list[Lease] = []
        until_s = self._clock() + wait_s
        try:
            for lease in leases:
                await self._wait(lease, units, until_s)
                taken.append(lease)
        except BaseException:
            for lease in taken:
                lease.settle(units, 0)
            raise

    async def _wait(self, lease: Lease, units: int, until_s: float) -> None:
        if lease.free >= units and not lease.waiting:
            lease.reserve(units)
            return
        began_s = self._clock()
        waiter = Waiter(units, until_s, asyncio.get_running_loop().create_future())
        lease.waiting.append(waiter)
        if lease.away:
            lease.serve(out_of_turn=True)
        if lease.asking is None:
            self._ask(lease, self._fill(lease))
        try:
            await asyncio.wait((waiter.granted,), timeout=max(0.0, until_s - self._clock()))
        except asyncio.CancelledError:
            self._give_up(lease, waiter)
            raise
        if not waiter.granted.done():
            self._give_up(lease, waiter)
            away = lease.away or (lease.answered_s < began_s and not lease.waits)
            raise self._away(lease) if away else self._denied(lease, units)
        waiter.granted.result()

    def _give_up(self, lease: Lease, waiter: Waiter) -> None:
        """Its caller has left, or it has waited long enough."""
        if not waiter.granted.cancel():
            if waiter.granted.exception() is None:
                lease.settle(waiter.units, 0)
            return
        first = lease.waiting[0] is waiter
        lease.waiting.remove(waiter)
        lease.serve()
        if first and lease.waits and lease.asking is not None:
            # What was asked for is needed no more. An answer that is on its way is not lost: see `accounts`.
            lease.asking.cancel()

    def _denied(self, lease: Lease, units: int) -> Denied:
        ours = f"{usd_of(lease.limit):g} USD, of which {_usd(lease.left)} USD are left"
        running = "" if units > lease.left else ", but requests that run may still need them"
        return Denied(
            403, "budget_exceeded", f"{named(lease.account)} is {ours}{running}, and this request could cost up to "
            f"{_usd(units)} USD; ask for fewer tokens (max_tokens) or for a cheaper model",
        )  # fmt: skip

    def _away(self, lease: Lease) -> Denied:
        what = f"{named(lease.account)} cannot be looked at now: the ledger does not answer"
        return Denied(503, "ledger_unavailable", what, AWAY_RETRY_S)

    def acknowledged(self, *settled: Mapping[str, int]) -> None:
        """The ledger has on disk what it was told: units that were spent or given back, by account."""
        for booked in settled:
            for account, units in booked.items():
                self._leases[account].unacknowledged -= units

    def _ask(self, lease: Lease, asking: Coroutine[Any, Any, None]) -> None:
        lease.asking = task = asyncio.ensure_future(asking)
        self._tasks.add(task)

        def asked(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            lease.asking = None
            if not task.cancelled() and (error := task.exception()) is not None:
                lease.away = True
                _log.error("the ledger could not be asked about %s", named(lease.account), exc_info=error)
            elif lease.waiting and not self._closed:
                self._ask(lease, self._fill(lease))

        task.add_done_callback(asked)

    async def _fill(self, lease: Lease) -> None:
        """Asks for those in line until there are none."""
        while lease.waiting:
            first = lease.waiting[0]
            need, free = first.units + max(0, -lease.free), max(0, lease.free)
            want = sum(waiter.units for waiter in lease.waiting) + lease.wanted(self._clock(), first.units)
            # What is free is kept as long as nobody else needs it: should the ledger be away, there is nothing else.
            answer = await self._answer(lease, need - free, want, lease.held + lease.unacknowledged)
            if isinstance(answer, Granted) and not answer.units and lease.waiting:
                answer = await self._in_line(lease, lease.waiting[0])
            if answer is None:
                lease.serve(out_of_turn=True)
                await asyncio.sleep(AGAIN_S)
            elif lease.waiting and lease.waiting[0] is first:
                # It is more than what the ledger knows to be spent, and what it does not know yet is on its way there.
                await asyncio.sleep(SOON_S)

    async def _in_line(self, lease: Lease, first: Waiter) -> Answer | None:
        """Asks for what the first one needs, with all that is free handed in, and waits for it as long as that one does."""
        need = first.units + max(0, -lease.free)
        # The ledger may have on disk already what it has not acknowledged yet: then less is handed in than is let go of here.
        behind = lease.unacknowledged > 0
        lease.waits = True
        try:
            wait_s = max(SOON_S, first.until_s - self._clock())
            return await self._answer(lease, need, need, lease.lend_back(), wait_s)
        finally:
            lease.waits = False
            lease.unsure = lease.unsure or behind

    async def _ahead(self, lease: Lease, units: int) -> None:
        """Asks for more before there is a need."""
        want = lease.wanted(self._clock(), units)
        await self._answer(lease, min(units, want), want, lease.held + lease.unacknowledged)

    async def _reconcile(self, lease: Lease) -> None:
        """Hands in what was leased without its having been heard of: any question does."""
        await self._answer(lease, 1, 1, lease.held + lease.unacknowledged)

    async def _answer(self, lease: Lease, need: int, want: int, kept: int, wait_s: float = 0.0) -> Answer | None:
        """Asks, and takes in what is answered; None: the ledger is away."""
        self._number += 1
        ask = Ask(self.writer, self._number, lease.account, lease.limit, kept, max(1, need), want, wait_s > 0)
        lease.unsure = True
        try:
            answer = await self._bank.lease(ask, wait_s)
        except LedgerFailed:
            lease.away = True
            return None
        lease.unsure = lease.away = False
        lease.left, lease.answered_s = answer.left, self._clock()
        if isinstance(answer, Granted):
            lease.held += answer.units
            lease.scarce = answer.scarce
            lease.ahead = min(lease.ahead, answer.units)
        else:
            lease.refuse(answer.left, lambda units: self._denied(lease, units))
            lease.scarce = True
        lease.serve()
        return answer

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Gives back what requests do not use any more: what goes beyond twice of what they have reserved since the last
        time. Forgets budgets that nobody pays into."""
        for account, lease in tuple(self._leases.items()):
            if lease.asking is None:
                lease.give_back(lease.free - 2 * lease.used)
                if lease.unsure and (self._closed or not lease.unacknowledged):
                    self._ask(lease, self._reconcile(lease))
            lease.used = 0
            if lease.idle:
                del self._leases[account]

    def give_back(self) -> None:
        """All that is free: when nothing more is to come."""
        for lease in self._leases.values():
            lease.give_back(lease.free)

    async def aclose(self) -> None:
        """Asks nobody any more, and has all that is free given back: the last batch of records tells of it."""
        self._closed = True
        self.sweep()
        if self._tasks:
            # An answer that is on its way can be given back once it is here; else it would be taken for spent.
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        tasks = [*self._tasks] + ([] if self._sweeping is None else [self._sweeping])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lease in self._leases.values():
            # What requests that still run do not need goes back when they end.
            lease.scarce = True
        self.give_back()


class Reserved:
    """`orchestrator.accounting.Allowance`: the worst case of one request, in every budget that it pays into."""

    __slots__ = ("_leases", "_priced", "_units")

    def __init__(self, leases: Sequence[Lease], units: int, *, priced: bool) -> None:
        self._leases = leases
        self._units = units
        self._priced = priced

    def settle(self, ended: Ended | None) -> None:
        """See `Allowance`."""
        cost = 0 if ended is None else self._cost(ended.report)
        for lease in self._leases:
            lease.settle(self._units, cost)

    def _cost(self, report: Json) -> int:
        """What is known of it. What is not known is the worst case where there are prices, and else nothing."""
        if (cost_usd := report["cost_usd"]) is not None:
            return units_of(cost_usd)
        costs = (one["cost_usd"] for one in report["attempts"])
        known = sum(units_of(one) for one in costs if one is not None)
        return max(known, self._units) if self._priced else known


def _suffice(leases: Sequence[Lease], units: int) -> bool:
    """Whether it can be reserved at once."""
    for lease in leases:  # noqa: SIM110 - a generator takes a microsecond more
        if lease.waiting or lease.free < units:
            return False
    return True


def _usd(units: int) -> str:
    """An amount for people, to a hundredth of a cent."""
    return f"{usd_of(units):.4f}"
