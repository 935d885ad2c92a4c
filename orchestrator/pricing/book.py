"""The prices of one configuration: overrides over the cache over the table, for the providers that it has.

Part of the configuration that coordinators get; pools have no use for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.pricing.price import Price
from orchestrator.pricing.sellers import SELLERS

_REMEMBERED = 1_000
"""Models whose prices are kept at hand: requests may name any."""
_LONGEST = 200
"""Characters of such a name: nobody has longer ones, and requests may be made of nothing else."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What is known of prices. The lists are those of sellers that a provider of the configuration buys from."""

    overrides: Mapping[str, Price] = field(default_factory=dict)
    """By `provider/model`; one `*` at the end stands for any rest."""
    bought_from: Mapping[str, str] = field(default_factory=dict)
    """Provider -> seller; whoever is not in it has no price but by `overrides`."""
    lists: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)
    """Seller -> model -> price."""
    cache: str = ""
    """The file that keeps fetched prices, and is looked at for new ones; empty: there is none."""
    written_s: float | None = None
    """When that file was written, in seconds since 1970; None: there is none, or it is of no use."""
    refresh_h: float = 0.0
    """How often prices are fetched anew; 0: never by itself."""
    _found: dict[tuple[str, str], Price | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was looked up before: each request asks twice."""

    def of(self, provider: str, model: str) -> Price | None:
        """The price of a model; None: it is not known."""
        try:
            return self._found[provider, model]
        except KeyError:
            found = self._look_up(provider, model)
            if len(model) <= _LONGEST:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[provider, model] = found
            return found

    def _look_up(self, provider: str, model: str) -> Price | None:
        if self.overrides:
            found = self._override(f"{provider}/{model}")
            if found is not None:
                return found
        seller = self.bought_from.get(provider)
        if seller is None:
            return None
        rows = self.lists.get(seller, {})
        found = rows.get(model)
        return rows.get(SELLERS[seller].name_of(model)) if found is None else found

    def _override(self, selector: str) -> Price | None:
        found = self.overrides.get(selector)
        if found is None:
            fits = [one for one in self.overrides if one.endswith("*") and selector.startswith(one[:-1])]
            found = self.overrides[max(fits, key=len)] if fits else None
        return found
