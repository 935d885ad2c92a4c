"""The bookkeeper, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import func, select

from orchestrator.config.operations import Ledger
from orchestrator.errors import LedgerFailed
from orchestrator.ledger import bookkeeper as module
from orchestrator.ledger import tables
from orchestrator.ledger.asking import Asking
from orchestrator.ledger.bookkeeper import Bookkeeper, LocalDesk
from orchestrator.ledger.records import Batch, KeyRow, Posted
from orchestrator.ledger.store import Store
from tests.unit.ledger.making import AT_S, request


class Counting(Store):
    """Notes its transactions, and fails where it is told to."""

    transactions: int = 0
    problem: LedgerFailed | None = None

    def write_all(self, batches: Sequence[Batch], at_s: float | None = None) -> tuple[bool, ...]:
        self.transactions += 1
        if self.problem is not None:
            raise self.problem
        return super().write_all(batches, at_s)

    def rows(self) -> int:
        """Requests."""
        with self.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.requests)).scalar_one())


class Clock:
    now_s = AT_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(ledger_url: str) -> Counting:
    return Counting(ledger_url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def books(store: Counting, clock: Clock) -> AsyncIterator[Bookkeeper]:
    keeper = Bookkeeper(store, 90, clock=clock, monotonic=clock)
    yield keeper
    await keeper.aclose()


def batch(writer: str, sequence: int = 1, **money: Mapping[str, int]) -> Batch:
    return Batch(writer, sequence, (request(f"{writer}-{sequence}"),), **money)


async def test_what_comes_together_is_written_together(books: Bookkeeper, store: Counting) -> None:
    """One transaction for the first, one for all that came meanwhile; each is acknowledged when it is on disk."""
    posted = await asyncio.gather(*(books.post(batch(f"w{n}")) for n in range(20)))
    assert {Posted(1, 0)} == {*posted}
    assert (20, True) == (store.rows(), store.transactions <= 2)


async def test_a_batch_that_comes_again_is_acknowledged_again(books: Bookkeeper, store: Counting) -> None:
    """And is there once."""
    assert Posted(1, 0) == await books.post(batch("w"))
    assert Posted(1, 0) == await books.post(batch("w"))
    assert 1 == store.rows()


async def test_whoever_posts_is_told_what_went_wrong(books: Bookkeeper, store: Counting) -> None:
    """All whose batches were in the transaction; later it is written."""
    store.problem = LedgerFailed("locked")
    outcomes = await asyncio.gather(*(books.post(batch(f"w{n}")) for n in range(3)), return_exceptions=True)
    assert ["locked"] * 3 == [str(one) for one in outcomes]
    assert store.transactions <= 2
    store.problem = None
    await books.post(batch("w0"))
    assert 1 == store.rows()


async def test_one_that_cannot_be_written_does_not_hold_up_others(books: Bookkeeper, store: Counting) -> None:
    """Of several in a transaction, each is tried by itself."""
    await books.post(batch("w"))
    same = Batch("other", 1, (request("w-1"),))
    outcomes = await asyncio.gather(
        books.post(batch("a")), books.post(same), books.post(batch("b")), return_exceptions=True
    )
    assert [False, True, False] == [isinstance(one, LedgerFailed) for one in outcomes]
    assert 3 == store.rows()


async def test_one_that_waits_no_longer(books: Bookkeeper, store: Counting) -> None:
    """A batch whose poster has given up is written all the same."""
    waiting = asyncio.ensure_future(books.post(batch("w")))
    await asyncio.sleep(0)
    waiting.cancel()
    await books.post(batch("v"))
    assert 2 == store.rows()


async def test_keys_have_versions(books: Bookkeeper) -> None:
    """Each acknowledgement says which; one that changes is known at once."""
    assert Posted(0, 0) == await books.post(Batch("w", 0))
    key = KeyRow("ada", "f" * 64, "{}", 1.0)
    await books.put_key(key)
    assert Posted(0, 1) == await books.post(Batch("w", 0))
    assert await books.revoke_key("ada", 2.0)
    assert not await books.revoke_key("ada", 2.0)
    assert Posted(0, 2) == await books.post(Batch("w", 0))
    assert (key._replace(revoked_at=2.0),) == await books.keys()


async def test_keys_that_another_process_changed(books: Bookkeeper, store: Counting) -> None:
    """They are known after the next look."""
    await books.post(Batch("w", 0))
    store.put_key(KeyRow("ada", "f" * 64, "{}", 1.0))
    assert 0 == await books.keys_version()
    await books.look()
    assert 1 == await books.keys_version()


async def test_a_dead_writer(store: Counting, clock: Clock) -> None:
    """Unheard of for half a minute, what it had leased is spent, and whoever keeps the budgets is told. Not so one that only
    had nothing to write, nor anybody before a ledger that has just come up has been there as long."""
    told: list[tuple[str, Mapping[str, int]]] = []
    store.grant([("dead", "x", 10), ("quiet", "x", 5), ("back", "x", 1)], AT_S - 100)
    books = Bookkeeper(store, 90, forfeited=lambda *one: told.append(one), clock=clock, monotonic=clock)
    await books.post(batch("dead"))
    await books.look()
    clock.now_s += 20
    await books.post(Batch("quiet", 0))
    clock.now_s += 9
    await books.look()
    assert [] == told
    clock.now_s += 2
    await books.post(Batch("back", 0))
    await books.look()
    assert [("dead", {"x": 10})] == told
    assert ({"x": 10}, {("quiet", "x"): 5, ("back", "x"): 1}) == store.balances()
    await books.look()
    assert 1 == len(told)
    await books.aclose()


async def test_one_that_was_heard_of_lately(books: Bookkeeper, store: Counting, clock: Clock) -> None:
    """Half a minute is counted from when it was last heard of, whatever the database had noted by then."""
    store.grant([("w", "x", 10)], AT_S)
    clock.now_s += 14
    await books.post(Batch("w", 0))
    clock.now_s += 17
    await books.look()
    assert ({}, {("w", "x"): 10}) == store.balances()
    clock.now_s += 14
    await books.look()
    assert ({"x": 10}, {}) == store.balances()


async def test_a_machine_that_slept_has_buried_nobody(store: Counting, clock: Clock) -> None:
    """Its clock is an hour ahead at once: who was heard of a second ago lives all the same."""
    awake = Clock()
    store.grant([("w", "x", 10)], AT_S)
    books = Bookkeeper(store, 90, clock=clock, monotonic=awake)
    for now in (clock, awake):
        now.now_s += 60
    await books.post(Batch("w", 0))
    clock.now_s += 3_600
    await books.look()
    assert ({}, {("w", "x"): 10}) == store.balances()
    awake.now_s += 31
    clock.now_s += 31
    await books.look()
    assert ({"x": 10}, {}) == store.balances()
    await books.aclose()


async def test_nobody_has_to_be_told(books: Bookkeeper, store: Counting, clock: Clock) -> None:
    """Without budgets, a dead writer's leases are spent all the same."""
    store.grant([("dead", "x", 10)], AT_S)
    clock.now_s += 31
    await books.look()
    assert ({"x": 10}, {}) == store.balances()


