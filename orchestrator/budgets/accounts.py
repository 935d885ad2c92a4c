"""The accounts of all budgets, in one place: what is spent, and what each coordinator has leased of what is not.

Guaranteed, whatever is asked in whatever order: what is spent and leased together never comes to more than the limit that a
lease was asked under. So a coordinator that spends no more than it has leased cannot overshoot, however many there are, and
whenever one of them dies: what it had leased counts as spent (`forfeit`). Only an answer that costs more than
its worst case was thought to be goes beyond, and is booked as it is.

A lease is generous while there is much left (a share of it for each coordinator) and exactly what is needed when there is
not. Whoever needs more than there is waits in line while others may still give something back; a smaller need may overtake a
larger one `OVERTAKEN` times. Amounts are whole steps of the grid (`orchestrator.money`).

**Nothing gets lost with an answer.** Each time it asks, a coordinator says what it keeps, and hands in whatever it has leased
beyond that. It need not know how much that is: what was leased in an answer that never arrived is handed in with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OVERTAKEN = 32
"""How often somebody in line is passed by smaller needs before all wait."""
SHARE = 4
"""A lease that goes beyond what is needed takes a fourth of what each coordinator could have."""


class Ask(NamedTuple):
    """What a coordinator asks of an account. It has one such question at a time for each."""

    writer: str
    number: int
    """Grows with each question of the writer about the account: one that was overtaken by a later one has no effect."""
    account: str
    limit: int
    """What the budget is, by the configuration of whoever asks."""
    kept: int
    """What the writer keeps of its lease: what is reserved or not yet free, and what it has spent and given back without the
    ledger's having acknowledged that. Below 0 where an answer has cost more than was leased."""
    need: int
    """What it has to have beyond that, more than 0."""
    want: int
    """What it has a use for, at least `need`."""
    waits: bool = True
    """Whether it takes a place in line where there is not enough now."""


class Granted(NamedTuple):
    """What is leased beyond what the writer keeps."""

    units: int
    left: int
    """What of the budget is not spent, and may be leased to others."""
    scarce: bool = False
    """Others wait, or soon will: nothing is to be kept without a need."""


