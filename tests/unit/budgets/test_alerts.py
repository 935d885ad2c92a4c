"""Alerts: once for each threshold, written down first, and a webhook that is tried again and never named."""

from __future__ import annotations

import asyncio
import logging

import httpx
import orjson
import pytest

from orchestrator.budgets.alerts import TRIES, Alerts
from orchestrator.config import settings
from orchestrator.errors import LedgerFailed
from orchestrator.money import GRID
from orchestrator.transport import Transport
from tests.virtual_loop import run

SECRET = "https://hooks.example/T0/secret-token"


class Book:
    """What was written down."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, float]] = []
        self.broken = False

    async def note(self, account: str, threshold: float) -> bool:
        if self.broken:
            raise LedgerFailed("disk full")
        known = (account, threshold) in self.noted
        self.noted += [] if known else [(account, threshold)]
        return not known


class Hook:
    """A webhook with answers of its own; None: it does not answer."""

    def __init__(self, *statuses: int | None) -> None:
        self.statuses = [*statuses]
        self.bodies: list[dict[str, object]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(orjson.loads(request.content))
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, stream=httpx.ByteStream(b""))


def alerts(book: Book, hook: Hook | None = None, thresholds: tuple[float, ...] = (0.5, 0.9)) -> Alerts:
    transport = Transport(settings.Connections(), settings.Timeouts(), httpx.MockTransport(hook or Hook()))
    return Alerts(settings.Alerts(thresholds, SECRET if hook else None), book.note, transport)


async def _rest() -> None:
    await asyncio.sleep(60)


def test_each_threshold_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """When it is reached, and never again, also after a restart."""
    book = Book()

    async def main() -> None:
        first = alerts(book)
        given = [await first.look("user:john@2026-11", 100 * GRID, spent * GRID) for spent in (49, 50, 60, 89, 95, 100)]
        assert [(), (("user:john@2026-11", "0.5"),), (), (), (("user:john@2026-11", "0.9"),), ()] == given
        await first.aclose()
        restarted, other = alerts(book), alerts(book)
        restarted.restore(book.noted)
        assert () == await restarted.look("user:john@2026-11", 100 * GRID, 100 * GRID)
        assert () == await other.look("user:john@2026-11", 100 * GRID, 100 * GRID)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [
        "the budget of the user 'john' for 2026-11: 50 of 100 USD are spent (over 50 %)",
        "the budget of the user 'john' for 2026-11: 95 of 100 USD are spent (over 90 %)",
    ] == [record.message for record in caplog.records]


def test_a_budget_of_nothing_has_no_alerts() -> None:
    """There is no share of it."""
    book = Book()

    async def main() -> None:
        one = alerts(book)
        assert () == await one.look("key:a", 0, 0)

    run(main())


def test_what_cannot_be_written_down_is_told_later() -> None:
    """With the next that is spent."""
    book = Book()
    book.broken = True

    async def main() -> None:
        one = alerts(book)
        assert () == await one.look("key:a", 100, 50)
        book.broken = False
        assert (("key:a", "0.5"),) == await one.look("key:a", 100, 51)

    run(main())


def test_a_webhook_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal or a failure is tried again; the address is in no log."""
    book, hook = Book(), Hook(500, None, 204)

    async def main() -> None:
        one = alerts(book, hook)
        await one.look("key:a", GRID, GRID // 2)
        await _rest()
        await one.aclose()

    with caplog.at_level(logging.DEBUG):
        run(main())
    expected = {
        "account": "key:a",
        "budget": "the budget of the key 'a'",
        "threshold": 0.5,
        "limit_usd": 1.0,
        "spent_usd": 0.5,
    }
    assert [expected] * 3 == hook.bodies
    assert "secret-token" not in caplog.text


def test_a_webhook_that_never_takes_it_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """After so many tries it is logged, without the address, and nothing else suffers."""
    book, hook = Book(), Hook(*[503] * 10)

    async def main() -> None:
        one = alerts(book, hook)
        await one.look("key:a", GRID, GRID // 2)
        await _rest()

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert TRIES == len(hook.bodies)
    assert "the webhook was not told that the budget of the key 'a' is nearly spent: status 503" in caplog.text
    assert "secret-token" not in caplog.text
