"""All pools of a configuration, as one coordinator reaches them: links, calls, and what there is to know of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from ray.exceptions import RayError

from actors.link import Link
from actors.pool import find_or_make
from actors.relay import Address
from actors.waiting import RayCalls
from orchestrator.config.live import Snapshot
from orchestrator.config.operations import Logs
from orchestrator.config.settings import Provider
from orchestrator.types import Json

ASK_S = 5.0

_Wanted = tuple[Provider, tuple[str, ...], int, Logs]

_log = logging.getLogger("orchestrator.pools")


class RayPools:
    """`orchestrator.coordinator.Pools` over pool actors. `calls` is the runtime.

    `group` tells pools apart from those of others that have the same providers; none: the running application's.
    """

    def __init__(self, group: str = "") -> None:
        self._group = f":{group}" if group else ""
        self._wanted: dict[str, _Wanted] = {}
        """The settings of each provider, its keys, the version of the configuration that they are from, and its logs."""
        self._links: dict[str, Link] = {}
        self.calls = RayCalls(self._links)

    async def apply(self, snapshot: Snapshot, timeout_s: float) -> None:
        """Makes the pools that a configuration needs, and has the others go on by its settings.

        Pools that it has no use for stay until `close_others`. What cannot be reached within `timeout_s` is not waited for.
        """
        config = snapshot.config
        tasks: list[asyncio.Task[Any]] = []
        for name, provider in config.providers.items():
            wanted = (provider, config.keys.get(name, ()), snapshot.version, config.logs)
            before, self._wanted[name] = self._wanted.get(name), wanted
            link = self._links.get(name)
            if link is None:
                link = self._links[name] = Link(name, self._connector(name))
            elif before is not None and _told(before) != _told(wanted) and link.up.is_set():
                tasks.append(asyncio.ensure_future(self._configure(link, wanted)))
            tasks.append(asyncio.ensure_future(link.up.wait()))
        try:
            await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            for task in tasks:
                task.cancel()

    async def _configure(self, link: Link, wanted: _Wanted) -> None:
        try:
            await link.handle.configure.remote(*wanted)
        except RayError as error:
            # The link connects anew, and brings the settings along.
            _log.warning("pool %s was away while it was configured: %s", link.provider, type(error).__name__)

    async def close_others(self, names: Collection[str], version: int) -> None:
        """Ends the sessions with all pools but these; a pool whose last session ends so ends with it."""
        for name in [name for name in self._links if name not in names]:
            link = self._links.pop(name)
            self._wanted.pop(name, None)
            if link.up.is_set():
                try:
                    async with asyncio.timeout(ASK_S):
                        await link.handle.retire.remote(version)
                except (RayError, TimeoutError) as error:
                    _log.warning("pool %s was away while it was retired: %s", name, type(error).__name__)
            await link.aclose()

    def _connector(self, name: str) -> Any:
        async def connect() -> tuple[Any, Address]:
            handle = await asyncio.to_thread(find_or_make, name + self._group)
            return handle, await handle.open_session.remote(*self._wanted[name])

        return connect

    async def models(self, provider: str) -> tuple[str, ...]:
        """See `Pools.models`."""
        link = self._links.get(provider)
        if link is None or not link.up.is_set():
            return ()
        try:
            async with asyncio.timeout(ASK_S):
                names: tuple[str, ...] = await link.handle.models.remote()
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
            async with asyncio.timeout(ASK_S):
                stats: Json = await link.handle.stats.remote()
        except (RayError, TimeoutError) as error:
            return {"provider": link.provider, "problem": type(error).__name__}
        return {"provider": link.provider, **stats}

    async def ready(self) -> dict[str, str]:
        """See `Pools.ready`."""
        return {link.provider: link.problem for link in self._links.values() if not link.up.is_set()}

    async def absent(self) -> dict[str, str]:
        """See `Pools.absent`."""
        hosted = [link for link in self._links.values() if self._wanted[link.provider][0].hosted is not None]
        found = await asyncio.gather(*map(self._stats, hosted))
        return {stats["provider"]: stats["absent"] for stats in found if stats.get("absent")}

    async def aclose(self) -> None:
        """Ends the sessions; pools that nobody else uses end themselves a minute later."""
        await asyncio.gather(*(link.aclose() for link in self._links.values()))


def _told(wanted: _Wanted) -> tuple[object, ...]:
    """What a pool has to be told when it has changed: all but the version."""
    provider, keys, _, logs = wanted
    return provider, keys, logs
