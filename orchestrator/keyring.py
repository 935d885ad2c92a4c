"""Keys as they are looked up, and those that are made and revoked while the endpoint runs.

The latter are kept in the ledger's database. Every coordinator has all of them in memory and asks twice a second whether they
have changed; a key that it does not know is worth a question at once, but there are at most `LOOKS_PER_S` of those, whoever
guesses however much: all who come meanwhile wait for the same one. While the ledger is away, the keys that are known go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from math import inf
from typing import NamedTuple, Protocol

import orjson

from orchestrator.callers import Caller
from orchestrator.config.operations import CallerKey
from orchestrator.errors import LedgerFailed
from orchestrator.ledger.records import KeyRow
from orchestrator.types import Json

FOLLOW_S = 0.5
"""How often it is asked whether keys have changed."""
LOOKS_PER_S = 4

_log = logging.getLogger("orchestrator.keys")


class Known(NamedTuple):
    """A key, and until when it is taken, in seconds since 1970."""

    key: CallerKey
    caller: Caller
    until_s: float


def known(key: CallerKey) -> Known:
    """A key as it is looked up: to the end of its last day, in UTC."""
    if key.expires is None:
        return Known(key, key.caller, inf)
    end = datetime.combine(key.expires, datetime.min.time(), UTC) + timedelta(days=1)
    return Known(key, key.caller, end.timestamp())


class KeyBook(Protocol):
    """Where keys are kept (`orchestrator.ledger.bookkeeper.Bookkeeper`). All raise LedgerFailed."""

    async def keys(self) -> tuple[KeyRow, ...]:
        """All of them, those revoked too."""
        ...

    async def put_key(self, row: KeyRow) -> None:
        """Adds one, or replaces the one of its name."""
        ...

    async def revoke_key(self, name: str, at_s: float) -> bool:
        """False: there is none to revoke."""
        ...

    async def keys_version(self) -> int:
        """Grows with each change."""
        ...


class Keyring:
    """The kept keys of one coordinator. `book` gives the ledger that there is now; None: there is none, and no keys."""

    def __init__(
        self,
        book: Callable[[], KeyBook | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._clock = clock
        self._now = now
        self._read_from: KeyBook | None = None
        self._version: int | None = None
        self._rows: tuple[KeyRow, ...] = ()
        self._readable: dict[str, Known] = {}
        """By name: those that are known for what they are."""
        self._by_hash: dict[str, Known] = {}
        self._looked_s = -inf
        self._next: asyncio.Task[LedgerFailed | None] | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def kept(self) -> bool:
        """Whether keys can be made: there is a ledger."""
        return self._book() is not None

    def find(self, key_sha256: str) -> Known | None:
        """What is known of a key without asking anybody."""
        return self._by_hash.get(key_sha256)

    async def look(self) -> None:
        """Asks for what is newer than now. Raises LedgerFailed."""
        if self._book() is None:
            return
        if self._next is None:
            self._next = asyncio.ensure_future(self._look_in_turn())
        problem = await asyncio.shield(self._next)
        if problem is not None:
            raise problem

    async def _look_in_turn(self) -> LedgerFailed | None:
        await asyncio.sleep(max(0.0, self._looked_s + 1 / LOOKS_PER_S - self._clock()))
        # Whoever comes from here on may know of a key that this question is too early for.
        self._next, self._looked_s = None, self._clock()
        try:
            await self._read()
        except LedgerFailed as error:
            return error
        return None

    def start(self) -> None:
        """Begins to follow what is changed."""
        self._following = asyncio.ensure_future(self._follow())

    async def aclose(self) -> None:
        """Follows no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))

    async def _follow(self) -> None:
        said = False
        while True:
            try:
                await self._read()
                said = False
            except LedgerFailed as error:
                if not said:
                    _log.warning("keys are what they were: %s", error)
                said = True
            except Exception:
                # Whatever it was: who follows no more would take revoked keys for ever.
                _log.exception("keys could not be read")
            await asyncio.sleep(FOLLOW_S)

    async def _read(self) -> None:
        book = self._book()
        if book is not self._read_from:
            self._read_from, self._version = book, None
        if book is None:
            self._take(())
            return
        version = await book.keys_version()
        if version != self._version:
            # What changes while they are read has another version, and is read again.
            rows = await book.keys()
            if book is self._read_from:  # another ledger may have come meanwhile, and been read
                self._take(rows)
                self._version = version

    def _take(self, rows: tuple[KeyRow, ...]) -> None:
        if rows == self._rows:
            return
        readable: dict[str, Known] = {}
        for row in rows:
            try:
                readable[row.name] = _known(row)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                # One that a newer program has made, say: the others are not to stay as they were for its sake.
                if row not in self._rows:
                    _log.warning("the key %r cannot be read, and is refused: %s", row.name, error)
        self._rows, self._readable = rows, readable
        self._by_hash = {
            row.key_sha256: readable[row.name] for row in rows if row.revoked_at is None and row.name in readable
        }

    async def rows(self) -> list[Json]:
        """All that there are and were, as JSON, without hashes. Raises LedgerFailed."""
        await self.look()
        return [
            {**shown(self._readable[row.name].key), "created_at": row.created_at, "revoked_at": row.revoked_at}
            for row in self._rows
            if row.name in self._readable
        ]

    def names(self) -> Iterator[str]:
        """Of all that there are and were, as far as is known."""
        return (row.name for row in self._rows)

    async def add(self, key: CallerKey) -> None:
        """Keeps a key; it is known here when this returns, and everywhere a second later. Raises LedgerFailed."""
        book = self._book()
        if book is None:
            raise LedgerFailed("there is no ledger")
        until_s = known(key).until_s
        caller = orjson.dumps(asdict(key.caller)).decode()
        await book.put_key(KeyRow(key.name, key.key_sha256, caller, self._now(), None if until_s == inf else until_s))
        await self._read()

    async def revoke(self, name: str) -> bool:
        """The same for the end of a key; False: there is none of this name. Raises LedgerFailed."""
        book = self._book()
        if book is None:
            raise LedgerFailed("there is no ledger")
        revoked = await book.revoke_key(name, self._now())
        await self._read()
        return revoked


def shown(key: CallerKey) -> Json:
    """A key as JSON, without its hash."""
    row = asdict(key)
    del row["key_sha256"]
    return row


def _known(row: KeyRow) -> Known:
    fields = orjson.loads(row.caller)
    caller = Caller(**{**fields, "models": tuple(fields["models"])})
    last = None if row.expires is None else (datetime.fromtimestamp(row.expires, UTC) - timedelta(days=1)).date()
    key = CallerKey(row.name, row.key_sha256, expires=last, **{name: getattr(caller, name) for name in _SHARED})
    return Known(key, caller, inf if row.expires is None else row.expires)


_SHARED = ("models", "user", "budget_usd", "requests_per_minute", "tokens_per_minute", "admin")
