"""The ledger behind the application: what was asked is recorded, and can be asked for."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.load import load_mapping
from orchestrator.config.operations import Ledger
from orchestrator.errors import LedgerFailed
from orchestrator.inprocess import inprocess
from orchestrator.lasting import Lasting
from orchestrator.ledger import recorder
from orchestrator.ledger.bookkeeper import LocalDesk
from orchestrator.ledger.keeping import Keeping
from orchestrator.ledger.records import Batch, Posted
from orchestrator.money import units_of
from orchestrator.types import Json
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack

PRICE = {"input_per_mtok_usd": 1.5, "output_per_mtok_usd": 7.25}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "EVERY_S", 0.01)


def configured(upstream: Upstream, ledger: Json) -> Json:
    """A provider with prices, a split, and a ledger."""
    arms = {"old": {"model": "up/ok"}, "new": {"model": "up/other"}}
    return {
        "providers": {
            "up": {
                "base_url": f"http://127.0.0.1:{upstream.port}/v1",
                "models": ["ok"],
                "retry": {"attempts": 1},
                "timeouts": {"connect_s": 2, "first_token_s": 0.6, "idle_s": 0.6, "answer_s": 0.7, "total_s": 8},
            }
        },
        "tiers": {
            "trial": {"strategy": "split", "arms": arms},
            "rescue": ["up/unavailable", "up/ok"],
        },
        "pricing": {"overrides": {"up/ok": PRICE, "up/other": {**PRICE, "output_per_mtok_usd": 30}}},
        "ledger": ledger,
    }


@pytest.fixture
async def kept(upstream: Upstream, serve: Serve, tmp_path: Path) -> Stack:
    """With a ledger in a file, and texts."""
    return await serve(configured(upstream, {"url": f"sqlite:///{tmp_path}/ledger.db", "store_text": True}))


async def spend(stack: Stack, **query: str) -> Json:
    """What /admin/spend says, once all is written."""
    await stack.keeping.flush(5)
    answer = await stack.http.get("/admin/spend", params=query)
    assert 200 == answer.status_code, answer.text
    found: Json = answer.json()
    return found


def texts(tmp_path: Path) -> list[tuple[Any, ...]]:
    """What the file holds."""
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as file:
        return file.execute("SELECT outcome, question, answer FROM requests ORDER BY at_s").fetchall()


async def test_every_request_is_recorded(kept: Stack, tmp_path: Path) -> None:
    """Whole and streamed, answered by the second, refused by all, and left by its caller; with its texts."""
    await kept.chat("up/ok", user="ada")
    await kept.chat("up/ok", user="ada", stream=True)
    await kept.chat("tier:rescue", user="bob")
    assert 502 == (await kept.chat("up/unavailable", user="bob")).status_code
    leaving = asyncio.ensure_future(kept.chat("up/silent", user="eve"))
    await asyncio.sleep(0.1)
    leaving.cancel()
    await asyncio.wait((leaving,))
    found = await spend(kept)
    assert {"ada": (2, 2, 0), "bob": (2, 3, 1), "eve": (1, 1, 0)} == {
        row["user"]: (row["requests"], row["attempts"], row["errors"]) for row in found["rows"]
    }
    assert (5, 0, None) == (found["total"]["requests"], found["lost"], found["problem"])
    models = {row["model"]: row["attempts"] for row in (await spend(kept, by="model", since="1h"))["rows"]}
    assert {"up/ok": 3, "up/unavailable": 2, "up/silent": 1} == models
    question = '[{"role":"user","content":"hi"}]'
    outcomes = [("ok", "alpha beta gamma"), ("ok", "alpha beta gamma"), ("ok", "alpha beta gamma")]
    assert [*outcomes, ("server_error", None), ("cancelled", None)] == [
        (outcome, answer) for outcome, asked, answer in texts(tmp_path) if asked == question
    ]


async def test_sums_are_those_of_the_answers(upstream: Upstream, serve: Serve, tmp_path: Path) -> None:
    """To the last step of the grid, by user, model and arm, with a ledger of which every third acknowledgement is lost and
    every fifth batch refused: nothing is missing, nothing is there twice."""
    stack = await serve(configured(upstream, {"url": f"sqlite:///{tmp_path}/ledger.db"}))
    assert stack.keeping.recorder is not None
    stack.keeping.recorder._post = _Flaky(stack.keeping.recorder._post)
    expected: dict[tuple[str, str], int] = defaultdict(int)

    async def ask(number: int) -> None:
        user = f"u{number % 7}"
        answer = (await stack.chat("tier:trial", user=user)).json()["orchestrator"]
        (attempt,) = answer["attempts"]
        # Of one that ran into its time-out, which a busy machine may do, the model is known and the cost an estimate.
        model = f"{attempt['provider']}/{attempt['model']}"
        for name in (("user", user), ("model", model), ("arm", answer["arm"])):
            expected[name] += units_of(answer["cost_usd"])
        assert attempt["cost_usd"] == answer["cost_usd"]

    for first in range(0, 400, 40):
        await asyncio.gather(*(ask(first + n) for n in range(40)))
    found: dict[tuple[str, str], int] = {}
    for by in ("user", "model", "arm"):
        answer = await spend(stack, by=by)
        assert 400 == answer["total"]["requests"]
        found |= {(by, row[by]): units_of(row["cost_usd"]) for row in answer["rows"]}
    assert expected == found
    assert 11 == len(found)


class _Flaky:
    """Between a recorder and its ledger."""

    def __init__(self, post: Any) -> None:
        self._post = post
        self._random = random.Random(7)
        self._calls = 0

    async def __call__(self, batch: Batch) -> Posted:
        self._calls += 1
        if self._calls % 5 == 0:
            raise LedgerFailed("away")
        posted: Posted = await self._post(batch)
        if self._calls % 3 == 0:
            raise LedgerFailed("away")
        return posted


@asynccontextmanager
async def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The file is another's meanwhile."""
    monkeypatch.setattr("orchestrator.ledger.store.BUSY_S", 0.05)
    monkeypatch.setattr(recorder, "UNSURE_S", 0.2)
    monkeypatch.setattr(recorder, "AGAIN_MAX_S", 0.1)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")
        yield


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        one.getMessage()
        for one in caplog.records
        if one.name == "orchestrator.ledger" and one.levelno >= logging.WARNING
    ]


