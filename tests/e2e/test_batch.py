"""Batches as jobs of a cluster, beside the application that runs there: stopped, and gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.jobs import Jobs


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A cluster with a job server and the application over a simulated provider."""
    config = tmp_path_factory.mktemp("jobs") / "config.yaml"
    config.write_text("providers: {sim: {simulate: {latency_s: {median: 0.05, p99: 0.2}, tokens_per_s: 2000}}}")
    running = Jobs(config)
    yield running
    running.stop()


def spec(folder: Path, **keys: Any) -> Path:
    """A spec in a folder."""
    path = folder / "spec.yaml"
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in {"output": "out", **keys}.items()))
    return path


def results(folder: Path) -> list[Any]:
    """The whole lines of results so far."""
    path = folder / "out" / "results.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def until(what: Callable[[], bool], timeout_s: float = 100) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_job_that_is_stopped_can_be_gone_on_with(jobs: Jobs, tmp_path: Path) -> None:
    """`ray job stop`: what is in flight comes to its end, and is kept. What then fails is said, by name and exit code."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": i, "prompt": f"{i}?"}) + "\n" for i in range(300)))
    arms = {"good": "sim/latency-0.3", "bad": "sim/error-400"}
    path = spec(tmp_path, name="stopped", input="in.jsonl", arms=arms, concurrency=20)
    job = jobs.submit(path)
    until(lambda: len(results(tmp_path)) >= 20)
    ray = str(Path(sys.executable).parent / "ray")
    subprocess.run([ray, "job", "stop", job], env=jobs.environment(), capture_output=True, check=True, timeout=60)
    ended = jobs.wait(job)
    assert "STOPPED" == ended["status"]
    assert "are left: run it again to go on" in ended["logs"]
    before = results(tmp_path)
    assert f"stopped {len(before)}/600" in ended["logs"]
    assert 20 <= len(before) < 600
    ended = jobs.wait(jobs.submit(path, "--limit", "100"))
    assert ("FAILED", 1) == (ended["status"], ended["driver_exit_code"])
    assert "failed: bad: invalid_request" in ended["logs"]
    lines = results(tmp_path)
    assert before == lines[: len(before)]
    asked = [(line["item"], line["arm"]) for line in lines]
    assert len(asked) == len({*asked})
    assert {(str(i), arm) for i in range(100) for arm in arms} <= {*asked}
