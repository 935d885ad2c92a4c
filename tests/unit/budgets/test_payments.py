"""Which budgets a request pays into."""

from __future__ import annotations

from orchestrator.budgets.payments import LONGEST, Payment, named, payments_of
from orchestrator.callers import Caller
from orchestrator.config.settings import Budgets, Strategy, Tier
from orchestrator.money import GRID
from orchestrator.routes import Candidate, Route
from tests.unit.budgets.making import asked, config

NOVEMBER = 1_795_600_000.0
"""2026-11-25."""


def test_a_request_pays_for_its_key_its_user_and_its_experiment() -> None:
    """Each with its own limit, always in the same order."""
    tier = Tier("john:a", Strategy("first"), ("p/m",), 3.0)
    both = config(Budgets(users={"john": 20.0}), {"john:a": tier})
    request = asked(both, caller=Caller("laptop", budget_usd=5.0), selector="user:john:a")
    assert [
        Payment("key:laptop", 5 * GRID), Payment("user:john", 20 * GRID), Payment("experiment:john:a", 3 * GRID)
    ] == payments_of(request)  # fmt: skip


def test_where_there_are_no_budgets_nothing_is_paid() -> None:
    """Nor by a request that nobody has said who it is for."""
    assert [] == payments_of(asked(config(), caller=Caller("laptop")))
    assert [] == payments_of(asked(config(Budgets(users={"*": 1.0})), user=None))


def test_a_star_stands_for_each_of_the_other_users() -> None:
    """Each has an account of its own."""
    star = config(Budgets(users={"john": 20.0, "*": 5.0}))
    assert [Payment("user:ada", 5 * GRID)] == payments_of(asked(star, user="ada"))
    assert [Payment("user:john", 20 * GRID)] == payments_of(asked(star, user="john"))


def test_a_period_stands_in_the_account() -> None:
    """A new one starts from 0. An experiment's budget is for all of it."""
    tier = Tier("john:a", Strategy("first"), ("p/m",), 3.0)
    for period, suffix in (("month", "@2026-11"), ("day", "@2026-11-25")):
        monthly = config(Budgets(users={"john": 20.0}, period=period), {"john:a": tier})  # type: ignore[arg-type]
        request = asked(monthly, caller=Caller("k", budget_usd=1.0), selector="user:john:a", at_s=NOVEMBER)
        accounts = [payment.account for payment in payments_of(request)]
        assert [f"key:k{suffix}", f"user:john{suffix}", "experiment:john:a"] == accounts


def test_an_experiment_may_spend_what_both_allow() -> None:
    """The platform bounds what a researcher says, and all that say nothing."""
    for own, platform, limit in ((3.0, 2.0, 2), (1.0, 2.0, 1), (None, 2.0, 2), (1.0, None, 1)):
        bounded = config(Budgets(experiments=platform), {"john:a": Tier("john:a", Strategy(), ("p/m",), own)})
        assert [Payment("experiment:john:a", limit * GRID)] == payments_of(asked(bounded, selector="user:john:a"))


def test_a_choice_of_the_requests_own_pays_for_the_experiments_in_it() -> None:
    """Each once, whatever it is a member of."""
    tiers = {f"john:{name}": Tier(f"john:{name}", Strategy(), ("p/m",), 1.0) for name in "ab"}
    request = asked(config(experiments=tiers))
    a, b = (Route(f"user:{name}", Strategy(), (Candidate("p", "m"),)) for name in tiers)
    chosen = request._replace(route=Route("", Strategy(), (b, a, b, Candidate("p", "m"))))
    assert ["experiment:john:a", "experiment:john:b"] == [payment.account for payment in payments_of(chosen)]


def test_an_account_is_named_for_people() -> None:
    """Without its syntax."""
    assert "the budget of the key 'john' for 2026-11" == named("key:john@2026-11")
    assert "the budget of the experiment 'john:a@b'" == named("experiment:john:a@b")
    assert "the budget of the user 'john@x.org'" == named("user:john@x.org")
    assert "the budget of the user 'john@x.org' for 2026-11-25" == named("user:john@x.org@2026-11-25")


def test_a_name_that_a_request_makes_up_is_bounded() -> None:
    """It comes into the database."""
    (payment,) = payments_of(asked(config(Budgets(users={"*": 1.0})), user="\0" + "x" * 1_000))
    assert "user:" + "x" * (LONGEST - 1) == payment.account
