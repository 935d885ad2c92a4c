"""The ledger's database: SQLite or PostgreSQL, synchronously. One writer at a time; any number of readers.

What has been written is on disk when a method returns: SQLite in WAL mode with synchronous=FULL, which syncs the log at each
commit (sqlite.org/pragma.html#pragma_synchronous), PostgreSQL as it is configured (synchronous_commit is on by default).
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError, TimeoutError

from orchestrator.config.ledger import without_password
from orchestrator.errors import LedgerFailed
from orchestrator.ledger import tables
from orchestrator.ledger.records import Batch, KeyRow, RequestRecord

BUSY_S = 2.0
"""How long a database that somebody else has locked is waited for; then it is said, and tried again with the next batch."""
LOCKED_S = 10.0
"""The same of PostgreSQL's locks, for which those who make its schema queue."""
IDLE_S = 30.0
"""A transaction in which nothing happens for so long is ended by PostgreSQL. One whose process was frozen, or died with its
machine, would hold its locks until the server's system notices, by default in two hours."""
_SILENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
"""When a server that has fallen silent is given up (postgresql.org/docs/current/libpq-connect.html): left to itself, the
system takes a quarter of an hour, or two hours. Seconds, but for the last one."""
PIECE = 1_000
"""Rows that are deleted at once."""
_LOCK = 0x6F7263686C656467
"""PostgreSQL's advisory lock for changes of the schema: `orchledg`."""
_READING = "ledger_reading"
_OF_VALUES = ("22", "23")
"""Data exceptions and violations of constraints (postgresql.org/docs/current/errcodes-appendix.html)."""
_TAKE = (
    update(tables.leases)
    .where(tables.leases.c.writer == bindparam("by"), tables.leases.c.account == bindparam("of"))
    .values(units=tables.leases.c.units - bindparam("gone"))
)
"""Takes units off a lease."""


class Balance(NamedTuple):
    """How one account stands, in units."""

    spent: int
    leased: dict[str, int]
    """By writer; below 0: overdrawn."""

    @property
    def used(self) -> int:
        """What is not there for others."""
        return self.spent + sum(units for units in self.leased.values() if units > 0)


class _TooMuch(Exception):
    """More than the limit: the transaction is rolled back."""


