"""The store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, inspect, select, text

from orchestrator.errors import LedgerFailed
from orchestrator.ledger import store as module
from orchestrator.ledger import tables
from orchestrator.ledger.records import Batch, KeyRow
from orchestrator.ledger.store import BUSY_S, Balance, Store, _log_ahead
from tests.postgres import PASSWORD, Postgres
from tests.unit.ledger.making import AT_S, attempt, request


@pytest.fixture
def store(ledger_url: str) -> Iterator[Store]:
    """Over a fresh database."""
    with closing(Store(ledger_url)) as store:
        yield store


def count(store: Store, name: str) -> int:
    """Rows of a table."""
    with store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(tables.TABLES[name])).scalar_one())


def test_a_batch_is_written_once(store: Store) -> None:
    """Sent again, and an older one after a newer one, it changes nothing: neither records nor money."""
    first = Batch("w", 1, (request("w-1"),), {"key:ada": 30}, {"key:ada": 20})
    second = Batch("w", 2, (request("w-2"), request("w-3")))
    store.grant([("w", "key:ada", 100)])
    for batch in (first, second, first, second):
        store.write(batch)
    assert 3 == count(store, "requests")
    assert 3 == count(store, "attempts")
    assert 2 == store.last_sequence("w")
    assert ({"key:ada": 30}, {("w", "key:ada"): 50}) == store.balances()


def test_writers_count_for_themselves(store: Store) -> None:
    """Two coordinators' batches of the same number are two batches; several go into one transaction."""
    store.write_all([Batch("a", 1, (request("a-1"),)), Batch("b", 1, (request("b-1"),)), Batch("b", 2, ())], 7.0)
    assert 2 == count(store, "requests")
    assert (1, 2, 0) == tuple(map(store.last_sequence, ("a", "b", "c")))


def test_a_record_is_kept_whole(store: Store) -> None:
    """Every field of a request, its attempts and its arms comes back as it was."""
    made = request(
        "w-1", attempt(7, estimate=True), attempt(None, outcome="stream_cut"), key="lab", arms={"tier:trial": "new"}
    )
    store.write(Batch("w", 1, (made._replace(question="why?", answer="\U0001f600"),)))
    with store.reading() as connection:
        row = connection.execute(select(tables.requests)).one()._asdict()
        tries = [
            one._asdict() for one in connection.execute(select(tables.attempts).order_by(tables.attempts.c.number))
        ]
        arms = [one._asdict() for one in connection.execute(select(tables.arms))]
    expected = made._asdict() | {"user_name": "ada", "key_name": "lab", "attempts": 2}
    del expected["user"], expected["key"], expected["arms"]
    assert expected | {"question": "why?", "answer": "\U0001f600"} == row
    for number, one in enumerate(made.attempts):
        assert one._asdict() | {"request": "w-1", "number": number, "at_s": AT_S} == tries[number]
    assert [{"request": "w-1", "split": "tier:trial", "at_s": AT_S, "arm": "new", "outcome": "ok"}] == arms


def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    """Where one of its records cannot be written none is, and the batch may be sent again."""
    store.write(Batch("w", 1, (request("w-1"),)))
    with pytest.raises(LedgerFailed):
        store.write(Batch("w", 2, (request("w-2"), request("w-1")), {"key:ada": 5}))
    assert (1, 1) == (count(store, "requests"), store.last_sequence("w"))
    assert ({}, {}) == store.balances()


def test_leases(store: Store) -> None:
    """What is granted adds up; what is spent or given back beyond a lease leaves it overdrawn, and is spent all the same."""
    store.grant([("a", "x", 10), ("a", "x", 5), ("b", "x", 7), ("b", "y", 1)])
    assert ({}, {("a", "x"): 15, ("b", "x"): 7, ("b", "y"): 1}) == store.balances()
    store.write(Batch("a", 1, (), {"x": 20}))
    store.write(Batch("b", 1, (), {"y": 1, "x": 2}, {"x": 3}))
    assert ({"x": 22, "y": 1}, {("a", "x"): -5, ("b", "x"): 2}) == store.balances()


def test_no_more_is_leased_than_there_is(store: Store) -> None:
    """Also where another process leases out of the same database: then nothing is changed, and how it stands is said."""
    store.grant([("a", "x", 10), ("a", "y", 10)])
    store.write(Batch("a", 1, (), {"x": 4}))
    assert {"x": Balance(4, {"a": 6})} == store.grant([("b", "x", 11), ("b", "y", 1)], None, {"x": 20, "y": 20})
    assert ({"x": 4}, {("a", "x"): 6, ("a", "y"): 10}) == store.balances()
    assert {} == store.grant([("b", "x", 12), ("a", "x", -2)], None, {"x": 20})
    assert {"new": Balance(0, {})} == store.grant([("b", "new", 2)], None, {"new": 1})


