"""Batches as jobs of a cluster, beside the application that runs there: killed, stopped, and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.jobs import Jobs
from orchestrator.batch.results import read
from tests.e2e.test_consensus import RECORDED, right
from tests.e2e.test_gsm8k import DATA, MODELS, _rows

pytestmark = pytest.mark.timed

PROVIDERS = {"left": sorted(MODELS)[::2], "right": sorted(MODELS)[1::2]}
ARMS = {model: f"{name}/{model}" for name, models in PROVIDERS.items() for model in models}
TOTAL = 660 * len(ARMS)
PRICE = {"input_per_mtok_usd": 0.15, "output_per_mtok_usd": 0.6}
SHARES = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A cluster with a job server and the application: pools that replay, if there are recordings, and a simulated one."""
    config: dict[str, Any] = {
        "providers": {"sim": {"simulate": {"latency_s": {"median": 0.05, "p99": 0.2}, "tokens_per_s": 2000}}},
        "pricing": {"overrides": {f"{name}/*": PRICE for name in PROVIDERS if MODELS}},
    }
    for name, models in PROVIDERS.items() if MODELS else ():
        replayed = {
            "files": {model: str(MODELS[model]) for model in models},
            "questions": str(DATA / "questions.jsonl"),
            "latency_s": {"median": 0.01, "p99": 0.05},
            "tokens_per_s": 1e9,
        }
        config["providers"][name] = {"replay": replayed}
    file = tmp_path_factory.mktemp("jobs") / "config.yaml"
    file.write_text(json.dumps(config))
    running = Jobs(file)
    yield running
    running.stop()


def spec(folder: Path, **keys: Any) -> Path:
    """A spec in a folder, and its output there."""
    folder.mkdir(exist_ok=True)
    path = folder / "spec.yaml"
    path.write_text(json.dumps({"output": "out", **keys}))
    return path


def gsm8k(folder: Path) -> Path:
    """All questions to all models."""
    score = {"extract": {"json": "answer"}, "match": "number"}
    asked = {"params": {"temperature": 0}, "concurrency": 96, "score": score}
    return spec(folder, name="gsm8k", input=str(DATA / "questions.jsonl"), arms=ARMS, **asked)


def results(folder: Path) -> list[Any]:
    """The whole lines of results so far."""
    path = folder / "out" / "results.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def lines(folder: Path) -> int:
    """How many there are."""
    path = folder / "out" / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(what: Callable[[], bool], timeout_s: float = 100) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def summary(folder: Path) -> tuple[Any, Any]:
    """Its `summary.json`: what answers are, and what the clock said."""
    whole = json.loads((folder / "out" / "summary.json").read_bytes())
    return whole, whole.pop("run")


@pytest.mark.skipif(not MODELS and os.environ.get("CI") != "true", reason="the recordings are not on this machine")
@pytest.mark.timeout(400)
def test_660_questions_by_six_models_killed_three_times(jobs: Jobs, tmp_path: Path) -> None:
    """kill -9 of the job at 10, 50 and 90 %, the second time with all pools: each pair comes once, and all that is told of
    the answers is what an untouched run tells.

    Of `summary.json` that is everything but `run`, which is made of latencies and of the time of day: of that, the counts.
    """
    assert MODELS, f"no recordings in {DATA}"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    untouched = jobs.submit(gsm8k(whole))
    ended = jobs.wait(untouched)
    assert ("SUCCEEDED", 0) == (ended["status"], ended["driver_exit_code"]), ended["logs"]
    assert f"gsm8k {TOTAL}/{TOTAL} 100%" in ended["logs"]
    assert f"results in {whole / 'out'}" in ended["logs"]

    gsm8k(killed)
    begun, durable = [jobs.again(untouched, {str(whole): str(killed)})], list[Any]()
    for share in SHARES:
        until(lambda share=share: lines(killed) >= share * TOTAL)  # type: ignore[misc]
        for process in (jobs.processes("ray::Pool") if share == 0.5 else []) + jobs.processes(f"--output {killed}"):
            process.kill()
        # What was durable once stays as it is.
        now = results(killed)
        assert durable == now[: len(durable)]
        durable = now
        assert len(durable) < TOTAL
        begun.append(jobs.again(begun[-1]))
    assert ["FAILED"] * len(SHARES) == [jobs.wait(job)["status"] for job in begun[:-1]]
    ended = jobs.wait(begun[-1])
    assert ("SUCCEEDED", 0) == (ended["status"], ended["driver_exit_code"]), ended["logs"]
    assert f"gsm8k {TOTAL}/{TOTAL} 100%" in ended["logs"]
    assert durable == results(killed)[: len(durable)]

    recorded = {(row["id"], model): row["output"] for model, file in MODELS.items() for row in _rows(file)}
    for folder in (whole, killed):
        said = {(line["item"], line["arm"]): line["text"] for line in results(folder)}
        assert (TOTAL, recorded) == (lines(folder), said)
    (told, clock), (told_whole, clock_whole) = summary(killed), summary(whole)
    assert told_whole == told
    assert clock_whole.keys() == clock.keys()
    for timed in (clock, clock_whole):
        assert (TOTAL, 0) == (sum(timed["timeline"]["answered"]), sum(timed["timeline"]["failed"]))

    # And it is right: as many answers as a script counts that knows nothing of all this, and no cost that is unknown.
    questions = _rows(DATA / "questions.jsonl")
    for model, arm in told["arms"].items():
        expected = sum(right(one, RECORDED[model][one["id"]]) for one in questions)
        assert (660, 660, expected) == (arm["n"], arm["answered"], arm["correct"])
        assert expected / 660 == pytest.approx(arm["accuracy"])
        assert (0, 0) == (arm["cost"]["unknown"], arm["failed"])
        assert arm["cost"]["sum_usd"] > 0


