"""The window of a batch: references that are in flight, and which of them `ray.wait` lists as ready.

Who answers is a running application, by its handle, or a coordinator of one's own (`actors.answering`); either gives
references. As in `actors.waiting`, `ray.wait` with a timeout would block the loop: an arrival wakes it, and `ray.wait(…,
timeout=0)` says which are ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from actors import answering
from orchestrator.asks import Answer, Ask
from orchestrator.batch.lines import Came
from orchestrator.config.settings import Config
from orchestrator.errors import CallFailed, OrchestratorError
from orchestrator.types import Failure, FailureKind

LOOK_S = 1.0
CLOSE_S = 2.0
"""How long a coordinator of one's own may take to let go of its pools."""


class Flight:
    """A request in flight."""

    __slots__ = ("ref", "response", "starting", "value")

    def __init__(self) -> None:
        self.ref: Any = None
        self.response: Any = None
        """The application's, which its handle cancels."""
        self.starting: asyncio.Task[None] | None = None
        self.value: Any = None
        """What came: an answer, or an exception."""


class _References:
    """What both windows have in common."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flying: dict[Any, Flight] = {}
        self._told: list[Any] = []
        """References that Ray has told of, in the order in which it did."""
        self._lost: list[Flight] = []
        """Those that came to no reference."""
        self._wake = asyncio.Event()

    def _fly(self, flight: Flight, ref: Any) -> None:
        flight.ref = ref
        self._flying[ref] = flight

        def completed(value: Any) -> None:
            # In Ray's thread.
            flight.value = value
            try:
                self._loop.call_soon_threadsafe(self._complete, ref)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

        ref._on_completed(completed)

    def _complete(self, ref: Any) -> None:
        self._told.append(ref)
        self._wake.set()

    def _fail(self, flight: Flight, error: Exception) -> None:
        flight.value = error
        self._lost.append(flight)
        self._wake.set()

    async def ready(self) -> Sequence[Flight]:
        """See `Window.ready`."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                # A run goes on for hours: whatever Ray may have told of in vain is found now.
                self._told = list(self._flying)
            self._wake.clear()
            # Not all of them: to ask for 500 takes a millisecond, and answers come one by one.
            told, self._told = [ref for ref in self._told if ref in self._flying], []
            listed: list[Any] = []
            if told:
                listed, _ = ray.wait(told, num_returns=len(told), timeout=0, fetch_local=False)
            lost, self._lost = self._lost, []
            if listed or lost:
                return [*(self._flying.pop(ref) for ref in listed), *lost]

    async def outcome(self, flight: Flight) -> Came:
        """See `Window.outcome`."""
        value = flight.value
        if value is None:
            try:
                # Listed as ready, it may still be on its way to this process.
                value = await flight.ref
            except Exception as error:  # whatever it was, it is told apart below
                value = error
        return _came(value)


def _came(value: Any) -> Came:
    if isinstance(value, bytes):
        value = pickle.loads(value)  # noqa: S301 - from our own coordinator, by Ray
    if isinstance(value, Answer | OrchestratorError):
        return value
    cause = getattr(value, "cause", None)
    if isinstance(cause, OrchestratorError):
        return cause
    reason = (str(value).strip() or type(value).__name__).splitlines()[0]
    if isinstance(value, RayTaskError):
        return CallFailed(Failure(FailureKind.INTERNAL, f"it failed unexpectedly: {reason}"))
    return CallFailed(Failure(FailureKind.POOL_LOST, f"who was asked has been lost: {reason}"))


class ApplicationWindow(_References):
    """`orchestrator.batch.asking.Window` over the handle of a running application."""

    def __init__(self, handle: Any) -> None:
        super().__init__()
        # Calls that Serve makes by gRPC have no reference.
        self._answer = handle.options(_by_reference=True).answer

    def start(self, ask: Ask) -> Flight:
        """See `Window.start`."""
        flight = Flight()
        flight.response = self._answer.remote(ask)
        flight.starting = asyncio.ensure_future(self._start(flight))
        return flight

    async def _start(self, flight: Flight) -> None:
        try:
            self._fly(flight, await flight.response._to_object_ref())
        except (RayError, RayServeException) as error:
            self._fail(flight, error)

    def stop(self, flight: Flight) -> None:
        """See `Window.stop`."""
        if flight.starting is not None:
            flight.starting.cancel()
        flight.response.cancel()


class OwnWindow(_References):
    """The same over a coordinator of one's own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._actor = answering.make()
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Has the coordinator begin, or begin again after it was killed. Raises RayError."""
        await self._actor.open.remote(self._config)

    def start(self, ask: Ask) -> Flight:
        """See `Window.start`."""
        flight = Flight()
        self._fly(flight, self._actor.answer.remote(pickle.dumps(tuple(ask), 5)))
        return flight

    async def outcome(self, flight: Flight) -> Came:
        """See `Window.outcome`."""
        came = await super().outcome(flight)
        lost = isinstance(came, CallFailed) and came.failure.kind is FailureKind.POOL_LOST
        if lost and (self._opening is None or self._opening.done()):
            self._opening = asyncio.ensure_future(self._open_again())
        return came

    async def _open_again(self) -> None:
        try:
            await self.open()
        except RayError:
            return  # the next call that is lost tries it again

    def stop(self, flight: Flight) -> None:
        """See `Window.stop`."""
        ray.cancel(flight.ref, recursive=False)

    async def aclose(self) -> None:
        """Ends the coordinator, and with it all that it has in flight."""
        if self._opening is not None:
            self._opening.cancel()
        # Killed before, the end of its sessions tells the pools the same.
        with contextlib.suppress(RayError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._actor.aclose.remote()
        ray.kill(self._actor)


@asynccontextmanager
async def own_window(config: Config) -> AsyncIterator[OwnWindow]:
    """A coordinator of one's own by a configuration, on the cluster that this process is in."""
    window = OwnWindow(config)
    try:
        await window.open()
        yield window
    finally:
        await window.aclose()