def test_an_alert_is_noted_once(store: Store) -> None:
    """Whoever notes it second is told so."""
    assert [True, False, True] == [store.note_alert("x", threshold) for threshold in (0.5, 0.5, 0.9)]
    assert [("x", 0.5), ("x", 0.9)] == sorted(store.alerts())


def test_what_a_dead_writer_had_leased_is_spent(store: Store) -> None:
    """All of it, on each account, once."""
    store.grant([("a", "x", 10), ("a", "y", 4), ("b", "x", 7)])
    store.write(Batch("a", 1, (), {"x": 3}))
    assert {"x": 7, "y": 4} == store.forfeit("a")
    assert {} == store.forfeit("a")
    assert ({"x": 10, "y": 4}, {("b", "x"): 7}) == store.balances()


def test_who_was_not_seen(store: Store) -> None:
    """Writers with a lease that neither wrote nor said that they were there; others have nothing to lose."""
    store.grant([("wrote", "x", 1), ("said", "x", 1), ("silent", "x", 1), ("late", "x", 1)], 50.0)
    store.grant([("fresh", "x", 1)])
    store.write_all([Batch("wrote", 1), Batch("late", 1)], 50.0)
    store.write_all([Batch("poor", 1), Batch("wrote", 2)], 100.0)
    store.seen(["said", "late"], 100.0)
    store.seen(["late"], 60.0)
    assert ("late", "silent") == store.unseen(90.0)
    assert 1 == store.last_sequence("late")


def test_keys(store: Store) -> None:
    """Put, replaced, revoked once; each change is a new version."""
    key = KeyRow("ada", "f" * 64, '{"user": "ada"}', 1.5, expires=9.5)
    assert ((), 0) == (store.keys(), store.keys_version())
    store.put_key(key)
    store.put_key(key._replace(name="bob"))
    store.put_key(key._replace(caller="{}"))
    assert store.revoke_key("bob", 3.0)
    assert not store.revoke_key("bob", 4.0)
    assert not store.revoke_key("eve", 4.0)
    assert (key._replace(caller="{}"), key._replace(name="bob", revoked_at=3.0)) == store.keys()
    assert 4 == store.keys_version()


def test_old_records_are_forgotten_some_at_a_time(store: Store) -> None:
    """Those from before, with their attempts and arms; money that was spent stays spent."""
    old = [request(f"w-{n}", attempt(), attempt(), at_s=AT_S - 10, arms={"tier:t": "a"}) for n in range(25)]
    store.write(Batch("w", 1, (*old, request("w-99")), {"x": 5}))
    pieces = []
    while gone := store.forget(AT_S, limit=20):
        pieces.append(gone)
    assert [60, 30, 10] == pieces
    assert (1, 1, 0) == tuple(count(store, name) for name in ("requests", "attempts", "arms"))
    assert {"x": 5} == store.balances()[0]


def test_the_schema_is_what_the_program_thinks(store: Store) -> None:
    """After all steps the database has exactly the tables and columns of `tables`, of the same kinds."""
    store.balances()
    found = inspect(store.engine)
    assert {*tables.TABLES} == {*found.get_table_names()}
    for name, table in tables.TABLES.items():
        # SQLite says that a primary key of text may be NULL.
        wanted = {(c.name, c.type.python_type, c.nullable) for c in table.c if not c.primary_key}
        there = {(c["name"], c["type"].python_type, c["nullable"]) for c in found.get_columns(name)}
        assert wanted <= there
        assert {c.name for c in table.c} == {column for column, _, _ in there}
        assert [c.name for c in table.primary_key] == found.get_pk_constraint(name)["constrained_columns"]


