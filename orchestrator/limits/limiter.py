"""A coordinator's side of the limits: permits in stock, refusals that cost nothing, and what to do while nobody grants any.

While the centre is away (the control actor is being restarted), each coordinator goes on by itself: within what it had used
in the last minute and its part of what was free, as it was last told. Where that was a while ago, it goes by its share of the
limit. So a limit that is being used up holds across the kill; one that a coordinator had not used lately may be exceeded by
that coordinator's share, once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from typing import NamedTuple, Protocol
from uuid import uuid4

from orchestrator.accounting import Asked, Ended
from orchestrator.callers import Caller
from orchestrator.errors import Denied
from orchestrator.limits.central import HOLD_S, Central, Grant, Take
from orchestrator.limits.window import WINDOW_S, Window

TELL_S = 0.5
"""How long after it took permits, at the most, it tells what it has used; of all limits at once. It gives back the rest, or
keeps it where it is in use and much is free."""
BUSY_S = 0.1
"""What was used within it is in use."""
AWAY_S = 0.5
"""How long it goes on by itself before it asks again."""
RECHECK_S = 1.0
"""A refusal is looked into again after so long: what others had reserved may have come free meanwhile."""
FRESH_S = 5.0
"""What the centre said is good for so long, once it is away."""
IDLE_S = 2 * WINDOW_S

_log = logging.getLogger("orchestrator.limits")


class Away(Exception):
    """Nobody grants permits at the moment."""


class Centre(Protocol):
    """Where permits come from."""

    async def take(self, take: Take) -> Grant | None:
        """See `Central.take`. Raises Away."""
        ...


class Here:
    """A centre of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._central = Central(clock())

    async def take(self, take: Take) -> Grant | None:
        """See `Centre`."""
        return self._central.take(self._clock(), take)


class Standing(NamedTuple):
    """How a key stands with one of its limits, as far as this coordinator knows."""

    what: str
    """`requests` or `tokens`."""
    limit: int
    remaining: int
    reset_s: float
    """When the whole limit is free again, if nothing is used until then."""


