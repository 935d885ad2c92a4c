"""Where a request may go: a selector, resolved.

A route is a tree. Its leaves are candidates (a provider and a model); its inner nodes are strategies, so that a
tier may have tiers as members. Drivers see the leaves alone, numbered from left to right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.config.settings import Strategy


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model of one provider: something that can be called."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Route:
    """A strategy over candidates and other routes. `members` is never empty."""

    selector: str
    """What it is called; empty for a request's own choice."""
    strategy: Strategy
    members: tuple[Candidate | Route, ...]

    @property
    def names(self) -> list[str]:
        """The members as the configuration and plans name them."""
        return [one.selector if isinstance(one, Route) else str(one) for one in self.members]

    def calls(self) -> int:
        """How many calls a request may come to at the most, retries aside."""
        return self.strategy.calls([one.calls() if isinstance(one, Route) else 1 for one in self.members])

    def leaves(self) -> Iterator[Candidate]:
        """Every candidate below, from left to right; a candidate that stands in two places comes twice."""
        for member in self.members:
            if isinstance(member, Route):
                yield from member.leaves()
            else:
                yield member
