"""A budget over two coordinators, each in a process of its own, and the ledger's actor."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from bench.serving import Served

pytestmark = pytest.mark.timed

REQUESTS, CENT = 500, 2_000
"""So many tokens cost a cent."""


async def test_a_dollar_for_500_requests_at_once(served: Served) -> None:
    """Of up to a cent each: never more than a dollar is spent, at least 97 cents are, and the ledger says the same as the
    answers do. Those that were refused are told why."""
    rng = random.Random(7)
    limits = httpx.Limits(max_connections=REQUESTS)
    async with httpx.AsyncClient(base_url=served.root, timeout=120, limits=limits) as http:

        async def one() -> httpx.Response:
            most = rng.randint(CENT // 2, CENT)
            model = f"sim/penny+tokens-{rng.randint(most // 2, most)}+rate-0+latency-{rng.uniform(0.05, 0.5):.2f}"
            body = {"model": model, "max_tokens": most, "messages": [{"role": "user", "content": "hi"}]}
            return await http.post("/v1/chat/completions", json={**body, "user": "spender"})

        answers = await asyncio.gather(*(one() for _ in range(REQUESTS)))
        refused = [one for one in answers if one.status_code != 200]
        assert {(403, "budget_exceeded")} == {(one.status_code, one.json()["error"]["code"]) for one in refused}
        spent = sum(one.json()["usage"]["cost"] for one in answers if one.status_code == 200)
        assert 0.97 <= spent <= 1.0
        row: dict[str, object] = {}
        for _ in range(100):
            rows = (await http.get("/admin/budgets")).json()["budgets"]
            (row,) = [one for one in rows if one["account"] == "user:spender"]
            if row["leased_usd"] == 0:
                break
            await asyncio.sleep(0.1)
        assert (1.0, 0) == (row["limit_usd"], row["leased_usd"])
        assert pytest.approx(spent, abs=1e-9) == row["spent_usd"]
