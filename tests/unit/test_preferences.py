"""A request's own `provider: {…}`: what is left of a route, and in which order; or which field cannot be followed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.accounting import Asked
from orchestrator.asks import Ask
from orchestrator.budgets.payments import payments_of
from orchestrator.config.load import load_mapping
from orchestrator.errors import BadChoice
from orchestrator.pricing.price import Price, Tier
from orchestrator.routes import Candidate, Route
from orchestrator.selectors import Selectors
from orchestrator.types import Json, Request

CONFIG: Json = {
    "ledger": {"url": "sqlite:////tmp/never-opened.db"},
    "providers": {name: {"base_url": "http://127.0.0.1:1/v1"} for name in ("Alpha", "b", "c", "free")},
    "pricing": {
        "overrides": {
            "Alpha/*": {"input_per_mtok_usd": 3, "output_per_mtok_usd": 15},
            "c/*": {"input_per_mtok_usd": 1, "output_per_mtok_usd": 4},
        }
    },
    "tiers": {
        "list": ["Alpha/x", "b/y", "c/z"],
        "warm": {"models": ["Alpha/x", "b/y"], "params": {"temperature": 1}},
        "only": {"strategy": "first", "models": ["Alpha/x", "b/y"]},
        "even": {"strategy": "balance", "by": "in_flight", "models": ["Alpha/x", "b/y", "c/z"], "params": {"top_p": 1}},
        "race": {"strategy": "race", "models": ["Alpha/x", "b/y"]},
        "inner": ["tier:list", "free/w"],
        "vote": {"strategy": "consensus", "models": ["Alpha/x", "b/y", "c/z"], "quorum": 2, "escalate": "free/w"},
        "trial": {"strategy": "split", "arms": {"p": {"model": "Alpha/x"}, "q": {"model": "b/y"}}},
        "behind": ["free/w", "tier:trial"],
        "outer": ["tier:race"],
        "mixed": ["free/w", "tier:race"],
        "judged": {"strategy": "consensus", "method": "judge", "judge": "tier:race", "models": ["b/y", "c/z"]},
    },
    "users": {"ada": {"experiments": {name: {"models": ["Alpha/x", "b/y"], "budget_usd": 1} for name in ("one", "two")}}},
}  # fmt: skip
LONG = Tier(above_input_tokens=1000, input_per_mtok_usd=2, output_per_mtok_usd=8)
"""A long input has other rates: `max_price` holds for it, too."""
PRICE = Price(input_per_mtok_usd=1, output_per_mtok_usd=4, request_usd=0.01, tiers=(LONG,))
LOADED = load_mapping(CONFIG, {})
PRICES = replace(LOADED.prices, overrides={**LOADED.prices.overrides, "b/*": PRICE})
SELECTORS = Selectors(replace(LOADED, prices=PRICES))


def shown(route: Route) -> Any:
    """`strategy` and members, nested."""
    return [route.strategy.name, *(str(one) if isinstance(one, Candidate) else shown(one) for one in route.members)]


def wish(selector: str, fields: Json | None = None, **provider: Any) -> Route:
    return SELECTORS.resolve(selector, {"provider": provider, **(fields or {})}, "ada")


@pytest.mark.parametrize(
    ("selector", "provider", "expected"),
    [
        ("b/y", {}, ["first", "b/y"]),
        ("b/y", {"order": ["c", "b"]}, ["first", "b/y"]),
        ("tier:list", {"order": ["c", "ALPHA"]}, ["fallback", "c/z", "Alpha/x", "b/y"]),
        ("tier:list", {"order": ["c", "nobody"], "allow_fallbacks": False}, ["fallback", "c/z"]),
        ("tier:list", {"allow_fallbacks": False}, ["fallback", "Alpha/x"]),
        ("tier:warm", {"allow_fallbacks": True, "order": None, "only": [], "sort": None}, ["fallback", "Alpha/x", "b/y"]),
        ("tier:list", {"only": ["b", "alpha"]}, ["fallback", "Alpha/x", "b/y"]),
        ("tier:list", {"ignore": ["b", "nobody"]}, ["fallback", "Alpha/x", "c/z"]),
        ("tier:list", {"sort": "price"}, ["balance", "Alpha/x", "b/y", "c/z"]),
        ("tier:list", {"sort": "latency", "order": ["c"]}, ["fallback", "c/z", ["balance", "Alpha/x", "b/y"]]),
        ("tier:list", {"sort": "latency", "order": ["c", "b"]}, ["fallback", "c/z", "b/y", "Alpha/x"]),
        ("tier:even", {"order": ["c"]}, ["fallback", "c/z", ["balance", "Alpha/x", "b/y"]]),
        ("tier:even", {"sort": "price"}, ["balance", "Alpha/x", "b/y", "c/z"]),
        ("tier:only", {"order": ["b"]}, ["first", "b/y", "Alpha/x"]),
        ("tier:race", {"order": ["b"], "allow_fallbacks": False}, ["race", "b/y"]),
        ("tier:inner", {"order": ["free", "c"]}, ["fallback", "free/w", ["fallback", "c/z", "Alpha/x", "b/y"]]),
        ("tier:inner", {"ignore": ["alpha", "b", "c"]}, ["fallback", "free/w"]),
        ("tier:inner", {"allow_fallbacks": False}, ["fallback", ["fallback", "Alpha/x"]]),
        ("tier:vote", {"ignore": ["c"], "order": ["b"]}, ["consensus", "b/y", "Alpha/x", "free/w"]),
        ("tier:list", {"max_price": {"prompt": 2, "completion": "8"}}, ["fallback", "b/y", "c/z"]),
        ("tier:list", {"max_price": {"prompt": 1.5}}, ["fallback", "c/z"]),
        ("tier:list", {"max_price": {"request": 0, "image": 0}}, ["fallback", "Alpha/x", "c/z"]),
        ("tier:mixed", {"allow_fallbacks": False}, ["fallback", "free/w"]),
        ("tier:judged", {"order": ["c", "b"]}, ["consensus", "c/z", "b/y", ["race", "Alpha/x", "b/y"]]),
        ("tier:trial", {}, ["split", "Alpha/x", "b/y"]),
        ("tier:behind", {"allow_fallbacks": True, "order": []}, ["fallback", "free/w", ["split", "Alpha/x", "b/y"]]),
        ("user:ada:one", {"ignore": ["alpha"]}, ["fallback", "b/y"]),
    ],
)  # fmt: skip
def test_what_is_left(selector: str, provider: Json, expected: list[Any]) -> None:
    """Narrowed and ordered; the route keeps its name, by which budgets and hedges know it."""
    route = wish(selector, **provider)
    assert (expected, selector) == (shown(route), route.selector)


def test_with_a_choice_of_its_own() -> None:
    """`models` says who, `provider` in which order; and what a tier sets is set once."""
    assert ["fallback", "c/z", "b/y"] == shown(wish("b/y", {"fallbacks": ["c/z"]}, order=["c"]))
    assert ["race", "c/z"] == shown(
        wish("b/y", {"strategy": "race", "models": ["Alpha/x", "c/z"]}, max_price={"prompt": 2})
    )
    ordered = wish("tier:even", order=["c"])
    inner = ordered.members[1]
    assert isinstance(inner, Route)
    assert ({"top_p": 1}, {}, "in_flight") == (ordered.strategy.params, inner.strategy.params, inner.strategy.by)
    assert ("cost", 0.0) == ((priced := wish("tier:list", sort="price").strategy).by, priced.explore)


@pytest.mark.parametrize(
    ("selector", "provider", "param", "said"),
    [
        ("b/y", {"quantizations": ["fp8"]}, "provider.quantizations", "cannot be followed here"),
        ("b/y", {"order": "b"}, "provider.order", "has to be a list"),
        ("b/y", {"order": [1]}, "provider.order", "has to be a list"),
        ("b/y", {"only": 0}, "provider.only", "has to be a list"),
        ("b/y", {"ignore": ["b"] * 65}, "provider.ignore", "at most 64"),
        ("b/y", {"allow_fallbacks": 1}, "provider.allow_fallbacks", "true or false"),
        ("b/y", {"sort": "throughput"}, "provider.sort", "price, latency"),
        ("b/y", {"max_price": 3}, "provider.max_price", "has to be an object"),
        ("b/y", {"max_price": {"audio": 3}}, "provider.max_price", "has to be an object"),
        ("b/y", {"max_price": {"prompt": -1}}, "provider.max_price.prompt", "at least 0"),
        ("b/y", {"max_price": {"prompt": "nan"}}, "provider.max_price.prompt", "at least 0"),
        ("b/y", {"max_price": {"prompt": "1_0"}}, "provider.max_price.prompt", "at least 0"),
        ("b/y", {"max_price": {"prompt": 10**400}}, "provider.max_price.prompt", "at least 0"),
        ("b/y", {"max_price": {"prompt": True}}, "provider.max_price.prompt", "at least 0"),
        ("b/y", {"order": ["Azure"]}, "provider.order", "names none of those that are asked: b"),
        ("b/y", {"order": ["c"]}, "provider.order", "names none of those that are asked: b"),
        ("b/y", {"only": ["Azure"]}, "provider.only", "leaves nobody to ask: 'b/y'"),
        ("b/y", {"only": ["c"]}, "provider.only", "leaves nobody to ask: 'b/y'"),
        ("b/y", {"ignore": ["B"]}, "provider.ignore", "leaves nobody to ask: 'b' is to be ignored"),
        ("b/y", {"order": ["c", "b"], "only": ["c"], "allow_fallbacks": False}, "provider.order", "leaves nobody to ask"),
        ("tier:list", {"max_price": {"completion": 1}}, "provider.max_price", "of 'Alpha/x' is 15 USD (and 2 more)"),
        ("free/w", {"max_price": {"prompt": 100}}, "provider.max_price", "the price of 'free/w' is not known"),
        ("tier:vote", {"ignore": ["free"]}, "provider.ignore", "leaves nobody to judge or to escalate to: 'free'"),
        ("tier:vote", {"ignore": ["b", "c"]}, "provider", "'quorum' can never be reached"),
        ("tier:race", {"sort": "price"}, "provider.sort", "not with 'race'"),
        ("tier:outer", {"sort": "price"}, "provider.sort", "not with 'race'"),
        ("tier:inner", {"sort": "price"}, "provider.sort", "not with tiers"),
        ("tier:race", {"allow_fallbacks": False}, "provider.allow_fallbacks", "this is 'race'"),
        ("tier:even", {"allow_fallbacks": False}, "provider.allow_fallbacks", "this is 'balance'"),
        ("tier:list", {"sort": "price", "allow_fallbacks": False}, "provider.allow_fallbacks", "as it stands"),
        ("tier:trial", {"ignore": ["b"]}, "provider", "is a split"),
        ("tier:behind", {"order": ["b"]}, "provider", "is a split"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed(selector: str, provider: Json, param: str, said: str) -> None:
    """An error by the field's name."""
    with pytest.raises(BadChoice) as caught:
        wish(selector, **provider)
    assert param == caught.value.param
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"fallbacks": ["user:ada:two", "c/z"]},
        {"strategy": "balance", "models": ["c/z", "user:ada:one", "user:ada:two"]},
    ],
)
def test_experiments_are_paid_for_wherever_they_stand(fields: Json) -> None:
    """Those behind others, too."""
    route = wish("user:ada:one", fields, order=["c"])
    ask = Ask("user:ada:one", Request({}), None, "r", "ada")
    paid = payments_of(Asked(ask, route, LOADED, 0.0))
    assert ["experiment:ada:one", "experiment:ada:two"] == [one.account for one in paid]