class Exhausted(NamedTuple):
    """Nobody can give back enough for it."""

    left: int


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody in line."""

    ask: Ask
    overtaken: int = 0


Answer = Granted | Exhausted


@dataclass(slots=True)
class Account:
    """One budget."""

    spent: int = 0
    limit: int = 0
    """The last that was heard of."""
    leased: dict[str, int] = field(default_factory=dict)
    """By writer. Below 0: it has spent more than it had, which it makes up for out of the next lease."""
    waiting: list[Waiting] = field(default_factory=list)
    """In line."""
    numbers: dict[str, int] = field(default_factory=dict)
    """By writer: its last question."""

    def others(self, writer: str) -> int:
        """What all others have leased."""
        return sum(units for name, units in self.leased.items() if units > 0 and name != writer)


class Accounts:
    """All of them. Synchronous and without a clock; `orchestrator.ledger.bookkeeper` has them on disk."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._unwritten: Counter[tuple[str, str]] = Counter()
        """How leases, by writer and account, have changed without anybody's having begun to write it down."""
        self._on_their_way: Counter[tuple[str, str]] = Counter()
        """The same of those that are being written down."""

    def __contains__(self, account: str) -> bool:
        return account in self._accounts

    def restore(self, account: str, spent: int, leased: Mapping[str, int]) -> None:
        """Takes over from the disk what is spent and leased; what is not there yet stays, and who waits goes on waiting."""
        found = self._accounts.setdefault(account, Account())
        found.spent = spent
        found.leased = {one.ask.writer: 0 for one in found.waiting} | dict(leased)
        for changes in (self._unwritten, self._on_their_way):
            for (writer, name), units in changes.items():
                if name == account:
                    found.leased[writer] = found.leased.get(writer, 0) + units

    def ask(self, ask: Ask) -> Answer | Waiting:
        """An answer, or a place in line: what comes of it is said by `serve`, to be called after each change."""
        account = self._accounts.setdefault(ask.account, Account())
        if ask.number <= account.numbers.get(ask.writer, 0):
            return Granted(0, 0)
        account.numbers[ask.writer] = ask.number
        account.limit = ask.limit
        own = account.leased.setdefault(ask.writer, 0)
        self._lease(account, ask, min(0, ask.kept - own))
        waiting = Waiting(ask)
        account.waiting = [one for one in account.waiting if one.ask.writer != ask.writer] + [waiting]
        answer = self._answer(account, ask)
        if answer is not None:
            account.waiting.remove(waiting)
        return waiting if answer is None else answer

    def settle(self, writer: str, spent: Mapping[str, int], returned: Mapping[str, int]) -> None:
        """Books what a writer has spent of its leases, and what it gives back of them."""
        for name in {*spent, *returned}:
            account = self._accounts.setdefault(name, Account())
            account.spent += spent.get(name, 0)
            left = account.leased.get(writer, 0) - spent.get(name, 0) - returned.get(name, 0)
            account.leased[writer] = left

    def writers(self) -> set[str]:
        """Who has leased something."""
        accounts = self._accounts.values()
        return {writer for account in accounts for writer, units in account.leased.items() if units > 0}

    def limits(self, accounts: Iterable[str]) -> dict[str, int]:
        """What these budgets are."""
        return {name: self._accounts[name].limit for name in accounts}

    def unwritten(self) -> list[tuple[str, str, int]]:
        """How leases have changed since the last time, by `ask` and `serve`: (writer, account, units). They are to be on disk
        before any answer is given, and on their way there until `arrived`; what `settle` and `forfeit` change is there
        already."""
        self._on_their_way, self._unwritten = self._unwritten, Counter()
        return [(writer, account, units) for (writer, account), units in self._on_their_way.items() if units]

    def arrived(self) -> None:
        """They are on disk, or will not be."""
        self._on_their_way = Counter()

    def undo(self, ask: Ask, granted: Granted) -> None:
        """A lease that could not be written down: nobody has it."""
        # Of a question that was overtaken nothing is leased, and the writer need not be known here.
        if granted.units:
            self._accounts[ask.account].leased[ask.writer] -= granted.units

    def again(self, writer: str, account: str, units: int) -> None:
        """So much of a change is still to be written down."""
        self._unwritten[writer, account] += units

    def leave(self, waiting: Waiting) -> None:
        """Whoever has waited long enough goes out of the line; harmless where it has its answer."""
        line = self._accounts[waiting.ask.account].waiting
        if waiting in line:
            line.remove(waiting)

    def forfeit(self, writer: str) -> None:
        """The writer is dead: what it had leased is spent. Should it turn up after all, what it has left of that is made good
        to it, and to nobody else."""
        for account in self._accounts.values():
            if (units := account.leased.get(writer, 0)) > 0:
                account.spent += units
                account.leased[writer] = 0
            account.waiting = [one for one in account.waiting if one.ask.writer != writer]

    def serve(self, accounts: Iterable[str]) -> list[tuple[Waiting, Answer]]:
        """Who of those in line has an answer now."""
        answered: list[tuple[Waiting, Answer]] = []
        for name in accounts:
            account = self._accounts[name]
            for waiting in tuple(account.waiting):
                if (answer := self._answer(account, waiting.ask)) is not None:
                    account.waiting.remove(waiting)
                    answered.append((waiting, answer))
        return answered

    def _answer(self, account: Account, ask: Ask) -> Answer | None:
        """Leases what is asked for, if there is enough of it. None: it has to wait."""
        own = account.leased[ask.writer]
        unspent = account.limit - account.spent
        room = unspent - account.others(ask.writer) - own
        # What makes up for a lease that was overdrawn is spent already.
        if ask.need + min(0, own) > unspent:
            return Exhausted(max(0, unspent))
        before = account.waiting[: next(place for place, one in enumerate(account.waiting) if one.ask is ask)]
        if ask.need > room or any(one.overtaken >= OVERTAKEN for one in before):
            return None if ask.waits else Granted(0, max(0, unspent), scarce=True)
        for one in before:
            one.overtaken += 1
        alone = len(account.waiting) == 1
        writers = {name for name, units in account.leased.items() if units > 0} | {ask.writer}
        generous = min(ask.want, room // (SHARE * len(writers))) if alone else 0
        units = max(ask.need, generous)
        self._lease(account, ask, units)
        return Granted(units, max(0, unspent), not alone or generous < ask.need)

    def _lease(self, account: Account, ask: Ask, units: int) -> None:
        account.leased[ask.writer] += units
        self._unwritten[ask.writer, ask.account] += units

    def standing(self, account: str) -> tuple[int, int]:
        """A budget's limit, and what of it is spent."""
        found = self._accounts[account]
        return found.limit, found.spent

    def rows(self) -> list[dict[str, Any]]:
        """Each account: `account`, `limit`, `spent`, `leased` and `left`, in units."""
        rows: list[dict[str, Any]] = []
        for name, account in sorted(self._accounts.items()):
            left = max(0, account.limit - account.spent)
            leased = account.others("")
            rows.append(
                {"account": name, "limit": account.limit, "spent": account.spent, "leased": leased, "left": left}
            )
        return rows
