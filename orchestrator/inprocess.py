"""All providers of a configuration in this process: `runtime="asyncio"`, and the tests of the whole way of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.config.operations import Ledger
from orchestrator.config.settings import Config, Provider
from orchestrator.coordinator import Coordinator
from orchestrator.endpoint import Endpoint
from orchestrator.errors import ConfigError
from orchestrator.lasting import Lasting
from orchestrator.ledger.keeping import Desk, Keeping
from orchestrator.local import Local
from orchestrator.types import Json

if TYPE_CHECKING:
    from orchestrator.hosting.keeper import Keeper
    from orchestrator.simulate.server import Server


class LocalPools:
    """Endpoints of this process as `orchestrator.coordinator.Pools`; simulated providers have their servers here, too."""

    def __init__(self, config: Config) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        """By provider; filled by `start`."""
        self._config = config
        self._simulators: list[Server] = []
        self._keepers: dict[str, Keeper] = {}

    async def start(self) -> None:
        """Makes the endpoints. Raises ConfigError for a recording that cannot be read; `aclose` follows in any case."""
        for name, provider in self._config.providers.items():
            endpoint = Endpoint(await self._simulated(provider), self._config.keys.get(name, ()))
            endpoint.watch()
            self.endpoints[name] = endpoint
            if provider.hosted is not None:
                from orchestrator.hosting.keeper import Keeper, LocalHost

                self._keepers[name] = Keeper(provider, endpoint, partial(LocalHost, provider))

    async def _simulated(self, provider: Provider) -> Provider:
        made_up = provider.simulate or provider.replay
        if made_up is None:
            return provider
        from orchestrator.simulate.server import start  # aiohttp's server: not for those who do without

        try:
            server = await start(made_up, name=provider.name)
        except (ValueError, OSError) as error:
            problem = f"{self._config.source}: providers.{provider.name}: cannot be simulated: {error}"
            raise ConfigError((problem,)) from None
        self._simulators.append(server)
        return replace(provider, base_url=server.base_url)

    async def models(self, provider: str) -> tuple[str, ...]:
        """See `Pools.models`."""
        return await self.endpoints[provider].models()

    async def stats(self) -> list[Json]:
        """See `Pools.stats`."""
        return [{**endpoint.stats(), **self._kept(name)} for name, endpoint in self.endpoints.items()]

    def _kept(self, provider: str) -> Json:
        keeper = self._keepers.get(provider)
        return {} if keeper is None else {"replicas": keeper.shown(), "absent": keeper.problem()}

    async def absent(self) -> dict[str, str]:
        """See `Pools.absent`."""
        return {name: why for name, keeper in self._keepers.items() if (why := keeper.problem())}

    async def ready(self) -> dict[str, str]:
        """See `Pools.ready`: what lives in this process answers."""
        return {}

    async def aclose(self) -> None:
        """Closes all connections, then the simulated providers and local models."""
        for endpoint in self.endpoints.values():
            await endpoint.aclose()
        for server in self._simulators:
            await server.stop()
        await asyncio.gather(*(keeper.aclose() for keeper in self._keepers.values()))


@asynccontextmanager
async def inprocess(config: Config) -> AsyncIterator[Coordinator]:
    """A coordinator over endpoints of this process. At the end nothing of it is left."""
    pools = LocalPools(config)
    runtime, lasting = Local(pools.endpoints), Lasting()
    keeping = Keeping(lasting, _desk)
    try:
        await pools.start()
        keeping.follow(config.ledger)
        yield Coordinator(config, runtime, pools, lasting=lasting)
    finally:
        await keeping.aclose()
        await asyncio.to_thread(lasting.telemetry.close)
        await runtime.aclose()
        await pools.aclose()


def _desk(settings: Ledger) -> Desk:
    from orchestrator.ledger.bookkeeper import LocalDesk  # SQLAlchemy: not for those who do without

    return LocalDesk(settings)
