"""The window of a worker that has a coordinator within it: what is in flight are tasks of one loop.

A worker is an actor already, of which there are as many as the load takes: another one beside each, as a driver has it
(`actors.answering`), would cost a call of Ray's more for each request, a third of its CPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from actors.embedded import embedded
from orchestrator.asks import Answer, Ask
from orchestrator.batch.lines import Came
from orchestrator.config.settings import Config
from orchestrator.coordinator import Coordinator
from orchestrator.errors import CallFailed, OrchestratorError
from orchestrator.types import Failure, FailureKind

Flight = asyncio.Task[Answer]


class WithinWindow:
    """`orchestrator.batch.asking.Window` over a coordinator in this process."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._flying: set[Flight] = set()
        self._ready: list[Flight] = []
        self._wake = asyncio.Event()

    def start(self, ask: Ask) -> Flight:
        """See `Window.start`."""
        flight = asyncio.ensure_future(self._coordinator.answer(ask))
        self._flying.add(flight)
        flight.add_done_callback(self._done)
        return flight

    def _done(self, flight: Flight) -> None:
        self._flying.discard(flight)
        self._ready.append(flight)
        self._wake.set()

    async def ready(self) -> Sequence[Flight]:
        """See `Window.ready`."""
        await self._wake.wait()
        self._wake.clear()
        ready, self._ready = self._ready, []
        return ready

    async def outcome(self, flight: Flight) -> Came:
        """See `Window.outcome`."""
        try:
            return flight.result()
        except OrchestratorError as error:
            return error
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            return CallFailed(Failure(FailureKind.INTERNAL, f"it failed unexpectedly: {reason}"))

    def stop(self, flight: Flight) -> None:
        """See `Window.stop`."""
        flight.cancel()

    async def aclose(self) -> None:
        """Lets what was stopped come to its end."""
        if self._flying:
            await asyncio.wait(self._flying)


@asynccontextmanager
async def within(config: Config) -> AsyncIterator[WithinWindow]:
    """A coordinator in this process, which is in a cluster."""
    async with embedded(config) as coordinator:
        window = WithinWindow(coordinator)
        try:
            yield window
        finally:
            await window.aclose()
