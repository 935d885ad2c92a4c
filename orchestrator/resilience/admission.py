"""Who may call now: one machine for accounts, breakers, limits, pauses, the semaphore and the queue before them.

It is asked when a call arrives, when one ends, and when the time that it named has come. All it charges (a permit, a
request, tokens, a probe) is charged when a call is sent, never while it waits: a queued call holds nothing.

Waiting calls stand in one queue, by priority and arrival. A call of lower priority (a batch's) goes when none of those
before it can, and never overtakes one that waits; so that it is not starved, every `TURN`th place that becomes free goes to
one that has waited for `AGING_S`. (By age alone, a pool that batches keep full for longer than that would put people behind
all of them.) It is patient, too: it takes no place in the queue from others, and waits as long as its call may take. A call
whose model is paused or whose account is limited does not hold up those behind it that could go.

A call may say how long it is ready to wait (`max_wait_s`). Where the wait is predicted to be longer, it is refused at once,
so that it can be made elsewhere: the calls before it and its own, by how long a place is taken in the mean, by the places.
The prediction is made here, where all callers of the pool are known, and holds for the moment in which it is needed.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from orchestrator.config import settings
from orchestrator.hosting.affinity import Load, nearest
from orchestrator.resilience.breaker import Breaker
from orchestrator.resilience.limits import Bucket
from orchestrator.resilience.retry import backoff_s
from orchestrator.types import Failure, FailureKind, Json, Usage

AGING_S = 10.0
TURN = 10
"""Calls of higher priority lose a tenth of the places at the most."""
PATIENT = 100_000
"""Calls of lower priority that may wait: their callers' windows are what bounds them."""
IDLE_MODELS = 1_000
"""Callers choose models' names, so what is remembered of them is bounded: the least recently used idle ones go first."""


class Upstream(NamedTuple):
    """What counts as an account: a key of the provider's, or a replica of a local model, which has an address of its own."""

    key: str | None
    """None: it is called without credentials."""
    base_url: str = ""
    """Empty: the provider's."""
    replica: int | None = None


class Absence(NamedTuple):
    """Why a local model has nobody to answer now."""

    failure: Failure
    wait_s: float
    """How long a call waits for somebody that has nobody else to ask; 0: it is refused at once."""


NOBODY = Absence(Failure(FailureKind.STARTING, "the model is being started", retry_after_s=1.0), 0.0)


@dataclass(slots=True)
class Model:
    """One model of one account."""

    breaker: Breaker
    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    paused_until_s: float = -inf
    rate_limited: int = 0
    """429s in a row, for the growth of the pause."""
    trouble: str | None = None
    """What its last failure was that counts against its health."""


@dataclass(slots=True, eq=False)
class Account:
    """One API key of the provider, or one replica of a local model."""

    index: int
    upstream: Upstream = field(repr=False)
    breaker: Breaker
    requests: Bucket
    tokens: Bucket
    in_flight: int = 0
    calls: int = 0
    misconfigured: str | None = None
    trouble: str | None = None
    """What the last failure was that counts against all of it."""
    load: Load = field(default_factory=Load)
    """Of a replica: how busy it says that it is."""
    models: OrderedDict[str, Model] = field(default_factory=OrderedDict)

    def model(self, name: str, breaker: settings.Breaker) -> Model:
        """The state of a model, made when it is first heard of."""
        model = self.models.get(name)
        if model is None:
            model = self.models[name] = Model(Breaker(breaker))
            for old in list(self.models)[: max(0, len(self.models) - IDLE_MODELS)]:
                if self.models[old].in_flight == 0:
                    del self.models[old]
        self.models.move_to_end(name)
        return model


