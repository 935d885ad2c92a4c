"""All pools of a configuration, as one coordinator reaches them: links, calls, and what there is to know of them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import ray
from ray.exceptions import RayError

from actors.link import Link
from actors.pool import find_or_make
from actors.relay import Address
from actors.waiting import RayCalls
from orchestrator.config.settings import Config
from orchestrator.types import Json

RELAY_HOST = "ORCHESTRATOR_RELAY_HOST"
"""The address on which pools listen for coordinators; unset: their node's. `orchestrator serve` sets loopback."""
ASK_S = 5.0


class RayPools:
    """`orchestrator.coordinator.Pools` over pool actors. `calls` is the runtime."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._links = {name: Link(name, self._connector(name)) for name in config.providers}
        self.calls = RayCalls(self._links)

    def _connector(self, name: str) -> Any:
        async def connect() -> tuple[Any, Address]:
            host = os.environ.get(RELAY_HOST) or ray.util.get_node_ip_address()
            handle = await asyncio.to_thread(find_or_make, name, host)
            keys = self._config.keys.get(name, ())
            return handle, await handle.open_session.remote(self._config.providers[name], keys)

        return connect

    async def up(self, timeout_s: float) -> None:
        """Waits until every pool has been reached, at most `timeout_s`. Which have not is said by `ready`."""
        waiting = [asyncio.ensure_future(link.up.wait()) for link in self._links.values()]
        _, late = await asyncio.wait(waiting, timeout=timeout_s)
        for task in late:
            task.cancel()

    async def models(self, provider: str) -> tuple[str, ...]:
        """See `Pools.models`."""
        link = self._links[provider]
        if not link.up.is_set():
            return ()
        try:
            names: tuple[str, ...] = await asyncio.wait_for(link.handle.models.remote(), ASK_S)
        except (RayError, TimeoutError):
            return ()
        return names

    async def stats(self) -> list[Json]:
        """See `Pools.stats`."""
        return list(await asyncio.gather(*map(self._stats, self._links.values())))

    async def _stats(self, link: Link) -> Json:
        if not link.up.is_set():
            return {"provider": link.provider, "problem": link.problem}
        try:
            stats: Json = await asyncio.wait_for(link.handle.stats.remote(), ASK_S)
        except (RayError, TimeoutError) as error:
            return {"provider": link.provider, "problem": type(error).__name__}
        return {"provider": link.provider, **stats}

    async def ready(self) -> dict[str, str]:
        """See `Pools.ready`."""
        return {link.provider: link.problem for link in self._links.values() if not link.up.is_set()}

    async def aclose(self) -> None:
        """Ends the sessions; pools that nobody else uses end themselves a minute later."""
        await asyncio.gather(*(link.aclose() for link in self._links.values()))
