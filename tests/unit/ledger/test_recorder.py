"""The recorder: what becomes of records, whatever happens to the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from orchestrator.counters import LOST, Counters
from orchestrator.errors import Denied, LedgerFailed
from orchestrator.ledger import recorder as module
from orchestrator.ledger.recorder import Recorder
from orchestrator.ledger.records import Batch, Posted
from tests.unit.ledger.making import ended


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("EVERY_S", 0.01), ("QUIET_S", 0.05), ("AGAIN_S", 0.001), ("AGAIN_MAX_S", 0.002)):
        monkeypatch.setattr(module, name, seconds)


class Ledger:
    """Takes batches, or does not."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        """As they were acknowledged."""
        self.posted: list[Batch] = []
        """As they came, again and again."""
        self.problem: Exception | None = None
        self.forgets = 0
        """So many are written, and nobody hears of it."""
        self.open = asyncio.Event()
        self.open.set()

    async def post(self, batch: Batch) -> Posted:
        self.posted.append(batch)
        await self.open.wait()
        if self.problem is not None:
            raise self.problem
        if self.forgets:
            self.forgets -= 1
            raise LedgerFailed("the ledger's actor is away")
        if batch.sequence:
            self.batches.append(batch)
        return Posted(batch.sequence, 7)

    @property
    def users(self) -> list[str | None]:
        return [record.user for batch in self.batches for record in batch.records]


@asynccontextmanager
async def recording(ledger: Ledger, limit_s: float = 2.0, **options: object) -> AsyncIterator[Recorder]:
    """A recorder that posts to it."""
    recorder = Recorder(ledger.post, **options)  # type: ignore[arg-type]
    recorder.start()
    yield recorder
    await recorder.aclose(limit_s)


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that comes about."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_comes_together_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to so many records in a batch; each has a name of its own; what is over when it is closed is posted as well."""
    monkeypatch.setattr(module, "MOST", 4)
    ledger = Ledger()
    async with recording(ledger) as recorder:
        for n in range(10):
            recorder.ended(ended(user=f"u{n}"))
        await until(lambda: len(ledger.users) == 10)
        recorder.ended(ended(user="last"))
    assert [*(f"u{n}" for n in range(10)), "last"] == ledger.users
    assert [(1, 4), (2, 4), (3, 2), (4, 1)] == [(batch.sequence, len(batch.records)) for batch in ledger.batches]
    assert {recorder.writer} == {batch.writer for batch in ledger.batches}
    assert 11 == len({record.id for batch in ledger.batches for record in batch.records})


async def test_a_quiet_one_says_that_it_is_there() -> None:
    """With nothing to write; each acknowledgement is told."""
    ledger, told = Ledger(), list[Posted]()
    async with recording(ledger) as recorder:
        recorder.told = told.append
        await until(lambda: len(told) == 2)
    assert [Batch(recorder.writer, 0)] * 2 == ledger.posted[:2]
    assert Posted(0, 7) == told[0]


async def test_the_same_batch_until_it_is_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes meanwhile waits for the next; it is said once that the ledger is away, and once that it is back."""
    ledger = Ledger()
    ledger.problem = LedgerFailed("x.db: database or disk is full")
    async with recording(ledger) as recorder:
        recorder.ended(ended(user="first"))
        await until(lambda: len(ledger.posted) > 3)
        recorder.ended(ended(user="second"))
        assert "x.db: database or disk is full" == recorder.state()["problem"]
        ledger.problem = None
        await until(lambda: len(ledger.users) == 2)
        assert {"buffered": 0, "lost": 0, "problem": None} == recorder.state()
    assert [("first",), ("second",)] == [tuple(record.user for record in batch.records) for batch in ledger.batches]
    assert 1 == len({batch.records for batch in ledger.posted if batch.sequence == 1})
    said = errors(caplog)
    assert 2 == len(said)
    assert said[0].startswith(
        "the ledger takes no records: x.db: database or disk is full; requests are answered all the"
    )
    assert said[1].startswith("the ledger takes records again; 0 requests were not recorded")


async def test_an_acknowledgement_that_was_lost() -> None:
    """The batch is posted again under its number, by which the ledger knows that it has it."""
    ledger = Ledger()
    ledger.forgets = 2
    async with recording(ledger) as recorder:
        recorder.ended(ended())
    assert [1, 1, 1] == [batch.sequence for batch in ledger.posted if batch.sequence]
    assert [1] == [batch.sequence for batch in ledger.batches]


async def test_a_ledger_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again after a while."""
    monkeypatch.setattr(module, "POST_S", 0.02)
    ledger = Ledger()
    ledger.open.clear()
    async with recording(ledger) as recorder:
        recorder.ended(ended())
        await until(lambda: len([batch for batch in ledger.posted if batch.sequence]) > 1)
        ledger.open.set()
        await until(lambda: bool(ledger.batches))
    assert errors(caplog)[0].startswith("the ledger takes no records: TimeoutError; ")


async def test_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """What does not fit is lost, and counted; by far the first are kept. Said with the reason, once."""
    ledger, counters = Ledger(), Counters()
    ledger.problem = LedgerFailed("locked")
    async with recording(ledger, capacity=5, counters=counters) as recorder:
        recorder.ended(ended(user="under way"))
        await until(lambda: len(ledger.posted) > 1)
        for n in range(9):
            recorder.ended(ended(user=f"u{n}"))
            recorder.check()
        assert (5, 4) == (recorder.state()["buffered"], counters.counted(LOST))
        ledger.problem = None
    assert ["under way", "u0", "u1", "u2", "u3", "u4"] == ledger.users
    said = errors(caplog)
    assert 2 == len(said)
    assert said[1].endswith("4 requests were not recorded since the beginning")


