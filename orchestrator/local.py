"""The runtime without a cluster: providers' endpoints live in this process, calls are asyncio tasks.

For notebooks, for tests, and for `runtime="asyncio"`. The limits of its pools hold within this process alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from typing import Protocol, TypeAlias

from orchestrator.current import TRACE
from orchestrator.drive import Stream
from orchestrator.resilience.latency import Quantiles
from orchestrator.routes import Candidate
from orchestrator.strategies.plan import Call
from orchestrator.tracing import of_call
from orchestrator.types import Failure, Reply, Request


class Endpoint(Protocol):
    """One provider, called in this process (`orchestrator.endpoint.Endpoint`)."""

    async def call(self, request: Request, model: str, *, extra: bool = False) -> Reply | Failure:
        """A unary call."""
        ...

    async def open(self, request: Request, model: str, *, extra: bool = False) -> Stream | Failure:
        """A streamed call; returns when its first token has come."""
        ...

    def quantiles(self, model: str, *, stream: bool) -> Quantiles | None:
        """How long a model takes."""
        ...


LocalCall: TypeAlias = asyncio.Task[Reply | Failure | Stream]


class Local:
    """The runtime without a cluster: every provider's endpoint lives in this process."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._finished: dict[LocalCall, int] = {}
        """Calls that have finished and were not looked at yet: the how manieth each was."""
        self._count = 0
        self._stopping: set[asyncio.Task[None]] = set()

    def start(self, call: Call, candidate: Candidate) -> LocalCall:
        """See `Runtime.start`."""
        task: LocalCall = asyncio.ensure_future(self._call(call, candidate))
        task.add_done_callback(self._note)
        return task

    async def _call(self, call: Call, candidate: Candidate) -> Reply | Failure | Stream:
        endpoint = self._endpoints[candidate.provider]
        TRACE.set(of_call(TRACE.get(), call.id))  # of this task alone
        if call.request.stream:
            return await endpoint.open(call.request, candidate.model, extra=call.extra)
        return await endpoint.call(call.request, candidate.model, extra=call.extra)

    def _note(self, task: LocalCall) -> None:
        self._count += 1
        self._finished[task] = self._count

    async def ready(self, handles: Sequence[LocalCall], timeout_s: float) -> Sequence[LocalCall]:
        """See `Runtime.ready`."""
        done, _ = await asyncio.wait(
            handles, timeout=None if timeout_s == inf else timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        # A task that finished in this very turn of the loop may not have been noted yet: it is the last.
        return sorted(done, key=lambda task: self._finished.pop(task, inf))

    async def outcome(self, handle: LocalCall) -> Reply | Failure | Stream:
        """See `Runtime.outcome`."""
        return handle.result()

    def quantiles(self, candidate: Candidate, *, stream: bool) -> Quantiles | None:
        """See `Runtime.quantiles`."""
        return self._endpoints[candidate.provider].quantiles(candidate.model, stream=stream)

    def stop(self, handle: LocalCall) -> None:
        """See `Runtime.stop`."""
        self._finished.pop(handle, None)
        task = asyncio.ensure_future(self._close(handle))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _close(self, handle: LocalCall) -> None:
        handle.cancel()
        await asyncio.wait([handle])
        self._finished.pop(handle, None)
        if not handle.cancelled() and not isinstance(stream := handle.result(), Reply | Failure):
            await stream.aclose()

    async def aclose(self) -> None:
        """Waits until everything that was stopped has really ended."""
        while self._stopping:
            await asyncio.wait(self._stopping)
