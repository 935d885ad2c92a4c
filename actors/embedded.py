"""`runtime="ray"` of the Python API: a coordinator in the caller's process over pool actors of the cluster at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.answers import RayAnswers
from actors.cluster import joined
from actors.ledger import RayDesk
from actors.pools import RayPools
from orchestrator.cache.flights import Flights
from orchestrator.config.digest import digest
from orchestrator.config.live import Snapshot
from orchestrator.config.settings import Config
from orchestrator.coordinator import Coordinator
from orchestrator.lasting import Lasting
from orchestrator.ledger.keeping import Keeping

POOLS_UP_S = 20.0
"""How long it waits for its pools before it begins without those that do not come up."""
VERSION = 1
"""Of a configuration that does not change while it is in use."""


@asynccontextmanager
async def embedded(config: Config) -> AsyncIterator[Coordinator]:
    """A coordinator in this process over pools of the cluster at hand.

    The pools bear the configuration in their names: processes that use the same one share them, and nobody touches those
    of an application that runs there, whose settings may be others. They end with the last who uses them.
    """
    async with joined(None):
        group = digest(config)
        pools, answers = RayPools(group), RayAnswers(group)
        lasting = Lasting(cache=Flights(answers))
        keeping = Keeping(lasting, RayDesk)
        try:
            await pools.apply(Snapshot(VERSION, config), POOLS_UP_S)
            keeping.follow(config.ledger)
            coordinator = Coordinator(config, pools.calls, pools, lasting=lasting)
            await answers.apply(config)
            yield coordinator
        finally:
            await keeping.aclose()
            await answers.aclose()
            await asyncio.to_thread(lasting.telemetry.close)
            await pools.close_others((), VERSION + 1)
