"""Inputs of many files: which they are, what their rows say, and what a look at them shows."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchestrator.batch.blocks import (
    Looked,
    Row,
    chosen,
    doubled,
    files_of,
    in_blocks,
    look,
    mark,
    reads,
    rows_in,
    twice,
)
from orchestrator.batch.items import choose
from orchestrator.config.document import MAX_PROBLEMS


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def names(path: Path | str) -> list[str]:
    return [one.rpartition("/")[2] for one in files_of(str(path)).paths]


def test_which_inputs_are_of_many_files(tmp_path: Path) -> None:
    """By what they are called; one file of JSONL is read by one process."""
    for path in ("s3://bucket/in", "gs://b/x.jsonl", "/a/in.parquet", "/a/*.jsonl", "/a/[ab].jsonl", str(tmp_path)):
        assert in_blocks(path), path
    assert not in_blocks(str(write(tmp_path / "in.jsonl")))
    assert not in_blocks(str(write(tmp_path / "[a]" / "in.jsonl")))


def test_files_of_a_folder_and_of_a_pattern(tmp_path: Path) -> None:
    """Whatever is below the folder, but for what writers leave for themselves; a pattern is of folders and names."""
    for name in ("b.jsonl", "a.parquet", "notes.txt", "_SUCCESS.jsonl", "year=1/c.jsonl", "year=1/.tmp/d.jsonl"):
        write(tmp_path / name)
    assert ["a.parquet", "b.jsonl", "c.jsonl"] == names(tmp_path)
    assert ["_SUCCESS.jsonl", "b.jsonl"] == names(f"{tmp_path}/*.jsonl")
    assert ["b.jsonl"] == names(f"{tmp_path}/[!_]*.jsonl")
    assert ["c.jsonl"] == names(f"{tmp_path}/year=?/*.jsonl")
    assert ["b.jsonl", "c.jsonl"] == names(f"file://{tmp_path}/**/[bc].jsonl")
    assert ["d.jsonl"] == names(f"{tmp_path}/**d.jsonl")
    assert ["b.jsonl"] == names(tmp_path / "b.jsonl")
    write(tmp_path / "[a]" / "e.jsonl")
    assert ["e.jsonl"] == names(tmp_path / "[a]")


def test_what_an_input_would_read(tmp_path: Path) -> None:
    """Of files that are not there yet: by its folder, also under another name, or by its pattern."""
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    inside, beside = f"{tmp_path}/in/out/results/0.parquet", f"{tmp_path}/out/results/0.parquet"
    for path in (f"{tmp_path}/in", f"file://{tmp_path}/in", f"{tmp_path}/link", f"{tmp_path}/in/**/*.parquet"):
        assert reads(path, inside), path
        assert not reads(path, beside), path
    assert reads(f"{tmp_path}/*/*/results/*", inside)
    assert not reads(f"{tmp_path}/*.parquet", inside)
    assert not reads(f"{tmp_path}/in/*.parquet", f"{tmp_path}/in")
    assert not reads(f"{tmp_path}/in", f"{tmp_path}/in/_out/results/0.parquet")
    assert not reads(f"{tmp_path}/in", f"{tmp_path}/in/run.json")
    assert not reads(f"{tmp_path}/in.parquet", inside)
    assert not reads("s3://bucket/in", inside)


def test_what_is_no_input(tmp_path: Path) -> None:
    """It is said what is wrong with it."""
    write(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="holds no file that ends with"):
        files_of(str(tmp_path))
    with pytest.raises(ValueError, match="parquet is not there"):
        files_of(f"{tmp_path}/none.parquet")
    with pytest.raises(ValueError, match="txt does not end with"):
        files_of(f"{tmp_path}/*.txt")
    with pytest.raises(ValueError, match="nobody://x/y cannot be read"):
        files_of("nobody://x/y")


def test_rows_of_parquet_are_lines(tmp_path: Path) -> None:
    """Fields that are null are absent, and columns of one's own are left alone."""
    table = pa.table(
        {
            "id": [1, 2],
            "messages": [[{"role": "user", "content": "a", "name": None}], [{"role": "user", "content": "b", "name": "ada"}]],
            "params": pa.array([{"seed": 3, "top_p": None}, None]),
            "answer": [Decimal("4.2"), None],
            "mine": ["x", "y"],
        }
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "in.parquet")
    rows = [*rows_in(f"{tmp_path}/in.parquet")]
    assert [("1", 1), ("2", 2)] == [(row.id, row.number) for row in rows]
    assert [
        {"id": 1, "messages": [{"role": "user", "content": "a"}], "params": {"seed": 3}, "answer": "4.2"},
        {"id": 2, "messages": [{"role": "user", "content": "b", "name": "ada"}]},
    ] == [json.loads(row.content) for row in rows]
    parquet.write_table(pa.table({"id": ["x"], "prompt": [b"bytes \xff"]}), tmp_path / "in.parquet")
    assert "bytes \ufffd" == json.loads(next(rows_in(f"{tmp_path}/in.parquet")).content)["prompt"]
    parquet.write_table(pa.table({"id": ["x"], "answer": pa.array([[(1, 2)]], pa.map_(pa.int8(), pa.int8()))}),
                        tmp_path / "in.parquet")  # fmt: skip
    assert [[1, 2]] == json.loads(next(rows_in(f"{tmp_path}/in.parquet")).content)["answer"]
    table = pa.table({"id": ["x"], "answer": pa.array([1], pa.duration("s"))})
    parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(TypeError):
        next(rows_in(f"{tmp_path}/in.parquet"))


