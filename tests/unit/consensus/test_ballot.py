"""Elections: independent of order, and over exactly when nothing can change them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.consensus.ballot import Result, Vote, fields_settled, settled, standings

KEYS = ("a", "b", "c", None)
"""None: no vote at all."""
Ballots = list[tuple[str | None, float]]
ballots = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from((0.0, 0.5, 1.0, 1.0, 2.0))), min_size=1, max_size=7)


def whole(given_: Ballots, quorum: float) -> tuple[Result | None, str | None]:
    """What it comes to when all have voted."""
    votes = [Vote(position, key, weight) for position, (key, weight) in enumerate(given_) if key is not None]
    ranks = standings(votes)
    return settled(votes, {}, quorum, best=True), ranks[0].key if ranks else None


@given(ballots, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(given_: Ballots, rng: random.Random) -> None:
    """Not for the leader, not for its weight."""
    votes = [Vote(position, key, weight) for position, (key, weight) in enumerate(given_) if key is not None]
    shuffled = list(votes)
    rng.shuffle(shuffled)
    assert standings(votes) == standings(shuffled)


@given(ballots, st.sampled_from((1.0, 1.5, 2.0, 3.0)), st.randoms(use_true_random=False), st.booleans())
def test_stopping_early_never_changes_the_result(
    given_: Ballots, quorum: float, rng: random.Random, best: bool
) -> None:
    """Whatever the order: what is said to be settled is what waiting for all comes to."""
    result, leader = whole(given_, quorum)
    order = list(range(len(given_)))
    rng.shuffle(order)
    for heard in range(len(order)):
        votes = [Vote(i, key, given_[i][1]) for i in order[:heard] if (key := given_[i][0]) is not None]
        early = settled(votes, {i: given_[i][1] for i in order[heard:]}, quorum, best=best)
        if early is None:
            continue
        assert result == early
        if early == "agreed" or best:
            assert leader == (standings(votes)[0].key if votes else None)
        return


def completions(outstanding: list[int]) -> Iterator[dict[int, str | None]]:
    """Every way in which the outstanding votes can be cast, for what is known, for something new, or not at all."""
    for keys in itertools.product(("a", "b", "new", None), repeat=len(outstanding)):
        yield dict(zip(outstanding, keys, strict=True))


@given(st.lists(st.sampled_from(("a", "b")), max_size=4), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_it_is_settled_exactly_when_nothing_can_change_it(
    cast: list[str], missing: int, quorum: int, best: bool
) -> None:
    """Neither a vote too early nor one too late: against every possible end."""
    positions = list(range(len(cast) + missing))
    random.Random(len(cast) * 100 + missing).shuffle(positions)
    votes = [Vote(at, key) for at, key in zip(positions, cast, strict=False)]
    rest = positions[len(cast) :]
    ends = set()
    for completion in completions(rest):
        full = [*votes, *(Vote(at, key) for at, key in completion.items() if key is not None)]
        result = settled(full, {}, quorum, best=best)
        ranks = standings(full)
        ends.add((result, ranks[0].key if ranks and (best or result == "agreed") else None))
    early = settled(votes, dict.fromkeys(rest, 1.0), quorum, best=best)
    assert (len(ends) == 1) == (early is not None)
    assert early is None or {early} == {result for result, _ in ends}


def test_weights_are_added_exactly() -> None:
    """Ten tenths are one, in any order."""
    (one,) = standings([Vote(i, "a", 0.1) for i in range(10)])
    assert one.weight == 1.0
    assert settled([Vote(i, "a", 0.1) for i in range(10)], {}, 1.0, best=False) == "agreed"


def test_a_tie_goes_to_the_earlier_position() -> None:
    """The order of the configuration decides, and the last vote is waited for while it can still matter."""
    votes = [Vote(1, "b"), Vote(2, "a")]
    assert ["b", "a"] == [one.key for one in standings(votes)]
    assert settled(votes, {0: 1.0}, 1, best=True) is None
    assert settled([Vote(0, "b"), Vote(2, "a"), Vote(3, "b")], {1: 1.0}, 2, best=True) == "agreed"


def test_a_quorum_that_cannot_be_reached_is_noticed() -> None:
    """At once where nobody asks who leads; else when that is certain, too."""
    votes = [Vote(0, "a"), Vote(1, "b")]
    assert settled(votes, {2: 1.0}, 3, best=False) == "disagreed"
    assert settled(votes, {2: 1.0}, 3, best=True) is None
    assert settled([], {0: 1.0}, 2, best=False) == "disagreed"
    assert settled([], {}, 1, best=True) == "disagreed"


def test_fields_are_elections_of_their_own() -> None:
    """All have to be agreed on; one that only outstanding answers have is one, too."""
    one, other = {"x": "1", "y": "2"}, {"x": "1", "y": "3"}
    votes = [(0, one, 1.0), (1, other, 1.0)]
    assert fields_settled(votes, {2: 1.0}, 2, best=False) is None
    assert fields_settled([*votes, (2, one, 1.0)], {}, 2, best=False) == "agreed"
    assert fields_settled([(0, one, 1.0), (1, one, 1.0)], {2: 1.0}, 2, best=False) == "agreed"
    assert fields_settled([(0, one, 1.0), (1, one, 1.0)], {2: 3.0}, 2, best=False) is None
    assert fields_settled([(0, one, 1.0), (1, {"x": "9", "y": "9"}, 1.0)], {}, 2, best=False) == "disagreed"
    assert fields_settled(votes, {2: 1.0}, 4, best=False) == "disagreed"
