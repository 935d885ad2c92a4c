"""`--dry-run`: what a batch comes to, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from orchestrator.batch.grading import OPINIONS
from orchestrator.batch.items import Item, asked_of
from orchestrator.batch.planning import Judging, Worst
from orchestrator.batch.spec import Spec
from orchestrator.batch.tally import Tally
from orchestrator.config.settings import Config
from orchestrator.errors import OrchestratorError
from orchestrator.selectors import Selectors
from orchestrator.types import Json

LATENCY_S = 2.0
"""How long an answer is assumed to take, unless the caller says or the folder's results show otherwise."""


@dataclass(slots=True)
class _Load:
    """What one provider is asked at the most."""

    calls: float = 0
    tokens: int = 0


class Planned(Protocol):
    """What there is to do."""

    @property
    def spec(self) -> Spec: ...

    @property
    def items(self) -> int: ...

    @property
    def tally(self) -> Tally: ...

    def rest(self, arm: str) -> Iterable[Item]:
        """What an arm has still to be asked."""
        ...


def estimate(
    plan: Planned, config: Config, worst: Worst, latency_s: float | None, judging: Judging | None = None
) -> Json:
    """Pairs that are still to be asked, the most that they and their judge may cost (None: there is no price for all that
    may be asked), and how long they take at the least: by the window, by each pool's places and by each account's
    limits, at `latency_s` an answer."""
    selectors = Selectors(config)
    loads: dict[str, _Load] = {}
    worst_usd: dict[str, float | None] = {}
    judge: str | None = None if judging is None else plan.spec.score["judge"]
    judge_usd: float | None = 0.0
    rest = 0
    for arm, selector in plan.spec.selectors().items():
        total: float | None = 0.0
        for item in plan.rest(arm):
            rest += 1
            asked = asked_of(item, selector, plan.spec.params)
            most = worst(asked)
            total = None if total is None or most is None else total + most
            opinion = 0.0 if judging is None else judging(asked, item.expected)
            judge_usd = None if judge_usd is None or opinion is None else judge_usd + OPINIONS * opinion
            try:
                routes = [selectors.resolve(asked.ask.selector, asked.ask.override, asked.ask.user)]
                routes += [selectors.resolve(judge)] * OPINIONS if judge is not None else []
            except OrchestratorError:
                continue  # it will fail, and be said to
            for route in routes:
                leaves = [*route.leaves()]
                calls = max(1, route.calls()) / len(leaves)
                for leaf in leaves:
                    load = loads.setdefault(leaf.provider, _Load())
                    load.calls += calls
                    load.tokens += asked.ask.request.input_tokens
        worst_usd[arm] = total
    each_s = LATENCY_S if latency_s is None else latency_s
    seconds = rest * (1 if judge is None else 1 + OPINIONS) * each_s / plan.spec.concurrency
    for name, load in loads.items():
        provider = config.providers[name]
        accounts = max(1, len(config.keys.get(name, ())))
        seconds = max(seconds, load.calls * each_s / (provider.pool.concurrency * accounts))
        for asked_for, limit in (
            (load.calls, provider.limits.requests_per_minute),
            (load.tokens, provider.limits.tokens_per_minute),
        ):
            if limit is not None:
                seconds = max(seconds, 60 * asked_for / (limit * accounts))
    costs = [*worst_usd.values(), judge_usd]
    return {
        "items": plan.items,
        "arms": [*worst_usd],
        "pairs": plan.tally.total,
        "done": plan.tally.done,
        "rest": rest,
        "worst_usd": None if None in costs else sum(one for one in costs if one is not None),
        "worst_usd_by_arm": worst_usd,
        "worst_usd_judge": judge_usd,
        "assumed_latency_s": each_s,
        "seconds": round(seconds, 1),
    }


def told(estimated: Json) -> str:
    """The same for people, three lines."""
    usd = estimated["worst_usd"]
    judge = estimated["worst_usd_judge"]
    of_judge = f", {judge:.4g} of it for the judge" if judge else ""
    unknown = ["all arms"] * (None in estimated["worst_usd_by_arm"].values()) + ["the judge"] * (judge is None)
    cost = f"not known: no prices for {' and '.join(unknown)}" if usd is None else f"at most {usd:.4g} USD{of_judge}"
    return (
        f"{estimated['items']} items x {len(estimated['arms'])} arms: {estimated['pairs']} requests, "
        f"{estimated['done']} done, {estimated['rest']} to ask\n"
        f"cost of the rest: {cost}\n"
        f"time: about {estimated['seconds']:g} s, if an answer takes {estimated['assumed_latency_s']:g} s"
    )