def test_rows_of_jsonl_are_lines(tmp_path: Path) -> None:
    """With their numbers, compressed or not; an id is found wherever one can be."""
    content = b'\xef\xbb\xbf{"id": 1}\n\n{"custom_id": "b"}\n{"id": true}\n[1]\nnot JSON'
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    expected = [("1", 1), ("b", 3), ("", 4), ("", 5), ("", 6)]
    assert 2 * expected == [(row.id, row.number) for row in rows_in(str(tmp_path))]


def rows(*said: Any) -> list[Row]:
    contents = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in said]
    ids = [str(one.get("id", "")) if isinstance(one, dict) else "" for one in said]
    return [Row(name, content, "f", at) for at, (name, content) in enumerate(zip(ids, contents, strict=True), 1)]


def item(name: Any) -> Any:
    return {"id": name, "prompt": "x"}


def test_a_look_at_rows() -> None:
    """What cannot be asked is said, with its place; the digest is that of the rows in any order, and in any parts."""
    looked = look(rows(item(1), item("b"), {"id": 3}, b"no"), {}, "sim/a")
    assert (2, ["f:3: prompt: give either a prompt or messages, and not both"]) == (looked.items, looked.problems[:1])
    assert looked.problems[1].startswith("f:4: document: is not JSON")
    one, other = look(rows(item(1)), {}, "sim/a", 0), look(rows(item("b"), item("c")), {}, "sim/a", 0)
    whole = look(rows(item("c"), item("b"), item(1)), {}, "sim/a", 0)
    both = Looked.together((one, other))
    assert whole.sha256 == Looked.together((other, one)).sha256 == both.sha256
    assert 64 == len(whole.sha256)
    assert (3, whole.size_bytes, 24, 24) == (both.items, both.size_bytes, len(both.marks), len(both.places))
    assert look(rows(item(1)), {}, "sim/a").sha256 != look(rows(item(2)), {}, "sim/a").sha256
    many = look(rows(*[b"no"] * 200), {}, "sim/a")
    assert MAX_PROBLEMS == len(many.problems) == len(Looked.together((many, many)).problems)


def test_ids_that_stand_twice() -> None:
    """They are found by their marks, and named by themselves: two ids of one mark are no mistake."""
    looked = look(rows(item("a"), item("b"), item("a")), {}, "sim/a")
    assert {mark("a")} == twice(looked.marks)
    assert ["f:3: id: 'a' stands twice (first in f:1)"] == doubled(rows(item("a"), item("x"), item("a")))
    assert [] == doubled(rows(item("a"), item("b")))
    assert frozenset() == twice(Looked().marks)


def test_a_sample_is_the_same_as_that_of_one_file() -> None:
    """For the same ids and seed, however many files they are in."""
    ids = [f"i{at}" for at in range(50)]
    looked = Looked.together(look(rows(item(one)), {}, "sim/a", 7) for one in ids)
    lines = {one: at for at, one in enumerate(ids)}
    wanted = choose(lines, None, 10, 7)
    assert wanted == frozenset(lines[one] for one in ids if one in chosen(looked, 10, 7))
    assert all(one in chosen(looked, 99, 7) for one in ids)
