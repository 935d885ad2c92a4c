"""One budget among several workers: what a worker may spend is lent to it by whoever holds the budget.

What is lent counts as spent until it is given back, so that nothing is begun that could take the whole over its budget,
whatever happens to a worker.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.batch.schedule import Purse
from orchestrator.money import DECIMALS


class Lender:
    """The budget of a run."""

    def __init__(self, budget_usd: float, spent_usd: float) -> None:
        self._budget_usd = budget_usd
        self._left_usd = budget_usd - spent_usd
        self.refused = False
        """Whether somebody was told that there is not enough."""

    @property
    def gone_usd(self) -> float:
        """What is spent, or lent and not given back: of a worker that was lost, that is all that it had."""
        return self._budget_usd - self._left_usd

    def lend(self, least_usd: float, wanted_usd: float) -> float:
        """As much as is wanted, or what is left; 0: that is less than what is needed at the least."""
        # See `Purse.take`.
        if round(self._left_usd - least_usd, DECIMALS) < 0:
            self.refused = True
            return 0.0
        usd = min(max(wanted_usd, least_usd), self._left_usd)
        self._left_usd -= usd
        return usd

    def take_back(self, usd: float) -> None:
        """A worker has no use for so much of what it was lent."""
        self._left_usd += usd


class LentPurse(Purse):
    """The money of one worker. `short` is called when more is needed soon, with the worst case of what is to be asked."""

    def __init__(self, short: Callable[[float], None], reserve: int) -> None:
        super().__init__(0.0)
        self._short = short
        self._reserve = reserve
        """More is asked for while there is still enough for so many."""

    @property
    def free_usd(self) -> float:
        """What nothing is set aside for."""
        return max(0.0, self.budget_usd - self.spent_usd - self.held_usd)

    def take(self, worst_usd: float) -> bool:
        """See `Purse.take`."""
        taken = super().take(worst_usd)
        if not taken or self.free_usd < worst_usd * self._reserve:
            self._short(worst_usd)
        return taken

    def add(self, usd: float) -> None:
        """It was lent so much more."""
        self.budget_usd += usd

    def empty(self) -> float:
        """Takes out what is free; how much that was."""
        usd = self.free_usd
        self.budget_usd -= usd
        return usd
