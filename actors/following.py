"""The coordinator's side of the control actor: it follows what is published, whatever happens to the actor."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from ray.exceptions import RayError

from actors.control import FRESH_S, POLL_S, find_or_make
from actors.tally import NOTHING, Brought
from orchestrator.asks import Reloaded
from orchestrator.config.live import Snapshot
from orchestrator.config.load import load
from orchestrator.counters import Counters
from orchestrator.limits.central import Grant, Take
from orchestrator.limits.limiter import Away
from orchestrator.types import Json

ASK_S = 10.0
AGAIN_S = 0.3
PERMITS_S = 0.5
"""How long permits are waited for: a request waits with them."""

_log = logging.getLogger("orchestrator.following")


class Following:
    """Keeps a coordinator on the newest snapshot. `apply` takes one over; it is awaited before the next is asked for.
    `drain` is called when the application is being stopped, and returns when nothing is in flight any more."""

    def __init__(
        self,
        path: str,
        counters: Counters,
        apply: Callable[[Snapshot], Awaitable[None]],
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        self._path = path
        self._counters = counters
        self._taken = NOTHING
        """The counters as the control actor last took them, pickled."""
        self._apply = apply
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._name = uuid4().hex
        self._control: Any = None
        self._task: asyncio.Task[None] | None = None
        self._takes: list[tuple[Take, asyncio.Future[Grant | None]]] = []
        """Questions for permits that go with the next message, and their answers."""
        self._exchanging: set[asyncio.Task[None]] = set()
        self._applied = asyncio.Condition()
        self.snapshot: Snapshot | None = None

    async def start(self) -> None:
        """Takes the first snapshot over. Raises ConfigError if neither the control actor nor the file has one."""
        try:
            async with asyncio.timeout(ASK_S):
                first = await self._first()
        except (RayError, TimeoutError) as error:
            _log.warning("the control actor does not answer (%s): the file is read here", type(error).__name__)
            first = None
        await self._take(
            first if isinstance(first, Snapshot) else Snapshot(1, await asyncio.to_thread(load, self._path))
        )
        self._task = asyncio.ensure_future(self._follow())

    async def _first(self) -> Any:
        control = await self._reached()
        await control.follow.remote(self._path)
        await self._bring(control)
        return await control.next.remote(self._name, 0)

    async def _bring(self, control: Any) -> None:
        now = pickle.dumps(self._counters, 5)
        await control.take.remote(self._name, Brought(now, self._taken))
        self._taken = now

    async def _reached(self) -> Any:
        """The control actor, found or made if it was away."""
        if self._control is None:
            self._control = await asyncio.to_thread(find_or_make, self._path)
        return self._control

    async def _follow(self) -> None:
        while True:
            try:
                control = await self._reached()
                assert self.snapshot is not None
                async with asyncio.timeout(ASK_S):
                    await self._bring(control)
                async with asyncio.timeout(POLL_S + ASK_S):
                    found = await control.next.remote(self._name, self.snapshot.version)
                if found == "unknown":
                    await control.restore.remote(self.snapshot)
                elif found == "drain":
                    self._draining = asyncio.ensure_future(self._end(control))
                elif found is not None:
                    await self._take(found)
                continue
            except (RayError, TimeoutError, ValueError) as error:
                # It is being restarted, or was ended by itself: it is found or made again.
                _log.info("the control actor is away: %s", type(error).__name__)
                self._control = None
            except Exception:
                _log.exception("a configuration could not be taken over; the one before it stays")
            await asyncio.sleep(AGAIN_S)

    async def _end(self, control: Any) -> None:
        await self._drain()
        await control.drained.remote(self._name)

    async def _take(self, snapshot: Snapshot) -> None:
        if self.snapshot is None or snapshot.config != self.snapshot.config:
            await self._apply(snapshot)
        async with self._applied:
            self.snapshot = snapshot
            self._applied.notify_all()

    async def reload(self) -> Reloaded:
        """Has the file read now, and takes over what it says. Raises RayError and TimeoutError."""
        control = await self._reached()
        async with asyncio.timeout(ASK_S):
            reloaded: Reloaded = await control.reload.remote()
        async with asyncio.timeout(ASK_S), self._applied:
            await self._applied.wait_for(
                lambda: self.snapshot is not None and self.snapshot.version >= reloaded.version
            )
        return reloaded

    async def counters(self) -> Counters:
        """What all coordinators have counted, as it is now. Raises RayError and TimeoutError."""
        control = await self._reached()
        async with asyncio.timeout(FRESH_S + ASK_S):
            counters: Counters = await control.counters.remote()
        return counters

    async def take(self, take: Take) -> Grant | None:
        """See `orchestrator.limits.limiter.Centre`. What is asked for at once goes as one message: a coordinator's limits
        are told together, and a call costs a millisecond of CPU whatever is in it."""
        if self._control is None:
            raise Away("the control actor is being found or made")
        answer: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        self._takes.append((take, answer))
        if len(self._takes) == 1:
            self._exchanging.add(task := asyncio.ensure_future(self._exchange(self._control)))
            task.add_done_callback(self._exchanging.discard)
        return await answer

    async def _exchange(self, control: Any) -> None:
        takes, self._takes = self._takes, []
        try:
            async with asyncio.timeout(PERMITS_S):
                grants = await control.permits.remote([take for take, _ in takes])
        except Exception as error:
            if not isinstance(error, RayError | TimeoutError):
                _log.exception("permits could not be asked for")
            for _, answer in takes:
                if not answer.done():
                    answer.set_exception(Away(f"the control actor does not answer: {type(error).__name__}"))
            return
        for (_, answer), grant in zip(takes, grants, strict=True):
            if not answer.done():
                answer.set_result(grant)

    async def status(self) -> Json:
        """What the control actor says of itself. Raises RayError and TimeoutError."""
        control = await self._reached()
        async with asyncio.timeout(ASK_S):
            status: Json = await control.status.remote()
        return status
