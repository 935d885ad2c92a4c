"""The folder of a batch: durable lines, torn ends, two runs at once, another spec."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.folder import BadFolder, Folder, Unwritable, identity
from orchestrator.batch.spec import Spec, load_spec
from orchestrator.types import Json
from tests.unit.batch.given import write_spec


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return load_spec(write_spec(tmp_path))


def opened(spec: Spec, *, force: bool = False, sha256: str = "1") -> Folder:
    folder = Folder(spec.output)
    folder.open(spec, sha256, force=force, now_s=5.0)
    return folder


def line(item: str, outcome: str = "ok", arm: str = "a", **more: Any) -> Json:
    return {"item": item, "arm": arm, "outcome": outcome, "cost_usd": None, "latency_s": 1.0, **more}


def put(folder: Folder, *lines: Json) -> None:
    for one in lines:
        folder.append(one)
    assert len(lines) == folder.take_pending()()


def items(folder: Folder) -> list[str]:
    return [one.item for one in folder.lines()]


def test_lines_stay(spec: Spec) -> None:
    """What has been made durable is there for the next run, with what it cost."""
    folder = opened(spec)
    folder.append(line("1"))
    assert 1 == folder.pending
    folder.append(line("2", cost_usd=0.5))
    folder.append(line("3", "timeout", charged_usd=0.25))
    assert 3 == folder.take_pending()()
    assert 0 == folder.pending
    folder.close()
    again = opened(spec)
    found = [(one.item, one.ok, one.cost_usd, one.spent_usd) for one in again.lines()]
    assert [("1", True, None, 0.0), ("2", True, 0.5, 0.5), ("3", False, None, 0.25)] == found
    again.close()


@pytest.mark.parametrize("torn", [b'{"item": "3", "ar', b'{"item": "3"}\n'[:-1], b"\0" * 50, b"{half\n"])
def test_a_torn_end_is_cut_off(spec: Spec, torn: bytes) -> None:
    """Whatever of the last line had reached the disk; what is written next begins a line."""
    folder = opened(spec)
    put(folder, line("1"), line("2"))
    folder.close()
    with open(f"{spec.output}/results.jsonl", "ab") as file:
        file.write(torn)
    again = opened(spec)
    put(again, line("3"))
    assert ["1", "2", "3"] == items(again)
    again.close()


@pytest.mark.parametrize(
    "damage", ['{half\n{"item": "1"}\n', '{"item": "1"}\n', "5\n" * 3, '{"item": 1, "arm": [1]}\n']
)
def test_damage_is_not_passed_over(spec: Spec, damage: str) -> None:
    """A line in the middle that is none: nobody tore that."""
    folder = opened(spec)
    Path(spec.output, "results.jsonl").write_text(damage)
    with pytest.raises(BadFolder, match=r"results\.jsonl:1: is no line of results"):
        items(folder)
    folder.close()


def test_who_only_looks_passes_over_a_line_that_is_being_written(spec: Spec) -> None:
    """`--dry-run` beside a run, say."""
    folder = opened(spec)
    put(folder, line("1"))
    with open(f"{spec.output}/results.jsonl", "ab") as file:
        file.write(b'{"item"')
    assert ["1"] == items(Folder(spec.output))
    folder.close()


def test_one_run_at_a_time(spec: Spec) -> None:
    """The lock goes with its process, however that ends."""
    folder = opened(spec)
    with pytest.raises(BadFolder, match="another run is going on in it"):
        opened(spec)
    folder.close()
    opened(spec).close()


def test_results_of_something_else(spec: Spec, tmp_path: Path) -> None:
    """Are not gone on with, unless somebody insists: it is said what differs."""
    opened(spec).close()
    other = load_spec(write_spec(tmp_path, arms={"a": "sim/b"}))
    with pytest.raises(BadFolder, match=r"another run \(arms, input differ\): give another `output`, or --force"):
        opened(other, sha256="2")
    opened(other, sha256="2", force=True).close()
    run = json.loads(Path(spec.output, "run.json").read_text())
    assert {**identity(other, "2"), "began_at": 5.0} == {
        name: run[name] for name in (*identity(other, "2"), "began_at")
    }
    opened(other, sha256="2").close()


def test_a_folder_that_is_no_batchs(spec: Spec, tmp_path: Path) -> None:
    """Results without their run.json, one that is no JSON or no object, a folder that cannot be made."""
    Path(spec.output).mkdir()
    Path(spec.output, "results.jsonl").write_text("")
    with pytest.raises(BadFolder, match=r"holds a results\.jsonl of something else"):
        opened(spec)
    for content, said in (("{", "is not JSON"), ("[]", "has to be an object")):
        Path(spec.output, "run.json").write_text(content)
        with pytest.raises(BadFolder, match=rf"run\.json:1: {said}"):
            opened(spec)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFolder, match="cannot be used: Not a directory"):
        Folder(str(tmp_path / "file" / "x")).open(spec, "1", force=False, now_s=0)


def test_failed_lines_are_taken_out_and_kept(spec: Spec) -> None:
    """They can be asked again, and what they cost stays counted; also where it was killed in between."""
    folder = opened(spec)
    put(folder, line("1"), line("2", "timeout", cost_usd=0.5), line("3"), line("4", "server_error", charged_usd=1.0))
    before = Path(spec.output, "results.jsonl").read_bytes()
    assert 2 == folder.take_failed()
    assert (["1", "3"], 1.5) == (items(folder), folder.spent_before_usd())
    put(folder, line("2"))
    folder.close()
    Path(spec.output, "results.jsonl").write_bytes(before)
    again = opened(spec)
    assert 2 == again.take_failed()
    assert (["1", "3"], 1.5) == (items(again), again.spent_before_usd())
    assert 0 == again.take_failed()
    again.close()


def test_what_a_full_disk_has_torn_is_cut_off(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written after it, where there is room again, begins a line of its own; whole lines stay."""
    folder = opened(spec)
    put(folder, line("1"))
    real, room = os.write, [150]

    def filling(file: int, content: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(file, content[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", filling)
    for item in ("2", "3", "4"):
        folder.append(line(item))
    with pytest.raises(Unwritable, match="No space left"):
        folder.take_pending()()
    monkeypatch.undo()
    put(folder, line("5"))
    assert ["1", "2", "3", "5"] == items(folder)
    folder.close()
    again = opened(spec)
    assert ["1", "2", "3", "5"] == items(again)
    again.close()


def test_what_is_written_in_parts_is_whole(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may take less than it is given."""
    folder = opened(spec)
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:7]))
    put(folder, line("1"), line("2"))
    monkeypatch.undo()
    assert ["1", "2"] == items(folder)
    folder.close()
