"""Counting votes, and telling when the result cannot change any more.

What an election comes to is a function of the votes alone, never of the order in which they come in: the answer with the
most weight leads, and of two with the same weight the one that was voted for by the earlier position (the order of the
configuration). It is agreed on if its weight reaches the quorum.

`settled` is exact: it says that the election is over if, and only if, no way in which the outstanding votes could still be
cast, or not be cast at all, would change what it comes to. So stopping early never gives another answer than waiting (in
other words, perhaps: of those who gave it, somebody who has come speaks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple


class Vote(NamedTuple):
    """One vote."""

    position: int
    """Where the voter stands in the configuration; unique."""
    key: str
    """The normal form of the answer that it is for."""
    weight: float = 1.0


class Standing(NamedTuple):
    """An answer and its support."""

    key: str
    weight: float
    first: float
    """The earliest position among its voters."""

    def beats(self, other: Standing) -> bool:
        """Whether it is in front."""
        return (self.weight, -self.first) > (other.weight, -other.first)


Result = Literal["agreed", "disagreed"]


def standings(votes: Sequence[Vote]) -> list[Standing]:
    """The answers, the leading one first. Weights are added exactly, whatever their order."""
    keys: dict[str, list[Vote]] = {}
    for vote in votes:
        keys.setdefault(vote.key, []).append(vote)
    found = [
        Standing(key, math.fsum(vote.weight for vote in held), min(vote.position for vote in held))
        for key, held in keys.items()
    ]
    return sorted(found, key=lambda one: (-one.weight, one.first))


def settled(votes: Sequence[Vote], outstanding: Mapping[int, float], quorum: float, *, best: bool) -> Result | None:
    """What the election comes to, as soon as that is certain. `outstanding`: position -> weight of who may still vote.

    `best`: who leads matters even where nothing is agreed on.
    """
    ranks = standings(votes)
    rest = math.fsum(outstanding.values())
    leader = ranks[0] if ranks else Standing("", 0.0, math.inf)
    if not outstanding:
        return "agreed" if ranks and leader.weight >= quorum else "disagreed"
    # Each rival, and one that nobody has named yet, at its best: all who have not voted are for it.
    early = min(outstanding)
    rivals = (Standing(r.key, r.weight + rest, min(r.first, early)) for r in (*ranks[1:], Standing("", 0.0, math.inf)))
    certain = bool(ranks) and all(leader.beats(rival) for rival in rivals)
    if certain and leader.weight >= quorum:
        return "agreed"
    if leader.weight + rest < quorum and (certain or not best):
        return "disagreed"
    return None


def fields_settled(
    votes: Sequence[tuple[int, Mapping[str, str], float]],
    outstanding: Mapping[int, float],
    quorum: float,
    *,
    best: bool,
) -> Result | None:
    """The same for answers with several fields, each of which is an election of its own: `votes` has position, key of each
    field, and weight. A field that an answer lacks is a vote for its not being there."""
    results = [settled(of, outstanding, quorum, best=best) for of in by_field(votes).values()]
    # A field that only outstanding answers have: all votes so far are against it.
    results.append(settled([Vote(at, ABSENT, weight) for at, _, weight in votes], outstanding, quorum, best=best))
    if None in results and not ("disagreed" in results and not best):
        return None
    return "disagreed" if "disagreed" in results else "agreed"


ABSENT = "\x00"
"""The key of a field that is not there; no answer has it."""


def by_field(votes: Sequence[tuple[int, Mapping[str, str], float]]) -> dict[str, list[Vote]]:
    """The votes on each field that any answer has."""
    names = dict.fromkeys(name for _, fields, _ in votes for name in fields)
    return {name: [Vote(at, fields.get(name, ABSENT), weight) for at, fields, weight in votes] for name in names}
