"""A spec, its input and its folder become a schedule: which pairs are wanted, which are done, and what the rest may cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.batch.folder import BadFolder, Folder
from orchestrator.batch.items import Asked, Item, Surveyed, asked_of, choose, read_items
from orchestrator.batch.schedule import Pair, Purse, Schedule
from orchestrator.batch.spec import Spec
from orchestrator.batch.tally import Tally
from orchestrator.errors import OrchestratorError

Worst = Callable[[Asked], float | None]
"""The most that a request may cost, in US dollars; None: nobody knows."""
Judging = Callable[[Asked, Any], float | None]
"""The same of one opinion of a judge on what is answered to it, where so much is expected."""


class Wanted(NamedTuple):
    """Which items are to be asked."""

    limit: int | None = None
    """The first so many."""
    sample: int | None = None
    """So many of those, by a hash of their ids and the seed."""
    seed: int = 0


class NoPrice(OrchestratorError):
    """A budget that cannot be kept."""

    @classmethod
    def of(cls, who: str, selector: str) -> NoPrice:
        """For want of a price of all that an arm, or a judge, may ask."""
        return cls(
            f"budget_usd: cannot be kept: there is no price for all that {who} may ask "
            f"({selector}); `pricing: {{overrides: …}}` in the configuration gives one"
        )


def pair_of(item: Item, arm: str, spec: Spec, worst: Worst, judging: Judging | None) -> Pair:
    """An item and an arm of a spec, and the most that they may cost: 0 where nobody counts. `judging`: of its judge, if it
    has one. Raises NoPrice where there is a budget and nobody knows."""
    asked = asked_of(item, spec.selectors()[arm], spec.params)
    if spec.budget_usd is None:
        return Pair(item, arm, asked, 0.0)
    worst_usd = worst(asked)
    if worst_usd is None:
        raise NoPrice.of(f"arm {arm!r}", asked.ask.selector)
    opinion_usd = 0.0 if judging is None else judging(asked, item.expected)
    if opinion_usd is None:
        raise NoPrice.of("the judge", spec.score["judge"])
    return Pair(item, arm, asked, worst_usd, opinion_usd)


@dataclass(slots=True)
class Plan:
    """What there is to do."""

    spec: Spec
    chosen: frozenset[int] | None
    """Lines of the input; None: all."""
    items: int
    done: Mapping[str, bytearray]
    """Arm -> line of the input -> whether it is done."""
    tally: Tally
    spent_usd: float

    def rest(self, arm: str) -> Iterator[Item]:
        """What an arm has still to be asked."""
        done = self.done[arm]
        return (item for item in read_items(self.spec.input, self.chosen) if not done[item.line])

    def pairs(self, arm: str, worst: Worst, judging: Judging | None = None) -> Iterator[Pair]:
        """The same as pairs. Raises what `pair_of` does."""
        return (pair_of(item, arm, self.spec, worst, judging) for item in self.rest(arm))

    def schedule(self, worst: Worst, judging: Judging | None = None) -> Schedule:
        """The rest, in order."""
        arms = {arm: self.pairs(arm, worst, judging) for arm in self.spec.selectors()}
        return Schedule(arms, self.spec.concurrency, Purse(self.spec.budget_usd, self.spent_usd))


def plan_of(spec: Spec, surveyed: Surveyed, folder: Folder, wanted: Wanted) -> Plan:
    """What a spec comes to, with what its folder holds already. Raises BadFolder."""
    chosen = choose(surveyed.lines, wanted.limit, wanted.sample, wanted.seed)
    items = len(surveyed.lines) if chosen is None else len(chosen)
    last = max(surveyed.lines.values())
    done = {arm: bytearray(last + 1) for arm in spec.selectors()}
    tally = Tally(total=items * len(done))
    spent_usd = folder.spent_before_usd()
    for line in folder.lines():
        spent_usd += line.spent_usd
        number, of_arm = surveyed.lines.get(line.item), done.get(line.arm)
        if number is None or of_arm is None:
            continue  # of another input or arm, which somebody has insisted on going on with
        if of_arm[number]:
            raise BadFolder(
                f"{folder.path}/results.jsonl:{line.number}: {line.item!r} of arm {line.arm!r} stands twice"
            )
        of_arm[number] = True
        if chosen is None or number in chosen:
            tally.add(line.arm, line.outcome, line.cost_usd, here=False)
    return Plan(spec, chosen, items, done, tally, spent_usd)