def _version_1(url: str) -> None:
    """A database as version 1 left it, with one request."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
            "INSERT INTO meta VALUES ('schema', 1)",
            """CREATE TABLE requests (
                id TEXT PRIMARY KEY, at_s DOUBLE PRECISION NOT NULL, seconds DOUBLE PRECISION NOT NULL,
                first_token_s DOUBLE PRECISION, request_id TEXT NOT NULL, selector TEXT NOT NULL, strategy TEXT NOT NULL,
                user_name TEXT, key_name TEXT, outcome TEXT NOT NULL, provider TEXT, model TEXT,
                cost_units BIGINT, known_units BIGINT NOT NULL, estimated_units BIGINT NOT NULL,
                unknown BOOLEAN NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
                attempts BIGINT NOT NULL)""",
            """CREATE TABLE attempts (
                request TEXT NOT NULL, number BIGINT NOT NULL, at_s DOUBLE PRECISION NOT NULL,
                provider TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL, status BIGINT,
                start_s DOUBLE PRECISION NOT NULL, latency_s DOUBLE PRECISION, first_token_s DOUBLE PRECISION,
                input_tokens BIGINT, output_tokens BIGINT, cost_units BIGINT, is_estimate BOOLEAN NOT NULL,
                unknown BOOLEAN NOT NULL, PRIMARY KEY (request, number))""",
            """CREATE TABLE arms (
                request TEXT NOT NULL, split TEXT NOT NULL, at_s DOUBLE PRECISION NOT NULL, arm TEXT NOT NULL,
                outcome TEXT NOT NULL, PRIMARY KEY (request, split))""",
            """CREATE TABLE writers (
                writer TEXT PRIMARY KEY, last_sequence BIGINT NOT NULL, seen_at DOUBLE PRECISION NOT NULL)""",
            "INSERT INTO writers VALUES ('w', 3, 1.0)",
            """INSERT INTO requests VALUES (
                'w-1', 1795000000, 1, NULL, 'asked', 'tier:fast', 'first', 'ada', NULL, 'ok', 'sim', 'chat',
                500, 500, 0, false, 10, 20, 1)""",
        ):
            connection.execute(text(statement))
    engine.dispose()


def test_a_database_of_version_1_is_migrated(ledger_url: str) -> None:
    """What is in it stays, and it takes what came with later versions: texts, accounts, keys."""
    _version_1(ledger_url)
    with closing(Store(ledger_url)) as store:
        assert 3 == store.last_sequence("w")
        store.write(Batch("w", 3, (request("lost"),)))
        store.write(Batch("w", 4, (request("w-2")._replace(question="why?"),), {"x": 1}))
        with store.reading() as connection:
            rows = connection.execute(select(tables.requests.c.id, tables.requests.c.question)).all()
        assert [("w-1", None), ("w-2", "why?")] == sorted(map(tuple, rows))
        assert {"x": 1} == store.balances()[0]


def test_a_newer_schema_is_refused(ledger_url: str) -> None:
    """It says which version there is and which is known, and touches nothing."""
    with closing(Store(ledger_url)) as store:
        store.write(Batch("w", 1, (request("w-1"),)))
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE meta SET value = 99 WHERE name = 'schema'"))
    with closing(Store(ledger_url)) as store:
        with pytest.raises(LedgerFailed, match=r"version 99, and this program knows 3: a newer one has been here"):
            store.write(Batch("w", 2, (request("w-2"),)))
        assert PASSWORD not in store.name


@pytest.mark.parametrize("refusals", [3, 1_000_000])
def test_a_new_database_that_others_open_too(refusals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite refuses to switch it to WAL at once, in that moment, whatever it was told to wait for."""

    class Database:
        tries = 0

        def execute(self, _: str) -> None:
            self.tries += 1
            if self.tries <= refusals:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
                raise error

    database: Any = Database()
    if refusals > 3:
        monkeypatch.setattr("orchestrator.ledger.store.BUSY_S", 0.05)
        with pytest.raises(sqlite3.OperationalError):
            _log_ahead(database)
    else:
        _log_ahead(database)
        assert 4 == database.tries


def test_a_database_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    """Only for others that open it there is any use in waiting."""
    path = tmp_path / "l.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (a)")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        began_s = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            _log_ahead(database)
        assert time.monotonic() - began_s < BUSY_S / 2


def test_many_start_at_once(ledger_url: str) -> None:
    """Eight that find an empty database at the same time make one schema, and all of them write."""
    stores = [Store(ledger_url) for _ in range(8)]
    barrier = threading.Barrier(len(stores))
    problems: list[Exception] = []

    def begin(number: int, store: Store) -> None:
        barrier.wait()
        try:
            store.write(Batch(f"w{number}", 1, (request(f"w{number}-1"),), {"x": 1}))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=begin, args=one) for one in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == problems
    assert (8, {"x": 8}) == (count(stores[0], "requests"), stores[0].balances()[0])
    for store in stores:
        store.close()


