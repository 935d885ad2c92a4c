"""What a batch comes to, before anything is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.costs import worst_of
from orchestrator.batch.dry import estimate, told
from orchestrator.batch.folder import BadFolder, Folder
from orchestrator.batch.items import survey
from orchestrator.batch.planning import Plan, Wanted, plan_of
from orchestrator.batch.spec import load_spec
from orchestrator.config.load import load_mapping
from orchestrator.types import Json
from tests.unit.batch.given import write_spec

SIM: Json = {"simulate": {}, "pool": {"concurrency": 10}}


def plan(folder: Path, wanted: Wanted | None = None, done: list[Json] | None = None, **keys: Any) -> Plan:
    """Of a hundred items."""
    spec = load_spec(write_spec(folder, [{"id": i, "prompt": "x" * 400} for i in range(100)], **keys))
    surveyed = survey(spec.input, {}, "sim/a")
    held = Folder(spec.output)
    held.open(spec, surveyed.sha256, force=True, now_s=0)
    for line in done or []:
        held.append({"outcome": "ok", "arm": "a", "cost_usd": None, "latency_s": 1, **line})
    held.take_pending()()
    try:
        return plan_of(spec, surveyed, held, wanted or Wanted())
    finally:
        held.close()


def config(tiers: Json | None = None, **provider: Any) -> Any:
    return load_mapping({"providers": {"sim": {**SIM, **provider}}, "tiers": tiers or {}}, {})


def test_the_window_bounds_it(tmp_path: Path) -> None:
    """So do places of a pool, and the limits of an account."""
    one = plan(tmp_path, concurrency=5)
    said = estimate(one, config(), lambda _: 0.01, None)
    assert (100, 100, 0, 100, 40.0) == tuple(said[name] for name in ("items", "pairs", "done", "rest", "seconds"))
    assert (1.0, {"a": 1.0}) == (
        round(said["worst_usd"], 6),
        {arm: round(usd, 6) for arm, usd in said["worst_usd_by_arm"].items()},
    )
    other = plan(tmp_path, concurrency=50)
    assert 10.0 == estimate(other, config(), lambda _: 0, 1.0)["seconds"]
    assert 200.0 == estimate(other, config(limits={"requests_per_minute": 30}), lambda _: 0, 1.0)["seconds"]
    assert 1030.0 == estimate(other, config(limits={"tokens_per_minute": 600}), lambda _: 0, 1.0)["seconds"]


def test_strategies_are_several_calls(tmp_path: Path) -> None:
    """A vote of three fills the pool three times."""
    tiers = {"vote": {"strategy": "consensus", "models": ["sim/a", "sim/b", "sim/c"]}}
    one = plan(tmp_path, concurrency=100, arms={"a": "tier:vote"})
    assert 30.0 == estimate(one, config(tiers), lambda _: 0, 1.0)["seconds"]


def test_what_is_done_is_not_asked(tmp_path: Path) -> None:
    """Nor what was not chosen; results of other items or arms are left alone."""
    done = [
        {"item": "1"},
        {"item": "2", "outcome": "timeout"},
        {"item": "gone"},
        {"item": "3", "arm": "gone"},
        {"item": "99"},
    ]
    said = estimate(plan(tmp_path, Wanted(limit=50), done), config(), worst_of(config()), None)
    assert (50, 50, 2, 48, None) == tuple(said[name] for name in ("items", "pairs", "done", "rest", "worst_usd"))
    assert (
        "50 items x 1 arms: 50 requests, 2 done, 48 to ask\n"
        "cost of the rest: not known: no prices for all arms\n"
        "time: about 9.6 s, if an answer takes 2 s"
    ) == told(said)
    assert "at most 0.48 USD" in told({**said, "worst_usd": 0.48})


def test_what_nobody_knows_costs_nothing_known(tmp_path: Path) -> None:
    """An arm without a price makes the whole unknown; one that does not exist takes no time."""
    one = plan(tmp_path, arms={"a": "sim/a", "b": "nobody/x"}, concurrency=200)
    said = estimate(one, config(), lambda asked: 0.01 if asked.ask.selector == "sim/a" else None, 0.1)
    assert (None, None) == (said["worst_usd"], said["worst_usd_by_arm"]["b"])
    assert 1.0 == said["seconds"]


def test_a_judge_costs_and_takes_time(tmp_path: Path) -> None:
    """Two opinions on each answer: they are in the sum, and are told apart; without a price they are named."""
    tiers = {"judge": {"strategy": "fallback", "models": ["jury/j"]}}
    config_of_both = load_mapping(
        {"providers": {"sim": SIM, "jury": {**SIM, "pool": {"concurrency": 5}}}, "tiers": tiers}, {}
    )
    one = plan(tmp_path, concurrency=100, score={"match": "judge", "judge": "tier:judge"})
    said = estimate(one, config_of_both, lambda _: 0.01, 1.0, lambda *_: 0.002)
    assert (0.4, 1.4, 40.0) == (round(said["worst_usd_judge"], 6), round(said["worst_usd"], 6), said["seconds"])
    assert "cost of the rest: at most 1.4 USD, 0.4 of it for the judge" in told(said)
    said = estimate(one, config_of_both, lambda _: 0.01, 1.0, lambda *_: None)
    assert (None, {"a"}) == (said["worst_usd"], said["worst_usd_by_arm"].keys())
    assert "not known: no prices for the judge\n" in told(said)
    assert "no prices for all arms and the judge\n" in told({**said, "worst_usd_by_arm": {"a": None}})


def test_a_pair_that_stands_twice(tmp_path: Path) -> None:
    """Somebody has put files together: that is not counted over."""
    with pytest.raises(BadFolder, match=r"results\.jsonl:2: '1' of arm 'a' stands twice"):
        plan(tmp_path, done=[{"item": "1"}, {"item": "1"}])
