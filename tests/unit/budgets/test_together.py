"""What has to be shown: many requests at once over two coordinators, in virtual time; a budget holds, and is usable."""

from __future__ import annotations

import asyncio
import random

import pytest

from orchestrator.budgets.lending import Lending
from orchestrator.config.settings import Budgets
from orchestrator.errors import Denied
from orchestrator.money import GRID, usd_of
from tests.unit.budgets.making import Disk, Replica, asked, config, ended, row
from tests.virtual_loop import run


async def _crowd(
    seed: int, *, count: int = 500, die: bool = False, exact: bool = False
) -> tuple[float, float, list[str]]:
    """(spent by those who were answered, spent by the accounts, codes of refusals): 500 requests at once of up to a cent."""
    rng = random.Random(seed)
    lending = Lending(Disk(rng.uniform(0.0005, 0.01)).write)
    replicas = [
        Replica(lending, name, every_s=rng.uniform(0.01, 0.1), post_s=rng.uniform(0.001, 0.02))
        for name in ("one", "two")
    ]
    one_usd = config(Budgets(users={"john": 1.0}))
    spent, refused = 0.0, list[str]()
    takes_s = rng.choice([0.05, 0.3, 1.0])

    async def one() -> None:
        nonlocal spent
        replica = rng.choice(replicas)
        await asyncio.sleep(rng.uniform(0, 0.2))
        tokens = 10_000 if exact else rng.randint(500, 10_000)
        request = asked(one_usd, tokens=tokens)
        try:
            allowance = await replica.purse.allow(request)
        except Denied as denied:
            refused.append(denied.code)
            return
        assert allowance is not None
        await asyncio.sleep(rng.expovariate(1 / takes_s))
        if replica.dead:
            return
        cost = tokens / 1e6 if exact else round(rng.uniform(0.2, 1) * tokens / 1e6, 10)
        allowance.settle(ended(request, cost))
        spent += cost

    tasks = [asyncio.ensure_future(one()) for _ in range(count)]
    if die:
        await asyncio.sleep(0.3)
        replicas[0].kill()
        lending.forfeit("one")
    await asyncio.gather(*tasks)
    if die:
        lending.forfeit("one")
    for replica in replicas:
        await replica.aclose()
    assert 0 == row(lending)["leased"]
    return spent, usd_of(row(lending)["spent"]), refused


@pytest.mark.parametrize("seed", range(12))
def test_a_budget_of_a_dollar_holds_and_is_usable(seed: int) -> None:
    """500 requests at once, of up to a cent each, over two coordinators: never more than a dollar is spent, and at least 97
    cents are; the accounts have the sum of the answers, and nothing stays leased."""
    spent, booked, refused = run(_crowd(seed))
    assert pytest.approx(spent, abs=1e-9) == booked
    assert 0.97 <= spent <= 1.0
    assert {"budget_exceeded"} == set(refused)


@pytest.mark.parametrize("seed", range(3))
def test_where_the_worst_case_is_what_it_costs_all_of_it_is_usable(seed: int) -> None:
    """100 requests of exactly a cent pass, and 400 do not."""
    spent, _, refused = run(_crowd(seed, exact=True))
    assert (1.0, 400) == (round(spent, 10), len(refused))


@pytest.mark.parametrize("seed", range(6))
def test_a_coordinator_that_dies_in_the_middle_overshoots_nothing(seed: int) -> None:
    """What it had leased counts as spent: less is usable, and never more than a dollar is spent."""
    _, booked, _ = run(_crowd(seed, die=True))
    assert booked <= 1.0
    assert GRID >= booked * GRID
