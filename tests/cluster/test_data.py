"""Batches of many files on a cluster that is there already: Ray Data, workers with coordinators of their own, parquet."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from orchestrator.batch.results import failed, read
from orchestrator.types import Json
from tests.cluster.batches import CONFIG, killed, run
from tests.unit.batch.given import write_spec
from tests.upstream import running


@pytest.fixture(autouse=True)
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        import actors.data  # noqa: F401


def write(folder: Path, items: int, files: int = 4, **keys: Any) -> str:
    """A spec over so many files."""
    (folder / "c.yaml").write_text(CONFIG)
    (folder / "in").mkdir(exist_ok=True)
    rows = [{"id": f"i{at}", "prompt": f"The answer is {41 + at % 2}.", "answer": 42} for at in range(items)]
    for at in range(files):
        parquet.write_table(pa.Table.from_pylist(rows[at::files]), folder / "in" / f"{at}.parquet")
    (folder / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(write_spec(folder, config="c.yaml", input="in", **keys))


def pairs(folder: Path) -> Counter[tuple[str, str]]:
    return Counter((line["item"], line["arm"]) for line in read(folder))


def done(folder: Path) -> int:
    """Blocks whose results count."""
    return len([*(folder / "checkpoint").glob("*[0-9].parquet")])


def beside(folder: Path, blocks: int, do: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Does something once so many blocks are done."""
    did: list[Any] = []

    def wait() -> None:
        while done(folder) < blocks:
            time.sleep(0.02)
        did.append(do())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, did


def said(folder: Path) -> dict[tuple[str, str], Any]:
    return {(line["item"], line["arm"]): (line["text"], line["score"], line["expected"]) for line in read(folder)}


