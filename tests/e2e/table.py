"""The README's table of clients and features, from the marks of the tests: `python -m tests.e2e.table` writes it anew.

A cell is a test, or several, marked `client(name, feature)`. One that is skipped or expected to fail proves nothing; under CI
a marked test that does not run fails (`conftest.py`). With `--check` nothing is written: exit 1 says that the README differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- clients: begin -->\n", "<!-- clients: end -->\n"
FEATURES = (
    "text", "streamed", "tools", "streamed tools", "structured", "streamed structured", "retries", "errors", "abort",
)  # fmt: skip
"""The columns."""

Cells = dict[str, set[str]]
"""The features that are proved of each client."""


def cells_of(item: pytest.Item) -> list[tuple[str, str]]:
    """What a test proves, if it passes. Raises pytest.UsageError for a feature that is no column."""
    found = [mark.args for mark in item.iter_markers("client")]
    for _, feature in found:
        if feature not in FEATURES:
            raise pytest.UsageError(f"{item.nodeid}: {feature!r} is none of {', '.join(FEATURES)}")
    return found


class _Collector:
    """Takes the cells of what pytest finds."""

    def __init__(self) -> None:
        self.cells: Cells = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """See pytest's reference of hooks."""
        for item in session.items:
            proves = item.get_closest_marker("skip") is None and item.get_closest_marker("xfail") is None
            for client, feature in cells_of(item) if proves else ():
                self.cells.setdefault(client, set()).add(feature)


def collected() -> Cells:
    """The cells of the tests in this folder. Raises AssertionError if they cannot be collected."""
    collector = _Collector()
    code = pytest.main(["--collect-only", "-qq", "--no-header", str(Path(__file__).parent)], plugins=[collector])
    assert code is pytest.ExitCode.OK, code
    return collector.cells


def table(cells: Cells) -> str:
    """As Markdown, a row a client."""
    rows = [
        f"| client | {' | '.join(FEATURES)} |",
        "| --- " * (len(FEATURES) + 1) + "|",
        *(
            f"| {client} | {' | '.join('✓' if feature in cells[client] else ' ' for feature in FEATURES)} |"
            for client in sorted(cells)
        ),
    ]
    return "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the table, or says whether it is written."""
    before = README.read_text(encoding="utf-8")
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, f"README.md has no {BEGIN!r}"
    assert end, f"README.md has no {END!r}"
    after = head + BEGIN + table(collected()) + END + tail
    if "--check" in arguments:
        return int(after != before)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
