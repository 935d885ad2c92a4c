"""Who is told when a budget is nearly spent: the log, a counter, and a webhook if there is one. Once for each threshold.

That an alert was given stands in the ledger's database, so neither a restart nor a second ledger repeats it; it is written
there first. A webhook is tried `TRIES` times, beside everything else; its address may hold a secret, and is never said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import orjson

from orchestrator.budgets.payments import named
from orchestrator.config import settings
from orchestrator.errors import LedgerFailed
from orchestrator.money import usd_of
from orchestrator.transport import Transport, TransportError

TRIES = 4
AGAIN_S = 1.0
"""Before the second try; twice as long before each one after it."""
ANSWER_S = 10.0
"""How long the webhook may take to answer."""

_log = logging.getLogger("orchestrator.budgets")


class Alert(NamedTuple):
    """A share of a budget has been spent."""

    account: str
    threshold: float
    limit: int
    spent: int


Given = tuple[str, str]
"""Account and threshold: the labels of `orchestrator_budget_alerts_total`."""
Note = Callable[[str, float], Awaitable[bool]]
"""Puts on disk that an alert (account, threshold) is given. False: it had been. Raises LedgerFailed."""


class Alerts:
    """All of them, beside the accounts. Belongs to one event loop."""

    def __init__(self, rules: settings.Alerts, note: Note, transport: Transport | None = None) -> None:
        self.rules = rules
        """May be replaced."""
        self._note = note
        self._known: set[tuple[str, float]] = set()
        self._transport = transport or Transport(settings.Connections(), settings.Timeouts())
        self._telling: set[asyncio.Task[None]] = set()

    def restore(self, given: Iterable[tuple[str, float]]) -> None:
        """These were given before."""
        self._known.update(given)

    async def look(self, account: str, limit: int, spent: int) -> tuple[Given, ...]:
        """Gives those alerts that are due, and says which these were. A budget of nothing has none."""
        given: list[Given] = []
        for threshold in self.rules.thresholds:
            if 0 < threshold * limit <= spent and (account, threshold) not in self._known:
                self._known.add((account, threshold))
                if await self._tell(Alert(account, threshold, limit, spent)):
                    given.append((account, f"{threshold:g}"))
        return tuple(given)

    async def _tell(self, alert: Alert) -> bool:
        try:
            if not await self._note(alert.account, alert.threshold):
                return False
        except LedgerFailed:
            # It is given when it can be written down: whoever spends more of it sees to that.
            self._known.discard((alert.account, alert.threshold))
            return False
        spent, limit = usd_of(alert.spent), usd_of(alert.limit)
        _log.warning(
            "%s: %g of %g USD are spent (over %g %%)", named(alert.account), spent, limit, alert.threshold * 100
        )
        if self.rules.webhook is not None:
            task = asyncio.ensure_future(self._post(self.rules.webhook, alert))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        return True

    async def _post(self, url: str, alert: Alert) -> None:
        content = orjson.dumps(
            {
                "account": alert.account,
                "budget": named(alert.account),
                "threshold": alert.threshold,
                "limit_usd": usd_of(alert.limit),
                "spent_usd": usd_of(alert.spent),
            }
        )
        why = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(AGAIN_S * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(ANSWER_S):
                    response = await self._transport.send(url, {"content-type": "application/json"}, content)
                    await response.aclose()
            except (TransportError, TimeoutError) as error:
                why = type(error).__name__
            else:
                if response.status < 300:
                    return
                why = f"status {response.status}"
        _log.warning("the webhook was not told that %s is nearly spent: %s", named(alert.account), why)

    async def aclose(self) -> None:
        """Tells nobody any more."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
        await self._transport.aclose()
