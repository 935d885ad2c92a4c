"""The most that requests of a batch may cost: where a batch meets the price table."""

from __future__ import annotations

from typing import Any

from orchestrator.batch.grading import SHOWN_TOKENS
from orchestrator.batch.items import Asked, judging
from orchestrator.batch.planning import Judging, Worst
from orchestrator.batch.spec import Spec
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


def judging_of(config: Config, spec: Spec) -> Judging | None:
    """The same of an opinion of a spec's judge: on the longest answer that the arm may write, as much of it as a judge is
    shown. None: the spec has no judge."""
    scorer = spec.scorer()
    if scorer is None or scorer.judge is None:
        return None
    judge, selectors = scorer.judge, Selectors(config)

    def worst(asked: Asked, expected: Any) -> float | None:
        ask = asked.ask
        questions = scorer.questions(ask.request.body.get("messages") or (), "", expected)
        try:
            route = selectors.resolve(ask.selector, ask.override, ask.user)
            judging_route = selectors.resolve(judge)
        except OrchestratorError:
            return 0.0
        if questions is None:
            return 0.0
        answer = min(SHOWN_TOKENS, worst_of_route(route, ask.request, config).tokens)
        request = judging(judge, questions[0]).request
        # It is what tries that break off are billed for, too.
        request = request._replace(input_tokens=request.input_tokens + answer)
        most = worst_of_route(judging_route, request, config, answer)
        return None if most.unpriced is not None else most.usd

    return worst