@dataclass(slots=True, eq=False)
class Permit:
    """A call that was let through; to be given back exactly once, by `Admission.release`."""

    account: Account
    model: Model
    tokens: int
    model_probe: bool
    account_probe: bool
    released: bool = False


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits. `result` is set by `Admission.pump`."""

    key: tuple[int, int]
    """Its priority, and the how manieth it came."""
    model: str
    tokens: int
    since_s: float
    until_s: float
    """When it has waited long enough."""
    late: Failure
    """What becomes of it then."""
    waits: bool = True
    """See `Request.waits`."""
    affinity: bytes = b""
    """See `Admission.arrive`."""
    result: Permit | Failure | None = None


@dataclass(frozen=True, slots=True)
class _Blocked:
    """Why a call cannot go now, and when it might; `failure` set: it is refused instead of queued."""

    until_s: float
    failure: Failure | None = None
    patience_s: float = 0.0
    """How long it may wait, if that is longer than a place is waited for."""


class Admission:
    """The machine of one pool. Guaranteed: at most `concurrency` permits an account are out at any time."""

    def __init__(
        self, provider: settings.Provider, upstreams: tuple[Upstream, ...], now_s: float, rng: random.Random
    ) -> None:
        self._provider = provider
        self._rng = rng
        self.absence = NOBODY
        """What is said while there is no upstream at all, which happens to local models alone."""
        self.missed = 0
        """Calls that came while there was none."""
        self.accounts: tuple[Account, ...] = ()
        self._former: list[Account] = []
        """Accounts that were taken away, while calls of theirs are still in flight."""
        self.queue: list[Waiter] = []
        self._arrivals = 0
        self._passed = 0
        """Calls that have gone since one of lower priority did, while one waited."""
        self.draining = False
        self._mean_s = 1.0
        """A moving average of how long a permit is out, for the estimate of how long one waits."""
        self._answered = 0
        self.configure(provider, upstreams, now_s)

    def configure(self, provider: settings.Provider, upstreams: tuple[Upstream, ...], now_s: float) -> None:
        """Goes on by other settings. What is in flight stays counted, and an account whose upstream stays keeps its state.

        Rate limits and breakers begin anew where their own settings have changed.
        """
        before, self._provider = self._provider, provider
        known = {account.upstream: account for account in self.accounts}
        accounts = []
        for index, upstream in enumerate(upstreams):
            account = known.pop(upstream, None)
            if account is None:
                breaker = Breaker(provider.breaker)
                account = Account(index, upstream, breaker, *_buckets(provider.limits, now_s))
            else:
                account.index = index
                if provider.limits != before.limits:
                    account.requests, account.tokens = _buckets(provider.limits, now_s)
                if provider.breaker != before.breaker:
                    account.breaker = Breaker(provider.breaker)
                    for model in account.models.values():
                        model.breaker = Breaker(provider.breaker)
            accounts.append(account)
        self.accounts = tuple(accounts)
        self._former = [account for account in (*self._former, *known.values()) if account.in_flight]

    @property
    def in_flight(self) -> int:
        """Permits that are out."""
        return sum(account.in_flight for account in (*self.accounts, *self._former))

    def in_flight_at(self, base_url: str) -> int:
        """Permits of a replica that are out, also where it was taken away."""
        accounts = (*self.accounts, *self._former)
        return sum(account.in_flight for account in accounts if account.upstream.base_url == base_url)

    def arrive(
        self,
        model: str,
        tokens: int,
        priority: int,
        now_s: float,
        max_wait_s: float | None = None,
        *,
        waits: bool = True,
        affinity: bytes = b"",
    ) -> Permit | Failure | Waiter:
        """A call comes. It may go, is refused, or waits (until `pump` says otherwise), for `max_wait_s` at the most.

        `waits`: see `Request.waits`. `affinity`: what calls have in common that one replica is to answer, if it is not
        busier than the others.
        """
        if self.draining:
            return Failure(FailureKind.DRAINING, "the pool is shutting down", retry_after_s=1.0)
        patience_s = 0.0
        ahead = bisect_left(self.queue, (priority, 0), key=_key) if priority and self.queue else 0
        until_s = now_s
        self.missed += not self.accounts
        if max_wait_s is not None and (wait_s := self._engines_wait_s()) > max_wait_s:
            return _busy(f"its own queue takes about {wait_s:.1f} s", max_wait_s, wait_s)
        if not ahead:
            decided = self._decide(model, tokens, now_s, waits, affinity)
            if isinstance(decided, Permit):
                return decided
            if decided.failure is not None:
                return decided.failure
            until_s = decided.until_s
            patience_s = decided.patience_s
        if max_wait_s is not None and (wait_s := self._wait_s(priority, until_s, now_s)) > max_wait_s:
            return _busy(f"a place would be free after about {wait_s:.1f} s", max_wait_s, wait_s)
        pool = self._provider.pool
        most = PATIENT if priority else pool.queue
        if len(self.queue) >= most and self._waiting(priority) >= most:
            return Failure(
                FailureKind.QUEUE_FULL,
                f"the queue is full ({most} calls wait for {self._places} places)",
                retry_after_s=max(1.0, self._mean_s * most / max(1, self._places)),
            )
        self._arrivals += 1
        most_s = inf if priority else max(pool.queue_timeout_s, patience_s)
        late = Failure(FailureKind.QUEUE_TIMEOUT, f"no place became free within {most_s:g} s", retry_after_s=1.0)
        if max_wait_s is not None and max_wait_s < most_s:
            most_s, late = max_wait_s, _busy("no place became free in time", max_wait_s, 1.0)
        waiter = Waiter((priority, self._arrivals), model, tokens, now_s, now_s + most_s, late, waits, affinity)
        insort(self.queue, waiter, key=_key)
        return waiter

    def _wait_s(self, priority: int, until_s: float, now_s: float) -> float:
        """How long a call that comes now will wait: until a pause or a limit is over (`until_s`), else for its turn."""
        if not self.accounts:
            return self.absence.wait_s
        if until_s not in (now_s, inf):
            return until_s - now_s
        ahead = bisect_left(self.queue, (priority + 1, 0), key=_key)
        return self._mean_s * (ahead + 1) / self._places

    def _engines_wait_s(self) -> float:
        """How long a local model's least busy replica will have a call wait that is sent now: it may queue calls itself."""
        if self._provider.hosted is None:
            return 0.0
        waits = (
            one.load.waiting / max(1.0, one.in_flight + one.load.running - one.load.waiting) for one in self.accounts
        )
        return self._mean_s * min(waits, default=0.0)

    def _waiting(self, priority: int) -> int:
        """How many wait that are interactive; or that are not."""
        interactive = bisect_left(self.queue, (1, 0), key=_key)
        return len(self.queue) - interactive if priority else interactive

    def pump(self, now_s: float) -> list[Waiter]:
        """Lets waiting calls go that can, and refuses those that need not wait any longer: each has its `result`."""
        done: list[Waiter] = []
        timeout_s = self._earliest_timeout()
        for waiter in self._in_turn(now_s):
            if self.draining:
                waiter.result = Failure(FailureKind.DRAINING, "the pool is shutting down", retry_after_s=1.0)
            elif now_s >= waiter.until_s:
                waiter.result = waiter.late if self.accounts else self.absence.failure
            elif self._full:
                if now_s < timeout_s:
                    break
            else:
                decided = self._decide(waiter.model, waiter.tokens, now_s, waiter.waits, waiter.affinity)
                waiter.result = decided if isinstance(decided, Permit) else decided.failure
                if isinstance(decided, Permit):
                    self._passed = 0 if waiter.key[0] else self._passed + 1
            if waiter.result is not None:
                done.append(waiter)
        if done:
            self.queue = [waiter for waiter in self.queue if waiter.result is None]
        return done

    def _in_turn(self, now_s: float) -> list[Waiter]:
        """Those that wait, in the order in which they may go now."""
        queue = self.queue
        if not queue or queue[-1].key[0] == 0:
            self._passed = 0
            return queue
        first = bisect_left(queue, (1, 0), key=_key)
        if not first or self._passed < TURN - 1 or now_s - queue[first].since_s < AGING_S:
            return queue
        return [queue[first], *queue[:first], *queue[first + 1 :]]

    def abandon(self, waiter: Waiter) -> None:
        """A waiting call goes away. (One that was let through meanwhile has to release its permit instead.)"""
        self.queue = [other for other in self.queue if other is not waiter]

    def next_s(self, now_s: float) -> float:
        """When `pump` has to be asked again, even if no call ends; infinity: no need."""
        next_s = self._earliest_timeout()
        if not self._full:
            for waiter in self.queue:
                decided = self._blocked(waiter.model, waiter.tokens, now_s, waiter.waits)
                next_s = min(next_s, decided.until_s)
        return next_s

    def release(
        self, permit: Permit, now_s: float, failure: Failure | None, *, seconds: float = 0.0, usage: Usage | None = None
    ) -> None:
        """A call ended: with an answer (None), a failure, or cancelled (a failure of that kind)."""
        assert not permit.released, "a permit is given back once"
        permit.released = True
        account, model = permit.account, permit.model
        account.in_flight -= 1
        model.in_flight -= 1
        if not account.in_flight and account in self._former:
            self._former.remove(account)
        kind = None if failure is None else failure.kind
        if kind is None:
            self._answered += 1
            self._mean_s += max(0.1, 1 / self._answered) * (seconds - self._mean_s)
            model.rate_limited = 0
            if usage is not None:
                account.tokens.take(now_s, usage.input_tokens + usage.output_tokens - permit.tokens)
        else:
            model.failures += kind is not FailureKind.CANCELLED
        account_healthy, model_healthy = _health(kind)
        account.breaker.end(now_s, account_healthy, probe=permit.account_probe)
        model.breaker.end(now_s, model_healthy, probe=permit.model_probe)
        if failure is not None and model_healthy is False:
            model.trouble = failure.message
        if failure is not None and account_healthy is False:
            account.trouble = failure.message
        if failure is None:
            account.misconfigured = None
            return
        self._doubtless(account, now_s, failure)
        if kind is FailureKind.RATE_LIMITED:
            model.rate_limited += 1
            bound_s = backoff_s(self._provider.retry, min(model.rate_limited, 30))
            pause_s = failure.retry_after_s
            if pause_s is None:
                # Equal jitter: at least half, since a pause of nothing would hammer a provider that said stop.
                pause_s = self._rng.uniform(bound_s / 2, bound_s)
            model.paused_until_s = max(model.paused_until_s, now_s + pause_s)

    def probed(self, account: Account, now_s: float, ill: Failure | None) -> None:
        """An active probe of an account was answered (None), or failed: what it says of the account, and only of that."""
        if ill is None:
            account.breaker.well()
            account.misconfigured = None
        else:
            self._doubtless(account, now_s, ill)
            account.breaker.ill(now_s)

    @staticmethod
    def _doubtless(account: Account, now_s: float, failure: Failure) -> None:
        """One refused key or empty purse is enough to close the account, until somebody has changed the key or paid."""
        if failure.kind in (FailureKind.UNAUTHORIZED, FailureKind.QUOTA):
            account.breaker.open(now_s)
            account.misconfigured = failure.message

    @property
    def _places(self) -> int:
        return self._provider.pool.concurrency * len(self.accounts)

    @property
    def _full(self) -> bool:
        """Whether a place has to become free first."""
        most = self._provider.pool.concurrency
        return bool(self.accounts) and all(account.in_flight >= most for account in self.accounts)

    def _earliest_timeout(self) -> float:
        return min((waiter.until_s for waiter in self.queue), default=inf)

    def _decide(
        self, name: str, tokens: int, now_s: float, waits: bool = True, affinity: bytes = b""
    ) -> Permit | _Blocked:
        """Lets a call go by the least busy account that may take it, of equals the one with the fewest calls; charges it.

        Of replicas, by the one that `orchestrator.hosting.affinity` chooses.
        """
        best: Account | None = None
        if self._provider.hosted is not None:
            able = [one for one in self.accounts if self._ready_s(one, name, tokens, now_s) <= now_s]
            best = nearest(able, affinity) if able else None
        for account in self.accounts if self._provider.hosted is None else ():
            if best is not None and (best.in_flight, best.calls) <= (account.in_flight, account.calls):
                continue
            if self._ready_s(account, name, tokens, now_s) <= now_s:
                best = account
        if best is None:
            return self._blocked(name, tokens, now_s, waits)
        model = best.model(name, self._provider.breaker)
        best.in_flight += 1
        best.calls += 1
        model.in_flight += 1
        model.calls += 1
        best.requests.take(now_s, 1)
        best.tokens.take(now_s, tokens)
        return Permit(best, model, tokens, model.breaker.begin(), best.breaker.begin())

    def _ready_s(self, account: Account, name: str, tokens: int, now_s: float) -> float:
        if account.in_flight >= self._provider.pool.concurrency:
            return inf
        ready_s = account.breaker.ready_s(now_s)
        if (model := account.models.get(name)) is not None:
            ready_s = max(ready_s, model.paused_until_s, model.breaker.ready_s(now_s))
        return max(ready_s, account.requests.ready_s(now_s, 1), account.tokens.ready_s(now_s, tokens))

    def _blocked(self, name: str, tokens: int, now_s: float, waits: bool) -> _Blocked:
        """Why no account takes the call now. Called when there is none that would."""
        if not self.accounts:
            failure, wait_s = self.absence
            return _Blocked(inf, None, wait_s) if waits and wait_s else _Blocked(now_s, failure)
        open_s: list[float] = []
        pauses_s: list[float] = []
        for account in self.accounts:
            model = account.models.get(name)
            health_s = max(account.breaker.ready_s(now_s), model.breaker.ready_s(now_s) if model else now_s)
            pause_s = model.paused_until_s if model else now_s
            if health_s > now_s:
                open_s.append(health_s)
            elif pause_s - now_s > self._provider.retry.honour_retry_after_s:
                pauses_s.append(pause_s)
        if len(open_s) == len(self.accounts):
            wait_s = min(open_s) - now_s
            wait_s = self._provider.breaker.cooldown_s if wait_s == inf else wait_s
            message = f"not asked for another {wait_s:.1f} s: {self._trouble(name, now_s)}"
            return _Blocked(now_s, Failure(FailureKind.BREAKER_OPEN, message, retry_after_s=wait_s))
        if len(open_s) + len(pauses_s) == len(self.accounts):
            wait_s = min(pauses_s) - now_s
            message = f"rate limited: the provider asks to wait another {wait_s:.1f} s"
            return _Blocked(now_s, Failure(FailureKind.PAUSED, message, retry_after_s=wait_s))
        return _Blocked(min(self._ready_s(account, name, tokens, now_s) for account in self.accounts))

    def _trouble(self, name: str, now_s: float) -> str:
        """Why a model is not asked: what its breaker, or its account's, opened for."""
        for account in self.accounts:
            if account.misconfigured:
                return account.misconfigured
            model = account.models.get(name)
            trouble = model.trouble if model and model.breaker.ready_s(now_s) > now_s else account.trouble
            if trouble:
                return f"it has failed repeatedly, last with: {trouble}"
        return "it has failed repeatedly"

    def stats(self, now_s: float) -> Json:
        """What /admin/pools shows. No keys: accounts are numbered."""
        return {
            "in_flight": self.in_flight,
            "queued": len(self.queue),
            "concurrency": self._provider.pool.concurrency,
            "queue": self._provider.pool.queue,
            "draining": self.draining,
            "accounts": [
                {
                    "account": account.index,
                    "in_flight": account.in_flight,
                    "calls": account.calls,
                    "breaker": account.breaker.state(now_s),
                    "misconfigured": account.misconfigured,
                    "models": {
                        name: {
                            "in_flight": model.in_flight,
                            "breaker": model.breaker.state(now_s),
                            "paused_for_s": round(max(0.0, model.paused_until_s - now_s), 3),
                            "calls": model.calls,
                            "failures": model.failures,
                        }
                        for name, model in account.models.items()
                    },
                }
                for account in self.accounts
            ],
        }


def _key(waiter: Waiter) -> tuple[int, int]:
    return waiter.key


def _busy(what: str, max_wait_s: float, wait_s: float) -> Failure:
    return Failure(FailureKind.BUSY, f"{what}, and the request may wait {max_wait_s:g} s", retry_after_s=wait_s)


def _buckets(limits: settings.Limits, now_s: float) -> tuple[Bucket, Bucket]:
    return Bucket(limits.requests_per_minute, now_s), Bucket(limits.tokens_per_minute, now_s)


def _health(kind: FailureKind | None) -> tuple[bool | None, bool | None]:
    """What an end says about the account and about the model: well (True), ill (False) or nothing (None)."""
    if kind is None:
        return True, True
    traits = kind.traits
    if not traits.hurts_health:
        # A provider that refuses a request is there and answers; what was our own doing says nothing.
        answered = kind in (FailureKind.MALFORMED, FailureKind.CONTEXT_LENGTH, FailureKind.CONTENT_POLICY)
        return (True, True) if answered else (None, None)
    return (False, None) if traits.account_wide else (None, False)
