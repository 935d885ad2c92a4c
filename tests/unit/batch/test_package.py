"""The working directory of a job: what is needed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.batch.package import pack
from orchestrator.batch.spec import load_spec
from orchestrator.errors import ConfigError
from tests.unit.batch.given import write_spec


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_a_spec_names_goes_along(tmp_path: Path) -> None:
    """At the same places; the spec can be loaded there."""
    here, copy = tmp_path / "here", tmp_path / "copy"
    (here / "batches").mkdir(parents=True)
    (here / "configs" / "users").mkdir(parents=True)
    for name in ("configs/users/ada.yaml", "configs/replies.jsonl", "questions.jsonl", "configs/other.yaml", "secret"):
        (here / name).write_text("x")
    (here / "configs/users/notes.txt").write_text("x")
    (here / "configs/c.yaml").write_text(
        "users: users/\n"
        "providers:\n"
        "  one: {replay: {files: {m: replies.jsonl, n: /elsewhere/replies.jsonl}, questions: ../questions.jsonl}}\n"
        "  two: {simulate: {}}\n  three: null\n"
    )
    spec = write_spec(here / "batches", config="../configs/c.yaml")
    packed = pack(str(spec), str(copy))
    expected = ["batches/in.jsonl", "batches/spec.yaml", "configs/c.yaml", "configs/replies.jsonl",
                "configs/users/ada.yaml", "questions.jsonl"]  # fmt: skip
    assert expected == files(copy)
    assert ("batches/spec.yaml", 6) == (packed.spec, packed.files)
    assert sum((copy / name).stat().st_size for name in expected) == packed.size_bytes
    assert str(copy / "batches/in.jsonl") == load_spec(copy / packed.spec).input


def test_what_lies_elsewhere_stays_there(tmp_path: Path) -> None:
    """An absolute path is where the cluster finds it, too; a configuration may say nothing at all."""
    (tmp_path / "c.yaml").write_text("")
    (tmp_path / "here").mkdir()
    spec = write_spec(tmp_path / "here", input=str(tmp_path / "here" / "in.jsonl"), config="../c.yaml")
    pack(str(spec), str(tmp_path / "copy"))
    assert ["c.yaml", "here/spec.yaml"] == files(tmp_path / "copy")
    (tmp_path / "c.yaml").write_text("users: {ada: {}}\nproviders: []\n")
    pack(str(spec), str(tmp_path / "again"))
    assert ["c.yaml", "here/spec.yaml"] == files(tmp_path / "again")


def test_many_files_do_not_go_along(tmp_path: Path) -> None:
    """They outgrow one machine: where they are is to be said in full. What a URI names is there already."""
    (tmp_path / "in").mkdir()
    spec = write_spec(tmp_path, input="in")
    with pytest.raises(ConfigError, match=r":2: input: is of many files, .* give an absolute path or a URI"):
        pack(str(spec), str(tmp_path / "copy"))
    assert 1 == pack(str(write_spec(tmp_path, input="s3://bucket/in")), str(tmp_path / "copy")).files
    assert 1 == pack(str(write_spec(tmp_path, input=f"{tmp_path}/in")), str(tmp_path / "copy")).files