class _Stock:
    """What is at hand of one limit."""

    __slots__ = (
        "again_at_s", "alone", "asking", "away_until_s", "empty_need", "empty_until_s", "free", "held", "last_s", "limit",
        "name", "own", "peers", "told_s", "until_s", "untold", "waiting", "whole",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.limit = 0
        self.held = 0
        self.until_s = -inf
        """When what is held is good for nothing any more."""
        self.own = Window()
        """What was used here in the last minute."""
        self.untold = Window()
        """The same, as far as the centre does not know."""
        self.whole = True
        """Whether the centre is told of the whole last minute."""
        self.asking: asyncio.Task[None] | None = None
        self.waiting = 0
        """What those who wait for an answer need together."""
        self.empty_until_s = -inf
        self.empty_need = 0
        """So much was not to be had, which is looked into again then."""
        self.again_at_s = -inf
        """When it will be to be had, as far as anybody knows."""
        self.away_until_s = -inf
        self.free = 0
        self.peers = 1
        self.told_s = -inf
        """When the centre last told how much is free, and among how many."""
        self.alone = 0
        """How much of the window it might fill by itself, by that."""
        self.last_s = -inf
        """When it was last used."""

    def may_fill(self, now_s: float) -> int:
        """How much of the window this coordinator may fill while it is on its own."""
        if now_s - self.told_s < FRESH_S:
            return self.alone
        return self.limit // self.peers

    def has(self, now_s: float, amount: int) -> bool:
        """Whether so much is at hand."""
        return self.held >= amount and now_s < self.until_s

    def refused(self, now_s: float, amount: int) -> bool:
        """Whether so much is known not to be had."""
        return now_s < self.empty_until_s and amount >= self.empty_need

    def lacks(self, now_s: float, amount: int) -> bool:
        """Whether the centre has to be asked before so much is used."""
        return not (self.has(now_s, amount) or self.refused(now_s, amount) or now_s < self.away_until_s)

    def in_use(self, now_s: float) -> bool:
        """Whether what is held is used meanwhile, and nobody else is short of it."""
        return now_s - self.last_s < BUSY_S and self.free > self.limit // 2

    def use(self, now_s: float, at_s: float, amount: int) -> None:
        """Counts an amount; a negative one is given back."""
        self.own.add(now_s, at_s, amount)
        self.untold.add(now_s, at_s, amount)
        if amount > 0:
            self.last_s = now_s
        else:
            self.empty_until_s = -inf


class _Charge:
    """What one request was charged (`Allowance`)."""

    __slots__ = ("_limiter", "_requests", "_tokens")

    def __init__(
        self, limiter: Limiter, requests: tuple[_Stock, float] | None, tokens: tuple[_Stock, float, int] | None
    ) -> None:
        self._limiter = limiter
        self._requests = requests
        self._tokens = tokens

    def settle(self, ended: Ended | None) -> None:
        """Corrects the tokens by what the attempts used; gives all back where nothing was begun."""
        if ended is None and self._requests is not None:
            self._limiter.correct(*self._requests, -1)
        if self._tokens is not None:
            stock, at_s, reserved = self._tokens
            used = 0 if ended is None else _used(ended)
            if used is not None and used != reserved:
                self._limiter.correct(stock, at_s, used - reserved)


class Limiter:
    """`orchestrator.accounting.Allowing` by what each key may ask for in a minute.

    Costs 0.7 µs for a key without limits, 4 µs for one of requests, 8 µs for one of both; and, while limits are far from
    their ends, a message in half a second for all of them together. A key that was not used for a second asks once for both.
    """

    def __init__(self, centre: Centre, clock: Callable[[], float] = time.monotonic) -> None:
        self._centre = centre
        self._clock = clock
        self._holder = uuid4().hex
        self._stocks: dict[tuple[str, str], _Stock] = {}
        """By the key's name, and of what."""
        self._swept_s = clock()
        self._telling: dict[_Stock, None] = {}
        """What is to be told next, in the order in which it was used."""

    async def allow(self, asked: Asked) -> _Charge | None:
        """See `Allowing`. Waits for permits where there are none in stock. Raises Denied (429)."""
        caller = asked.ask.caller
        if caller is None or (caller.requests_per_minute is None and caller.tokens_per_minute is None):
            return None
        requests = tokens = None
        if caller.requests_per_minute is not None:
            stock = self._stock(caller.name, "requests", int(caller.requests_per_minute))
            if caller.tokens_per_minute is not None and stock.lacks(self._clock(), 1):
                self._ask_ahead(*self._of_tokens(asked, caller, caller.tokens_per_minute))
            requests = stock, await self._take(stock, 1, caller)
        if caller.tokens_per_minute is not None:
            # Looked up only now: while the others were waited for, it may have been let go of.
            stock, amount = self._of_tokens(asked, caller, caller.tokens_per_minute)
            try:
                tokens = stock, await self._take(stock, amount, caller), amount
            except BaseException:
                if requests is not None:
                    self.correct(*requests, -1)
                raise
        return _Charge(self, requests, tokens)

    def _of_tokens(self, asked: Asked, caller: Caller, limit: float) -> tuple[_Stock, int]:
        """A key's tokens, and how many of them the request is charged to begin with."""
        stock = self._stock(caller.name, "tokens", int(limit))
        # Over the whole limit: it has to wait until all is free, rather than for ever.
        return stock, min(stock.limit, max(1, estimate(asked)))

    def _ask_ahead(self, stock: _Stock, amount: int) -> None:
        """Has what will be needed asked for in the message that is about to go."""
        if stock.lacks(self._clock(), amount):
            self._begin(stock, amount)

    def standing(self, caller: Caller) -> tuple[Standing, ...]:
        """How a key stands with its limits, for the headers of an answer."""
        rows: list[Standing] = []
        now_s = self._clock()
        for what, limit in (("requests", caller.requests_per_minute), ("tokens", caller.tokens_per_minute)):
            stock = None if limit is None else self._stocks.get((caller.name, what))
            if stock is not None:
                held = stock.held if now_s < stock.until_s else 0
                reset_s = max(0.0, stock.last_s + WINDOW_S - now_s)
                rows.append(Standing(what, stock.limit, min(stock.limit, stock.free + held), reset_s))
        return tuple(rows)

    def correct(self, stock: _Stock, at_s: float, amount: int) -> None:
        """More was used than was charged at `at_s`, or (negative) less."""
        now_s = self._clock()
        stock.use(now_s, now_s if amount > 0 else at_s, amount)
        self._tell_later(stock)

    def _stock(self, name: str, what: str, limit: int) -> _Stock:
        stock = self._stocks.get((name, what))
        if stock is None:
            self._forget_idle()
            stock = self._stocks[name, what] = _Stock(f"{name}:{what}")
        if stock.limit != limit:
            # The configuration has another. What was granted under the one before goes back with the next question.
            stock.limit, stock.held, stock.free = limit, 0, 0
            stock.empty_until_s = stock.told_s = -inf
        return stock

    def _forget_idle(self) -> None:
        """Keys come and go, too."""
        now_s = self._clock()
        if now_s - self._swept_s < WINDOW_S:
            return
        self._swept_s = now_s
        for key, one in [*self._stocks.items()]:
            if now_s - one.last_s > IDLE_S and one.asking is None and one not in self._telling:
                del self._stocks[key]

    async def _take(self, stock: _Stock, amount: int, caller: Caller) -> float:
        """Uses an amount, at the time that is returned. Raises Denied."""
        while True:
            now_s = self._clock()
            if stock.has(now_s, amount):
                stock.held -= amount
                break
            if stock.refused(now_s, amount):
                raise _denied(stock, caller, max(0.1, stock.again_at_s - now_s))
            if now_s < stock.away_until_s:
                own = stock.own.forget(now_s)
                if own + amount > stock.may_fill(now_s):
                    raise _denied(stock, caller, AWAY_S)
                break
            stock.waiting += amount
            try:
                await asyncio.shield(self._begin(stock, amount))
            finally:
                stock.waiting -= amount
        stock.use(now_s, now_s, amount)
        self._tell_later(stock)
        return now_s

    def _begin(self, stock: _Stock, need: int, *, keep: bool = False) -> asyncio.Task[None]:
        """A question to the centre, if none is on its way. `keep`: what is held does not go back."""
        if stock.asking is None:
            stock.asking = asyncio.ensure_future(self._ask(stock, need, keep=keep))
        return stock.asking

    async def _ask(self, stock: _Stock, need: int, *, keep: bool) -> None:
        """One question to the centre; whoever waits for it looks at the stock again."""
        try:
            await self._exchange(stock, need, keep=keep)
        finally:
            stock.asking = None

    async def _exchange(self, stock: _Stock, need: int, *, keep: bool) -> None:
        now_s, limit = self._clock(), stock.limit
        if not (need or keep) or now_s >= stock.until_s:
            stock.held = 0  # it goes back
        grant = None
        try:
            while grant is None:
                grant = await self._centre.take(self._asking(stock, need, now_s, keep=keep))
        except Away as away:
            _log.info("limits are kept by share for a while: %s", away)
            stock.away_until_s, stock.held = self._clock() + AWAY_S, 0
            self._tell_later(stock)
            return
        stock.whole = stock.limit != limit
        if stock.whole:
            self._tell_later(stock)  # that nothing is held of it: it is another limit by now
            return
        stock.free, stock.peers, stock.told_s = grant.free, grant.peers, self._clock()
        stock.alone = stock.own.total + stock.held + grant.amount + grant.share
        if grant.amount or keep:
            stock.held += grant.amount
            stock.until_s = now_s + HOLD_S
            self._tell_later(stock)
        elif need:
            now_s = self._clock()
            stock.empty_need, stock.again_at_s = need, now_s + grant.again_s
            stock.empty_until_s = now_s + min(RECHECK_S, grant.again_s)

    def _asking(self, stock: _Stock, need: int, now_s: float, *, keep: bool) -> Take:
        untold, stock.untold = stock.untold, Window()
        whole, stock.whole = stock.whole, True  # if this gets lost, all of it is told once more
        stock.own.forget(now_s)
        # Of what is needed, some may be held: only the rest is asked for. (A top-up needs more than what is held.)
        lacking = need if keep or not need else max(1, need - stock.held)
        return Take(
            self._holder,
            stock.name,
            stock.limit,
            lacking,
            max(lacking, stock.waiting - stock.held) if need else 0,
            stock.held,
            (stock.own if whole else untold).ages(now_s),
            whole,
            stock.peers,
            stock.may_fill(now_s),
        )

    def _tell_later(self, stock: _Stock) -> None:
        if not self._telling:
            asyncio.get_running_loop().call_later(TELL_S, self._tell_all)
        self._telling[stock] = None

    def _tell_all(self) -> None:
        due, self._telling = self._telling, {}
        for stock in due:
            self._tell(stock)

    def _tell(self, stock: _Stock) -> None:
        now_s = self._clock()
        if stock.asking is not None:
            self._tell_later(stock)  # it is being told
        elif stock.held and stock.in_use(now_s):
            # Of what is used up before it is told again, more is asked for at once: no request waits for that. How much, the
            # centre says, by what is free: a large request is no reason to expect another.
            self._begin(stock, 0 if stock.held > 2 * stock.untold.forget(now_s) else 1, keep=True)
        elif stock.held or stock.whole or stock.untold.any():
            self._begin(stock, 0)


def estimate(asked: Asked) -> int:
    """The tokens that a request is charged before anybody knows: those of its input, by its length, and the most that it lets
    the model write, where it says so."""
    body = asked.ask.request.body
    wanted = body.get("max_completion_tokens") or body.get("max_tokens")
    return asked.ask.request.input_tokens + (wanted if isinstance(wanted, int) else 0)


def _used(ended: Ended) -> int | None:
    """The tokens of all attempts, none where nobody was called; None where they are not known: the estimate stays."""
    attempts = ended.report["attempts"]
    known = [
        (attempt.get("input_tokens") or 0) + (attempt.get("output_tokens") or 0)
        for attempt in attempts
        if attempt.get("input_tokens") is not None or attempt.get("output_tokens") is not None
    ]
    return sum(known) if known or not attempts else None


def _denied(stock: _Stock, caller: Caller, wait_s: float) -> Denied:
    what = stock.name.rpartition(":")[2]
    message = f"the key {caller.name!r} may use {stock.limit} {what} in a minute, and has; try again in {wait_s:.1f} s"
    return Denied(429, "rate_limit_exceeded", message, wait_s)
