"""The accounts with those who wait: what the bookkeeper of the ledger leases, on disk before it is answered.

Leases that are granted while others are being written go to disk together, in one transaction.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.budgets.accounts import Accounts, Answer, Ask, Granted, Waiting
from orchestrator.errors import LedgerFailed

Balances = Mapping[str, tuple[int, Mapping[str, int]]]
"""Account -> what is spent, and what is leased by writer."""
Write = Callable[[Sequence[tuple[str, str, int]], Mapping[str, int]], Awaitable[Balances]]
"""Puts changes of leases on disk, (writer, account, units) each, all or none of them. Accounts that would come to more than
their limit (the second argument) are returned as they are. Raises LedgerFailed."""


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
            limit, spent = self.accounts.standing(waiting.ask.account)
            told.set_result(Granted(0, max(0, limit - spent), scarce=True))
            self._serve((waiting.ask.account,))

    def settled(self, writer: str, spent: Mapping[str, int], returned: Mapping[str, int]) -> None:
        """A batch of a writer's is on disk."""
        self.accounts.settle(writer, spent, returned)
        self._serve({*spent, *returned})

    def forfeit(self, writer: str) -> None:
        """A writer is dead, and the store has been told."""
        self.accounts.forfeit(writer)

    def refresh(self, balances: Balances) -> None:
        """How these accounts stand on disk."""
        for account, (spent, leased) in balances.items():
            self.accounts.restore(account, spent, leased)
        self._serve(balances)

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
                stale: Balances = {}
                changes = self.accounts.unwritten()
                try:
                    if changes:
                        grown = {account for _, account, units in changes if units > 0}
                        stale = await self._write(changes, self.accounts.limits(grown))
                except LedgerFailed as error:
                    failure = error
                self.accounts.arrived()
                undone: Counter[tuple[str, str]] = Counter()
                for ask, answer, told in answered:
                    given = answer
                    if isinstance(answer, Granted) and (failure is not None or stale):
                        self.accounts.undo(ask, answer)
                        undone[ask.writer, ask.account] += answer.units
                        # Where another process has leased it, whoever asks again is told how things are now.
                        given = Granted(0, answer.left, scarce=True)
                    if told.done():
                        continue
                    if failure is None:
                        told.set_result(given)
                    else:
                        told.set_exception(failure)
                if stale:
                    # What was handed in of other accounts was refused with the rest.
                    for writer, account, units in changes:
                        if account not in stale:
                            self.accounts.again(writer, account, units - undone[writer, account])
                self.refresh(stale)
        finally:
            self._writing = None
