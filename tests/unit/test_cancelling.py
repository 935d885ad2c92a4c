"""A cancellation is never forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("package", ["orchestrator", "actors"])
def test_time_outs_do_not_forget_a_cancellation(package: str) -> None:
    """Python 3.11's `wait_for` returns a result that comes in the same moment instead; `asyncio.timeout` does not. Whoever
    waits for the end of what was cancelled waits for ever then. (github.com/python/cpython/issues/86296; mended in 3.12.)"""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    asked = re.compile(r"asyncio\.wait_for\(|import .*\bwait_for\b")
    assert [] == [str(file) for file in files if asked.search(file.read_text(encoding="utf-8"))]