async def test_a_locked_database(
    upstream: Upstream, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests go on, and are recorded when it is free again; it is said once that it is locked, and once that it is not."""
    async with locked(tmp_path, monkeypatch):
        stack = await serve(configured(upstream, {"url": f"sqlite:///{tmp_path}/ledger.db"}))
        for _ in range(5):
            assert 200 == (await stack.chat("up/ok")).status_code
            await asyncio.sleep(0.1)
        asked = await stack.http.get("/admin/spend")
        assert (503, "ledger_unavailable", "5") == (
            asked.status_code, asked.json()["error"]["code"], asked.headers["retry-after"],
        )  # fmt: skip
        assert 1 == len(said(caplog))
        assert "ledger.db: database is locked; requests are answered all the same" in said(caplog)[0]
    assert 5 == (await spend(stack))["total"]["requests"]
    assert 2 == len(said(caplog))
    assert "the ledger takes records again; 0 requests were not recorded since the beginning" == said(caplog)[1]


async def test_a_locked_database_that_is_required(
    upstream: Upstream, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When it has taken nothing for a while, requests get 503, with the reason; then they are answered again."""
    async with locked(tmp_path, monkeypatch):
        stack = await serve(configured(upstream, {"url": f"sqlite:///{tmp_path}/ledger.db", "required": True}))
        answered = 0
        async with asyncio.timeout(10):
            while (answer := await stack.chat("up/ok")).status_code == 200:
                answered += 1
                await asyncio.sleep(0.02)
        assert (503, "ledger_unavailable", "5") == (
            answer.status_code, answer.json()["error"]["code"], answer.headers["retry-after"],
        )  # fmt: skip
        assert "database is locked" in answer.json()["error"]["message"]
    async with asyncio.timeout(10):
        while (await stack.chat("up/ok")).status_code != 200:
            await asyncio.sleep(0.02)
    assert answered + 1 == (await spend(stack))["total"]["requests"]
    assert 2 == len(said(caplog))


async def test_a_full_disk(kept: Stack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a lock: said once, requests go on, and are recorded when there is room again."""
    monkeypatch.setattr(recorder, "AGAIN_MAX_S", 0.1)
    await kept.chat("up/ok")
    await kept.keeping.flush(5)
    desk: Any = kept.keeping._desk
    engine = desk._bookkeeper.store.engine
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    for _ in range(60):
        assert 200 == (await kept.chat("up/ok", messages=[{"role": "user", "content": "x" * 2_000}])).status_code
    async with asyncio.timeout(10):
        while not said(caplog):
            await asyncio.sleep(0.02)
    assert "database or disk is full; requests are answered all the same" in said(caplog)[0]
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert 61 == (await spend(kept))["total"]["requests"]
    assert 2 == len(said(caplog))


async def test_as_csv(kept: Stack) -> None:
    """By a parameter, or by what the caller accepts."""
    await kept.chat("up/ok", user="ada")
    total = (await spend(kept))["total"]
    answers = [
        await kept.http.get("/admin/spend", params={"by": "user", "format": "csv"}),
        await kept.http.get("/admin/spend", headers={"accept": "text/csv"}),
    ]
    for answer in answers:
        assert "text/csv; charset=utf-8" == answer.headers["content-type"]
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert ("ada", "1", total["cost_usd"]) == (row["user"], row["requests"], float(row["cost_usd"]))
    asked = {"format": "json"}
    answer = await kept.http.get("/admin/spend", params=asked, headers={"accept": "text/csv"})
    assert total == answer.json()["total"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("since=soon", "since"),
        ("format=xml", "format"),
        ("user=ada", "user"),
        ("by=day&by=arm", "by"),
    ],
)
async def test_wrong_questions(kept: Stack, query: str, param: str) -> None:
    """400, with the parameter that is wrong."""
    answer = await kept.http.get(f"/admin/spend?{query}")
    assert (400, param) == (answer.status_code, answer.json()["error"]["param"])


async def test_without_a_ledger(stack: Stack) -> None:
    """Nothing is recorded, and that is said."""
    await stack.chat("up/ok")
    assert stack.keeping.recorder is None
    answer = await stack.http.get("/admin/spend")
    assert (404, "no_ledger") == (answer.status_code, answer.json()["error"]["code"])


async def test_a_ledger_that_changes(kept: Stack, tmp_path: Path) -> None:
    """Another database takes what ends from then on, and the one before it still gets what it is owed; settings change in
    place; without the section nothing is recorded any more, and afterwards it goes on where it was."""
    first = kept.config.ledger
    assert first is not None
    other = Ledger(f"sqlite:///{tmp_path}/other.db")
    await kept.chat("up/ok", user="ada")
    kept.keeping.follow(other)
    await kept.chat("up/ok", user="bob")
    assert ["bob"] == [row["user"] for row in (await spend(kept))["rows"]]
    recorder_ = kept.keeping.recorder
    kept.keeping.follow(Ledger(other.url, retention_days=3, required=True, store_text=True))
    assert recorder_ is kept.keeping.recorder
    assert recorder_ is not None
    assert (True, True) == (recorder_.required, recorder_.store_text)
    kept.keeping.follow(None)
    await kept.chat("up/ok", user="eve")
    kept.keeping.follow(first)
    async with asyncio.timeout(10):
        # The one before posts by itself, whatever happens to those after it.
        while ["ada"] != [row["user"] for row in (await spend(kept))["rows"]]:
            await asyncio.sleep(0.05)


async def test_in_one_process(upstream: Upstream, tmp_path: Path) -> None:
    """`runtime="asyncio"` keeps a ledger, too: what was asked is in the file when it is closed."""
    config = load_mapping(configured(upstream, {"url": f"sqlite:///{tmp_path}/ledger.db"}), {})
    async with inprocess(config) as coordinator:
        from orchestrator.python.asking import ask_for

        messages = [{"role": "user", "content": "hi"}]
        await coordinator.answer(ask_for("up/ok", messages, {}, stream=False, user="ada"))
    assert [("ok", None, None)] == texts(tmp_path)


async def test_what_stays_of_a_process() -> None:
    """Nothing is flushed, closed or asked where there is no ledger."""
    keeping = Keeping(Lasting(), LocalDesk)
    await keeping.flush(1)
    await keeping.aclose()
    keeping.follow(None)
    assert keeping.recorder is None
