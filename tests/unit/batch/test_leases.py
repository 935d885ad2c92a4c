"""One budget among workers: what is lent, what is spent, and what comes back."""

from __future__ import annotations

import pytest

from orchestrator.batch.leases import Lender, LentPurse


def test_no_more_is_lent_than_there_is() -> None:
    """As much as is wanted, then what is left, then nothing: and what is given back can be lent again."""
    lender = Lender(10.0, 4.0)
    assert 4.0 == lender.gone_usd
    assert (4.0, False) == (lender.lend(1.0, 4.0), lender.refused)
    assert 8.0 == lender.gone_usd
    assert 2.0 == lender.lend(1.0, 4.0)
    assert (0.0, True) == (lender.lend(1.0, 4.0), lender.refused)
    lender.take_back(1.5)
    assert 8.5 == lender.gone_usd
    assert 1.5 == lender.lend(1.0, 4.0)
    assert 3.0 == Lender(5.0, 0.0).lend(3.0, 1.0)


def test_a_budget_of_what_all_may_cost_is_lent_to_the_end() -> None:
    """Sums of tenths are a hair off in binary."""
    lender, purse = Lender(0.3, 0.0), LentPurse(lambda _: None, reserve=0)
    for _ in range(3):
        purse.add(lender.lend(0.1, 0.1))
        assert purse.take(0.1)
    assert (0.0, True) == (lender.lend(1e-9, 0.1), lender.refused)
    assert not purse.take(1e-9)


def test_a_purse_asks_for_more_before_it_is_empty() -> None:
    """It goes on with what is left meanwhile, and gives back what it has no use for."""
    short: list[float] = []
    purse = LentPurse(short.append, reserve=2)
    assert not purse.take(1.0)
    assert [1.0] == short
    purse.add(5.0)
    assert purse.take(1.0)
    assert purse.take(1.0)
    assert purse.take(1.0)
    assert [1.0] == short
    assert purse.take(1.0)
    assert [1.0, 1.0] == short
    assert 0.25 == purse.settle(1.0, 0.25)
    assert 1.75 == pytest.approx(purse.free_usd)
    assert 1.75 == pytest.approx(purse.empty())
    assert 0.0 == purse.free_usd
    assert not purse.take(1.0)
