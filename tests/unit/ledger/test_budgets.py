"""Budgets in the bookkeeper, on SQLite and on PostgreSQL: what is leased and spent is on disk, whoever dies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from orchestrator.budgets.accounts import Ask, Exhausted, Granted
from orchestrator.budgets.purse import Purse
from orchestrator.config import operations
from orchestrator.config.operations import Budgets
from orchestrator.errors import Denied, LedgerFailed
from orchestrator.ledger import bookkeeper as module
from orchestrator.ledger.bookkeeper import Bookkeeper
from orchestrator.ledger.records import Batch
from orchestrator.ledger.store import Store
from orchestrator.money import GRID
from tests.unit.budgets.making import asked, config, ended

X = "key:x"


def ask(writer: str, number: int, need: int, kept: int = 0, limit: int = 100) -> Ask:
    return Ask(writer, number, X, limit, kept, need, need)


@asynccontextmanager
async def opened(url: str, **how: Any) -> AsyncIterator[Bookkeeper]:
    """A bookkeeper of the database, in the process that it is now."""
    books = Bookkeeper(Store(url), 90, **how)
    try:
        yield books
    finally:
        await books.aclose()


async def row(books: Bookkeeper) -> Mapping[str, Any]:
    (found,) = await books.budgets()
    return found


@contextmanager
def full(books: Bookkeeper, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No lease can be written meanwhile."""

    def grant(*_: object) -> None:
        raise LedgerFailed("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(books.store, "grant", grant)
        yield


async def test_leases_are_on_disk_before_they_are_answered(ledger_url: str) -> None:
    """Another process finds them there, with what was spent and given back of them, once."""
    async with opened(ledger_url) as books:
        assert Granted(60, 100, scarce=True) == await books.lease(ask("a", 1, 60), 0.0)
        batch = Batch("a", 1, (), {X: 20}, {X: 10})
        await asyncio.gather(books.post(batch), books.post(batch))
        await books.post(batch)
        assert {"account": X, "limit": 100, "spent": 20, "leased": 30, "left": 80} == await row(books)
    async with opened(ledger_url) as books:
        await books.post(batch)
        assert Exhausted(80) == await books.lease(ask("b", 1, 81), 0.0)
        assert {"account": X, "limit": 100, "spent": 20, "leased": 30, "left": 80} == await row(books)


async def test_a_lease_that_cannot_be_written_is_not_given(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told, and others may have it."""
    async with opened(ledger_url) as books:
        await books.lease(ask("a", 1, 10), 0.0)
        with full(books, monkeypatch), pytest.raises(LedgerFailed, match="disk full"):
            await books.lease(ask("a", 2, 80, kept=10), 0.0)
        assert 10 == (await row(books))["leased"]
        assert Granted(90, 100, scarce=True) == await books.lease(ask("b", 1, 90), 0.0)


async def test_what_is_handed_in_while_nothing_can_be_written_is_free_on_disk_too(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next question: else it would stay leased there, and count as spent when its writer is gone."""
    async with opened(ledger_url) as books:
        await books.lease(ask("a", 1, 60), 0.0)
        with full(books, monkeypatch), pytest.raises(LedgerFailed, match="disk full"):
            await books.lease(ask("a", 2, 10, kept=20), 0.0)
        assert 1 == (await books.lease(ask("a", 3, 1, kept=20), 0.0)).units  # type: ignore[union-attr]
        assert {("a", X): 21} == books.store.balances()[1]
        assert 21 == (await row(books))["leased"]


async def test_what_is_handed_in_together_with_what_was_too_much_is_free_on_disk_too(ledger_url: str) -> None:
    """The database refused all of it, since another process had leased out of one account; the other account's was right."""
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(opened(ledger_url)) for _ in range(2)]
        handed_in = Ask("a", 1, "key:y", 100, 0, 60, 60)
        await one.lease(handed_in, 0.0)
        await one.budgets()
        await other.lease(ask("b", 1, 60), 0.0)
        too_much, told = await asyncio.gather(
            one.lease(ask("a", 2, 50), 0.0), one.lease(handed_in._replace(number=2, need=1, want=1), 0.0)
        )
        assert [0, 0] == [too_much.units, told.units]  # type: ignore[union-attr]
        await one.lease(ask("a", 3, 1), 0.0)
        assert {("a", "key:y"): 0, ("a", X): 1, ("b", X): 60} == {("a", "key:y"): 0, **one.store.balances()[1]}


@pytest.mark.parametrize("written", [True, False])
async def test_accounts_that_are_read_anew_while_a_lease_is_on_its_way(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """They know of it, and let go of it where it cannot be written; whoever asked for it is told in any case."""
    async with opened(ledger_url) as books:
        await books.lease(ask("z", 1, 10), 0.0)
        balances, go = books.store.balances, threading.Event()

        def slowly() -> Any:
            found = balances()
            assert go.wait(20)
            return found

        def full(*_: object) -> None:
            raise LedgerFailed("disk full")

        monkeypatch.setattr(books.store, "balances", slowly)
        reading = asyncio.ensure_future(books._refresh())
        await asyncio.sleep(0.05)
        if not written:
            monkeypatch.setattr(books.store, "grant", full)
        asking = asyncio.ensure_future(books.lease(ask("a", 1, 60), 0.0))
        await asyncio.sleep(0.05)
        go.set()
        await reading
        ended, _ = await asyncio.wait([asking], timeout=5)
        assert {asking} == ended
        assert written == (asking.exception() is None)
        monkeypatch.undo()
        assert (70 if written else 10) == (await row(books))["leased"]


async def test_a_question_that_was_overtaken_while_nothing_can_be_written(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked it is told, and all who asked with it, also where nothing is known of its writer any more."""
    async with opened(ledger_url) as books:
        await books.lease(ask("a", 2, 10), 0.0)
        await books.post(Batch("a", 1, (), {X: 4}, {X: 6}))
        await books._refresh()

        def full(*_: object) -> None:
            raise LedgerFailed("disk full")

        monkeypatch.setattr(books.store, "grant", full)
        asked = [asyncio.ensure_future(books.lease(one, 0.0)) for one in (ask("a", 1, 10), ask("b", 1, 10))]
        ended, _ = await asyncio.wait(asked, timeout=5)
        assert {*asked} == ended
        assert all(isinstance(one.exception(), LedgerFailed) for one in asked)


async def test_nothing_is_leased_before_it_is_known_what_was(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While that cannot be read, whoever asks is told."""
    async with opened(ledger_url) as books:
        await books.lease(ask("a", 1, 60), 0.0)
    async with opened(ledger_url) as books:

        def away() -> None:
            raise LedgerFailed("away")

        with monkeypatch.context() as patched:
            patched.setattr(books.store, "balances", away)
            for number in (1, 2):
                with pytest.raises(LedgerFailed, match="away"):
                    await books.lease(ask("b", number, 60), 0.0)
        assert Granted(0, 100, scarce=True) == await books.lease(ask("b", 3, 60), 0.0)


async def test_who_waits_is_answered_when_there_is_enough(ledger_url: str) -> None:
    """Or, after so long, that there is not."""
    async with opened(ledger_url) as books:
        await books.lease(ask("a", 1, 60), 0.0)
        waiting = asyncio.ensure_future(books.lease(ask("b", 1, 50), 30.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await books.post(Batch("a", 1, (), {X: 30}, {X: 30}))
        assert 50 == (await waiting).units  # type: ignore[union-attr]
        assert Granted(0, 70, scarce=True) == await books.lease(ask("c", 1, 60), 0.05)
        late = asyncio.ensure_future(books.lease(ask("c", 2, 60), 30.0))
        await asyncio.sleep(0.05)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        await books.post(Batch("b", 1, (), {}, {X: 50}))
        assert 0 == (await row(books))["leased"]


async def test_two_processes_lease_out_of_one_database(ledger_url: str) -> None:
    """Never more than there is: the one that knows less is told by the database."""
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(opened(ledger_url)) for _ in range(2)]
        assert [[], [], []] == [*await asyncio.gather(one.budgets(), one.budgets(), other.budgets())]
        assert Granted(60, 100, scarce=True) == await one.lease(ask("a", 1, 60), 0.0)
        assert Granted(0, 100, scarce=True) == await other.lease(ask("b", 1, 50), 0.0)
        assert Granted(40, 100, scarce=True) == await other.lease(ask("b", 2, 40), 0.0)
        await one.post(Batch("a", 1, (), {X: 60}))
        assert Granted(0, 100, scarce=True) == await other.lease(ask("b", 3, 50, kept=40), 0.0)
        await other.look()
        assert Exhausted(40) == await other.lease(ask("b", 4, 50, kept=40), 0.0)


async def test_a_batch_that_a_ledger_given_up_for_dead_has_written_after_all(ledger_url: str) -> None:
    """It is acknowledged by the one that followed, which had looked at the accounts before; and counted there, too."""
    async with AsyncExitStack() as stack:
        following, dead = [await stack.enter_async_context(opened(ledger_url)) for _ in range(2)]
        assert [] == await following.budgets()
        batch = Batch("a", 1, (), {X: 20})
        await dead.post(batch)
        assert 1 == (await following.post(batch)).sequence
        assert Exhausted(80) == await following.lease(ask("b", 1, 81), 0.0)


async def test_what_a_dead_writer_had_leased_is_spent(ledger_url: str) -> None:
    """When it was not heard of for long enough; one that turns up goes on."""
    now = [1_000.0]
    told: list[tuple[str, Mapping[str, int]]] = []
    how = {"clock": lambda: now[0], "monotonic": lambda: now[0], "forfeited": lambda *one: told.append(one)}
    async with opened(ledger_url, **how) as books:
        await books.lease(ask("dead", 1, 60), 0.0)
        now[0] += 2 * module.GONE_S
        await books.look()
        assert [("dead", {X: 60})] == told
        assert {"account": X, "limit": 100, "spent": 60, "leased": 0, "left": 40} == await row(books)
        assert Exhausted(40) == await books.lease(ask("b", 1, 41), 0.0)


async def test_alerts_are_given_once(ledger_url: str) -> None:
    """The acknowledgement says which, and a restart repeats none."""
    rules = operations.Alerts((0.5, 0.9))
    async with opened(ledger_url, alerts=rules) as books:
        await books.lease(ask("a", 1, 100), 0.0)
        assert () == (await books.post(Batch("a", 1, (), {X: 49}))).alerts
        assert ((X, "0.5"),) == (await books.post(Batch("a", 2, (), {X: 1}))).alerts
    async with opened(ledger_url, alerts=rules) as books:
        await books.lease(ask("a", 1, 1, kept=50), 0.0)
        assert ((X, "0.9"),) == (await books.post(Batch("a", 3, (), {X: 45}))).alerts
        assert () == (await books.post(Batch("a", 4, (), {X: 5}))).alerts


async def test_a_purse_goes_on_after_the_ledger_was_killed(ledger_url: str) -> None:
    """What it had leased is what the next process finds; nothing is spent twice, and nothing beyond the limit."""
    penny = config(Budgets(users={"john": 0.03}, wait_s=60.0))
    current: list[Bookkeeper] = []
    told: dict[str, int] = {}

    class Desk:
        async def lease(self, ask: Ask, wait_s: float) -> Any:
            return await current[0].lease(ask, wait_s)

    def tell(account: str, *, spent: int = 0, returned: int = 0) -> None:
        told["spent"] = told.get("spent", 0) + spent
        told["returned"] = told.get("returned", 0) + returned

    purse = Purse(Desk(), "w", tell)

    async def post(sequence: int) -> None:
        spent, returned = {"user:john": told.pop("spent", 0)}, {"user:john": told.pop("returned", 0)}
        await current[0].post(Batch("w", sequence, (), spent, returned))
        purse.acknowledged(spent, returned)

    passed = 0
    for sequence in range(1, 4):
        async with opened(ledger_url) as books:
            current[:] = [books]
            request = asked(penny)
            allowance = await purse.allow(request)
            assert allowance is not None
            allowance.settle(ended(request, 0.01))
            passed += 1
            await post(sequence)
            assert passed * GRID // 100 == (await row(books))["spent"]
    async with opened(ledger_url) as books:
        current[:] = [books]
        with pytest.raises(Denied):
            await purse.allow(asked(penny))
        await purse.aclose()
