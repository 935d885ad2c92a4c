"""`summary.json`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.results import ResultsError
from orchestrator.batch.summary import write_summary
from tests.unit.batch.made import BEGAN, DATA, failed, folder, line, recorded, right


def arms_of(where: Path, rows: list[Any], **run: Any) -> Any:
    return write_summary(folder(where, rows, **run))["arms"]


def test_an_arm(tmp_path: Path) -> None:
    """What it did, what it cost, how sure that is."""
    rows = [
        right("1", "a", cost_usd=0.1),
        right("2", "a", cost_usd=0.2),
        right("3", "a", False, cost_usd=0.3, cost_is_estimate=True),
        right("4", "a", None, cost_usd=0.4),
        failed("5", "a"),
        failed("6", "a", "rate_limited", cost_usd=0.5),
    ]
    (arm,) = arms_of(tmp_path, rows, items=8, arms={"a": "p/a"}).values()
    assert ("p/a", 6, 4, 2, 2) == tuple(arm[key] for key in ("selector", "n", "answered", "failed", "missing"))
    assert {"rate_limited": 1, "timeout": 1} == arm["errors"]
    assert (3, 2, pytest.approx(2 / 3)) == (arm["scored"], arm["correct"], arm["accuracy"])
    assert pytest.approx([0.2077, 0.9385], abs=5e-5) == arm["accuracy_interval"]
    assert {"input": 400, "output": 200, "unknown": 0} == arm["tokens"]
    cost = arm["cost"]
    assert (1.5, 0, 1, 0.3, 0.75) == tuple(
        cost[key] for key in ("sum_usd", "unknown", "estimated", "mean_usd", "per_correct_usd")
    )
    low, high = cost["mean_interval_usd"]
    assert 0.1 < low < 0.3 < high < 0.5
    assert (None, None) == (arm["judge"], arm["consensus"])


def test_costs_that_nobody_knows(tmp_path: Path) -> None:
    """Unknown is not nothing: there is no cost per right answer then, nor a sum where none is known."""
    arms = arms_of(
        tmp_path, [right("1", "a"), right("2", "a", cost_usd=None), right("1", "b", cost_usd=None, input_tokens=None)]
    )
    assert (0.001, 1, None) == tuple(arms["a"]["cost"][key] for key in ("sum_usd", "unknown", "per_correct_usd"))
    assert (None, 1, None) == tuple(arms["b"]["cost"][key] for key in ("sum_usd", "unknown", "mean_usd"))
    assert {"input": 0, "output": 0, "unknown": 1} == arms["b"]["tokens"]


def test_a_judge_is_paid_apart(tmp_path: Path) -> None:
    """Its cost is none of the arm's."""
    score = {"correct": True, "extracted": "18", "why": None, "cost_usd": 0.25}
    (arm,) = arms_of(tmp_path, [line("1", "a", score=score), line("2", "a", score=score)]).values()
    assert {"judged": 2, "cost_usd": 0.5} == arm["judge"]
    assert arm["cost"]["sum_usd"] == 0.002


def test_two_arms(tmp_path: Path) -> None:
    """Over the items that both answered: who is right alone, how often they say the same, what they cost."""
    rows = [right(str(i), "a", i < 9, latency_s=1.0) for i in range(10)]
    rows += [right(str(i), "b", 2 < i, cost_usd=0.003, latency_s=3.0) for i in range(10)]
    rows += [right("10", "a"), failed("10", "b"), failed("11", "a"), right("11", "b")]
    summary = write_summary(folder(tmp_path, rows))
    (pair,) = summary["pairs"]
    assert ["a", "b"] == pair["arms"]
    counts = ("items", "scored", "both_right", "first_only", "second_only", "neither")
    assert (10, 10, 6, 3, 1, 0) == tuple(pair[key] for key in counts)
    assert (0.2, 0.625, True, 0.625) == tuple(pair[key] for key in ("difference", "p", "p_exact", "p_holm"))
    assert pair["difference_interval"][0] < 0.2 < pair["difference_interval"][1]
    assert pair["agreement"] == 0.6
    assert pair["kappa"] == pytest.approx((0.6 - 0.66) / 0.34)
    assert (-0.002, [-0.002, -0.002]) == (pair["cost_difference_usd"], pair["cost_difference_interval_usd"])
    (times,) = summary["run"]["pairs"]
    assert (-2.0, [-2.0, -2.0]) == (times["latency_difference_s"], times["latency_difference_interval"])


