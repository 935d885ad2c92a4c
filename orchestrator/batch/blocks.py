"""Inputs of many files: parquet or JSONL, in a folder, by a pattern, or on object storage.

A row of parquet is what a line of JSONL is (`orchestrator.batch.items`): columns have the names of its keys, and others are
left alone. A field that is null is one that is absent, since columns know no other way to say so.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from orchestrator.batch.items import Wrong, asked_of, item_of, place
from orchestrator.config.document import MAX_PROBLEMS, clean

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PARQUET = (".parquet",)
JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst")
_COLUMNS = ("id", "prompt", "messages", "answer", "params", "custom_id", "method", "url", "body")
_MAGIC = re.compile(r"[*?\[]")
ROWS = 256
"""Rows that are read at a time."""


class Files(NamedTuple):
    """The files of an input."""

    filesystem: FileSystem
    paths: list[str]
    """In the order of their names."""


class Row(NamedTuple):
    """An item as it stands in a file."""

    id: str
    """Empty: it has none that could be read."""
    content: bytes
    """A line of JSON."""
    file: str
    number: int
    """Of the line, or of the row, from 1."""


def in_blocks(path: str) -> bool:
    """Whether an input is read by many: parquet, a folder, a pattern, or what a URI names. One file of JSONL is not."""
    return "://" in path or path.endswith(PARQUET) or _magic(path) is not None or os.path.isdir(path)


def _magic(path: str) -> re.Match[str] | None:
    """Where a pattern begins to be one; what is there by that very name is none."""
    return None if os.path.exists(path) else _MAGIC.search(path)


def reads(path: str, file: str) -> bool:
    """Whether an input would read a file of this machine, were it there: of a folder all that lie in it, of a pattern those
    that it names."""
    path = path.removeprefix("file://")
    if "://" in path or not file.endswith(PARQUET + JSONL):
        return False
    if (magic := _magic(path)) is not None:
        root = path[: path.rfind("/", 0, magic.start()) + 1]
        inner = _inside(root, file)
        return inner is not None and _pattern(path[len(root) :]).fullmatch(inner) is not None
    inner = _inside(path, file)
    return inner is not None and not any(map(_is_note, inner.split("/")))


def _inside(folder: str, file: str) -> str | None:
    """The way to a file from a folder; None: it lies elsewhere."""
    way = os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
    return None if way in (os.curdir, os.pardir) or way.startswith("../") else way


def files_of(path: str) -> Files:
    """The files of an input: one file, all of a folder, or those that a pattern names (`*`, `?`, `[…]`, and `**` for any
    folders). Raises ValueError that says what is wrong with it, and OSError."""
    from pyarrow import ArrowException
    from pyarrow.fs import FileSelector, FileSystem, FileType

    magic = _magic(path)
    root = path if magic is None else path[: path.rfind("/", 0, magic.start()) + 1]
    try:
        filesystem, inner = FileSystem.from_uri(root)
    except (ArrowException, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    info = filesystem.get_file_info(inner)
    if info.type == FileType.NotFound:
        raise ValueError(f"{path} is not there")
    if info.type == FileType.File:
        paths = [info.path]
    else:
        below = filesystem.get_file_info(FileSelector(inner, recursive=True))
        names = [one.path for one in below if one.type == FileType.File]
        inner = inner.rstrip("/") + "/"
        if magic is not None:
            pattern = _pattern(path[len(root) :])
            paths = [name for name in names if pattern.fullmatch(name.removeprefix(inner))]
        else:
            # Writers leave notes of their own beside their files: `_SUCCESS`, `.crc`.
            parts = [(name, name.removeprefix(inner).split("/")) for name in names]
            paths = [name for name, said in parts if name.endswith(PARQUET + JSONL) and not any(map(_is_note, said))]
    if not paths:
        raise ValueError(f"{path} holds no file that ends with {', '.join(PARQUET + JSONL)}")
    if wrong := [one for one in paths if not one.endswith(PARQUET + JSONL)]:
        raise ValueError(f"{wrong[0]} does not end with {', '.join(PARQUET + JSONL)}")
    return Files(filesystem, sorted(paths))


def _is_note(name: str) -> bool:
    return name.startswith(("_", "."))


def _pattern(glob: str) -> re.Pattern[str]:
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", glob)
    return re.compile(
        "".join(translated.get(part, part.replace("[!", "[^") if len(part) > 1 else re.escape(part)) for part in parts)
    )


def rows_of(filesystem: FileSystem, path: str) -> Iterator[Row]:
    """The rows of a file. Raises OSError."""
    contents = _parquet(filesystem, path) if path.endswith(PARQUET) else _jsonl(filesystem, path)
    for number, content in contents:
        yield Row(_id(content), content, path, number)


def rows_in(path: str) -> Iterator[Row]:
    """All rows of an input, one after the other. Raises what `files_of` and `rows_of` do."""
    files = files_of(path)
    for name in files.paths:
        yield from rows_of(files.filesystem, name)


def _jsonl(filesystem: FileSystem, path: str) -> Iterator[tuple[int, bytes]]:
    with io.BufferedReader(filesystem.open_input_stream(path)) as file:
        for number, content in enumerate(file, 1):
            if stripped := content.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip():
                yield number, stripped


def _parquet(filesystem: FileSystem, path: str) -> Iterator[tuple[int, bytes]]:
    from pyarrow import parquet

    number = 0
    with filesystem.open_input_file(path) as file, parquet.ParquetFile(file) as table:
        columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
        for batch in table.iter_batches(ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, orjson.dumps(_present(row), default=_plain)


def _present(value: Any) -> Any:
    """The same without fields that are null."""
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value


def _plain(value: object) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError


def _id(content: bytes) -> str:
    """As `item_of` reads it, of whatever it can be read."""
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    found = data.get("custom_id", data.get("id")) if isinstance(data, dict) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sample: the items whose place is not behind one (`orchestrator.batch.items.place`)."""

    seed: int
    last: bytes

    def __contains__(self, item: str) -> bool:
        return place(item, self.seed)[:8] <= self.last


