"""Items of a worker: in by blocks, out as pairs, and away when all their arms are done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.blocks import Chosen
from orchestrator.batch.feed import Done, Feed
from orchestrator.batch.items import place
from orchestrator.batch.planning import NoPrice
from orchestrator.batch.schedule import Pair, Purse, Schedule
from orchestrator.batch.spec import load_spec
from tests.unit.batch.given import write_spec


class Fed:
    """A feed, the schedule over it, and what has left."""

    def __init__(self, folder: Path, worst: float | None = 0.0, *, keys: Any = None, **options: Any) -> None:
        self.gone: list[Done] = []
        spec = load_spec(write_spec(folder, **{"arms": {"a": "sim/a", "b": "sim/b"}, **(keys or {})}))
        self.feed = Feed(spec, lambda _: worst, self.gone.append, **options)
        self.schedule = Schedule(self.feed.arms(), 10, Purse(None))

    def add(self, *names: str) -> None:
        self.feed.add((name, json.dumps({"id": name, "prompt": name}).encode()) for name in names)

    def next(self) -> Pair:
        pair = self.schedule.next(0.0)
        assert pair is not None
        return pair

    def write(self, pair: Pair) -> None:
        self.feed.write({"item": pair.item.id, "arm": pair.arm})


def test_an_item_leaves_when_all_its_arms_are_done(tmp_path: Path) -> None:
    """Blocks are begun one after the other; a schedule that has nothing goes on when there is something."""
    fed = Fed(tmp_path)
    assert fed.schedule.next(0.0) is None
    assert not fed.schedule.is_over()
    fed.add("1", "2")
    fed.add("3")
    pairs = [fed.next() for _ in range(6)]
    assert [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"), ("3", "a"), ("3", "b")] == [
        (pair.item.id, pair.arm) for pair in pairs
    ]
    assert fed.schedule.next(0.0) is None
    for pair in (pairs[5], pairs[0], pairs[4]):
        fed.write(pair)
    assert ["3"] == [one.item for one in fed.gone]
    assert not fed.feed.idle
    assert [{"item": "3", "arm": "b"}, {"item": "3", "arm": "a"}] == [
        json.loads(line) for line in (fed.gone[0].lines or b"").splitlines()
    ]


def test_what_is_given_up_leaves_without_lines(tmp_path: Path) -> None:
    """What comes later, too; a line that comes for it concerns nobody."""
    fed = Fed(tmp_path)
    fed.add("1", "2")
    pair = fed.next()
    fed.feed.give_up()
    fed.write(pair)
    fed.add("3")
    assert [Done("1", None), Done("2", None), Done("3", None)] == fed.gone
    assert fed.schedule.next(0.0) is None


def test_lines_of_items_that_are_given_up_are_kept(tmp_path: Path) -> None:
    """By no id that could count as done: the other arms are asked later."""
    fed = Fed(tmp_path)
    fed.add("1")
    one, other = fed.next(), fed.next()
    fed.write(one)
    fed.feed.give_up()
    fed.write(other)
    ((name, lines),) = fed.gone
    assert ("", {"item": "1", "arm": "a"}) == (name, json.loads(lines or b""))


def test_an_id_that_comes_twice_is_asked_once(tmp_path: Path) -> None:
    """It did not when the input was looked at: every row leaves all the same."""
    fed = Fed(tmp_path)
    fed.add("1", "1")
    for pair in (fed.next(), fed.next()):
        fed.write(pair)
    assert [("1", False), ("1", True)] == [(one.item, one.lines is not None) for one in fed.gone]
    assert fed.schedule.next(0.0) is None


def test_what_is_not_wanted_leaves_at_once(tmp_path: Path) -> None:
    """What is in no sample; arms that an item has lines of; an item that has changed since it was looked at."""
    ids = sorted("12345", key=lambda one: place(one, 0))
    fed = Fed(tmp_path, chosen=Chosen(0, place(ids[2], 0)[:8]), had={ids[0]: frozenset("a"), ids[1]: frozenset("ab")})
    fed.add(*ids)
    assert [Done(ids[1], b""), Done(ids[3], None), Done(ids[4], None)] == fed.gone
    assert {(ids[0], "b"), (ids[2], "a"), (ids[2], "b")} == {
        (pair.item.id, pair.arm) for pair in (fed.next(), fed.next(), fed.next())
    }
    assert fed.schedule.next(0.0) is None
    fed.feed.add([(ids[2], b"{}")])
    assert Done(ids[2], None) == fed.gone[-1]


def test_a_budget_without_a_price(tmp_path: Path) -> None:
    """Cannot be kept; without one, prices are nobody's concern."""
    fed = Fed(tmp_path, None, keys={"budget_usd": 1})
    fed.add("1")
    with pytest.raises(NoPrice, match=r"arm 'a' may ask \(sim/a\)"):
        fed.next()
    free = Fed(tmp_path, None)
    free.add("1")
    assert 0.0 == free.next().worst_usd