def test_three_pairs_are_corrected_for_each_other(tmp_path: Path) -> None:
    """Holm's p of the smallest is three times its own."""
    rows = [right(str(i), arm, i < count) for arm, count in (("a", 20), ("b", 12), ("c", 0)) for i in range(20)]
    pairs = write_summary(folder(tmp_path, rows))["pairs"]
    least = min(pairs, key=lambda pair: pair["p"])
    assert least["p_holm"] == pytest.approx(3 * least["p"])
    assert all(pair["p"] <= pair["p_holm"] for pair in pairs)


def test_arms_that_are_not_scored(tmp_path: Path) -> None:
    """They have no accuracy and no test; how often they say the same is known all the same."""
    rows = [
        line("1", "a", text="Yes."),
        line("1", "b", text="yes"),
        line("2", "a", text="Yes"),
        line("2", "b", text="No"),
    ]
    summary = write_summary(folder(tmp_path, rows))
    (pair,) = summary["pairs"]
    assert (0.5, None, None, None) == tuple(pair[key] for key in ("agreement", "p", "p_holm", "difference"))
    assert [None, None] == [arm["accuracy"] for arm in summary["arms"].values()]


def test_votes(tmp_path: Path) -> None:
    """How many ballots, how much agreement, who escalated, what was saved."""

    def vote(agreement: float, ballots: int, escalated: bool = False) -> Any:
        votes = [{"answer": "18"}] * ballots
        more = {"calls_saved": 3 - ballots, "escalated": escalated}
        return {"method": "majority", "answer": "18", "agreement": agreement, "votes": votes, **more}

    rows = [
        right("1", "vote", consensus=vote(1.0, 2)),
        right("2", "vote", consensus=vote(2 / 3, 3)),
        right("3", "vote", False, consensus=vote(1.0, 2)),
        right("4", "vote", consensus=vote(1.0, 3, escalated=True)),
    ]
    (arm,) = arms_of(tmp_path, rows).values()
    assert {
        "n": 4,
        "methods": {"majority": 4},
        "votes_mean": 2.5,
        "agreement_mean": pytest.approx(11 / 12),
        "unanimous": 2,
        "unanimous_accuracy": 0.5,
        "escalated": 1,
        "calls_saved": 2,
    } == arm["consensus"]


def test_the_order_of_lines_means_nothing(tmp_path: Path) -> None:
    """The same lines, the same bytes."""
    chance = random.Random(5)
    rows = [
        right(f"q{i}", arm, chance.random() < 0.8, cost_usd=chance.random(), latency_s=chance.random(), at=BEGAN + i)
        for i in range(200)
        for arm in "cab"
    ]
    write_summary(folder(tmp_path, rows))
    first = (tmp_path / "summary.json").read_bytes()
    chance.shuffle(rows)
    write_summary(folder(tmp_path, rows))
    assert first == (tmp_path / "summary.json").read_bytes()
    assert json.loads(first)["schema"] == 1


def test_the_clock_is_told_apart(tmp_path: Path) -> None:
    """Without `run`, a run that took longer and was resumed a day later says the same."""
    rows = [right(str(i), arm, i % 3 > 0, at=BEGAN + i) for i in range(30) for arm in "ab"]
    quick = write_summary(folder(tmp_path, rows))
    slow = write_summary(
        folder(tmp_path, [{**row, "latency_s": 9.0, "at": row["at"] + 86_400 * (row["item"] > "2")} for row in rows])
    )
    assert quick.pop("run") != slow.pop("run")
    assert quick == slow


