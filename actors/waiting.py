"""The runtime whose decisions come from `ray.wait`: calls are Ray calls of pool actors.

`ray.wait` with a timeout would block the event loop, so an arrival wakes the loop (`ObjectRef._on_completed`, used here
and nowhere else; it brings the value along, where awaiting it as well would cost another trip through Ray's thread) and
`ray.wait(..., timeout=0)` then says which calls are ready, and in which order: what it lists first has won. The one thing
that is not read from its list is a pool whose session broke: its calls have failed, seconds before Ray would say so.

Losers are cancelled by a frame on the session, at a third of what `ray.cancel` costs; where the session is gone,
`ray.cancel` is used.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from actors.link import Link, RelayStream
from actors.relay import Called, Ticketed
from orchestrator.current import REQUEST_ID, TRACE
from orchestrator.drive import Stream
from orchestrator.resilience.latency import MODELS, Quantiles
from orchestrator.routes import Candidate
from orchestrator.strategies.plan import Call
from orchestrator.tracing import of_call
from orchestrator.types import Failure, FailureKind, Reply, Usage

RESTART_S = 10.0
"""How long a call waits for a pool that is being restarted: it is back 1 to 5 s after kill -9."""


class Flight:
    """One call of a pool actor."""

    __slots__ = (
        "about",
        "call",
        "failure",
        "link",
        "loop",
        "ref",
        "session",
        "signalled",
        "starting",
        "stream",
        "value",
        "waiter",
    )

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop, about: tuple[str, str, bool]) -> None:
        self.about = about
        """Provider, model, and whether it streams."""
        self.link = link
        self.loop = loop
        self.call = link.next_call()
        self.session = b""
        self.ref: Any = None
        self.failure: Failure | None = None
        """Set when the pool is known to be gone."""
        self.value: Any = None
        """What Ray brought: pickled, or an exception."""
        self.signalled = False
        self.waiter: asyncio.Future[None] | None = None
        self.starting: asyncio.Task[None] | None = None
        self.stream: RelayStream | None = None

    def signal(self) -> None:
        """The call may be ready: wakes who waits for it."""
        self.signalled = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def on_completed(self, value: Any) -> None:
        """The same, from Ray's thread, with the value."""
        self.value = value
        try:
            self.loop.call_soon_threadsafe(self.signal)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def lost(self) -> None:
        """The session ended while the call was in flight."""
        self.failure = Failure(FailureKind.POOL_LOST, f"the pool of {self.link.provider} was lost")
        self.signal()


class RayCalls:
    """`orchestrator.drive.Runtime` over pool actors. One per process; its links belong to the running loop."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links = links
        self._known: OrderedDict[tuple[str, str, bool], Quantiles] = OrderedDict()
        """How long models take, by provider, model and whether they stream: what their pools said last."""

    def quantiles(self, candidate: Candidate, *, stream: bool) -> Quantiles | None:
        """See `Runtime.quantiles`."""
        return self._known.get((candidate.provider, candidate.model, stream))

    def _learn(self, about: tuple[str, str, bool], known: Quantiles) -> None:
        self._known[about] = known
        if len(self._known) > MODELS:
            self._known.popitem(last=False)

    def start(self, call: Call, candidate: Candidate) -> Flight:
        """See `Runtime.start`."""
        link = self._links[candidate.provider]
        flight = Flight(link, asyncio.get_running_loop(), (candidate.provider, candidate.model, call.request.stream))
        if link.up.is_set():
            self._submit(flight, call, candidate.model)
        else:
            flight.starting = asyncio.ensure_future(self._start_late(flight, call, candidate.model))
        return flight

    def _submit(self, flight: Flight, call: Call, model: str) -> None:
        link = flight.link
        flight.session = link.session
        link.down.add(flight.lost)
        trace = of_call(TRACE.get(), call.id)
        called = Called(link.session, flight.call, model, call.request, call.extra, REQUEST_ID.get(), trace)
        flight.ref = link.handle.call.remote(pickle.dumps(tuple(called), 5))
        flight.ref._on_completed(flight.on_completed)

    async def _start_late(self, flight: Flight, call: Call, model: str) -> None:
        try:
            # Not `wait_for`: stopped just when the pool is back, that of Python 3.11 would have the call made for nobody.
            async with asyncio.timeout(RESTART_S):
                await flight.link.up.wait()
        except TimeoutError:
            why = flight.link.problem
            flight.failure = Failure(
                FailureKind.POOL_LOST,
                f"the pool of {flight.link.provider} is not to be reached: {why}",
                usage=Usage(),  # it was not sent
            )
            flight.signal()
        else:
            self._submit(flight, call, model)

    async def ready(self, handles: Sequence[Flight], timeout_s: float) -> Sequence[Flight]:
        """See `Runtime.ready`."""
        if not any(flight.signalled for flight in handles):
            waiter = asyncio.get_running_loop().create_future()
            for flight in handles:
                flight.waiter = waiter
            if timeout_s == inf:
                await waiter
            else:
                await asyncio.wait((waiter,), timeout=timeout_s)
        gone = [flight for flight in handles if flight.failure is not None]
        flying = {flight.ref: flight for flight in handles if flight.ref is not None and flight.failure is None}
        if not flying:
            return gone
        listed, _ = ray.wait(list(flying), num_returns=len(flying), timeout=0, fetch_local=False)
        return [*(flying[ref] for ref in listed), *gone]

    async def outcome(self, handle: Flight) -> Reply | Failure | Stream:
        """See `Runtime.outcome`."""
        handle.link.down.discard(handle.lost)
        if handle.failure is not None:
            return handle.failure
        try:
            # Listed as ready, it may still be on its way to this process.
            came = await handle.ref if handle.value is None else handle.value
            if isinstance(came, BaseException):
                raise came
        except TaskCancelledError:
            return Failure(FailureKind.CANCELLED, "the call was cancelled")
        except RayError as error:
            # The actor died, its node is gone, or it does not know this session: the provider is not to blame.
            reason = str(error).splitlines()[0]
            return Failure(FailureKind.POOL_LOST, f"the pool of {handle.link.provider} was lost: {reason}")
        value: Reply | Failure | Ticketed
        value, known = pickle.loads(came)  # noqa: S301 - from our own pool, by Ray
        if known is not None:
            self._learn(handle.about, known)
        if isinstance(value, Ticketed):
            handle.stream = RelayStream(handle.link, handle.session, handle.call, value)
            return handle.stream
        return value

    def stop(self, handle: Flight) -> None:
        """See `Runtime.stop`."""
        handle.link.down.discard(handle.lost)
        if handle.starting is not None:
            handle.starting.cancel()
        if handle.stream is not None:
            handle.stream.close()
        elif handle.ref is not None and not handle.link.cancel(handle.session, handle.call):
            ray.cancel(handle.ref, recursive=False)
