"""The README's table of clients says what the tests prove, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.table import README, table


def test_the_readme_has_it() -> None:
    """To the letter."""
    command = [sys.executable, "-m", "tests.e2e.table", "--check"]
    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, timeout=100, check=False)
    assert 0 == done.returncode, f"run: python -m tests.e2e.table\n{done.stdout}{done.stderr}"


def test_what_it_looks_like() -> None:
    """A row a client, in order; a cell for what is proved, and none for what is not."""
    head, _, first, second = table({"b": {"text"}, "a": {"abort", "errors"}}).splitlines()
    assert "| client | text | streamed | " in head
    assert ("| a |   |", " | ✓ | ✓ |", "| b | ✓ |   |") == (first[:9], first[-10:], second[:13])


PROJECT = """
import pytest

@pytest.mark.client("a", "text")
def test_runs(): pass

@pytest.mark.client("a", "streamed")
def test_skips(): pytest.skip("not here")

@pytest.mark.client("a", "tools")
@pytest.mark.xfail(strict=False)
def test_is_expected_to_fail(): assert False

def test_may_skip(): pytest.skip("proves no cell")
"""


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_under_ci_a_cell_has_to_be_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, code: int) -> None:
    """What bears a cell and does not pass fails there; elsewhere it may be skipped."""
    monkeypatch.setenv("CI", ci)
    (tmp_path / "conftest.py").write_text("from tests.e2e.conftest import pytest_runtest_makereport\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = client\n")
    (tmp_path / "test_cells.py").write_text(PROJECT)
    monkeypatch.setenv("PYTHONPATH", str(README.parent))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert code == done.returncode, done.stdout
    assert ("2 failed, 1 passed, 1 skipped" if ci else "1 passed, 2 skipped, 1 xfailed") in done.stdout
