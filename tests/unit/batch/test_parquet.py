"""Results in parquet: lines and rows, what counts, what is asked again, and whose folder it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet as files

from orchestrator.batch.folder import BadFolder, Folder, Unwritable
from orchestrator.batch.lines import line_of
from orchestrator.batch.parquet import CHECKPOINT, FAILED, ID, RESULTS, DataFolder, Held, expand, lines
from orchestrator.batch.report import write_report
from orchestrator.batch.results import ResultsError, failed, read
from orchestrator.batch.spec import Spec, load_spec
from orchestrator.batch.weights import weights_of
from orchestrator.types import FailureKind, Json
from tests.unit.batch.given import answer, pair, write_spec

K = FailureKind


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    (tmp_path / "in").mkdir()
    return load_spec(write_spec(tmp_path, input="in", arms={"a": "sim/a", "b": "sim/b"}))


def line(item: str, arm: str = "a", came: Any = "yes", cost: float | None = 0.5, **fields: Any) -> Json:
    one = pair(item, arm, id=item)
    one.spend(cost, 0.25)
    said = line_of(one, answer(came), at=5.0, start_s=1.0, seen_s=1.0, budgeted=True)
    return {**said, "request_id": f"{item}{arm}{said['outcome']}", **fields}


def block(folder: Path | str, name: str, *items: Json, done: bool = True, ids: list[str] | None = None) -> None:
    """A file of results, and its ids."""
    for below in (RESULTS, CHECKPOINT):
        (Path(folder) / below).mkdir(parents=True, exist_ok=True)
    whole = b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in items)
    files.write_table(expand([whole]), Path(folder) / RESULTS / f"{name}.parquet")
    found = list(dict.fromkeys(one["item"] for one in items)) if ids is None else ids
    end = ".parquet" if done else ".pending.parquet"
    files.write_table(pa.table({ID: pa.array(found, pa.string())}), Path(folder) / CHECKPOINT / (name + end))


def key(one: Json) -> tuple[str, str]:
    return one["item"], one["outcome"]


def test_a_line_survives_being_a_row(tmp_path: Path) -> None:
    """To the last field, whatever its answer was."""
    score = {"correct": True, "extracted": "42", "why": None, "cost_usd": None}
    consensus = {"method": "majority", "votes": [{"n": 1}], "agreement": 1.0}
    said = [
        line("1", expected={"x": [1, None]}, score=score, consensus=consensus),
        line("2", came=K.SILENT, cost=None, expected=42),
        line("3", custom_id="3", response={"status_code": 200, "body": {}}, tool_calls=[{"id": "x"}]),
    ]
    block(tmp_path, "a", *said)
    assert said == list(read(tmp_path))
    assert "charged_usd" in said[1]


def test_a_file_counts_once_its_block_is_done(tmp_path: Path) -> None:
    """One that was being written, or whose ids are pending, does not."""
    block(tmp_path, "a", line("1"))
    block(tmp_path, "b", line("2"), done=False)
    (tmp_path / RESULTS / "c.parquet").write_bytes(b"PAR1 torn")
    assert ["1"] == [one["item"] for one in lines(tmp_path)]
    (tmp_path / CHECKPOINT / "c.parquet").write_bytes(b"")
    with pytest.raises(ResultsError, match="results: cannot be read"):
        list(read(tmp_path))


def test_what_a_folder_holds(spec: Spec) -> None:
    """Costs, those of lines that were asked again, too; items that are not done, with the arms that they have lines of."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    assert Held() == folder.held()
    block(spec.output, "a", line("1"), line("2", "a"), line("2", "b", cost=None), line("3"), ids=["1"])
    judged = {"correct": True, "extracted": None, "why": None, "cost_usd": 0.125}
    block(spec.output, "b", line("3", "b"), ids=["3"])
    block(spec.output, "c", line("4", score=judged), line("5", score=judged, charged_usd=4.0))
    held = folder.held()
    assert {"2": frozenset("ab")} == held.had
    assert 2.25 + 0.625 + 4.0 == held.spent_usd
    assert [("1", "a", "ok", 0.5, 0.5)] == list(folder.rows())[:1]
    assert [("4", "a", "ok", 0.625, 0.625), ("5", "a", "ok", 0.625, 4.0)] == list(folder.rows())[-2:]
    folder.close()


def test_failures_are_asked_again(spec: Spec) -> None:
    """Their lines leave the results, their items are not done any more; what was an answer stays one."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    block(spec.output, "a", line("1", "a", K.SILENT), line("1", "b"), line("2"))
    block(spec.output, "b", line("3"))
    assert 1 == folder.take_failed()
    assert [("1", "ok"), ("2", "ok"), ("3", "ok")] == [key(one) for one in read(spec.output)]
    assert [("1", "timeout")] == [key(one) for one in failed(spec.output)]
    assert {"1": frozenset("b")} == folder.held().had
    assert 2.0 == folder.held().spent_usd
    assert 0 == folder.take_failed()
    block(spec.output, "c", line("1", "a", K.SERVER_ERROR))
    assert {} == folder.held().had
    # Killed before the results were replaced, it finds the same failure again, and keeps it once.
    block(spec.output, "a", line("1", "a", K.SILENT), line("2", "a", K.SILENT), ids=[])
    assert 3 == folder.take_failed()
    assert [("1", "server_error"), ("1", "timeout"), ("2", "timeout")] == sorted(
        key(one) for one in failed(spec.output)
    )
    folder.close()


def test_failures_that_another_run_has_taken_as_they_are(spec: Spec) -> None:
    """Killed when ids were taken out and lines were not, it leaves items that another run has done in a file of its own."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    block(spec.output, "a", line("1", "a", K.SILENT), line("1", "b"), ids=[])
    assert {"1": frozenset("ab")} == folder.held().had
    block(spec.output, "b", ids=["1", "9"])
    assert {} == folder.held().had
    assert 1 == folder.take_failed()
    assert {"1": frozenset("b")} == folder.held().had
    assert ["9"] == files.read_table(Path(spec.output) / CHECKPOINT / "b.parquet")[ID].to_pylist()
    folder.close()


