"""instructor against the endpoint, by tools, by a schema and by Anthropic's messages.

It lives in an environment of its own, made here: it holds openai (by jiter < 0.15) and anthropic (0.93) at versions that the
other tests have left behind. So this is also where older official clients are tried.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.serving import Served

SCRIPT = Path(__file__).with_name("instructor_client.py")
REQUIRED = "instructor[anthropic]~=1.17"
PERSON = {"name": "simulated", "age": 1}
FEATURES: dict[str, Any] = {
    "structured": PERSON,
    "streamed structured": [PERSON, [PERSON]],
    "retries": [PERSON, 2],
    "errors": [True, True],
}
CLIENTS = {
    "tools": "instructor (openai, tools)",
    "schema": "instructor (openai, schema)",
    "anthropic": "instructor (anthropic)",
}
CELLS = [
    pytest.param(way, feature, marks=pytest.mark.client(client, feature))
    for way, client in CLIENTS.items()
    for feature in FEATURES
]
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def cells(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """What each way got of each feature."""
    folder = tmp_path_factory.mktemp("instructor")
    python = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIRED],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    command = [str(python), str(SCRIPT), served.root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(row["client"], row["feature"]): row["result"] for row in rows}


@pytest.mark.parametrize(("way", "feature"), CELLS)
def test_a_feature(cells: dict[tuple[str, str], Any], way: str, feature: str) -> None:
    """As its users expect it."""
    assert FEATURES[feature] == cells[way, feature]