def test_a_pause_is_no_time_at_work(tmp_path: Path) -> None:
    """What is bound to a clock: throughput and failures by the time at work, and where a pause was."""
    rows = [right(str(i), "a", latency_s=1.0, at=BEGAN + 1 + i) for i in range(100)]
    rows += [failed(str(100 + i), "a", latency_s=1.0, at=BEGAN + 90_000 + i) for i in range(20)]
    run = write_summary(folder(tmp_path, rows))["run"]
    assert (BEGAN, BEGAN + 90_019, 119.0) == (run["started_at"], run["ended_at"], run["active_s"])
    assert pytest.approx(120 / 119, abs=1e-4) == run["per_s"]
    line = run["timeline"]
    assert (2, [100.0]) == (line["bin_s"], line["pauses_s"])
    assert (100, 20) == (sum(line["answered"]), sum(line["failed"]))
    assert len(line["answered"]) == len(line["failed"]) == 60
    assert {"mean": 1.0, "mean_interval": [1.0, 1.0], "p50": 1.0, "p90": 1.0, "p95": 1.0, "p99": 1.0} == run[
        "latency_s"
    ]["a"]


def test_nothing_yet(tmp_path: Path) -> None:
    """A run that was stopped before its first line, or whose lines do not say when."""
    summary = write_summary(folder(tmp_path, []))
    assert ({}, [], None) == (summary["arms"], summary["pairs"], summary["run"]["timeline"])
    assert write_summary(folder(tmp_path, [line("1", "a", at=None)]))["run"]["per_s"] is None
    assert write_summary(folder(tmp_path, [line("1", "a", latency_s=0.0)]))["run"]["per_s"] is None


def test_what_was_tried_again_was_paid_for(tmp_path: Path) -> None:
    """Failed lines that were taken out of the results count for their cost alone."""
    rows = [failed("1", "a", cost_usd=0.1), failed("2", "a")]
    (tmp_path / "failed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = write_summary(folder(tmp_path, [right("1", "a")]))
    assert {"lines": 2, "cost_usd": 0.1} == summary["retried"]
    assert (1, 0.001) == (summary["arms"]["a"]["n"], summary["cost_usd"])


def test_an_item_that_stands_twice(tmp_path: Path) -> None:
    """Each pair of item and arm has one line: two are an error, not an average."""
    with pytest.raises(ResultsError, match="item '1' of arm 'a' has two lines"):
        write_summary(folder(tmp_path, [right("1", "a"), right("1", "a")]))


def test_commands_do_not_load_what_only_statistics_need() -> None:
    """The command line, scoring and weights work without the extra."""
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['vl_convert'] = sys.modules['numpy'] = None\n"
        "import orchestrator.cli, orchestrator.batch.scoring, orchestrator.batch.weights\n"
        "import orchestrator.batch.summary, orchestrator.batch.report\n"
        "try: orchestrator.batch.summary.write_summary('.')\n"
        "except orchestrator.batch.results.ResultsError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "statistics and plots need scipy: pip install 'orchestrator[batch]'\n" == ran.stdout


@pytest.mark.skipif(
    not DATA.is_dir() and os.environ.get("CI") != "true", reason="the recordings are not on this machine"
)
def test_660_recorded_answers_of_6_models(tmp_path: Path) -> None:
    """The accuracies of the README's table."""
    arms = arms_of(tmp_path, list(recorded()))
    assert {
        "Meta-Llama-3.1-8B-Instruct": 84.4,
        "claude-3-5-sonnet-20241022": 96.8,
        "claude-3-haiku-20240307": 82.7,
        "gemini-1.5-flash": 91.4,
        "gemma-2-9b-it": 87.1,
        "gpt-4o-mini-2024-07-18": 94.7,
    } == {name: round(100 * arm["accuracy"], 1) for name, arm in arms.items()}
    assert pytest.approx([0.9271, 0.9616], abs=5e-5) == arms["gpt-4o-mini-2024-07-18"]["accuracy_interval"]
