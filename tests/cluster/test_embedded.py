"""`runtime="ray"` of the Python API, on a cluster that is there already."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orchestrator import create_models
from orchestrator.types import Json

CONFIG: Json = {
    "providers": {"solo": {"simulate": {"latency_s": {"median": 0.01, "p99": 0.02}}, "pool": {"concurrency": 1}}},
    "tiers": {"race": {"strategy": "race", "models": ["solo/latency-0.05", "solo/latency-5"]}},
}


async def pools_of(cluster: Any) -> list[str]:
    """The names of the pools that live, other than those of other tests: one that nobody closes ends after a minute."""
    named = await asyncio.to_thread(cluster.util.list_named_actors, all_namespaces=True)
    return sorted(row["name"] for row in named if row["name"].startswith("pool:solo:"))


async def test_replies_and_streams(cluster: Any) -> None:
    """As everywhere, over pools that are actors; at the end the cluster stays and the pools go."""
    async with create_models(CONFIG) as models:
        reply = await models.model("solo/echo").generate("hi")
        assert ("hi", "solo") == (reply.text, reply.provider)
        stream = models.model("solo/echo").stream("one two")
        assert ["one", " two"] == [delta.text async for delta in stream]
        assert "one two" == stream.reply.text
        async for _ in models.model("solo/latency-0.05+tokens-500+rate-10").stream("hi"):
            break
        await asyncio.sleep(0.2)
        (row,) = await models.pools()
        assert 0 == row["in_flight"]
        assert 1 == len(await pools_of(cluster))
    assert cluster.is_initialized()
    deadline_s = time.monotonic() + 10
    while await pools_of(cluster) and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)
    assert [] == await pools_of(cluster)


async def test_the_same_configuration_shares_its_pools(cluster: Any) -> None:
    """Limits hold for all who use it: one call at once. Another configuration has pools of its own."""
    other = {"providers": {"solo": {**CONFIG["providers"]["solo"], "pool": {"concurrency": 2}}}}
    async with create_models(CONFIG) as one, create_models(CONFIG) as two, create_models(other) as third:
        began_s = time.monotonic()
        asked = "solo/latency-0.5"
        await asyncio.gather(*(models.model(asked).generate("hi") for models in (one, two)))
        assert time.monotonic() - began_s > 1
        assert [1, 1, 2] == [(await models.pools())[0]["concurrency"] for models in (one, two, third)]
        assert 2 == len(await pools_of(cluster))
        assert [2, 2, 1] == [(await models.pools())[0]["sessions"] for models in (one, two, third)]
