"""The most that requests of a batch may cost: where a batch meets the price table."""

from __future__ import annotations

from orchestrator.batch.items import Asked
from orchestrator.batch.planning import Worst
from orchestrator.budgets.worst import worst_of as worst_of_route
from orchestrator.config.settings import Config
from orchestrator.errors import OrchestratorError
from orchestrator.selectors import Selectors


def worst_of(config: Config) -> Worst:
    """By a configuration's prices, over all calls that a route may make (`orchestrator.budgets.worst`). None: one of its
    models has no price. What will be refused before anybody is asked costs nothing."""
    selectors = Selectors(config)

    def worst(asked: Asked) -> float | None:
        ask = asked.ask
        try:
            route = selectors.resolve(ask.selector, ask.override, ask.user)
        except OrchestratorError:
            return 0.0
        most = worst_of_route(route, ask.request, config)
        return None if most.unpriced is not None else most.usd

    return worst
