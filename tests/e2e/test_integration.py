"""INTEGRATION.md, done: its commands in their order, its programs, and what it says comes of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.serving import Served
from tests.unit.test_rollout import VECTORS

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "INTEGRATION.md").read_text(encoding="utf-8"), re.M | re.S)
SERVE = "orchestrator serve --config gateway.yaml"


def files(kind: str) -> dict[str, str]:
    """The blocks of that kind that name a file in their first line, by that name."""
    found = [re.match(r"(?:#|//) (\S+)\n", text) for named, text in BLOCKS if named == kind]
    return {match[1]: match.string for match in found if match is not None}


def commands() -> list[tuple[str, str]]:
    """Every command of the console blocks, with what is shown of its output."""
    blocks = [text for kind, text in BLOCKS if kind == "console"]
    return [
        (command, shown) for text in blocks for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", text, re.M)
    ]


node = pytest.mark.skipif(
    shutil.which("npm") is None and os.environ.get("CI") != "true", reason="Node.js and npm are not on this machine"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Served]]:
    """The folder with the files of the text, and the endpoint that it has served."""
    folder = tmp_path_factory.mktemp("integration")
    for name, text in {**files("yaml"), **files("python")}.items():
        (folder / name).write_text(text, encoding="utf-8")
    endpoint = Served(folder / "gateway.yaml")
    yield folder, endpoint
    assert endpoint.stop() < 10
    assert endpoint.left() == []


def run(command: str, folder: Path, endpoint: Served) -> str:
    """What a command says, with the endpoint's port put in the place of the one in the text. It has to succeed."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "ORCHESTRATOR": endpoint.root, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command.replace("127.0.0.1:8000", f"127.0.0.1:{endpoint.port}"),
        shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.timeout(200)
def test_the_commands_do_what_the_text_says(served: tuple[Path, Served]) -> None:
    """Each after the other, up to all users and back; `…` stands for anything."""
    folder, endpoint = served
    (folder / "bin").mkdir()
    # The command `orchestrator` of this very tree.
    (folder / "bin" / "orchestrator").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator.cli "$@"\n')
    (folder / "bin" / "orchestrator").chmod(0o755)
    told = commands()
    assert SERVE in dict(told)
    assert len(told) > 20
    for command, shown in told:
        if command == SERVE:
            assert "ready http://127.0.0.1:8000/v1\n" == shown
            continue
        said = run(command, folder, endpoint)
        pattern = "\n".join(".*".join(map(re.escape, line.split("…"))) for line in shown.rstrip("\n").split("\n"))
        assert re.fullmatch(pattern, said.rstrip("\n"), re.S), (command, shown, said)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with the program of the text in it."""
    folder = tmp_path_factory.mktemp("typescript")
    ignored = shutil.ignore_patterns("node_modules", "dist")
    shutil.copytree(ROOT / "examples" / "ai-sdk", folder, dirs_exist_ok=True, ignore=ignored)
    for name, text in files("ts").items():
        (folder / name).write_text(text, encoding="utf-8")
    for command in (["npm", "ci", "--no-audit", "--no-fund", "--silent"], ["npm", "run", "--silent", "build"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@node
def test_node_decides_alike(built: Path) -> None:
    """Buckets to the last digit; `deny` over `allow` over the percentage, left out: everybody."""
    script = """
        import { readFileSync } from 'node:fs';
        import { bucket, shouldUse } from './dist/rollout.js';
        const { vectors, cases } = JSON.parse(readFileSync(0, 'utf8'));
        console.log(JSON.stringify([vectors.map(([seed, user]) => bucket(seed, user)),
                                    cases.map((rollout) => shouldUse(rollout, 'ada'))]));
    """
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"percent": 0}, False),
        ({"percent": 0, "allow": ["ada"]}, True),
        ({"deny": ["ada"]}, False),
        ({"percent": 50, "allow": ["ada"], "deny": ["ada"]}, False),
        ({"percent": 2.2, "seed": "spring"}, True),
        ({"percent": 2.19, "seed": "spring"}, False),
    ]
    given = json.dumps({"vectors": [row[:2] for row in VECTORS], "cases": [rollout for rollout, _ in cases]})
    command = ["node", "--input-type=module", "-e", script]
    done = subprocess.run(command, cwd=built, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [[float(row[2]) for row in VECTORS], [use for _, use in cases]] == json.loads(done.stdout)


@node
def test_an_application_on_node(built: Path, served: tuple[Path, Served]) -> None:
    """It follows the rollout that is served, and goes the old way where there is no orchestrator."""
    folder, endpoint = served
    (folder / "gateway.yaml").write_text(files("yaml")["gateway.yaml"], encoding="utf-8")
    run("curl -s -X POST http://127.0.0.1:8000/admin/reload", folder, endpoint)
    assert "Why is the sky blue?" in run(f"node {built}/dist/app.js ada", folder, endpoint)
    assert "the existing system's answer\n" == run(f"node {built}/dist/app.js john", folder, endpoint)
    away = f"ORCHESTRATOR=http://127.0.0.1:1 node {built}/dist/app.js ada"
    assert "the existing system's answer\n" == run(away, folder, endpoint)
