"""Which budgets a request pays into: that of the caller's key, of its user, and of the experiment that it asks for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from orchestrator.accounting import Asked
from orchestrator.config.operations import Budgets
from orchestrator.config.settings import Config
from orchestrator.money import units_of, usd_of
from orchestrator.routes import Route
from orchestrator.types import Json

LONGEST = 200
"""Characters of a user's name: those that begin alike up to there share a budget."""
_PERIOD = re.compile(r"@(\d{4}-\d\d(?:-\d\d)?)$")
_PERIODS = {"month": "@%Y-%m", "day": "@%Y-%m-%d"}
DAY_S = 86_400


class Payment(NamedTuple):
    """One budget that a request pays into."""

    account: str
    """`key:NAME`, `user:NAME` or `experiment:USER:EXPERIMENT`, with the period behind an `@`: a new one starts from 0."""
    limit: int
    """In units (`orchestrator.money`)."""


def payments_of(asked: Asked) -> list[Payment]:
    """All of them, in an order that is the same for all requests. Periods are UTC's."""
    ask, config = asked.ask, asked.config
    budgets, caller = config.budgets, ask.caller
    period = "" if budgets.period == "total" else _period(budgets.period, asked.at_s // DAY_S)
    payments: list[Payment] = []
    if caller is not None and caller.budget_usd is not None:
        payments.append(Payment(f"key:{caller.name}{period}", units_of(caller.budget_usd)))
    if ask.user is not None and (limit_usd := user_limit_usd(budgets, ask.user)) is not None:
        # Requests may say who they are for, and databases have no place for a zero character.
        user = ask.user[:LONGEST].replace("\0", "")
        payments.append(Payment(f"user:{user}{period}", units_of(limit_usd)))
    limits = ((experiment, experiment_limit_usd(config, experiment)) for experiment in _experiments(asked.route))
    payments += (Payment(f"experiment:{name}", units_of(limit)) for name, limit in limits if limit is not None)
    return payments


@lru_cache(maxsize=8)
def _period(period: str, day: float) -> str:
    return time.strftime(_PERIODS[period], time.gmtime(day * DAY_S))


def named(account: str) -> str:
    """An account for people: `the budget of the key 'john' for 2026-11`."""
    what, _, name = account.partition(":")
    found = None if what == "experiment" else _PERIOD.search(name)
    who, period = (name, "") if found is None else (name[: found.start()], f" for {found[1]}")
    return f"the budget of the {what} '{who}'{period}"


def shown(row: Mapping[str, Any]) -> Json:
    """A row of `Accounts.rows` as /admin/budgets has it: in US dollars. A limit that nobody has said since the ledger's
    process began is not known."""
    limit = row["limit"] or None
    amounts = {"limit": limit, "spent": row["spent"], "leased": row["leased"], "left": row["left"] if limit else None}
    return {
        "account": row["account"],
        "budget": named(row["account"]),
        **{f"{name}_usd": None if units is None else usd_of(units) for name, units in amounts.items()},
    }


def user_limit_usd(budgets: Budgets, user: str) -> float | None:
    """What a user may spend in a period; None: as much as it likes."""
    return budgets.users.get(user, budgets.users.get("*"))


def experiment_limit_usd(config: Config, experiment: str) -> float | None:
    """What an experiment (`USER:EXPERIMENT`) may spend altogether: what it says, and no more than the platform allows."""
    tier = config.experiments.get(experiment)
    limits = (None if tier is None else tier.budget_usd, config.budgets.experiments)
    return min((limit for limit in limits if limit is not None), default=None)


def _experiments(route: Route) -> Iterator[str]:
    """Those that a route goes through. They are members of no tiers, but a request's own choice may name several, and have
    some of them balanced behind others."""
    if route.selector.startswith("user:"):
        yield route.selector[5:]
    elif not route.selector:
        yield from sorted({name for one in route.members if isinstance(one, Route) for name in _experiments(one)})
