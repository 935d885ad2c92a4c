"""`orchestrator batch`: what it hands on, and what it says of a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli import main


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the modules over Ray are given, in the place of them."""
    found: list[Any] = []

    def take(args: Any) -> int:
        found.append(args)
        return 7

    monkeypatch.setitem(sys.modules, "actors.batch", SimpleNamespace(run=take))
    monkeypatch.setitem(sys.modules, "actors.jobs", SimpleNamespace(submit=take))
    return found


def test_a_run(given: list[Any]) -> None:
    """All options reach it, and its exit code comes back."""
    options = ["--limit", "5", "--sample", "3", "--seed", "2", "--retry-failed", "--dry-run", "--latency", "0.5"]
    assert 7 == main(["batch", "run", "s.yaml", *options, "--output", "o", "--force", "--connect", "never", "--json"])
    (args,) = given
    assert ("s.yaml", 5, 3, 2, True, True, 0.5, "o", True, "never", True) == (
        args.spec, args.limit, args.sample, args.seed, args.retry_failed, args.dry_run, args.latency, args.output,
        args.force, args.connect, args.json,
    )  # fmt: skip


def test_a_job(given: list[Any]) -> None:
    """The same choices, and where the cluster is."""
    assert 7 == main(["batch", "submit", "s.yaml", "--address", "http://x", "--python", "python3", "--limit", "5"])
    (args,) = given
    assert ("http://x", "python3", 5, "auto") == (args.address, args.python, args.limit, args.connect)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "s.yaml", "--limit", "0"), "has to be at least 1"),
        (("run", "s.yaml", "--latency", "0"), "has to be above 0"),
        (("run",), "required: spec"),
        ((), "required: batch"),
    ],
)
def test_bad_arguments(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """2, with a line of what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["batch", *arguments])
    assert 2 == ended.value.code
    assert said in capsys.readouterr().err


def test_a_folder_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its report is written, and its weights are said."""
    line = {
        "item": "1", "arm": "a", "outcome": "ok", "text": "42", "expected": 42, "cost_usd": None,
        "cost_is_estimate": False, "input_tokens": 1, "output_tokens": 1, "latency_s": 1.0, "attempts": 1,
        "provider": "sim", "model": "a", "winner": "sim/a", "consensus": None, "error": None,
        "score": {"correct": True, "extracted": "42", "why": None, "cost_usd": None}, "at": 5.0, "start_s": 1.0,
        "request_id": "x",
    }  # fmt: skip
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "run.json").write_text(json.dumps({"name": "n", "arms": {"a": "sim/a"}}))
    assert 0 == main(["batch", "report", str(tmp_path)])
    assert f"{tmp_path}/report.html\n" == capsys.readouterr().out
    assert (tmp_path / "summary.json").exists()
    assert 0 == main(["batch", "weights", str(tmp_path)])
    assert "sim/a" in capsys.readouterr().out


def test_no_folder_of_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2, and why."""
    for command in ("report", "weights"):
        assert 2 == main(["batch", command, str(tmp_path)])
        assert "there are no results" in capsys.readouterr().err
