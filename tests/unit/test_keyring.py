"""Keys that are kept: known to every coordinator within a second, and no burden to the ledger whoever guesses."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from orchestrator.config.operations import CallerKey
from orchestrator.errors import LedgerFailed
from orchestrator.keyring import FOLLOW_S, LOOKS_PER_S, Keyring, known
from orchestrator.keys import PREFIX, hash_of, make_key
from orchestrator.ledger.records import KeyRow
from tests.virtual_loop import run

JOHN = CallerKey("john", "ab" * 32, ("tier:*",), "john", 5.0, 60.0, 1000.0, date(2027, 1, 31), admin=True)
CI = CallerKey("ci", "cd" * 32)


class Book:
    """A ledger's keys in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = {}
        self.version = 0
        self.asked = 0
        self.problem: LedgerFailed | None = None

    def _reach(self) -> None:
        self.asked += 1
        if self.problem is not None:
            raise self.problem

    async def keys(self) -> tuple[KeyRow, ...]:
        self._reach()
        return tuple(self.rows.values())

    async def put_key(self, row: KeyRow) -> None:
        self._reach()
        self.rows[row.name] = row
        self.version += 1

    async def revoke_key(self, name: str, at_s: float) -> bool:
        self._reach()
        row = self.rows.get(name)
        if row is None or row.revoked_at is not None:
            return False
        self.rows[name] = row._replace(revoked_at=at_s)
        self.version += 1
        return True

    async def keys_version(self) -> int:
        self._reach()
        return self.version


def over(book: Any) -> Keyring:
    return Keyring(lambda: book, clock=asyncio.get_running_loop().time, now=lambda: 1_000.0)


def test_a_key_is_long_and_random() -> None:
    """256 bits behind a prefix that says what it is, in characters that need no quoting; kept by its SHA-256."""
    keys = {make_key() for _ in range(100)}
    assert 100 == len(keys)
    assert {len(PREFIX) + 43} == {len(key) for key in keys}
    assert all(key.startswith(PREFIX) and key.replace("-", "").replace("_", "").isalnum() for key in keys)
    assert "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" == hash_of("secret")


def test_what_one_makes_all_know_within_a_second() -> None:
    """As it was made, with all that it says; and all know it revoked. Rows are shown without hashes."""

    async def main() -> None:
        book = Book()
        one, two = over(book), over(book)
        two.start()
        await one.add(JOHN)
        await one.add(CI)
        assert (known(JOHN), known(CI)) == (one.find("ab" * 32), one.find("cd" * 32))
        await asyncio.sleep(1)
        assert known(JOHN) == two.find("ab" * 32)
        assert {"john", "ci"} == {*two.names()}
        assert await one.revoke("ci")
        assert not await one.revoke("ci")
        assert not await one.revoke("nobody")
        assert one.find("cd" * 32) is None
        await asyncio.sleep(1)
        assert two.find("cd" * 32) is None
        assert {"john", "ci"} == {*two.names()}  # a name that was used stays used
        rows = await two.rows()
        assert [("john", None), ("ci", 1_000.0)] == [(row["name"], row["revoked_at"]) for row in rows]
        assert (date(2027, 1, 31), ("tier:*",)) == (rows[0]["expires"], rows[0]["models"])
        assert "key_sha256" not in rows[0]
        await two.aclose()
        await one.aclose()

    run(main())


def test_an_unknown_key_is_looked_up_before_it_is_refused() -> None:
    """Whoever asks for it waits for a look that began after; ten thousand guesses are a few questions a second."""

    async def main() -> None:
        book = Book()
        one, two = over(book), over(book)
        await two.look()
        await one.add(CI)
        await two.look()
        assert known(CI) == two.find("cd" * 32)
        before, loop = book.asked, asyncio.get_running_loop()
        began_s = loop.time()

        async def guess(after_s: float) -> None:
            await asyncio.sleep(after_s)
            await two.look()

        await asyncio.gather(*(guess(number / 5_000) for number in range(10_000)))
        assert book.asked - before <= LOOKS_PER_S * (loop.time() - began_s) + 1 <= 12

    run(main())


def test_while_the_ledger_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Known keys go on, which is said once; unknown ones cannot be looked up; when it is back so is everything."""

    async def main() -> None:
        book = Book()
        one = over(book)
        await one.add(JOHN)
        one.start()
        book.problem = LedgerFailed("it is away")
        await asyncio.sleep(10 * FOLLOW_S)
        assert known(JOHN) == one.find("ab" * 32)
        with pytest.raises(LedgerFailed, match="it is away"):
            await one.look()
        assert ["keys are what they were: it is away"] == caplog.messages
        book.problem = None
        await asyncio.gather(one.look(), one.revoke("john"))
        assert one.find("ab" * 32) is None
        await one.aclose()

    run(main())


def test_another_ledger_has_other_keys() -> None:
    """None has none, and nothing can be kept."""

    async def main() -> None:
        books: list[Any] = [Book()]
        one = Keyring(lambda: books[0], clock=asyncio.get_running_loop().time)
        await one.add(JOHN)
        books[0] = Book()
        await one.look()
        assert one.find("ab" * 32) is None
        await one.add(CI)
        books[0] = None
        one.start()
        await asyncio.sleep(1)
        assert (None, False) == (one.find("cd" * 32), one.kept)
        await one.look()
        with pytest.raises(LedgerFailed):
            await one.add(CI)
        with pytest.raises(LedgerFailed):
            await one.revoke("ci")
        await one.aclose()

    run(main())


def test_whatever_goes_wrong_it_goes_on_following(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise a revoked key would be taken for ever."""

    async def main() -> None:
        book: Any = Book()
        one = over(book)
        await one.add(JOHN)
        one.start()
        book.problem = RuntimeError("unforeseen")
        await asyncio.sleep(1)
        book.problem = None
        await over(book).revoke("john")
        await asyncio.sleep(1)
        assert one.find("ab" * 32) is None
        await one.aclose()

    run(main())
    assert "keys could not be read" in caplog.text


def test_a_key_that_cannot_be_read_is_none_and_keeps_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    """Such as one that a newer program has made: it is said, and others are made and revoked as ever."""

    async def main() -> None:
        book = Book()
        one = over(book)
        await one.add(JOHN)
        await book.put_key(KeyRow("newer", "ef" * 32, '{"models": [], "unheard_of": 1}', 1.0))
        await one.look()
        assert (True, None) == (one.find("ab" * 32) is not None, one.find("ef" * 32))
        assert ["john"] == [row["name"] for row in await one.rows()]
        assert ["john", "newer"] == [*one.names()]
        await one.revoke("john")
        assert one.find("ab" * 32) is None

    run(main())
    assert 1 == caplog.text.count("the key 'newer' cannot be read")
