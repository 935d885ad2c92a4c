"""A request's own `provider: {order, only, ignore, allow_fallbacks, sort, max_price}`, spelled as OpenRouter's
(openrouter.ai/docs/guides/routing/provider-selection), here among the providers of the configuration.

It narrows and orders what the request asks for anyway, and adds nobody: a model has its provider in its name, so there is a
choice where a tier, an experiment or `models` has several. A tier among them is narrowed and ordered within, and moves as a
whole. Judges and whoever is escalated to have to be allowed, and stay as they are.

- `only`, `ignore`: the providers that may be asked, and may not; `max_price`: models that cost more are not asked, nor such
  whose price is not known.
- `order`: these providers first, the others behind them as they stand. What `balance` chooses from are the others.
- `sort`: `price` or `latency`, as `strategy: balance` does by `cost` and `latency`; it is for lists of models.
- `allow_fallbacks: false`: with `order`, nobody else is asked; without, only the first of a list.

What cannot be followed is an error that names the field, never something else that is done instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from orchestrator.config.votes import check_votes
from orchestrator.errors import BadChoice
from orchestrator.pricing.book import Prices
from orchestrator.pricing.price import Price, Tier
from orchestrator.routes import Candidate, Route

KEYS = ("order", "only", "ignore", "allow_fallbacks", "sort", "max_price")
MOST = 64
"""Providers that a list may name."""
DOLLARS = r"^[0-9]{1,9}(\.[0-9]{1,12})?$"
MOST_DOLLARS = 1e9
SORTS: dict[str, Literal["cost", "latency"]] = {"price": "cost", "latency": "latency"}
PARTS = ("prompt", "completion", "request", "image")
_IN_TURN = ("first", "fallback", "spill")
_SORTED = ("fallback", "balance")


class Preferences(NamedTuple):
    """What a request prefers. Providers' names are case-folded."""

    order: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    fallbacks: bool = True
    sort: Literal["cost", "latency"] | None = None
    max_price: Mapping[str, float] = {}
    """US dollars: of a million tokens of `prompt` and `completion`, of a `request` and an `image`."""


def read_preferences(given: Any) -> Preferences:
    """From a request. Raises BadChoice."""
    if not isinstance(given, dict):
        raise BadChoice("provider", f"has to be an object of {', '.join(KEYS)}")
    for name in given:
        if name not in KEYS:
            raise BadChoice(f"provider.{name[:100]}", f"cannot be followed here; there is {', '.join(KEYS)}")
    fallbacks = given.get("allow_fallbacks")
    if fallbacks is not None and not isinstance(fallbacks, bool):
        raise BadChoice("provider.allow_fallbacks", "has to be true or false")
    order, ignore = _names(given, "order"), _names(given, "ignore")
    only = _names(given, "only") or None
    if order and fallbacks is False:
        only = tuple(name for name in order if only is None or name in only)
    return Preferences(
        tuple(dict.fromkeys(order)),
        None if only is None else frozenset(only),
        frozenset(ignore),
        fallbacks is not False,
        _sort(given.get("sort")),
        _max_price(given.get("max_price")),
    )


def _names(given: Mapping[str, Any], field: str) -> tuple[str, ...]:
    names = given.get(field)
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST:
        raise BadChoice(f"provider.{field}", f"has to be a list of at most {MOST} providers' names")
    return tuple(name.casefold() for name in names)


def _sort(given: Any) -> Literal["cost", "latency"] | None:
    if given is None:
        return None
    if not isinstance(given, str) or given not in SORTS:
        raise BadChoice("provider.sort", f"has to be one of {', '.join(SORTS)}")
    return SORTS[given]


