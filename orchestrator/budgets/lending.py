"""The accounts with those who wait: what the bookkeeper of the ledger leases, on disk before it is answered.

Leases that are granted while others are being written go to disk together, in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.budgets.accounts import Accounts, Answer, Ask, Granted, Waiting
from orchestrator.errors import LedgerFailed

Write = Callable[[Sequence[tuple[str, str, int]]], Awaitable[None]]
"""Puts changes of leases on disk: (writer, account, units) each. Raises LedgerFailed."""


class _Answered(NamedTuple):
    """An answer that is given once it is on disk."""

    ask: Ask
    answer: Answer
    told: asyncio.Future[Answer]


class Lending:
    """`orchestrator.budgets.purse.Bank`. Belongs to one event loop."""

    def __init__(self, write: Write) -> None:
        self.accounts = Accounts()
        self._write = write
        self._line: dict[Waiting, asyncio.Future[Answer]] = {}
        self._answered: list[_Answered] = []
        self._writing: asyncio.Task[None] | None = None

    async def lease(self, ask: Ask, wait_s: float) -> Answer:
        """See `Bank`."""
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer = self.accounts.ask(ask)
        if not isinstance(answer, Waiting):
            self._answered.append(_Answered(ask, answer, told))
            self._serve((ask.account,))
            return await told
        self._line[answer] = told
        self._serve((ask.account,))
        try:
            await asyncio.wait((told,), timeout=wait_s)
        finally:
            self._leave(answer)
        return await told

    def _leave(self, waiting: Waiting) -> None:
        """Out of the line, if it is still in it: then the answer is that there was not enough."""
        if (told := self._line.pop(waiting, None)) is not None:
            self.accounts.leave(waiting)
            told.set_result(Granted(0, self.accounts.unspent(waiting.ask.account), scarce=True))
            self._serve((waiting.ask.account,))

    def settled(self, writer: str, spent: Mapping[str, int], returned: Mapping[str, int]) -> None:
        """A batch of a writer's is on disk."""
        self.accounts.settle(writer, spent, returned)
        self._serve({*spent, *returned})

    def forfeit(self, writer: str) -> None:
        """A writer is dead, and the store has been told."""
        self.accounts.forfeit(writer)

    def _serve(self, accounts: Iterable[str]) -> None:
        for waiting, answer in self.accounts.serve(accounts):
            self._answered.append(_Answered(waiting.ask, answer, self._line.pop(waiting)))
        if self._answered and self._writing is None:
            self._writing = asyncio.ensure_future(self._write_down())

    async def _write_down(self) -> None:
        try:
            while self._answered:
                answered, self._answered = self._answered, []
                failure: LedgerFailed | None = None
                try:
                    if changes := self.accounts.unwritten():
                        await self._write(changes)
                except LedgerFailed as error:
                    failure = error
                for ask, answer, told in answered:
                    if failure is not None and isinstance(answer, Granted):
                        self.accounts.undo(ask, answer)
                    if told.done():
                        continue
                    if failure is None:
                        told.set_result(answer)
                    else:
                        told.set_exception(failure)
        finally:
            self._writing = None