def test_two_that_write_the_same_batch(ledger_url: str) -> None:
    """A ledger that was given up for dead and its successor, at the same time: the batch is written once, money included."""
    stores = [Store(ledger_url) for _ in range(4)]
    stores[0].balances()
    for sequence in range(1, 11):
        batch = Batch("w", sequence, (request(f"w-{sequence}"),), {"x": 1})
        threads = [threading.Thread(target=store.write, args=(batch,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (10, {"x": 10}) == (count(stores[0], "requests"), stores[0].balances()[0])
    for store in stores:
        store.close()


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """WAL, synced at each commit; the tables' rows are in the file for anybody to read."""
    with closing(Store(f"sqlite:///{tmp_path}/ledger.db")) as store:
        store.write(Batch("w", 1, (request("w-1"),)))
        with store.reading() as connection:
            assert ("wal", 2) == tuple(
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
            )
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
            assert [("w-1",)] == other.execute("SELECT id FROM requests").fetchall()


def test_a_locked_database_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the busy timeout; when the lock is gone the same batch is written."""
    monkeypatch.setattr("orchestrator.ledger.store.BUSY_S", 0.1)
    with (
        closing(Store(f"sqlite:///{tmp_path}/ledger.db")) as store,
        closing(sqlite3.connect(tmp_path / "ledger.db")) as other,
    ):
        store.balances()
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerFailed, match="database is locked"):
            store.write(Batch("w", 1, (request("w-1"),)))
        other.execute("ROLLBACK")
        store.write(Batch("w", 1, (request("w-1"),)))
        assert 1 == count(store, "requests")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """Nothing of the batch is there; with room again the same batch is written."""
    with closing(Store(f"sqlite:///{tmp_path}/ledger.db")) as store:
        store.balances()
        with store.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        batch = Batch("w", 1, tuple(request(f"w-{n}") for n in range(500)))
        with pytest.raises(LedgerFailed, match="full"):
            store.write(batch)
        assert (0, 0) == (count(store, "requests"), store.last_sequence("w"))
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        store.write(batch)
        assert 500 == count(store, "requests")


def test_a_database_that_is_away_is_said_without_its_password() -> None:
    """The address and the reason, and no password."""
    with closing(Store(f"postgresql://ada:{PASSWORD}@127.0.0.1:9/ledger")) as store:
        with pytest.raises(LedgerFailed) as caught:
            store.last_sequence("w")
        assert str(caught.value).startswith("postgresql://ada:***@127.0.0.1:9/ledger: ")
        assert "refused" in str(caught.value)
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "why"),
    [("default_transaction_read_only%3Don", "read-only"), ("role%3Dpg_monitor", "no schema")],
)
def test_a_server_that_takes_nothing_for_a_while(postgres: Postgres, setting: str, why: str) -> None:
    """A standby before it is promoted, or rights that are still to be given: no fault of the batch, which is to be kept."""
    url = postgres.database()
    batch = Batch("w", 1, (request("w-1"),), {"key:ada": 1})
    with closing(Store(url)) as store, closing(Store(f"{url}%20-c{setting}")) as refused:
        store.balances()
        with pytest.raises(LedgerFailed, match=why) as caught:
            refused.write(batch)
        assert caught.value.passes
        store.write(batch)
        assert 1 == count(store, "requests")


def test_a_lock_that_somebody_does_not_let_go_of_is_said(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a while, rather than waited for for ever: the batch comes again."""
    monkeypatch.setattr(module, "LOCKED_S", 0.3)
    url = postgres.database()
    batch = Batch("w", 1, (), {"key:ada": 1})
    with closing(Store(url)) as store, closing(Store(url)) as other, other.engine.connect() as holding:
        store.balances()
        holding.execute(text("LOCK TABLE accounts"))
        with pytest.raises(LedgerFailed, match="lock timeout") as caught:
            store.write(batch)
        assert caught.value.passes
        holding.rollback()
        store.write(batch)
        assert ({"key:ada": 1}, {}) == store.balances()


def test_a_writer_that_stands_still_lets_go_of_its_locks(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's doing: one that was frozen, or whose machine died and closed nothing, holds up nobody for long."""
    monkeypatch.setattr(module, "IDLE_S", 0.3)
    url = postgres.database()
    with closing(Store(url)) as store, closing(Store(url)) as frozen, frozen.engine.connect() as holding:
        store.balances()
        holding.execute(text("LOCK TABLE accounts"))
        store.write(Batch("w", 1, (), {"key:ada": 1}))
        holding.invalidate()
        assert ({"key:ada": 1}, {}) == store.balances()


def test_what_it_sets_is_of_its_transactions(postgres: Postgres) -> None:
    """A connection that comes back to a pooler, and is given to others, is as it was."""
    with closing(Store(postgres.database())) as store:
        store.balances()
        with store.engine.connect() as connection:
            assert "10s" == connection.execute(text("SHOW lock_timeout")).scalar()
            assert "30s" == connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
            connection.rollback()
            bare: Any = connection.connection.dbapi_connection
            assert [("0",), ("0",)] == [
                bare.execute(f"SHOW {name}").fetchone()
                for name in ("lock_timeout", "idle_in_transaction_session_timeout")
            ]
            bare.rollback()


def test_a_server_that_was_restarted(postgres: Postgres) -> None:
    """The store connects anew by itself."""
    with closing(Store(postgres.database())) as store:
        store.write(Batch("w", 1, (request("w-1"),)))
        postgres.stop()
        with pytest.raises(LedgerFailed):
            store.write(Batch("w", 2, (request("w-2"),)))
        postgres.start()
        store.write(Batch("w", 2, (request("w-2"),)))
        assert 2 == count(store, "requests")
