"""A batch with a coordinator of its own, on a cluster that is there already."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.batches import CONFIG, killed, run
from tests.unit.batch.given import write_spec


@pytest.fixture(autouse=True)
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        import actors.batch  # noqa: F401


def write(folder: Path, items: int, **keys: Any) -> str:
    (folder / "c.yaml").write_text(CONFIG)
    rows = [{"id": i, "prompt": "x", "answer": 42} for i in range(items)]
    return str(write_spec(folder, rows, config="c.yaml", **keys))


def lines(folder: Path) -> list[Any]:
    path = folder / "out" / "results.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def beside(folder: Path, count: int, do: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Does something once so many lines are there."""
    did: list[Any] = []

    def wait() -> None:
        while len(lines(folder)) < count:
            time.sleep(0.05)
        did.append(do())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, did


def test_a_batch_is_answered_scored_and_reported(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0; another run finds nothing to do; failures are 1, and can be asked again."""
    spec = write(tmp_path, 20, arms={"a": "sim/right-1", "b": "sim/right-0"}, score={"match": "number"}, budget_usd=5,
                 params={"max_tokens": 50})  # fmt: skip
    assert 0 == run(spec)
    found = lines(tmp_path)
    assert {("a", True): 20, ("b", False): 20} == {
        key: sum((line["arm"], line["score"]["correct"]) == key for line in found)
        for key in (("a", True), ("b", False))
    }
    assert all(line["cost_usd"] > 0 for line in found)
    assert (tmp_path / "out" / "report.html").exists()
    capsys.readouterr()
    assert 0 == run(spec, "--json")
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (40, 0, [], False) == (said["done"], said["failed"], said["failures"], said["out_of_money"])
    assert found == lines(tmp_path)


def test_a_coordinator_and_pools_that_are_killed(cluster: Any, tmp_path: Path) -> None:
    """What they held is asked again, at once or by and by, and comes once."""
    spec = write(tmp_path, 300, arms={"a": "sim/latency-0.1"}, concurrency=20)
    thread, did = beside(tmp_path, 20, lambda: (killed("Answering"), killed("Pool")))
    assert 0 == run(spec)
    thread.join()
    assert [(1, 1)] == did
    found = lines(tmp_path)
    assert sorted(str(i) for i in range(300)) == sorted(line["item"] for line in found)
    assert max(line["asks"] for line in found) > 1


def test_what_cannot_be_begun_is_said(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2: an arm that nobody knows, a budget without a price; 1 where the money does not reach."""
    spec = write(tmp_path, 5, arms={"a": "nobody/x"})
    assert 2 == run(spec)
    assert f"{spec}:4: arms.a: unknown model 'nobody/x'" in capsys.readouterr().err
    spec = write(tmp_path, 5, budget_usd=0.0001, params={"max_tokens": 50})
    assert 1 == run(spec, "--force")
    assert "the budget of 0.0001 USD does not reach for 5 more" in capsys.readouterr().out
    (tmp_path / "c.yaml").write_text("providers: {sim: {simulate: {}}}")
    assert 2 == run(spec, "--force")
    assert "budget_usd: cannot be kept: there is no price" in capsys.readouterr().err
