"""What is kept of an answer: the whole of it, and how it came about. Everything is JSON, so that its bytes are its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from orchestrator.asks import Ask
from orchestrator.types import Json, Reply, Usage


class Origin(NamedTuple):
    """How an answer came about."""

    strategy: str
    provider: str | None = None
    winner: str | None = None
    """`provider/model`."""
    consensus: Json | None = None
    """Where a vote was taken: how it went."""
    arms: Mapping[str, str] = {}
    """Selector of a split -> the arm that was asked."""
    arm_outcomes: Mapping[str, str] = {}
    """Selector of a split -> what came of the arm."""


def origin_of(report: Json, provider: str | None, arm_outcomes: Mapping[str, str]) -> Origin:
    """What the report of a request (contract §3) says of how its answer came about."""
    consensus, arms = report.get("consensus"), report.get("arms", {})
    return Origin(report["strategy"], provider, report["winner"], consensus, arms, arm_outcomes)


def report_of_hit(ask: Ask, origin: Origin, cache: str = "hit") -> Json:
    """The `orchestrator` object of a request for which nobody was called: another's answer is its own."""
    split = {"arm": next(iter(origin.arms.values())), "arms": dict(origin.arms)} if origin.arms else {}
    voted = {} if origin.consensus is None else {"consensus": origin.consensus}
    return {
        "request_id": ask.request_id,
        "selector": ask.selector,
        "strategy": origin.strategy,
        **split,
        "attempts": [],
        "winner": origin.winner,
        "cost_usd": 0.0,
        "cache": cache,
        **voted,
    }


def free(usage: Usage | None) -> Usage:
    """The same tokens, at no cost: somebody else has paid for them."""
    return (usage or Usage())._replace(cost_usd=0.0)


class Kept(NamedTuple):
    """A whole answer with its origin."""

    reply: Reply
    """Without tries: they were another request's."""
    origin: Origin

    def dump(self) -> bytes:
        """As bytes."""
        body, model, usage = self.reply.body, self.reply.model, self.reply.usage
        return orjson.dumps([body, model, None if usage is None else tuple(usage), tuple(self.origin)])


def load_kept(data: bytes) -> Kept:
    """What `Kept.dump` gave."""
    body, model, usage, origin = orjson.loads(data)
    return Kept(Reply(body, model, None if usage is None else Usage(*usage)), Origin(*origin))
