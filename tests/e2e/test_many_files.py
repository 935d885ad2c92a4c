"""A batch of many files whose driver is killed with -9: what is on the disk counts, and little is asked twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from bench.jobs import Jobs
from bench.serving import simulated
from orchestrator.batch.results import read
from tests.unit.batch.given import write_spec

ITEMS, WINDOW = 3000, 50


def served(url: str) -> int:
    """Requests that the upstream has seen."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/health") as answer:
        count: int = json.loads(answer.read())["served"]
    return count


@pytest.mark.timeout(240)
def test_a_driver_that_is_killed(tmp_path: Path) -> None:
    """Each pair is there once, and no more is asked again than a block, and what was in flight."""
    (tmp_path / "in").mkdir()
    rows = [{"id": f"i{at}", "prompt": f"The answer is {41 + at % 2}.", "answer": 42} for at in range(ITEMS)]
    for at in range(6):
        parquet.write_table(pa.Table.from_pylist(rows[at::6]), tmp_path / "in" / f"{at}.parquet")
    out = tmp_path / "out"
    jobs = Jobs()
    try:
        with simulated() as url:
            (tmp_path / "c.yaml").write_text(
                f"providers: {{up: {{base_url: '{url}', api_key: none, pool: {{concurrency: {WINDOW}}}}}}}"
            )
            spec = write_spec(
                tmp_path, input="in", config="c.yaml", arms={"a": "up/echo+latency-0.1"}, concurrency=WINDOW,
                score={"match": "number"},
            )  # fmt: skip
            command = [sys.executable, "-m", "actors.batch", str(spec), "--connect", "never"]
            env = {**jobs.environment(), "RAY_ADDRESS": jobs.address}
            first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
            while len([*(out / "checkpoint").glob("*[0-9].parquet")]) < 6:
                assert first.poll() is None
                time.sleep(0.02)
            first.kill()
            first.wait()
            before = {(line["item"], line["request_id"]) for line in read(out)}
            assert 0 < len(before) < ITEMS
            ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=150, check=False)
            assert ran.returncode == 0, ran.stderr
            asked = served(url)
    finally:
        jobs.stop()
    lines = [*read(out)]
    assert {f"i{at}": 1 for at in range(ITEMS)} == Counter(line["item"] for line in lines)
    assert before <= {(line["item"], line["request_id"]) for line in lines}
    assert all(line["score"]["correct"] == (int(line["item"][1:]) % 2 == 1) for line in lines)
    block = max(parquet.ParquetFile(path).metadata.num_rows for path in (out / "results").iterdir())
    assert block < ITEMS / 4
    assert ITEMS <= asked <= ITEMS + block + WINDOW
    assert f"{ITEMS}/{ITEMS} 100%" in ran.stdout
