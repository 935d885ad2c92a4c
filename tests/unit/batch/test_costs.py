"""The worst case of a batch's requests, by a configuration's prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.batch.costs import judging_of, worst_of
from orchestrator.batch.items import Item, asked_of
from orchestrator.batch.spec import load_spec
from orchestrator.config.load import load_mapping
from tests.unit.batch.given import write_spec

CONFIG = load_mapping(
    {
        "providers": {"lab": {"base_url": "http://127.0.0.1:1/v1"}},
        "tiers": {"two": ["lab/a", "lab/a"], "odd": ["lab/a", "lab/b"]},
        "pricing": {"overrides": {"lab/a": {"input_per_mtok_usd": 0, "output_per_mtok_usd": 10}}},
    },
    {},
)
ITEM = Item(1, "1", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000})


def test_all_calls_of_a_route() -> None:
    """Of a fallback both; nothing for a model that is not there, and nobody knows where one has no price."""
    worst = worst_of(CONFIG)
    assert 0.01 == worst(asked_of(ITEM, "lab/a", {}))
    assert 0.02 == worst(asked_of(ITEM, "tier:two", {}))
    assert 0 == worst(asked_of(ITEM, "nobody/x", {}))
    assert worst(asked_of(ITEM, "tier:odd", {})) is None


def test_an_opinion_of_a_judge(tmp_path: Path) -> None:
    """It reads as much as the arm may write, or as a judge is shown; where it is not asked it costs nothing."""
    config = load_mapping(
        {
            "providers": {"lab": {"base_url": "http://127.0.0.1:1/v1", "retry": {"attempts": 1}}},
            "pricing": {"overrides": {"lab/judge": {"input_per_mtok_usd": 10, "output_per_mtok_usd": 0}}},
        },
        {},
    )

    def most(
        asked_for: int, expected: object = 2, judge: str = "lab/judge", selector: str = "lab/a", **rule: str
    ) -> float:
        score = {"match": "judge", "judge": judge, **rule}
        judging = judging_of(config, load_spec(write_spec(tmp_path, score=score)))
        assert judging is not None
        item = ITEM._replace(body={**ITEM.body, "max_tokens": asked_for})
        usd = judging(asked_of(item, selector, {}), expected)
        assert usd is not None
        return usd

    # A try, and one that is billed for its input when its pool is lost.
    assert 2 * 1000 * 10e-6 == pytest.approx(most(2000) - most(1000))
    assert most(10**7) == most(10**6) < 2 * 90_000 * 10e-6
    assert 0.0 == most(1000, None)
    assert 0 < most(1000, None, rubric="It is polite.")
    assert 0.0 == most(1000, judge="nobody/x") == most(1000, selector="nobody/x")
    unpriced = judging_of(config, load_spec(write_spec(tmp_path, score={"match": "judge", "judge": "lab/b"})))
    assert unpriced is not None
    assert unpriced(asked_of(ITEM, "lab/a", {}), 2) is None
    for score in (None, {"match": "exact"}):
        assert judging_of(config, load_spec(write_spec(tmp_path, score=score))) is None
