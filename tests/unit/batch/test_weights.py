"""Weights of a vote, from what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.batch.results import ResultsError
from orchestrator.batch.weights import weights_of
from orchestrator.config.load import load_mapping
from tests.unit.batch.made import failed, folder, line, right


def measured(*shares: tuple[str, int, int]) -> list[Any]:
    return [right(str(i), arm, i < count) for arm, count, of in shares for i in range(of)]


def weight_of(where: Path, rows: list[Any], **run: Any) -> dict[str, float]:
    return {name: one.weight for name, one in weights_of(folder(where, rows, **run)).models.items()}


def test_the_log_odds_of_each_model(tmp_path: Path) -> None:
    """Shrunk towards what all have together, and scaled to a mean of 1; by selectors."""
    rows = [*measured(("a", 90, 100), ("b", 60, 100)), failed("100", "a"), right("101", "b", None)]
    pooled = 150.5 / 201
    odds = [math.log((n + 20 * pooled) / (120 - n - 20 * pooled)) for n in (90, 60)]
    found = weight_of(tmp_path, rows, arms={"a": "openai/a", "b": "groq/b"})
    assert pytest.approx([2 * one / sum(odds) for one in odds]) == [found["openai/a"], found["groq/b"]]


def test_few_items_are_nearly_a_plain_majority(tmp_path: Path) -> None:
    """Three answers prove little; a thousand do."""
    few = weight_of(tmp_path / "few", measured(("a", 3, 3), ("b", 2, 3)))
    many = weight_of(tmp_path / "many", measured(("a", 999, 1000), ("b", 667, 1000)))
    assert few["p/a"] / few["p/b"] < 1.25
    assert many["p/a"] / many["p/b"] > 4


def test_a_model_that_is_mostly_wrong_has_next_to_no_weight(tmp_path: Path) -> None:
    """But never a negative one, which would be no configuration."""
    found = weight_of(tmp_path, measured(("a", 90, 100), ("b", 10, 100)))
    assert 0 < found["p/b"] < 0.1
    assert sum(found.values()) == pytest.approx(2)


def test_the_yaml_is_a_tiers_weights(tmp_path: Path) -> None:
    """It is pasted into a tier as it is, whatever a run is called."""
    shares = (("a", 95, 100), ("b", 80, 100), ("c", 70, 100))
    shown = weights_of(folder(tmp_path, measured(*shares), name='odd"\nweights: 5')).yaml()
    assert '  "p/a": ' in shown
    assert "# 95.0% of 100" in shown
    read = yaml.safe_load(shown)
    tier = {"strategy": "consensus", "method": "weighted", "models": ["p/a", "p/b", "p/c"], **read}
    config = load_mapping({"providers": {"p": {"base_url": "http://127.0.0.1:9/v1"}}, "tiers": {"vote": tier}})
    assert read["weights"] == config.tiers["vote"].strategy.weights


@pytest.mark.parametrize(
    ("rows", "run", "reason"),
    [
        ([], {}, "hold no line"),
        ([right("1", "a", consensus={"votes": []}), right("2", "a", consensus={"votes": [1]})], {}, "'a' is a vote"),
        ([right("1", "a"), right("2", "a", winner="p/b")], {}, "answered by p/a and by p/b"),
        ([right("1", "a")], {"arms": {"a": "tier:fast"}}, "'a' is tier:fast, no single model"),
        ([right("1", "a")], {"arms": {"a": "user:john:x"}}, "no single model"),
        ([line("1", "a")], {}, "'a' has no scored answer"),
        ([failed("1", "a")], {}, "'a' has no scored answer"),
        ([right("1", "a"), right("1", "b", winner="p/a")], {}, "'b' is p/a, which another arm is, too"),
    ],
)
def test_what_has_no_weight(tmp_path: Path, rows: list[Any], run: Any, reason: str) -> None:
    """Which arm, and why, in one line."""
    with pytest.raises(ResultsError, match=reason):
        weights_of(folder(tmp_path, rows, **run))