def _max_price(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    reason = f"has to be an object of US dollars for {', '.join(PARTS)}"
    if not isinstance(given, dict) or not given.keys() <= set(PARTS):
        raise BadChoice("provider.max_price", reason)
    found: dict[str, float] = {}
    for part, value in given.items():
        if value is None:
            continue
        # Texts, too: OpenRouter's clients write prices so.
        text = isinstance(value, str) and re.fullmatch(DOLLARS, value) is not None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (text or (number and 0 <= value < MOST_DOLLARS)):
            raise BadChoice(f"provider.max_price.{part}", "has to be a number of US dollars, of at least 0")
        found[part] = float(value)
    return found


def preferred(route: Route, wish: Preferences, prices: Prices) -> Route:
    """The route as a request prefers it; what is left of it keeps its names. Raises BadChoice."""
    return route if wish == Preferences() else _Preferring(wish, prices).of(route)


class _Preferring:
    def __init__(self, wish: Preferences, prices: Prices) -> None:
        self._wish = wish
        self._prices = prices
        self._places = {name: place for place, name in enumerate(wish.order)}
        self._against: list[tuple[str, str]] = []
        """The field that keeps a candidate from being asked, and why."""

    def of(self, route: Route) -> Route:
        providers = dict.fromkeys(one.provider for one in route.leaves())
        if self._wish.order and not {name.casefold() for name in providers} & self._places.keys():
            raise BadChoice("provider.order", f"names none of those that are asked: {', '.join(providers)}")
        found = self._narrow(route)
        if found is None:
            field, reason = self._against[0]
            more = f" (and {len(self._against) - 1} more)" if len(self._against) > 1 else ""
            raise BadChoice(f"provider.{field}", f"leaves nobody to ask: {reason}{more}")
        return self._order(found)

    def _narrow(self, route: Route) -> Route | None:
        """Without whom the request does not want; None: nobody is left."""
        strategy, members = route.strategy, route.members
        if strategy.name == "split":
            raise BadChoice("provider", f"{route.selector!r} is a split, whose arms are not for a request to choose")
        kept: list[Candidate | Route] = []
        voters = len(members) - len(strategy.helpers)
        for place, member in enumerate(members):
            found = self._narrow(member) if isinstance(member, Route) else self._allowed(member)
            if found is not None:
                kept.append(found)
            elif place >= voters:
                field, reason = self._against[-1]
                raise BadChoice(f"provider.{field}", f"leaves nobody to judge or to escalate to: {reason}")
        if len(kept) <= len(strategy.helpers):
            return None
        narrowed = replace(route, members=tuple(kept))
        if len(kept) < len(members):
            unfit = check_votes(strategy, narrowed.names[: len(kept) - len(strategy.helpers)])
            if unfit is not None:
                raise BadChoice("provider", f"leaves too few to vote: '{unfit.key}' {unfit.reason}")
        return narrowed

    def _allowed(self, candidate: Candidate) -> Candidate | None:
        wish, name = self._wish, candidate.provider.casefold()
        if name in wish.ignore:
            self._against.append(("ignore", f"{candidate.provider!r} is to be ignored"))
        elif wish.only is not None and name not in wish.only:
            field = "only" if wish.fallbacks or not wish.order else "order"
            self._against.append((field, f"{str(candidate)[:200]!r} is of none of the providers that it names"))
        elif wish.max_price and (reason := self._too_dear(candidate)):
            self._against.append(("max_price", reason))
        else:
            return candidate
        return None

    def _too_dear(self, candidate: Candidate) -> str | None:
        shown = repr(str(candidate)[:200])
        price = self._prices.of(candidate.provider, candidate.model)
        if price is None:
            return f"the price of {shown} is not known"
        for part, most in self._wish.max_price.items():
            if (usd := _dearest(price, part)) > most:
                return f"the {part} price of {shown} is {usd:g} USD"
        return None

    def _order(self, route: Route) -> Route:
        wish, strategy = self._wish, route.strategy
        voters = len(route.members) - len(strategy.helpers)
        members, helpers = route.members[:voters], route.members[voters:]
        if not wish.fallbacks and not wish.order and len(members) > 1:
            if strategy.name not in _IN_TURN or wish.sort:
                reason = f"false goes with 'order', or with a list of fallbacks as it stands; this is '{strategy.name}'"
                raise BadChoice("provider.allow_fallbacks", reason)
            members = members[:1]
        if wish.sort and len(members) > 1:
            unfit = "" if strategy.name in _SORTED else f"'{strategy.name}'"
            if unfit or any(isinstance(one, Route) for one in members):
                reason = "goes with a list of models that are each other's fallbacks, or 'balance'; not with "
                raise BadChoice("provider.sort", reason + (unfit or "tiers"))
            strategy = replace(strategy, name="balance", by=wish.sort, explore=0.0)
        ordered = [self._order(one) if isinstance(one, Route) else one for one in members]
        ordered.sort(key=self._rank)
        listed = sum(self._rank(one) < len(self._places) for one in ordered)
        if strategy.name == "balance" and listed and len(ordered) > 1:
            # Only the others are there to choose from. What a tier sets is set by the outer one.
            inner = replace(strategy, params={}, override={})
            if len(ordered) - listed > 1:
                ordered[listed:] = [Route(route.selector, inner, tuple(ordered[listed:]))]
            strategy = replace(strategy, name="fallback")
        return Route(route.selector, strategy, (*ordered, *helpers))

    def _rank(self, member: Candidate | Route) -> int:
        """Its place in `order`; those that are not in it have the one behind."""
        leaves = member.leaves() if isinstance(member, Route) else (member,)
        return min(self._places.get(one.provider.casefold(), len(self._places)) for one in leaves)


def _dearest(price: Price, part: str) -> float:
    """The highest that a part may cost: a long input has rates of its own."""
    if part == "request":
        return price.request_usd or 0.0
    if part == "image":
        return price.image_usd or 0.0
    rates: tuple[Price | Tier, ...] = (price, *price.tiers)
    if part == "prompt":
        return max(one.input_per_mtok_usd for one in rates)
    return max(price.reasoning_per_mtok_usd or 0.0, *(one.output_per_mtok_usd for one in rates))
