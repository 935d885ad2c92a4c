"""A test that does not end ends its process; one that may take longer than others may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW = """
import time

import pytest


@pytest.mark.timeout({limit_s})
def test_slow():
    until_s = time.monotonic() + {seconds}
    while time.monotonic() < until_s:
        try:
            time.sleep(0.1)
        except BaseException:  # as what waits outside Python loses it
            pass
"""


@pytest.mark.parametrize(
    ("limit_s", "seconds", "expected"), [(1, 60, 70), (60, 4, 0)], ids=["hangs", "may take longer"]
)
def test_a_test_has_the_time_of_its_own_mark(tmp_path: Path, limit_s: int, seconds: int, expected: int) -> None:
    """And half as much again to end by pytest-timeout; whatever holds for others."""
    (tmp_path / "test_slow.py").write_text(SLOW.format(limit_s=limit_s, seconds=seconds))
    options = [
        f"--rootdir={tmp_path}",
        "-otimeout=2",
        "-oasyncio_default_fixture_loop_scope=function",
        "-pno:cacheprovider",
    ]
    command = [sys.executable, "-m", "pytest", "-ptests.conftest", "-c/dev/null", *options, str(tmp_path)]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert expected == ran.returncode, ran.stdout + ran.stderr
    assert (expected == 70) == ("WATCHDOG: test_slow.py::test_slow did not end in 1.5 s" in ran.stderr)