class Store:
    """One database. Its methods block, and raise LedgerFailed. The first that is called makes or migrates the schema."""

    def __init__(self, url: str) -> None:
        """`url` is `sqlite:///PATH` or `postgresql://…`."""
        # A file's path may hold whatever a path may hold.
        path = url.removeprefix("sqlite:///")
        parsed = make_url(url) if path == url else URL.create("sqlite", database=path)
        self.name = without_password(url)
        """As it may be shown."""
        self.engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
        self._insert: Any = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        mark = "?" if self.engine.dialect.name == "sqlite" else "%s"
        # Rows as they are: SQLAlchemy's own inserts look at each value, and take 34 us of CPU a request for 16.
        self._inserts = {
            table: f"INSERT INTO {table.name} ({', '.join(table.c.keys())}) "  # noqa: S608 - names of our own
            f"VALUES ({', '.join(mark for _ in table.c)})"
            for table in tables.FORGOTTEN
        }
        # Made once: making one takes SQLAlchemy longer than the database takes to carry it out, and each batch has three.
        self._claim = self._claiming()
        self._spend = self._adding(tables.accounts, "spent_units")
        self._lend = self._adding(tables.leases, "units")
        self._count = self._adding(tables.meta, "value")
        self._migrated = False

    def write(self, batch: Batch) -> None:
        """Writes a batch, whole or not at all; one that has been written already is not written again."""
        self.write_all((batch,))

    def write_all(self, batches: Sequence[Batch], at_s: float | None = None) -> tuple[bool, ...]:
        """The same for several in one transaction. `at_s`: when their writers were seen, in seconds since 1970; now. Says of
        each whether it was written now."""
        at_s = time.time() if at_s is None else at_s
        claimed: list[bool] = []
        with self._writing() as connection:
            for batch in batches:
                claimed.append(self._claimed(connection, batch, at_s))
                if claimed[-1]:
                    self._write(connection, batch)
        return tuple(claimed)

    def _claimed(self, connection: Connection, batch: Batch, at_s: float) -> bool:
        """Whether the batch is to be written. Another process that is about to write it is waited for: a ledger that was
        given up for dead may still be at it."""
        row = {"writer": batch.writer, "last_sequence": batch.sequence, "seen_at": at_s}
        return connection.execute(self._claim, row).first() is not None

    def _write(self, connection: Connection, batch: Batch) -> None:
        for table, rows in _rows(batch.records).items():
            if rows:
                connection.exec_driver_sql(self._inserts[table], rows)
        self._book(connection, batch.spent)
        gone = Counter(batch.spent)
        gone.update(batch.returned)
        if gone:
            # A lease that was forfeited has no row, and nothing is taken off it.
            taken = [{"by": batch.writer, "of": account, "gone": units} for account, units in sorted(gone.items())]
            connection.execute(_TAKE, taken)

    def _book(self, connection: Connection, spent: Mapping[str, int]) -> None:
        """Counts units as spent, by account."""
        if spent:
            rows = [{"account": account, "spent_units": units} for account, units in sorted(spent.items())]
            connection.execute(self._spend, rows)

    def _adding(self, table: Table, column: str) -> Any:
        """Adds to a column of a row, or makes the row."""
        insert = self._insert(table)
        added = {column: table.c[column] + insert.excluded[column]}
        return insert.on_conflict_do_update(index_elements=[*table.primary_key.columns], set_=added)

    def _claiming(self) -> Any:
        row = self._insert(tables.writers)
        fresh = row.on_conflict_do_update(
            index_elements=["writer"],
            set_={"last_sequence": row.excluded.last_sequence, "seen_at": row.excluded.seen_at},
            where=tables.writers.c.last_sequence < row.excluded.last_sequence,
        )
        return fresh.returning(tables.writers.c.writer)

    def grant(
        self,
        leases: Iterable[tuple[str, str, int]],
        at_s: float | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> dict[str, Balance]:
        """Adds to what writers have leased, or takes from it: (writer, account, units) each. `at_s`: see `write_all`.

        Where an account of `limits` would come to more than its limit, since another process leases out of the same database,
        nothing is changed, and all such accounts are returned as they are.
        """
        limits = limits or {}
        with suppress(_TooMuch), self._writing() as connection:
            if limits and self.engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK + 1})
            before = {account: _balance(connection, account) for account in sorted(limits)}
            for writer, account, units in leases:
                connection.execute(self._lend, {"writer": writer, "account": account, "units": units})
                self._see(connection, writer, time.time() if at_s is None else at_s)
            wrong = {
                account: balance
                for account, balance in before.items()
                if _balance(connection, account).used > limits[account]
            }
            if wrong:
                raise _TooMuch
        return wrong

    def note_alert(self, account: str, threshold: float) -> bool:
        """Notes that it is said that a budget is spent up to there. False: it had been."""
        row = self._insert(tables.alerts).values(account=account, threshold=threshold).on_conflict_do_nothing()
        with self._writing() as connection:
            return connection.execute(row.returning(tables.alerts.c.account)).first() is not None

    def alerts(self) -> tuple[tuple[str, float], ...]:
        """All that was said of budgets: account and threshold."""
        with self.reading() as connection:
            return tuple((row.account, row.threshold) for row in connection.execute(select(tables.alerts)))

    def _see(self, connection: Connection, writer: str, at_s: float) -> None:
        row = self._insert(tables.writers).values(writer=writer, last_sequence=0, seen_at=at_s)
        seen = row.on_conflict_do_update(index_elements=["writer"], set_={"seen_at": row.excluded.seen_at})
        connection.execute(seen)

    def forfeit(self, writer: str) -> dict[str, int]:
        """What a writer had leased is spent from now on: account -> units. What it says of it later is counted as well, so
        that too much may be counted where it was not dead after all, and never too little."""
        leased = tables.leases.c
        with self._writing() as connection:
            mine = select(leased.account, leased.units).where(leased.writer == writer, leased.units > 0)
            lost = {row.account: int(row.units) for row in connection.execute(mine.order_by(leased.account))}
            self._book(connection, lost)
            connection.execute(delete(tables.leases).where(leased.writer == writer))
        return lost

    def balances(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """Account -> units spent, and (writer, account) -> units that are leased; below 0: overdrawn."""
        with self.reading() as connection:
            spent = {row.account: int(row.spent_units) for row in connection.execute(select(tables.accounts))}
            leases = connection.execute(select(tables.leases).where(tables.leases.c.units != 0))
            return spent, {(row.writer, row.account): int(row.units) for row in leases}

    def last_sequence(self, writer: str) -> int:
        """Of the batches of a writer that were written; 0: none."""
        with self.reading() as connection:
            known = tables.writers.c
            last = connection.execute(select(known.last_sequence).where(known.writer == writer)).scalar()
            return 0 if last is None else int(last)

    def seen(self, writers: Iterable[str], at_s: float) -> None:
        """These were there at `at_s` (seconds since 1970), though they had nothing to write."""
        with self._writing() as connection:
            for writer in sorted(writers):
                self._see(connection, writer, at_s)

    def unseen(self, before_s: float) -> tuple[str, ...]:
        """Writers that have leased something and were not there since `before_s`."""
        leased, known = tables.leases.c, tables.writers.c
        joined = tables.leases.outerjoin(tables.writers, leased.writer == known.writer)
        late = (known.seen_at < before_s) | known.seen_at.is_(None)
        with self.reading() as connection:
            rows = connection.execute(
                select(leased.writer).distinct().select_from(joined).where(late, leased.units > 0)
            )
            return tuple(sorted(row.writer for row in rows))

    def keys(self) -> tuple[KeyRow, ...]:
        """All callers' keys, those that were revoked or have expired among them, by name."""
        with self.reading() as connection:
            return tuple(KeyRow(*row) for row in connection.execute(select(tables.keys).order_by(tables.keys.c.name)))

    def put_key(self, row: KeyRow) -> None:
        """Adds a key, or replaces the one of its name."""
        with self._writing() as connection:
            insert = self._insert(tables.keys).values(row._asdict())
            fields = {name: insert.excluded[name] for name in row._fields if name != "name"}
            connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=fields))
            connection.execute(self._count, {"name": "keys_version", "value": 1})

    def revoke_key(self, name: str, at_s: float) -> bool:
        """Revokes a key. False: there is none of this name that was not revoked before."""
        key = tables.keys.c
        with self._writing() as connection:
            revoked = update(tables.keys).where(key.name == name, key.revoked_at.is_(None)).values(revoked_at=at_s)
            if not connection.execute(revoked).rowcount:
                return False
            connection.execute(self._count, {"name": "keys_version", "value": 1})
            return True

    def keys_version(self) -> int:
        """Grows with each change of the keys."""
        with self.reading() as connection:
            return _meta(connection, "keys_version")

    def forget(self, before_s: float, limit: int = PIECE) -> int:
        """Deletes records of requests that began before `before_s`, some at a time; says how many rows. What was spent of
        budgets stays."""
        deleted = 0
        with self._writing() as connection:
            for table in tables.FORGOTTEN:
                # By physical row: neither has a LIMIT for its DELETE.
                row: Any = literal_column("rowid" if self.engine.dialect.name == "sqlite" else "ctid")
                old = select(row).select_from(table).where(table.c.at_s < before_s).limit(limit)
                deleted += connection.execute(delete(table).where(row.in_(old))).rowcount
        return deleted

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self._told():
            self._migrate()
            options: dict[str, Any] = {_READING: True}
            if self.engine.dialect.name == "postgresql":
                options["isolation_level"] = "REPEATABLE READ"
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._told():
            self._migrate()
            with self.engine.begin() as connection:
                yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong, without the statement and its values."""
        try:
            yield
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise LedgerFailed(f"{self.name}: {why}", _passes(error)) from None
        except (OverflowError, ValueError, TypeError) as error:
            # Of a driver, for a value that it has no place for: whoever sent it is told, and nobody else waits for ever.
            raise LedgerFailed(f"{self.name}: {type(error).__name__}: {error}", passes=False) from None

    def _migrate(self) -> None:
        while not self._migrated:
            with self.engine.begin() as connection:
                if self.engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                connection.execute(text(tables.META))
                version = _meta(connection, "schema")
                if version > len(tables.STEPS):
                    raise LedgerFailed(
                        f"{self.name}: its schema has version {version}, and this program knows {len(tables.STEPS)}: "
                        "a newer one has been here; use that, or another database",
                        passes=False,
                    )
                if version == len(tables.STEPS):
                    self._migrated = True
                    return
                for statement in tables.STEPS[version]:
                    connection.execute(text(statement))
                connection.execute(self._count, {"name": "schema", "value": 1})


def _passes(error: SQLAlchemyError) -> bool:
    """Whether the same may be taken later. Of what PostgreSQL says, all but its words on values: a standby is promoted,
    rights are given, a schema is made."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    of_values = state is None or state[:2] in _OF_VALUES
    return isinstance(error, OperationalError | InterfaceError | TimeoutError) or not of_values


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        # Transactions are begun below: sqlite3 would begin them by itself, before some statements and not before others.
        connection.isolation_level = None
        _log_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A transaction that begins by reading and then writes fails at once where another has written meanwhile.
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switches a database to WAL. Where others open a new one in the same moment SQLite says that it is locked at once, and
    waits for nobody: eight that began together met that in 4 of 60 tries."""
    until_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # Anything else, such as a full disk, is said at once: whoever asks for a lease waits for it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(0.01)


def _postgresql(url: URL) -> Engine:
    own = {name: value for name, value in _SILENCE.items() if name not in url.query}
    # A connection that was idle may have been closed by a restart: it is tried before use.
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"), hide_parameters=True, pool_pre_ping=True, connect_args=own
    )

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # Of this transaction alone: behind a pooler (pgbouncer's, by transaction) what is set of a session stays with a
        # connection that others are given next.
        limits = (("lock_timeout", LOCKED_S), ("idle_in_transaction_session_timeout", IDLE_S))
        connection.exec_driver_sql("; ".join(f"SET LOCAL {name} = {round(limit_s * 1000)}" for name, limit_s in limits))

    return engine


def _meta(connection: Connection, name: str) -> int:
    found = connection.execute(select(tables.meta.c.value).where(tables.meta.c.name == name)).scalar()
    return 0 if found is None else int(found)


def _balance(connection: Connection, account: str) -> Balance:
    spent = connection.execute(
        select(tables.accounts.c.spent_units).where(tables.accounts.c.account == account)
    ).scalar()
    leases = connection.execute(select(tables.leases).where(tables.leases.c.account == account))
    return Balance(int(spent or 0), {row.writer: int(row.units) for row in leases if row.units})


def _rows(records: Iterable[RequestRecord]) -> dict[Table, list[tuple[Any, ...]]]:
    """The rows of each table, in the order of its columns."""
    requests: list[tuple[Any, ...]] = []
    attempts: list[tuple[Any, ...]] = []
    arms: list[tuple[Any, ...]] = []
    for record in records:
        requests.append((*record[:-2], len(record.attempts)))
        attempts += [(record.id, number, record.at_s, *one) for number, one in enumerate(record.attempts)]
        arms += [(record.id, record.at_s, *arm) for arm in record.arms]
    return {tables.requests: requests, tables.attempts: attempts, tables.arms: arms}
