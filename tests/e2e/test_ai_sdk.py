"""The Vercel AI SDK against the endpoint, by each of the ways that it has there (examples/ai-sdk, built and run here)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.serving import Served

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ai-sdk"
CLIENTS = {
    "openai-compatible": "AI SDK (openai-compatible)",
    "anthropic": "AI SDK (anthropic)",
    "openai responses": "AI SDK (openai, responses)",
    "openai chat": "AI SDK (openai, chat)",
}
"""The ways, with the names that they have in the README's table."""
TOOLS = [2, "sunny in simulated", True]
REPORT = ["sim/chat", None, ["ok"]]
FEATURES: dict[str, Any] = {
    "generateText": [True, "stop", True],
    "streamText": [True, "stop", True],
    "tools": TOOLS,
    "streamed tools": TOOLS,
    "generateObject": {"name": "simulated", "age": 1},
    "Output.object": {"name": "simulated", "age": 1},
    "streamObject": [{"name": "simulated", "age": 1}, True],
    "abort": [True, True],
    "errors": [404, True],
    "selectors": [True, True, True],
    "report": [REPORT, REPORT],
}
COLUMNS = {
    "generateText": "text", "streamText": "streamed", "tools": "tools", "streamed tools": "streamed tools",
    "generateObject": "structured", "Output.object": "structured", "streamObject": "streamed structured",
    "abort": "abort", "errors": "errors",
}  # fmt: skip
"""The features' names in that table."""
CELLS = [
    pytest.param(way, feature, marks=[pytest.mark.client(client, COLUMNS[feature])] if feature in COLUMNS else [])
    for way, client in CLIENTS.items()
    for feature in FEATURES
]

pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None and os.environ.get("CI") != "true", reason="Node.js and npm are not on this machine"
)


@pytest.fixture(scope="module")
def cells(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """What each client got of each feature."""
    folder = tmp_path_factory.mktemp("ai-sdk")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for command in (["npm", "ci", "--no-audit", "--no-fund", "--silent"], ["npm", "run", "--silent", "build"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    command = ["node", "dist/check.js", served.url]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(row["client"], row["feature"]): row["result"] for row in rows}


@pytest.mark.parametrize(("way", "feature"), CELLS)
def test_a_feature(cells: dict[tuple[str, str], Any], way: str, feature: str) -> None:
    """As the SDK's users expect it."""
    expected = FEATURES[feature]
    if feature == "report" and way != "openai-compatible":
        expected = "beyond this shape"
    assert expected == cells[way, feature]