async def test_two_ledgers_of_one_database(books: Bookkeeper, store: Counting, clock: Clock) -> None:
    """Whom one of them hears of is not dead for the other."""
    store.grant([("w", "x", 10)], AT_S)
    other = Bookkeeper(Store(store.engine.url.render_as_string(False)), 90, clock=clock, monotonic=clock)
    for _ in range(10):
        clock.now_s += 10
        await books.post(Batch("w", 0))
        await books.look()
        await other.look()
    assert ({}, {("w", "x"): 10}) == store.balances()
    await other.aclose()


async def test_old_records_go(
    books: Bookkeeper, store: Counting, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the days that were said, once an hour, in pieces."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    await books.post(Batch("w", 1, tuple(request(f"w-{n}", at_s=AT_S) for n in range(2_500))))
    await books.look()
    assert 2_500 == store.rows()
    clock.now_s += 90 * module.DAY_S - 1
    await books.look()
    assert 2_500 == store.rows()
    clock.now_s += 3_601
    await books.post(Batch("w", 2, (request("new", at_s=clock.now_s),)))
    await books.look()
    assert 1 == store.rows()


async def test_it_looks_by_itself(
    store: Counting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every few seconds; what keeps it from looking is said once, and it goes on."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    books = Bookkeeper(store, 90)
    looks: list[str] = []

    async def look() -> None:
        looks.append("")
        if len(looks) in (1, 2, 5):
            raise LedgerFailed("locked")

    books.look = look  # type: ignore[method-assign]
    books.start()
    async with asyncio.timeout(5):
        while len(looks) < 7:
            await asyncio.sleep(0.01)
    await books.aclose()
    assert ["the ledger cannot be looked after: locked"] * 2 == [
        one.getMessage() for one in caplog.records if one.levelno == logging.WARNING
    ]


async def test_closing_waits_for_what_is_under_way(store: Counting, ledger_url: str) -> None:
    """It is acknowledged."""
    books = Bookkeeper(store, 90)
    posting = asyncio.ensure_future(books.post(batch("w")))
    await asyncio.sleep(0)
    await books.aclose()
    assert Posted(1, 0) == await posting
    store = Counting(ledger_url)
    assert 1 == store.rows()
    store.close()


async def test_in_process(ledger_url: str) -> None:
    """The same behind a coordinator of this process."""
    desk = LocalDesk(Ledger(ledger_url))
    await desk.post(batch("w"))
    desk.configure(Ledger(ledger_url, retention_days=3))
    answer: dict[str, Any] = await desk.spend(Asking())
    assert 1 == answer["total"]["requests"]
    await desk.aclose()
