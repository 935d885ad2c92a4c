"""An election over answers: what a vote is read from, when it is over, and what it comes to.

`Single` compares one thing in each answer; `Fields` votes on each field of structured answers by itself, and puts the winners
together (which may make an object that nobody gave as a whole).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from orchestrator.config.settings import Extract
from orchestrator.consensus import normal
from orchestrator.consensus.ballot import ABSENT, Result, Vote, by_field, fields_settled, settled, standings
from orchestrator.consensus.extract import extract, is_cut, object_of, text_of
from orchestrator.types import Json

_NULL = "\x00null"
"""The key of null, which is no text."""
_CALLS = "\x00calls"
"""The one field of a structured answer that calls tools instead."""


class Ballot(NamedTuple):
    """What an answer votes for: the normal form of what is compared (by field, where it has fields), and how it was said."""

    key: str | Mapping[str, str]
    shown: Any


class Cast(NamedTuple):
    """A ballot in the box."""

    position: int
    weight: float
    ballot: Ballot


class Elected(NamedTuple):
    """What an election comes to."""

    position: int
    """Whose answer is given."""
    ballot: Ballot
    content: str | None = None
    """What stands in the place of that answer's text, where the fields are from several."""


class Election(Protocol):
    """The two kinds."""

    def read(self, body: Json) -> Ballot | None:
        """What a chat completion votes for; None: nothing."""
        ...

    def result(
        self, cast: Sequence[Cast], outstanding: Mapping[int, float], quorum: float, *, best: bool
    ) -> Result | None:
        """See `orchestrator.consensus.ballot.settled`."""
        ...

    def elect(self, cast: Sequence[Cast]) -> Elected:
        """Who leads, of at least one ballot."""
        ...

    def support(self, cast: Sequence[Cast]) -> float:
        """The weight behind the leading answer; of structured answers, behind the field with the least."""
        ...

    def agreement(self, cast: Sequence[Cast], ballot: Ballot | None) -> float:
        """The share of the votes cast that an answer has; of structured answers, that of the field with the least."""
        ...


def election(how: Extract | str) -> Election:
    """`fields`, `text`, or what is extracted."""
    return Fields() if how == "fields" else Single(how)


def _share(votes: Sequence[Vote], key: str) -> float:
    total = math.fsum(vote.weight for vote in votes)
    return math.fsum(vote.weight for vote in votes if vote.key == key) / total if total else 0.0


class Single:
    """One thing in each answer."""

    def __init__(self, how: Extract | str) -> None:
        self._how = how

    def read(self, body: Json) -> Ballot | None:
        """See `Election.read`."""
        found = extract(body, self._how)
        return None if found is None else Ballot(found.key, found.shown)

    def result(
        self, cast: Sequence[Cast], outstanding: Mapping[int, float], quorum: float, *, best: bool
    ) -> Result | None:
        """See `Election.result`."""
        return settled(_votes(cast), outstanding, quorum, best=best)

    def elect(self, cast: Sequence[Cast]) -> Elected:
        """See `Election.elect`. The earliest of those who said it gives the answer."""
        leader = standings(_votes(cast))[0]
        return Elected(*next((one.position, one.ballot) for one in cast if one.position == leader.first))

    def support(self, cast: Sequence[Cast]) -> float:
        """See `Election.support`."""
        return standings(_votes(cast))[0].weight if cast else 0.0

    def agreement(self, cast: Sequence[Cast], ballot: Ballot | None) -> float:
        """See `Election.agreement`."""
        return 0.0 if ballot is None else _share(_votes(cast), str(ballot.key))


def _votes(cast: Sequence[Cast]) -> list[Vote]:
    return [Vote(one.position, str(one.ballot.key), one.weight) for one in cast]


class Fields:
    """Each field by itself."""

    def read(self, body: Json) -> Ballot | None:
        """See `Election.read`."""
        message = body["choices"][0]["message"]
        if message.get("tool_calls"):
            calls = extract(body, "text")
            return None if calls is None else Ballot({_CALLS: calls.key}, calls.shown)
        found = None if is_cut(body) else object_of(text_of(message))
        if found is None:
            return None
        return Ballot(
            {name: _NULL if value is None else str(normal.value(value)) for name, value in found.items()}, found
        )

    def result(
        self, cast: Sequence[Cast], outstanding: Mapping[int, float], quorum: float, *, best: bool
    ) -> Result | None:
        """See `Election.result`."""
        return fields_settled(_rows(cast), outstanding, quorum, best=best)

    def elect(self, cast: Sequence[Cast]) -> Elected:
        """See `Election.elect`. Where no answer is the winners' whole, they are put into the one that is nearest to it."""
        leaders = {name: standings(votes)[0] for name, votes in by_field(_rows(cast)).items()}
        keys = {name: leader.key for name, leader in leaders.items() if leader.key != ABSENT}

        def fits(one: Cast) -> int:
            return sum(_fields(one).get(name, ABSENT) == leader.key for name, leader in leaders.items())

        nearest = max(cast, key=lambda one: (fits(one), -one.position))
        if _fields(nearest) == keys or _CALLS in _fields(nearest):
            return Elected(nearest.position, nearest.ballot)
        shown = {
            name: next(one for one in cast if one.position == leaders[name].first).ballot.shown[name]
            for name in keys
            if name != _CALLS
        }
        return Elected(nearest.position, Ballot(keys, shown), orjson.dumps(shown).decode())

    def support(self, cast: Sequence[Cast]) -> float:
        """See `Election.support`."""
        fields = by_field(_rows(cast)).values()
        # Answers without any field agree on that.
        least = math.fsum(one.weight for one in cast)
        return min((standings(votes)[0].weight for votes in fields), default=least)

    def agreement(self, cast: Sequence[Cast], ballot: Ballot | None) -> float:
        """See `Election.agreement`."""
        fields = by_field(_rows(cast))
        if ballot is None or not isinstance(ballot.key, Mapping) or not fields:
            return 0.0
        return min(_share(votes, ballot.key.get(name, ABSENT)) for name, votes in fields.items())


def _fields(one: Cast) -> Mapping[str, str]:
    assert isinstance(one.ballot.key, Mapping)
    return one.ballot.key


def _rows(cast: Sequence[Cast]) -> list[tuple[int, Mapping[str, str], float]]:
    return [(one.position, _fields(one), one.weight) for one in cast]
