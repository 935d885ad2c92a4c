"""What tokens cost: prices with their sources, and what calls come to by them.

`price` and `cost` are arithmetic. `table` is what the project itself knows, `sellers` whose prices hold for whom, and `book` the
prices of one configuration. `fetch` and `cache` bring and keep what OpenRouter says.
"""

from __future__ import annotations

from orchestrator.pricing.cost import cost_of, worst_case_usd
from orchestrator.pricing.price import Price, Tier

__all__ = ["Price", "Tier", "cost_of", "worst_case_usd"]