@dataclass(slots=True)
class Looked:
    """What a look at some rows has shown."""

    items: int = 0
    digest: int = 0
    """Of the rows in any order: the sum of their digests."""
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    marks: bytes = b""
    """Eight bytes for each id: those of two rows are equal where their ids are."""
    places: bytes = b""
    """Where a sample is wanted: the first eight bytes of each item's place."""

    @classmethod
    def together(cls, parts: Iterable[Looked]) -> Looked:
        """What several looks have shown. (All at once: ids by the million are copied once.)"""
        parts = [*parts]
        return cls(
            sum(part.items for part in parts),
            sum(part.digest for part in parts) % 2**256,
            sum(part.size_bytes for part in parts),
            [problem for part in parts for problem in part.problems][:MAX_PROBLEMS],
            b"".join(part.marks for part in parts),
            b"".join(part.places for part in parts),
        )

    @property
    def sha256(self) -> str:
        """What stands for the input."""
        return f"{self.digest:064x}"


def look(rows: Iterable[Row], params: Mapping[str, Any], selector: str | None, seed: int | None = None) -> Looked:
    """Looks through rows as `orchestrator.batch.items.survey` does through lines; `seed`: a sample is wanted."""
    looked = Looked()
    marks, places = bytearray(), bytearray()
    for row in rows:
        try:
            item = item_of(row.number, row.content)
            asked_of(item, selector, params)
        except Wrong as wrong:
            if len(looked.problems) < MAX_PROBLEMS:
                looked.problems.append(f"{clean(row.file, 500)}:{row.number}: {wrong}")
            continue
        looked.items += 1
        looked.size_bytes += len(row.content)
        looked.digest += int.from_bytes(hashlib.sha256(row.content).digest(), "big")
        marks += mark(item.id)
        if seed is not None:
            places += place(item.id, seed)[:8]
    looked.digest %= 2**256
    looked.marks, looked.places = bytes(marks), bytes(places)
    return looked


def mark(item: str) -> bytes:
    """What stands for an id where ids are compared."""
    return hashlib.blake2b(item.encode(), digest_size=8).digest()


def twice(marks: bytes) -> frozenset[bytes]:
    """The marks that come more than once."""
    import numpy as np

    found, counts = np.unique(np.frombuffer(marks, dtype=">u8"), return_counts=True)
    return frozenset(int(one).to_bytes(8, "big") for one in found[counts > 1][:MAX_PROBLEMS])


def doubled(rows: Sequence[Row]) -> list[str]:
    """What is wrong with rows whose marks come more than once: nothing, where their ids do not."""
    first: dict[str, Row] = {}
    problems = []
    for row in sorted(rows, key=lambda row: (row.file, row.number)):
        before = first.setdefault(row.id, row)
        if before is not row:
            at = f"{clean(before.file, 500)}:{before.number}"
            problems.append(f"{clean(row.file, 500)}:{row.number}: id: {clean(row.id)!r} stands twice (first in {at})")
    return problems[:MAX_PROBLEMS]


def chosen(looked: Looked, sample: int, seed: int) -> Chosen:
    """A sample of so many of the items that were looked at."""
    import numpy as np

    places = np.frombuffer(looked.places, dtype=">u8").astype(np.uint64)
    count = min(sample, len(places))
    last = int(np.partition(places, count - 1)[count - 1])
    return Chosen(seed, last.to_bytes(8, "big"))
