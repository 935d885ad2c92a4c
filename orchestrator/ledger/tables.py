"""The ledger's tables, and how a database comes from one version of them to the next.

A step is never changed once it has been released: what it made is out there. Its statements are in the SQL that SQLite and
PostgreSQL share, so that no later change of the definitions reaches back into it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Boolean, Column, Float, MetaData, Table, Text

_tables = MetaData()

requests = Table(
    "requests",
    _tables,
    Column("id", Text, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("first_token_s", Float),
    Column("request_id", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("user_name", Text),
    Column("key_name", Text),
    Column("outcome", Text, nullable=False),
    Column("provider", Text),
    Column("model", Text),
    Column("cost_units", BigInteger),
    Column("known_units", BigInteger, nullable=False),
    Column("estimated_units", BigInteger, nullable=False),
    Column("unknown", Boolean, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("question", Text),
    Column("answer", Text),
    Column("attempts", BigInteger, nullable=False),
)
"""A `RequestRecord` in its order, with the number of its attempts. `user_name` and `key_name`, since `user` and `key` are
words of SQL's."""

attempts = Table(
    "attempts",
    _tables,
    Column("request", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", BigInteger),
    Column("start_s", Float, nullable=False),
    Column("latency_s", Float),
    Column("first_token_s", Float),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_units", BigInteger),
    Column("is_estimate", Boolean, nullable=False),
    Column("unknown", Boolean, nullable=False),
)
"""An `AttemptRecord` in its order, behind its request, its number, and when that began: both are forgotten together."""

arms = Table(
    "arms",
    _tables,
    Column("request", Text, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("split", Text, primary_key=True),
    Column("arm", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)

accounts = Table(
    "accounts",
    _tables,
    Column("account", Text, primary_key=True),
    Column("spent_units", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    _tables,
    Column("writer", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("units", BigInteger, nullable=False),
)

writers = Table(
    "writers",
    _tables,
    Column("writer", Text, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    Column("seen_at", Float, nullable=False),
)

keys = Table(
    "keys",
    _tables,
    Column("name", Text, primary_key=True),
    Column("key_sha256", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires", Float),
    Column("revoked_at", Float),
)

alerts = Table(
    "alerts",
    _tables,
    Column("account", Text, primary_key=True),
    Column("threshold", Float, primary_key=True),
)

meta = Table(
    "meta",
    _tables,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`schema`: the number of steps that were taken; `keys_version`."""

TABLES: dict[str, Table] = dict(_tables.tables)
FORGOTTEN = (requests, attempts, arms)
"""Those whose rows are deleted after `ledger.retention_days`."""

META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)"
"""Comes before all steps: it is where their number stands."""

_RECORDS = (
    """CREATE TABLE requests (
        id TEXT PRIMARY KEY, at_s DOUBLE PRECISION NOT NULL, seconds DOUBLE PRECISION NOT NULL,
        first_token_s DOUBLE PRECISION, request_id TEXT NOT NULL, selector TEXT NOT NULL, strategy TEXT NOT NULL,
        user_name TEXT, key_name TEXT, outcome TEXT NOT NULL, provider TEXT, model TEXT,
        cost_units BIGINT, known_units BIGINT NOT NULL, estimated_units BIGINT NOT NULL, unknown BOOLEAN NOT NULL,
        input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, attempts BIGINT NOT NULL)""",
    "CREATE INDEX requests_at ON requests (at_s)",
    """CREATE TABLE attempts (
        request TEXT NOT NULL, number BIGINT NOT NULL, at_s DOUBLE PRECISION NOT NULL,
        provider TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL, status BIGINT,
        start_s DOUBLE PRECISION NOT NULL, latency_s DOUBLE PRECISION, first_token_s DOUBLE PRECISION,
        input_tokens BIGINT, output_tokens BIGINT, cost_units BIGINT, is_estimate BOOLEAN NOT NULL,
        unknown BOOLEAN NOT NULL, PRIMARY KEY (request, number))""",
    "CREATE INDEX attempts_at ON attempts (at_s)",
    """CREATE TABLE arms (
        request TEXT NOT NULL, split TEXT NOT NULL, at_s DOUBLE PRECISION NOT NULL, arm TEXT NOT NULL,
        outcome TEXT NOT NULL, PRIMARY KEY (request, split))""",
    "CREATE INDEX arms_at ON arms (at_s)",
    "CREATE TABLE writers (writer TEXT PRIMARY KEY, last_sequence BIGINT NOT NULL, seen_at DOUBLE PRECISION NOT NULL)",
)
_MONEY_KEYS_TEXTS = (
    "CREATE TABLE accounts (account TEXT PRIMARY KEY, spent_units BIGINT NOT NULL)",
    "CREATE TABLE leases (writer TEXT NOT NULL, account TEXT NOT NULL, units BIGINT NOT NULL, PRIMARY KEY (writer, account))",
    """CREATE TABLE keys (
        name TEXT PRIMARY KEY, key_sha256 TEXT NOT NULL, caller TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
        expires DOUBLE PRECISION, revoked_at DOUBLE PRECISION)""",
    "ALTER TABLE requests ADD COLUMN question TEXT",
    "ALTER TABLE requests ADD COLUMN answer TEXT",
)
_ALERTS = (
    "CREATE TABLE alerts (account TEXT NOT NULL, threshold DOUBLE PRECISION NOT NULL, PRIMARY KEY (account, threshold))",
    "CREATE INDEX leases_of ON leases (account)",
)
STEPS: Sequence[Sequence[str]] = (_RECORDS, _MONEY_KEYS_TEXTS, _ALERTS)
"""What takes a database from one version to the next, the first from nothing to version 1."""