def test_a_disk_that_is_full(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said to be; nothing is lost."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    block(spec.output, "a", line("1", "a", K.SILENT))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unwritable, match="cannot be written: No space left on device"):
        folder.take_failed()
    assert [("1", "timeout")] == [key(one) for one in read(spec.output)]
    folder.close()


def test_a_file_that_a_power_cut_has_torn(spec: Spec) -> None:
    """Is named, and what to do about it."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    block(spec.output, "a", line("1"))
    (Path(spec.output) / CHECKPOINT / "a.parquet").write_bytes(b"")
    with pytest.raises(
        BadFolder, match=r"checkpoint/a\.parquet: cannot be read: .*without a\.parquet in results and in"
    ):
        folder.held()
    (Path(spec.output) / RESULTS / "a.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadFolder, match=r"results/a\.parquet: cannot be read"):
        list(folder.rows())
    folder.close()


def test_whose_folder_it_is(spec: Spec) -> None:
    """Not one of lines, and not one of other arms or another input, whoever insists; parameters may differ."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    other = DataFolder(spec.output)
    with pytest.raises(BadFolder, match="another run is going on"):
        other.open(spec, "0" * 64, force=False, now_s=0.0)
    folder.close()
    with pytest.raises(BadFolder, match=r"\(input differ\): give another `output`$"):
        folder.open(spec, "1" * 64, force=True, now_s=0.0)
    changed = load_spec(write_spec(Path(spec.output).parent, input="in", arms=spec.arms, params={"seed": 1}))
    with pytest.raises(BadFolder, match=r"\(params differ\): give another `output`, or --force"):
        folder.open(changed, "0" * 64, force=False, now_s=0.0)
    folder.open(changed, "0" * 64, force=True, now_s=0.0)
    folder.close()
    plain = Folder(f"{spec.output}-plain")
    plain.open(spec, "0" * 64, force=False, now_s=0.0)
    plain.close()
    with pytest.raises(BadFolder, match=r"holds a results\.jsonl, of a run with one file of input"):
        DataFolder(plain.path).open(spec, "0" * 64, force=False, now_s=0.0)


def test_reports_and_weights_of_parquet(tmp_path: Path) -> None:
    """Are those of the same lines; what was asked is looked up in the files of the input."""
    (tmp_path / "in").mkdir()
    files.write_table(pa.table({"id": ["1", "2"], "prompt": ["who?", "what?"]}), tmp_path / "in" / "a.parquet")
    wrong, right = ({"correct": one, "extracted": "x", "why": None, "cost_usd": None} for one in (False, True))
    out = tmp_path / "out"
    block(out, "a", line("1", score=right, winner="sim/a"), line("2", score=wrong, winner="sim/a"))
    (out / FAILED).mkdir()
    files.write_table(expand([orjson.dumps(line("2", came=K.SILENT))]), out / FAILED / "a.parquet")
    (out / "run.json").write_text(orjson.dumps({"input": str(tmp_path / "in"), "arms": {"a": "sim/a"}}).decode())
    page = write_report(out).read_text()
    assert "what?" in page
    summary = orjson.loads((out / "summary.json").read_bytes())
    assert (2, 1, {"lines": 1, "cost_usd": 0.5}) == (
        summary["arms"]["a"]["n"],
        summary["arms"]["a"]["correct"],
        summary["retried"],
    )
    assert {"sim/a": (1, 2)} == {name: one[:2] for name, one in weights_of(out).models.items()}
    (tmp_path / "in" / "a.parquet").unlink()
    assert "what?" not in write_report(out).read_text()


def test_the_extra_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named."""
    block(tmp_path, "a", line("1"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResultsError, match=r"need pyarrow: pip install 'orchestrator\[data\]'"):
        list(read(tmp_path))


def test_where_an_item_is_done(spec: Spec) -> None:
    """An item that was asked again in another file is done, whatever the first says; a file that is pending says nothing."""
    folder = DataFolder(spec.output)
    folder.open(spec, "0" * 64, force=False, now_s=0.0)
    block(spec.output, "a", line("1"), ids=[])
    assert {"1": frozenset("a")} == folder.held().had
    block(spec.output, "b", line("1", "b"), done=False)
    assert {"1": frozenset("a")} == folder.held().had
    block(spec.output, "b", line("1", "b"))
    assert {} == folder.held().had
    folder.close()
