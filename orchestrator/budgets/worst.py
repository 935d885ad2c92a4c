"""What a request may cost at the most: the sum over every call that may be made for it.

A sum, for a list of fallbacks too, although they are asked one after the other and most requests make the first call alone.
The dearest of them alone would not do: a call may fail and be billed all the same (an answer that was cut, or that came too
late to be waited for), and its successor is billed on top. What is reserved too much is free again when the answer has come;
what that costs is that the end of a budget is refused to a request whose fallbacks together might go beyond it.

- Only one arm of a split is asked: the dearest counts.
- A race or hedge of streams stops all but the first to open, which may then be cut: those that were stopped are asked again.
- Whoever goes on with a stream that was cut may be given the text so far, and a judge or a model that merges is given all
  answers: their input is longer by as many tokens as those may have written.
- A try that broke off before the first token may be billed for its input (`orchestrator.report`), and is made again: each
  retry counts for that, and one more for a pool that was lost.

The input is bounded by the request's length (`orchestrator.pricing.cost.worst_case_usd`), the output by what the request
says, else by what the model can write, else by `budgets.max_tokens`, which is a guess: a model that writes more is booked as
it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.config.settings import Config, Provider, Strategy
from orchestrator.dialects.anthropic_request import default_tokens
from orchestrator.pricing.cost import worst_case_usd
from orchestrator.routes import Candidate, Route
from orchestrator.strategies import with_params
from orchestrator.types import Request

_LIMITS = ("max_completion_tokens", "max_tokens")
JUDGING_TOKENS = 250
"""What a judge or a merging model is told beside the answers."""


class Worst(NamedTuple):
    """What some calls may come to."""

    usd: float = 0.0
    tokens: int = 0
    """The most that they write together."""
    unpriced: str | None = None
    """A candidate whose price is not known: it is not in the sum."""

    def __add__(self, other: object) -> Worst:
        assert isinstance(other, Worst)
        return Worst(self.usd + other.usd, self.tokens + other.tokens, self.unpriced or other.unpriced)

    def times(self, count: int) -> Worst:
        """The same calls so many times."""
        return Worst(self.usd * count, self.tokens * count, self.unpriced)


def worst_of(route: Route, request: Request, config: Config, more_input: int = 0) -> Worst:
    """The worst case of a request by this route. `more_input`: tokens that its input may have beyond what it says."""
    strategy = route.strategy
    if strategy.params or strategy.override:
        request = request._replace(body=with_params(strategy, request.body))
    return _WAYS.get(strategy.name, _in_order)(_Case(route, request, config, more_input))


class _Case(NamedTuple):
    """A route that is looked at."""

    route: Route
    request: Request
    config: Config
    more_input: int

    def member(self, member: Candidate | Route, more_input: int = 0, request: Request | None = None) -> Worst:
        """One call of a member."""
        request, more = request or self.request, self.more_input + more_input
        if isinstance(member, Route):
            return worst_of(member, request, self.config, more)
        return _call(member, request, self.config, more)

    def sum(self, members: Sequence[Candidate | Route], more_input: int = 0) -> Worst:
        """One call of each."""
        return sum((self.member(one, more_input) for one in members), Worst())


def _first(case: _Case) -> Worst:
    return case.member(case.route.members[0])


def _split(case: _Case) -> Worst:
    return max(map(case.member, case.route.members), key=lambda worst: (worst.unpriced is not None, worst.usd))


def _in_order(case: _Case) -> Worst:
    """Each once; where a stream that is cut is gone on with, with the text of those before it as input."""
    members = case.route.members
    if not _resumes(case) or len(members) == 1:
        return case.sum(members)
    # In whatever order: that all others have written at the most may be the input of each.
    written = case.sum(members).tokens
    return case.sum(members, written)


def _at_once(case: _Case) -> Worst:
    """The same, and all but one once more, to go on with its stream."""
    whole = _in_order(case)
    if not _resumes(case) or len(case.route.members) == 1:
        return whole
    return whole.times(2)


def _resumes(case: _Case) -> bool:
    strategy = case.route.strategy
    return case.request.stream and strategy.resume == "auto" and strategy.commit == "first_token"


def _vote(case: _Case) -> Worst:
    """Every vote, then those who help: a judge twice, with the answers as input."""
    strategy, members = case.route.strategy, case.route.members
    case = case._replace(request=case.request._replace(stream=False))
    voters = members[: len(members) - len(strategy.helpers)]
    worst = case.sum(voters).times(strategy.samples if strategy.name == "consensus" else 1)
    helpers = dict(zip(_roles(strategy), members[len(voters) :], strict=True))
    if (judge := helpers.get("judge")) is not None:
        answers = worst.tokens + JUDGING_TOKENS
        if strategy.method == "judge":
            # A judge writes a number, but nobody tells it to stop: the request's own limit is for its answer.
            body = {name: value for name, value in case.request.body.items() if name not in (*_LIMITS, "n")}
            worst += case.member(judge, answers, case.request._replace(body=body)).times(2)
        else:
            worst += case.member(judge, answers)
    if (escalate := helpers.get("escalate")) is not None:
        worst += case.member(escalate)
    return worst


def _roles(strategy: Strategy) -> list[str]:
    return [role for role in ("judge", "escalate") if getattr(strategy, role) is not None]


_WAYS = {
    "first": _first,
    "split": _split,
    "race": _at_once,
    "hedge": _at_once,
    "consensus": _vote,
    "cascade": _vote,
}
"""All others ask one member after the other."""


def _call(candidate: Candidate, request: Request, config: Config, more_input: int) -> Worst:
    """One call of one model."""
    provider = config.providers[candidate.provider]
    # What is meant for this provider alone goes over the rest, and reaches it as it stands.
    name = "anthropic" if provider.dialect == "anthropic" else provider.quirks.extension
    told: dict[str, int] = {}
    if isinstance(own := request.body.get(name), dict):
        told = {field: _whole(own[field]) for field in (*_LIMITS, "n") if field in own}
        request = request._replace(body={**request.body, **told}) if told else request
    # Nobody looks at what is meant for a provider alone: it is not kept to what the model is known to write.
    unbound = max((told[field] for field in _LIMITS if field in told), default=0)
    tokens = max(unbound, _most_tokens(provider, candidate.model, request, config))
    price = config.prices.of(candidate.provider, candidate.model)
    if price is None:
        return Worst(0.0, tokens, str(candidate))
    more_input += provider.retry.attempts * request.input_tokens
    return Worst(worst_case_usd(price, request, max_tokens=tokens, more_input=more_input), tokens)


def _most_tokens(provider: Provider, model: str, request: Request, config: Config) -> int:
    """How much it may write for each of its choices."""
    if request.operation == "embeddings":
        return 0
    most = provider.options_of(model).max_tokens
    body = request.body
    asked = max(_whole(body.get("max_tokens")), _whole(body.get("max_completion_tokens")))
    if not asked and most is None:
        return default_tokens(model) if provider.dialect == "anthropic" else config.budgets.max_tokens
    # A model is not asked for more than it is known to write.
    return asked if most is None else min(asked or most, most)


def _whole(value: object) -> int:
    """A number as a provider might read it: OpenAI's and others take `"5"` and `5.0`, too."""
    if value is None:
        return 0
    try:
        return max(0, math.ceil(float(value))) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0