async def test_a_ledger_that_is_only_slow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing fails and records are lost all the same, that is said as well, and when it is over."""
    ledger = Ledger()
    ledger.open.clear()
    async with recording(ledger, capacity=4) as recorder:
        for _ in range(20):
            recorder.ended(ended())
        ledger.open.set()
        await until(lambda: bool(ledger.batches))
        await until(lambda: len(errors(caplog)) == 2)
    assert ["the ledger takes records too slowly: what comes now is not recorded", 16] == [
        errors(caplog)[0],
        recorder.state()["lost"],
    ]


async def test_texts_are_counted_by_their_length() -> None:
    """Long ones fill the memory sooner."""
    ledger = Ledger()
    ledger.problem = LedgerFailed("locked")
    async with recording(ledger, 0.0, capacity=100, store_text=True) as recorder:
        for _ in range(5):
            recorder.ended(ended(body={"messages": "x" * 98_000}))
        assert (2, 3) == (recorder.state()["buffered"], recorder.state()["lost"])


async def test_a_ledger_that_is_required() -> None:
    """When nothing was acknowledged for ten seconds, or memory is full, nobody may begin; whoever has begun is recorded."""
    ledger, now_s = Ledger(), 100.0
    ledger.problem = LedgerFailed("x.db: database is locked")
    async with recording(ledger, required=True, capacity=3, clock=lambda: now_s) as recorder:
        recorder.check()
        recorder.ended(ended())
        await until(lambda: len(ledger.posted) > 1)
        now_s = 110.0
        recorder.check()
        now_s = 110.1
        with pytest.raises(Denied, match=r"requests have to be recorded, .*: x.db: database is locked") as caught:
            recorder.check()
        assert (503, "ledger_unavailable", True) == (caught.value.status, caught.value.code, caught.value.retryable)
        assert caught.value.retry_after_s is not None
        now_s = 100.0
        for _ in range(5):
            recorder.ended(ended())
        with pytest.raises(Denied):
            recorder.check()
        ledger.problem = None
        await until(lambda: len(ledger.users) == 6)
        recorder.check()
    assert 0 == recorder.state()["lost"]


async def test_money_goes_with_the_records() -> None:
    """What was settled since the last batch, each account once; money alone is a batch as well."""
    ledger = Ledger()
    async with recording(ledger) as recorder:
        recorder.settle("key:ada", spent=5, returned=2)
        recorder.settle("key:ada", spent=1)
        recorder.settle("user:bob", returned=9)
        recorder.ended(ended())
        assert await recorder.flush(2)
        recorder.settle("key:ada", spent=4)
        assert await recorder.flush(2)
    assert [
        (1, 1, {"key:ada": 6}, {"key:ada": 2, "user:bob": 9}),
        (2, 0, {"key:ada": 4}, {}),
    ] == [(batch.sequence, len(batch.records), batch.spent, batch.returned) for batch in ledger.batches]


async def test_flushing() -> None:
    """At once if there is nothing; as long as it takes, or as long as it may."""
    ledger = Ledger()
    async with recording(ledger) as recorder:
        assert await recorder.flush(0.5)
        ledger.open.clear()
        recorder.ended(ended())
        assert not await recorder.flush(0.05)
        ledger.open.set()
        assert await recorder.flush(1)
        assert 1 == len(ledger.batches)


async def test_what_is_not_acknowledged_in_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up in the time that there is, counted and said: what waits, and what is under way."""
    monkeypatch.setattr(module, "MOST", 2)
    ledger = Ledger()
    ledger.problem = LedgerFailed("locked")
    async with recording(ledger, 0.05) as recorder:
        for _ in range(5):
            recorder.ended(ended())
        await until(lambda: len(ledger.posted) > 1)
    assert 5 == recorder.state()["lost"]
    assert "the ledger did not acknowledge the last 5 records within 0.05 s: locked" == errors(caplog)[-1]


async def test_a_report_that_is_not_as_it_should_be(caplog: pytest.LogCaptureFixture) -> None:
    """It is lost, and said; the others are recorded."""
    ledger = Ledger()
    async with recording(ledger) as recorder:
        recorder.ended(ended(user="before"))
        recorder.ended(ended(cost_usd=float("nan")))
        recorder.ended(ended(user="after"))
    assert ["before", "after"] == ledger.users
    assert (1, ["a request could not be recorded"]) == (recorder.state()["lost"], errors(caplog))


async def test_a_batch_that_no_database_will_take_holds_nobody_up() -> None:
    """Its records are counted as lost; what was spent, and all that comes after it, is told."""
    ledger, counters = Ledger(), Counters()
    ledger.problem = LedgerFailed("a value without a place", passes=False)
    async with recording(ledger, counters=counters) as recorder:
        recorder.ended(ended(user="odd"))
        recorder.settle("user:odd", spent=5)
        await until(lambda: counters.counted(LOST) == 1)
        ledger.problem = None
        await until(lambda: len(ledger.batches) == 1)
        recorder.ended(ended(user="ada"))
    assert [((), {"user:odd": 5})] == [(one.records, dict(one.spent)) for one in ledger.batches[:1]]
    assert ["ada"] == ledger.users


async def test_a_mistake_of_ours_is_not_the_end_of_records(caplog: pytest.LogCaptureFixture) -> None:
    """What was written and could not be settled is logged; the next batch goes as ever."""
    ledger = Ledger()
    async with recording(ledger) as recorder:
        recorder.settled = {}.__getitem__  # type: ignore[assignment]  # raises
        recorder.ended(ended(user="one"))
        await until(lambda: len(ledger.users) == 1)
        recorder.ended(ended(user="two"))
    assert ["one", "two"] == ledger.users
    assert "a batch was written, and could not be settled" in errors(caplog)