def test_a_job_that_is_stopped_can_be_gone_on_with(jobs: Jobs, tmp_path: Path) -> None:
    """`ray job stop`: what is in flight comes to its end, and is kept. What then fails is said, by name and exit code."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": i, "prompt": f"{i}?"}) + "\n" for i in range(300)))
    arms = {"good": "sim/latency-0.2", "bad": "sim/error-400"}
    path = spec(tmp_path, name="stopped", input="in.jsonl", arms=arms, concurrency=40)
    ray = str(Path(sys.executable).parent / "ray")
    ours = [sys.executable, "-m", "actors.batch", path.name, "--output", str(tmp_path / "out")]
    command = [ray, "job", "submit", "--no-wait", "--submission-id", "one", "--working-dir", str(tmp_path), "--", *ours]
    subprocess.run(command, env=jobs.environment(), capture_output=True, check=True, timeout=60)
    until(lambda: lines(tmp_path) >= 40)
    assert jobs.ask("one/stop", "POST") == {"stopped": True}
    ended = jobs.wait("one")
    before = results(tmp_path)
    assert "STOPPED" == ended["status"]
    assert f"stopped {len(before)}/600" in ended["logs"]
    assert f"{600 - len(before)} are left: run it again to go on" in ended["logs"]
    assert 40 <= len(before) < 600
    ended = jobs.wait(jobs.again("one"))
    assert ("FAILED", 1) == (ended["status"], ended["driver_exit_code"])
    assert "failed: bad: invalid_request 300" in ended["logs"]
    after = results(tmp_path)
    assert before == after[: len(before)]
    assert {(str(i), arm): 1 for i in range(300) for arm in arms} == Counter((one["item"], one["arm"]) for one in after)


def test_a_process_that_is_told_to_end(jobs: Jobs, tmp_path: Path) -> None:
    """SIGTERM, as a service manager sends it: 130, and another run goes on with what is there."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": i, "prompt": f"{i}?"}) + "\n" for i in range(300)))
    path = spec(tmp_path, name="ended", input="in.jsonl", arms={"a": "sim/latency-0.2"}, concurrency=20)
    command = [sys.executable, "-m", "actors.batch", str(path)]
    env = {**jobs.environment(), "RAY_ADDRESS": jobs.address}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: lines(tmp_path) >= 40 or process.poll() is not None)
    process.terminate()
    said, errors = process.communicate(timeout=30)
    before = results(tmp_path)
    assert (130, "") == (process.returncode, errors)
    assert f"{300 - len(before)} are left: run it again to go on" in said
    assert 40 <= len(before) < 300
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == ran.returncode, ran.stderr
    after = results(tmp_path)
    assert before == after[: len(before)]
    assert {str(i): 1 for i in range(300)} == Counter(one["item"] for one in after)


def attempts(jobs: Jobs, model: str) -> int:
    """What the application's own coordinators have counted of a model."""
    metrics = httpx.get(jobs.url.removesuffix("/v1") + "/metrics").text.splitlines()
    of_it = [one for one in metrics if one.startswith("orchestrator_attempts_total{") and f'model="{model}"' in one]
    return sum(int(float(one.rpartition(" ")[2])) for one in of_it)


def test_workers_ask_the_application(jobs: Jobs, tmp_path: Path) -> None:
    """A job whose input is of many files: its answers come through the pools of what runs there."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        rows = [{"id": f"{name}{i}", "prompt": f"{i}?"} for i in range(60)]
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / f"{name}.parquet")
    asked = {"input": str(tmp_path / "in"), "arms": {"a": "sim/latency-0.07"}, "concurrency": 20, "workers": 2}
    path = spec(tmp_path, name="attached", **asked)
    ended = jobs.wait(jobs.submit(path))
    assert ("SUCCEEDED", 0) == (ended["status"], ended["driver_exit_code"]), ended["logs"]
    assert "no running application" not in ended["logs"]
    found = [*read(tmp_path / "out")]
    assert (120, {"ok"}) == (len(found), {one["outcome"] for one in found})
    until(lambda: attempts(jobs, "latency-0.07") == 120, 10)
