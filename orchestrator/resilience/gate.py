"""`Admission` for coroutines: one future a waiter, one timer for all of them.

A call that may go at once costs neither: about 5 µs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from orchestrator.config.settings import Provider
from orchestrator.resilience.admission import Absence, Account, Admission, Permit, Upstream, Waiter
from orchestrator.types import Failure, FailureKind, Usage


class Gate:
    """Lets calls through. Permits are given back by `release`, exactly once each."""

    def __init__(self, admission: Admission, clock: Callable[[], float]) -> None:
        self.admission = admission
        self._clock = clock
        self._futures: dict[Waiter, asyncio.Future[Permit | Failure]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def admit(
        self,
        model: str,
        tokens: int,
        priority: int,
        *,
        max_wait_s: float | None = None,
        waits: bool = True,
        affinity: bytes = b"",
    ) -> Permit | Failure:
        """Waits for a place. Cancelled, it leaves the queue at once and holds nothing. See `Admission.arrive`."""
        arrived = self.admission.arrive(
            model, tokens, priority, self._clock(), max_wait_s, waits=waits, affinity=affinity
        )
        if not isinstance(arrived, Waiter):
            return arrived
        future: asyncio.Future[Permit | Failure] = asyncio.get_running_loop().create_future()
        self._futures[arrived] = future
        self._arm()
        try:
            return await future
        except asyncio.CancelledError:
            self._futures.pop(arrived, None)
            if isinstance(arrived.result, Permit):
                self.release(arrived.result, Failure(FailureKind.CANCELLED, "cancelled"))
            else:
                self.admission.abandon(arrived)
            raise

    def release(
        self, permit: Permit, failure: Failure | None, *, seconds: float = 0.0, usage: Usage | None = None
    ) -> None:
        """A call ended; see `Admission.release`. Whoever can go now goes."""
        self.admission.release(permit, self._clock(), failure, seconds=seconds, usage=usage)
        if self.admission.queue:
            self._pump()

    def probed(self, account: Account, ill: Failure | None) -> None:
        """See `Admission.probed`. Whoever can go now goes."""
        self.admission.probed(account, self._clock(), ill)
        self._pump()

    def configure(self, provider: Provider, upstreams: tuple[Upstream, ...], absence: Absence | None = None) -> None:
        """See `Admission.configure`. Whoever can go by the new settings goes."""
        self.admission.configure(provider, upstreams, self._clock())
        self.admission.absence = absence or self.admission.absence
        self._pump()

    def drain(self) -> None:
        """Refuses whatever comes from now on, and all that waits."""
        self.admission.draining = True
        self._pump()

    def _pump(self) -> None:
        for waiter in self.admission.pump(self._clock()):
            future = self._futures.pop(waiter, None)
            assert waiter.result is not None
            if future is not None and not future.done():
                future.set_result(waiter.result)
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now_s = self._clock()
        next_s = self.admission.next_s(now_s)
        if next_s != inf:
            # A clock may be a hair behind the loop's: never sooner than a millisecond, or this would spin.
            self._timer = asyncio.get_running_loop().call_later(max(0.001, next_s - now_s), self._pump)
