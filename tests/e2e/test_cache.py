"""The exact-answer cache over both coordinators of a served endpoint, where requests ask for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from bench.serving import Served
from tests.upstream import Upstream


async def test_two_coordinators_share_it(served: Served, upstream: Upstream) -> None:
    """Equal requests at once, whole and streamed, over many connections: one call; then hits, whoever answers."""

    async def ask(model: str, *, stream: bool = False) -> str:
        body: dict[str, Any] = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        body["orchestrator"] = {"cache": {"ttl_s": 60}}
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.post(f"{served.url}/chat/completions", json=body)
        assert (200, True) == (answer.status_code, "gamma" in answer.text)
        return answer.headers["x-orchestrator-cache"]

    # The first who asks for a cache has it made, and does not wait for it; so has the other coordinator.
    deadline_s, calls, number = time.monotonic() + 30, 0, 0
    while calls != 1 and time.monotonic() < deadline_s:
        number += 1
        await asyncio.gather(*(ask(f"up/slow-0.1-{number}") for _ in range(8)))
        calls = len(upstream.attempts(f"slow-0.1-{number}"))
    said = await asyncio.gather(*(ask("up/slow-0.5", stream=i % 2 == 0) for i in range(30)))
    assert ["hit"] * 29 + ["miss"] == sorted(said)
    assert ["hit"] * 10 == [await ask("up/slow-0.5", stream=i % 2 == 0) for i in range(10)]
    assert 1 == len(upstream.attempts("slow-0.5"))
