"""Spilling through the application: who gets a call that would have to wait, and what its answer says of that."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from orchestrator.simulate.server import Server
from tests.wire.conftest import Serve, Stack

TAKES = "latency-0.4+rate-0"


@pytest.fixture
async def home(sim: Server, serve: Serve) -> Stack:
    """Two places at home, of 0.4 s each, and many elsewhere."""
    address = {"base_url": sim.base_url, "models": ["chat"]}
    away = [f"home/{TAKES}", "away/latency-0.01+rate-0"]
    return await serve(
        {
            "providers": {"home": {**address, "pool": {"concurrency": 2}}, "away": address},
            "tiers": {
                "home": {"strategy": "spill", "models": away, "max_wait_s": 0.5},
                "only": {"strategy": "spill", "models": [away[0], "away/error-500"], "max_wait_s": 0},
            },
        }
    )


async def providers(stack: Stack, count: int, tier: str = "tier:home") -> Counter[str]:
    """Who answered so many requests at once."""
    answers = await asyncio.gather(*(stack.chat(tier) for _ in range(count)))
    return Counter(answer.json()["provider"] for answer in answers)


async def test_what_would_wait_too_long_goes_elsewhere(home: Stack) -> None:
    """Two go at once, the next two would wait for 0.2 and 0.4 s in the mean, and all others for longer."""
    assert {"home": 2} == await providers(home, 2)
    assert {"home": 4, "away": 6} == await providers(home, 10)
    (row,) = [row for row in await home.pools.stats() if row["provider"] == "home"]
    assert (0, 0) == (row["queued"], row["in_flight"])


async def test_the_answer_says_it(home: Stack) -> None:
    """As an attempt that was sent to nobody, and costs nothing."""
    begun = [asyncio.ensure_future(home.chat("tier:only")) for _ in range(2)]
    await asyncio.sleep(0.1)
    answer = await home.chat("tier:home", stream=False, orchestrator={"strategy": "spill", "max_wait_s": 0,
        "models": [f"home/{TAKES}", "away/chat"]})  # fmt: skip
    first, second = answer.json()["orchestrator"]["attempts"]
    assert ("busy", None, 0) == (first["outcome"], first["status"], first["cost_usd"])
    assert ("away", "ok") == (second["provider"], second["outcome"])
    await asyncio.gather(*begun)


async def test_where_nobody_else_answers_it_waits(home: Stack) -> None:
    """Two go at once, two after them, although none may wait."""
    assert {"home": 4} == await providers(home, 4, "tier:only")


async def test_a_stream_spills_too(home: Stack) -> None:
    """Before its first token."""
    begun = [asyncio.ensure_future(home.chat("tier:only")) for _ in range(2)]
    await asyncio.sleep(0.1)
    models = [f"home/{TAKES}", "away/chat"]
    streamed = await home.chat("x", stream=True, orchestrator={"strategy": "spill", "max_wait_s": 0, "models": models})
    assert streamed.headers["x-orchestrator-provider"] == "away"
    assert streamed.text.rstrip().endswith("[DONE]")
    await asyncio.gather(*begun)
