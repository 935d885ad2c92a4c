"""Files that are whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.files import replace


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written leaves what was there, and nothing else."""
    path = tmp_path / "summary.json"
    replace(path, b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(path, b"after")
    assert (b"before", ["summary.json"]) == (path.read_bytes(), os.listdir(tmp_path))
