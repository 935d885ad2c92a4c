"""The ledger of a running application, which is killed meanwhile."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
from collections import defaultdict
from typing import Any

import aiohttp
import pytest

from bench.serving import Served
from orchestrator.money import units_of

pytestmark = pytest.mark.timed

REQUESTS, AT_ONCE, USERS = 20_000, 64, 5
WRITTEN_S = 60.0


def command(*arguments: str) -> Any:
    """What `orchestrator spend` prints."""
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "spend", *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout


@pytest.mark.timeout(600)
async def test_20_000_requests_and_a_ledger_that_is_killed(served: Served) -> None:
    """Over two coordinators, with the ledger killed (-9) twice: its sums are those of the answers, by user, model and arm, to
    the last step of the grid; nothing is missing, nothing is there twice. The endpoint, the command, and the file itself all
    say so."""
    expected: dict[tuple[str, str], int] = defaultdict(int)
    counted: dict[str, int] = defaultdict(int)
    begun = 0

    async def worker(http: aiohttp.ClientSession) -> None:
        nonlocal begun
        while begun < REQUESTS:
            begun += 1
            user = f"ledger-{begun % USERS}"
            body = {"model": "tier:halves", "user": user, "messages": [{"role": "user", "content": "x" * (begun % 97)}]}
            async with http.post(f"{served.url}/chat/completions", json=body) as answer:
                told = (await answer.json())["orchestrator"]
            assert 200 == answer.status
            units = units_of(told["cost_usd"])
            assert units > 0
            for name in (("user", user), ("model", told["winner"]), ("arm", told["arm"])):
                expected[name] += units
            counted[user] += 1

    async def killer() -> None:
        for share in (0.3, 0.6):
            while begun < share * REQUESTS:
                await asyncio.sleep(0.05)
            (ledger,) = await asyncio.to_thread(served.processes, "ray::Ledger")
            ledger.kill()

    limit, patience = aiohttp.TCPConnector(limit=AT_ONCE), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=limit, timeout=patience) as http:
        killing = asyncio.ensure_future(killer())
        await asyncio.gather(*(worker(http) for _ in range(AT_ONCE)))
        await killing

        async def spend(by: str) -> Any:
            async with http.get(f"{served.root}/admin/spend", params={"by": by}) as answer:
                return await answer.json()

        async with asyncio.timeout(WRITTEN_S):
            while not (rows := {row["user"]: row["requests"] for row in (await spend("user")).get("rows", ())}) or any(
                rows.get(user, 0) < count for user, count in counted.items()
            ):
                await asyncio.sleep(0.2)
        answers = {by: await spend(by) for by in ("user", "model", "arm")}
    assert {user: rows[user] for user in counted} == counted
    assert REQUESTS == sum(counted.values())
    found = {(by, row[by]): units_of(row["cost_usd"]) for by, answer in answers.items() for row in answer["rows"]}
    assert expected == {name: units for name, units in found.items() if name in expected}
    assert USERS + 2 + 2 == len(expected)
    assert 0 == answers["user"]["lost"]
    arms = [row for row in answers["arm"]["rows"] if row["split"] == "tier:halves"]
    assert [1.0, 1.0] == [row["success_rate"] for row in arms]
    for row in arms:
        assert row["mean_cost_usd_low"] < row["mean_cost_usd"] < row["mean_cost_usd_high"]
        assert 0.999 < row["success_rate_low"]
    asked = json.loads(await asyncio.to_thread(command, "--url", served.url, "--by", "user", "--json"))
    file = await asyncio.to_thread(
        command, "--ledger", str(served.config.with_name("ledger.db")), "--by", "user", "--csv"
    )
    read = {row["user"]: units_of(float(row["cost_usd"])) for row in csv.DictReader(io.StringIO(file))}
    for user in counted:
        assert expected["user", user] == read[user]
        assert [expected["user", user]] == [units_of(row["cost_usd"]) for row in asked["rows"] if row["user"] == user]