def test_many_files_come_to_what_one_comes_to(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pair by pair, and in the summary; a second run finds nothing to do; nothing is printed but what one prints."""
    spec = write(tmp_path, 400, arms={"a": "sim/echo", "b": "sim/right-1"}, score={"match": "number"}, concurrency=20,
                 workers=2, budget_usd=5, params={"max_tokens": 50})  # fmt: skip
    assert 0 == run(spec)
    printed = capsys.readouterr().out.splitlines()
    assert [f"results in {tmp_path}/out"] == printed[-1:]
    assert printed[-2].startswith("n 800/800 100%")
    assert 2 == len(printed)
    out, one = tmp_path / "out", tmp_path / "one"
    before = sorted(path.name for path in (out / "results").iterdir())
    assert 0 == run(spec, "--json")
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (800, 0, False) == (report["done"], report["failed"], report["out_of_money"])
    assert before == sorted(path.name for path in (out / "results").iterdir())
    plain = write_spec(tmp_path, **{**json.loads(json.dumps(_keys(spec))), "input": "one.jsonl", "output": "one"})
    (tmp_path / "one.jsonl").touch()
    assert 0 == run(str(plain))
    assert said(one) == said(out)
    assert 800 == len(said(out))
    summaries: list[Json] = [json.loads((folder / "summary.json").read_bytes()) for folder in (out, one)]
    for summary in summaries:
        del summary["run"]
    assert summaries[0] == summaries[1]
    assert (out / "report.html").exists()


def _keys(spec: str) -> Json:
    return {name: json.loads(value) for name, value in
            (line.split(": ", 1) for line in Path(spec).read_text().splitlines())}  # fmt: skip


def test_workers_that_are_killed(cluster: Any, tmp_path: Path) -> None:
    """What they held is asked again by another pass, and comes once."""
    spec = write(tmp_path, 800, arms={"a": "sim/latency-0.1"}, concurrency=20, workers=2)
    out = tmp_path / "out"
    thread, did = beside(out, 3, lambda: killed("MapWorker"))
    assert 0 == run(spec)
    thread.join(10)
    assert did[0] > 0
    assert {(f"i{at}", "a"): 1 for at in range(800)} == pairs(out)


def test_failures_samples_and_dry_runs(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Work as with one file: failures are 1, and only what failed is asked again; a smaller sample is a part of a larger."""
    arms = {"a": "sim/echo", "b": "sim/error-400"}
    spec = write(tmp_path, 60, arms=arms, concurrency=20)
    out = tmp_path / "out"
    assert 0 == run(spec, "--sample", "10", "--dry-run", "--json")
    estimated = json.loads(capsys.readouterr().out)
    assert (10, 20, 20) == (estimated["items"], estimated["pairs"], estimated["rest"])
    assert 1 == run(spec, "--sample", "10")
    assert "failed: b: invalid_request 10; --retry-failed asks them again" in capsys.readouterr().out
    small = pairs(out)
    assert (20, {1}) == (len(small), {*small.values()})
    assert 1 == run(spec)
    assert 120 == len(pairs(out))
    assert small.keys() <= pairs(out).keys()
    ids = {line["item"]: line["request_id"] for line in read(out) if line["arm"] == "a"}
    assert 0 == run(spec, "--dry-run")
    assert "120 requests, 120 done, 0 to ask" in capsys.readouterr().out
    assert 1 == run(spec, "--retry-failed")
    assert 120 == len(pairs(out)) == pairs(out).total()
    assert ids == {line["item"]: line["request_id"] for line in read(out) if line["arm"] == "a"}
    assert {"b": 60} == Counter(line["arm"] for line in failed(out))


@pytest.mark.timeout(240)
def test_money_is_shared_among_workers(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not overspent, and nearly all of it can be spent; a larger budget goes on."""
    keys: Json = {"arms": {"a": "sim/say-yes"}, "concurrency": 8, "workers": 2, "params": {"max_tokens": 50}}
    spec = write(tmp_path, 200, **keys, budget_usd=0.003)
    assert 1 == run(spec)
    assert "the budget of 0.003 USD does not reach for" in capsys.readouterr().out
    spent = sum(line["cost_usd"] for line in read(tmp_path / "out"))
    assert 0.0015 < spent <= 0.003
    assert 0 == run(write(tmp_path, 200, **keys, budget_usd=1))
    assert 200 == len(pairs(tmp_path / "out")) == pairs(tmp_path / "out").total()


@pytest.mark.timeout(240)
def test_money_of_workers_that_are_killed(cluster: Any, tmp_path: Path) -> None:
    """What they had in flight has been asked: the passes after it count all that they had been lent."""
    call_usd, calls = 0.003, 300
    with running() as upstream:
        config = {
            "providers": {"up": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "none"}},
            "pricing": {"overrides": {"up/*": {"input_per_mtok_usd": 0, "output_per_mtok_usd": 1000}}},
        }
        spec = write(tmp_path, 800, arms={"a": "up/slow-0.1"}, concurrency=20, workers=2, params={"max_tokens": 3},
                     budget_usd=call_usd * calls)  # fmt: skip
        (tmp_path / "c.yaml").write_text(json.dumps(config))
        out = tmp_path / "out"
        thread, did = beside(out, 3, lambda: killed("MapWorker"))
        assert 1 == run(spec)
        thread.join(10)
        asked = len(upstream.log)
    assert did[0] > 0
    lines = [*read(out)]
    assert {call_usd} == {line["cost_usd"] for line in lines}
    # Each had at most three times its window that it had not begun to spend: it asks for two where it has less than one.
    assert calls - did[0] * 3 * 10 <= asked <= calls
    # Fewer, but where every one of them was killed while it had nothing in flight.
    assert len(lines) <= asked


def test_what_cannot_be_begun_is_said(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2, with the place of what is wrong: of the spec, or of a row."""
    spec = write(tmp_path, 5, budget_usd=1)
    assert 2 == run(spec, "--limit", "3")
    assert f"{spec}:2: input: is read by many" in capsys.readouterr().err
    spec = write(tmp_path, 5, output="in/out")
    assert 2 == run(spec)
    assert f"{spec}:3: output: {tmp_path}/in/out lies in the input {tmp_path}/in" in capsys.readouterr().err
    assert not (tmp_path / "in" / "out").exists()
    spec = write(tmp_path, 5, budget_usd=1)
    (tmp_path / "c.yaml").write_text("providers: {sim: {simulate: {}}}")
    assert 2 == run(spec)
    assert "budget_usd: cannot be kept: there is no price" in capsys.readouterr().err
    spec = write(tmp_path, 5)
    (tmp_path / "in" / "x.jsonl").write_text('{"id": "i1", "prompt": "x"}\n')
    assert 2 == run(spec)
    assert (
        f"{tmp_path}/in/x.jsonl:1: id: 'i1' stands twice (first in {tmp_path}/in/1.parquet:1)"
        in capsys.readouterr().err
    )
    (tmp_path / "in" / "x.jsonl").write_text('{"id": "i9"}\n')
    assert 2 == run(spec)
    assert f"{tmp_path}/in/x.jsonl:1: prompt: give either" in capsys.readouterr().err
    assert 2 == run(spec, "--dry-run")
    (tmp_path / "in" / "x.jsonl").unlink()
    (tmp_path / "in" / "0.parquet").write_bytes(b"PAR1 torn")
    assert 2 == run(spec)
    assert "the run broke off" in capsys.readouterr().err
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    assert 2 == run(spec)
    assert f"{spec}:2: input: {tmp_path}/in holds no file" in capsys.readouterr().err


def test_a_price_that_only_a_worker_misses(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that name their own model: 2, with one line of which it is."""
    (tmp_path / "in").mkdir()
    (tmp_path / "c.yaml").write_text(CONFIG.replace("sim/*", "sim/priced"))
    body = {"messages": [{"role": "user", "content": "x"}]}
    rows = [
        {"custom_id": model, "method": "POST", "url": "/v1/chat/completions", "body": {"model": f"sim/{model}", **body}}
        for model in ("priced", "other")
    ]
    (tmp_path / "in" / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert 2 == run(str(write_spec(tmp_path, config="c.yaml", input="in", arms=None, budget_usd=1)))
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("budget_usd: cannot be kept: there is no price for all that arm 'own' may ask (sim/other)")


def test_a_disk_that_is_full_ends_the_run(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked on for results that cannot be kept."""
    spec = write(tmp_path, 2000, arms={"a": "sim/latency-0.1"}, concurrency=20)
    out = tmp_path / "out"

    def wreck() -> None:
        (out / "results").rename(out / "was")
        (out / "results").write_text("a file, where a folder has to be")

    thread, _ = beside(out, 2, wreck)
    assert 1 == run(spec)
    thread.join(10)
    assert "what is on the disk can be gone on with" in capsys.readouterr().err
    (out / "results").unlink()
    (out / "was").rename(out / "results")
    assert len(pairs(out)) < 2000
