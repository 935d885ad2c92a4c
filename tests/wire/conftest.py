"""The whole way of a request in one process: application, coordinator, plans, endpoints, transport, a bad upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from orchestrator.asks import Reloaded
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Config, Latency, Simulate
from orchestrator.coordinator import Coordinator
from orchestrator.counters import Counters
from orchestrator.inprocess import LocalPools
from orchestrator.keyring import Keyring
from orchestrator.lasting import Lasting
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.bookkeeper import LocalDesk
from orchestrator.ledger.keeping import Keeping
from orchestrator.limits.limiter import Here, Limiter
from orchestrator.local import Local
from orchestrator.simulate.server import Server, start
from orchestrator.types import Json
from orchestrator.wire.access import Access
from orchestrator.wire.app import App
from tests.upstream import Upstream


class Pools(LocalPools):
    """Pools that may have problems."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.problems: dict[str, str] = {}

    async def ready(self) -> dict[str, str]:
        return self.problems


class Above:
    """What stands above coordinators."""

    problems: tuple[str, ...] = ()
    user_problems: tuple[str, ...] = ()
    draining = False
    keeping: Keeping | None = None

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def config(self) -> Json:
        return {"version": 7}

    async def counters(self) -> Counters:
        return self._counters

    async def spend(self, asked: Asking) -> Json | None:
        return None if self.keeping is None else await self.keeping.spend(asked)

    async def budgets(self) -> list[Json] | None:
        return None if self.keeping is None else await self.keeping.budgets()

    async def reload(self) -> Reloaded:
        return Reloaded(7, self.problems, self.user_problems)


class Stack:
    """A served configuration. `http` speaks with it, `pools` is behind it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = load_mapping(config, {})
        self.pools = Pools(self.config)
        self.runtime = Local(self.pools.endpoints)
        self.limiter = Limiter(Here())
        lasting = Lasting(limiting=(self.limiter,))
        self.coordinator = Coordinator(self.config, self.runtime, self.pools, lasting=lasting)
        self.above = Above(lasting.counters)
        self.keeping = self.above.keeping = Keeping(lasting, LocalDesk)
        self.app: Any = App(
            lambda: self.coordinator,
            self.above,
            Access(keyring=Keyring(lambda: self.keeping.desk)),
            standing=self.limiter.standing,
        )
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test", timeout=20)

    async def chat(self, model: str, **fields: Any) -> httpx.Response:
        """One chat request."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.http.post("/v1/chat/completions", json=body)

    async def aclose(self) -> None:
        await self.http.aclose()
        await self.keeping.aclose()
        await self.runtime.aclose()
        for row in await self.pools.stats():
            assert row["in_flight"] == 0
        await self.pools.aclose()


Serve = Callable[[Mapping[str, Any]], Awaitable[Stack]]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def sim() -> AsyncIterator[Server]:
    """A quick simulated provider."""
    server = await start(Simulate(Latency(0.01, 0.02), tokens_per_s=1000), name="sim")
    yield server
    await server.stop()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves configurations; at the end nothing of theirs may be in flight."""
    async with AsyncExitStack() as stacks:

        async def one(config: Mapping[str, Any]) -> Stack:
            stack = Stack(config)
            await stack.pools.start()
            stack.keeping.follow(stack.config.ledger)
            stacks.push_async_callback(stack.aclose)
            return stack

        yield one


@pytest.fixture
async def stack(upstream: Upstream, serve: Serve) -> Stack:
    """Two providers on the misbehaving upstream: one quick to give up, one that is asked for its models."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    quick = {"connect_s": 2, "first_token_s": 0.6, "idle_s": 0.6, "answer_s": 0.7, "total_s": 8}
    return await serve(
        {
            "providers": {
                "up": {
                    "base_url": address,
                    "models": ["ok"],
                    "timeouts": quick,
                    "retry": {"attempts": 2, "backoff_s": 0.01, "backoff_max_s": 0.02},
                },
                "asked": {"base_url": address, "timeouts": quick},
                "nowhere": {"base_url": "http://127.0.0.1:1/v1", "models": [], "retry": {"attempts": 1}},
                "short": {"base_url": address, "models": [], "timeouts": {**quick, "answer_s": 9, "total_s": 0.2}},
            },
            "tiers": {
                "rescue": ["up/unavailable", "up/ok"],
                "hopeless": ["up/unavailable", "nowhere/x"],
                "hedge": {"strategy": "hedge", "models": ["up/slow-0.2", "tier:spare"], "after": 0.05},
                "spare": {"strategy": "hedge", "models": ["up/ok", "up/other"], "after": 1, "params": {"seed": 7}},
                "whole": {"strategy": "race", "models": ["up/ok", "up/other"], "commit": "complete"},
            },
        }
    )
