"""Batches as jobs of a cluster, beside the application that runs there: killed, stopped, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.jobs import Jobs
from orchestrator.batch.score import Score
from orchestrator.batch.scoring import Scorer
from orchestrator.config.settings import Extract
from tests.e2e.test_gsm8k import DATA, MODELS, NAMES, _rows

SCORE = {"extract": {"json": "answer"}, "match": "number"}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A cluster with a job server and the application: six replaying pools, if there are recordings, and a simulated one."""
    lines = ["providers:", "  sim: {simulate: {latency_s: {median: 0.05, p99: 0.2}, tokens_per_s: 2000}}"]
    for name, (model, path) in zip(NAMES, MODELS.items(), strict=True):
        replay = {
            "files": {model: str(path)},
            "questions": str(DATA / "questions.jsonl"),
            "latency_s": {"median": 0.01, "p99": 0.05},
            "tokens_per_s": 20000,
        }
        lines.append(f"  {name}: {{replay: {json.dumps(replay)}}}")
    config = tmp_path_factory.mktemp("jobs") / "config.yaml"
    config.write_text("\n".join(lines))
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


@pytest.mark.skipif(not MODELS and os.environ.get("CI") != "true", reason="the recordings are not on this machine")
@pytest.mark.timeout(400)
def test_660_questions_by_six_models_killed_three_times(jobs: Jobs, tmp_path: Path) -> None:
    """kill -9 of the job at 10, 50 and 90 %, and of all pools in between: each pair comes once, each text is its recording,
    and so what is right is what is right of the recordings."""
    path = spec(
        tmp_path,
        name="gsm8k",
        input=str(DATA / "questions.jsonl"),
        arms={model: f"{name}/{model}" for name, model in zip(NAMES, MODELS, strict=True)},
        params={"temperature": 0},
        concurrency=96,
        score=SCORE,
    )
    total = 660 * len(MODELS)
    durable: list[Any] = []
    for share in (0.1, 0.5, 0.9):
        job = jobs.submit(path)
        until(lambda share=share: len(results(tmp_path)) >= share * total)  # type: ignore[misc]
        if share == 0.5:
            for pool in jobs.processes("ray::Pool"):
                pool.kill()
            time.sleep(1)
        for driver in jobs.processes("-m actors.batch"):
            driver.send_signal(signal.SIGKILL)
        assert "FAILED" == jobs.wait(job)["status"]
        # What was durable once stays as it is.
        now = results(tmp_path)
        assert durable == now[: len(durable)]
        durable = now
    ended = jobs.wait(jobs.submit(path))
    assert ("SUCCEEDED", 0) == (ended["status"], ended["driver_exit_code"]), ended["logs"]
    assert f"gsm8k {total}/{total} 100%" in ended["logs"]
    lines = results(tmp_path)
    assert durable == lines[: len(durable)]
    said = {(line["item"], line["arm"]): line["text"] for line in lines}
    recorded = {(row["id"], model): row["output"] for model, file in MODELS.items() for row in _rows(file)}
    assert total == len(lines)
    assert recorded == said
    scorer = Scorer(Score("number", Extract(json="answer")))
    questions = {row["id"]: row["answer"] for row in _rows(DATA / "questions.jsonl")}
    expected = {pair: scorer.score(text, questions[pair[0]]).correct for pair, text in recorded.items()}
    assert expected == {(line["item"], line["arm"]): line["score"]["correct"] for line in lines}


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
