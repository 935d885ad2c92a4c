"""Reading what a run has written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.batch.results import Manifest, ResultsError, manifest, read, require
from tests.unit.batch.made import folder, line


def test_lines(tmp_path: Path) -> None:
    """As they stand there; a last one that is torn is passed over."""
    rows = [line("1", "a"), line("2", "a")]
    folder(tmp_path, rows)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"item": "3", "arm": "a", "outc')
    assert rows == list(read(tmp_path))


@pytest.mark.parametrize("wrong", ["nonsense", "[1]", '{"item": "1", "arm": "a"}', ""])
def test_a_line_that_is_none(tmp_path: Path, wrong: str) -> None:
    """Where it stands, in one line."""
    folder(tmp_path, [line("1", "a")])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(f"{wrong}\n")
    with pytest.raises(ResultsError, match=r"results\.jsonl:2: is no line of results"):
        list(read(tmp_path))


def test_no_results(tmp_path: Path) -> None:
    """A folder without any."""
    with pytest.raises(ResultsError, match="there are no results"):
        list(read(tmp_path))


def test_what_is_known_of_a_run(tmp_path: Path) -> None:
    """As far as `run.json` says; arms without a selector have none; its folder's name else."""
    assert Manifest(tmp_path.name, {}, None, None) == manifest(tmp_path)
    folder(tmp_path, [], name="gsm8k", arms={"a": "p/a", "own": None}, items=2, input="questions.jsonl")
    assert Manifest("gsm8k", {"a": "p/a"}, 2, "questions.jsonl") == manifest(tmp_path)


@pytest.mark.parametrize("said", ["{", "[]", '{"arms": [1]}'])
def test_a_manifest_that_is_none(tmp_path: Path, said: str) -> None:
    """It is named."""
    (tmp_path / "run.json").write_text(said)
    with pytest.raises(ResultsError, match=r"run\.json: cannot be read"):
        manifest(tmp_path)


def test_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it is installed."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ResultsError, match=r"need scipy: pip install 'orchestrator\[batch\]'"):
        require("scipy")
