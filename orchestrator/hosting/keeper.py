"""Does what a fleet decides: starts and stops replicas, hears how they are, and has an endpoint's calls go where they may."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Protocol

from orchestrator.config.settings import Provider
from orchestrator.endpoint import Endpoint
from orchestrator.hosting.child import Child
from orchestrator.hosting.fleet import Fleet
from orchestrator.hosting.status import Status
from orchestrator.types import Json

TICK_S = 0.5
"""Between two looks at what is asked of the model."""
HEAR_S = 1.0
"""How long a replica with nothing new to say is listened to: its load is that old at the most."""
AGAIN_S = 0.5
"""How soon one that could not be heard is asked again."""

_log = logging.getLogger("orchestrator.local")


class Unheard(Exception):
    """A replica cannot be asked now; it says why."""


class Host(Protocol):
    """Where one replica runs."""

    async def attend(self, seen: int, timeout_s: float) -> Status:
        """How it is, as soon as its `changes` are not those seen, or after so long; starts it where it has not been. Raises
        Unheard."""
        ...

    async def stop(self) -> None:
        """Ends it; raises nothing for one that is not there any more."""
        ...


class Keeper:
    """Keeps the fleet of one local model, until `aclose`."""

    def __init__(self, provider: Provider, endpoint: Endpoint, host: Callable[[int], Host]) -> None:
        assert provider.hosted is not None
        self.hosted = provider.hosted
        """The settings that it goes by."""
        self._name = provider.name
        self._endpoint = endpoint
        self._host = host
        self._fleet = Fleet(provider.name, provider.hosted, time.monotonic())
        self._hosts: dict[int, tuple[Host, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._retired = False
        self._step()
        self._task = asyncio.ensure_future(self._keep())

    def configure(self, provider: Provider, endpoint: Endpoint) -> None:
        """Goes on by other settings, of which those of the server itself are the same."""
        assert provider.hosted is not None
        self.hosted, self._endpoint = provider.hosted, endpoint
        self._fleet.configure(provider.hosted)
        self._step()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._step()

    def _step(self) -> None:
        if self._retired:
            return
        fleet, now_s = self._fleet, time.monotonic()
        for number in fleet.step(self._endpoint.demand(), now_s):
            host = self._host(number)
            self._hosts[number] = host, asyncio.ensure_future(self._hear(number, host))
        self._endpoint.route(fleet.upstreams(), fleet.absence(now_s))
        self._let_go()

    def _let_go(self) -> None:
        """Ends those that are to go and have nothing to do any more."""
        busy = {number: self._endpoint.in_flight_at(url) for number, url in self._fleet.leaving().items()}
        for number in self._fleet.gone(busy):
            self._end(number)

    def _end(self, number: int) -> None:
        host, hearing = self._hosts.pop(number)
        hearing.cancel()
        task = asyncio.ensure_future(_stop(host, hearing))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _hear(self, number: int, host: Host) -> None:
        """Listens to one replica."""
        status = Status()
        while True:
            try:
                heard = await host.attend(status.changes, HEAR_S)
            except Unheard as error:
                # Its server ends with whoever supervises it: calls have to go elsewhere.
                _log.warning("%s/%d: %s", self._name, number, error)
                state = status.state if status.state in ("placing", "failed") else "restarting"
                heard = status._replace(
                    state=state, base_url="", key="", reason=f"cannot be heard: {error}", changes=-1
                )
                await asyncio.sleep(0 if status.state == "up" else AGAIN_S)
            known, status = status, heard
            self._fleet.told(number, status)
            if known.changes != status.changes:
                self._step()
            if not self._retired:
                self._endpoint.weigh(number, status.load)

    def problem(self) -> str:
        """See `Fleet.problem`."""
        return self._fleet.problem(time.monotonic())

    def shown(self) -> list[Json]:
        """See `Fleet.shown`."""
        return self._fleet.shown()

    async def retire(self) -> None:
        """Others answer from now on: each replica is stopped when what it has in flight is done. Returns after the last."""
        self._retired = True
        self._fleet.leave()
        while self._fleet.replicas:
            self._let_go()
            await asyncio.sleep(TICK_S)
        await self.aclose()

    async def aclose(self) -> None:
        """Stops all replicas, and waits for that."""
        self._retired = True
        self._task.cancel()
        for number in list(self._hosts):
            self._end(number)
        await asyncio.wait([self._task, *self._ending])


async def _stop(host: Host, hearing: asyncio.Task[None]) -> None:
    await asyncio.wait([hearing])
    await host.stop()


class LocalHost:
    """A replica of this process, on the loopback address: `runtime="asyncio"`, and tests. GPUs are not counted."""

    def __init__(self, provider: Provider, number: int) -> None:
        assert provider.hosted is not None
        name = f"{provider.name}/{number}"
        self.child = Child(name, provider.hosted, "127.0.0.1", f"{os.getpid()}:{id(self)}:{name}")
        self._started = False

    async def attend(self, seen: int, timeout_s: float) -> Status:
        """See `Host.attend`."""
        if not self._started:
            self._started = True
            self.child.start()
        return await self.child.changed(seen, timeout_s)

    async def stop(self) -> None:
        """See `Host.stop`."""
        await self.child.stop()
