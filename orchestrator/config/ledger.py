"""The section `ledger`: which database, and where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from orchestrator.config.document import Document
from orchestrator.config.operations import Ledger
from orchestrator.config.sections import read_section

_SQLITE = "sqlite:///"
_FORMS = "has to be `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE` (in a password, `/` is written %2F)"
_FILE = "has to name a file: `sqlite:///ledger.db`, relative to the configuration's folder"
_AT = ("ledger", "url")


def read_ledger(document: Document, data: Any, folder: Path) -> Ledger | None:
    """The section with the path of its database made absolute; None: there is none, or the document notes what is wrong."""
    if data is None:
        return None
    read: Ledger | None = read_section(document, ("ledger",), Ledger, data)
    if read is None:
        return None
    if read.alerts.webhook is not None and not _is_http(read.alerts.webhook):
        # Its path is often a secret: it is not repeated.
        document.problem(
            ("ledger", "alerts", "webhook"), "has to be an address such as https://hooks.example.com/T0/B0"
        )
    if not is_ledger(read.url):
        # The value may hold a password: it is not repeated.
        document.problem(_AT, _FILE if read.url.startswith(_SQLITE) else _FORMS)
    elif read.url.startswith(_SQLITE):
        return replace(read, url=f"{_SQLITE}{folder / read.url.removeprefix(_SQLITE)}")
    return read


def is_ledger(url: str) -> bool:
    """Whether it is the URL of a file for SQLite, or of a database on PostgreSQL."""
    path = url.removeprefix(_SQLITE)
    if path == url:
        return _is_postgresql(url)
    return bool(path) and not path.startswith(":") and path.isprintable()


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _is_postgresql(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    # An unescaped `/`, `?` or `#` in a password: it would be cut in two, and one half shown.
    whole = "@" not in parts.path + parts.query and not parts.fragment
    return parts.scheme == "postgresql" and len(parts.path) > 1 and whole


def without_password(url: str) -> str:
    """A URL as it may be shown: with the password, and all that a query may hold, blotted out."""
    if url.startswith(_SQLITE):
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    blotted = f"{name}{colon}{'***' if colon else ''}{at}{host}"
    return urlunsplit((parts.scheme, blotted, parts.path, "***" if parts.query else "", ""))


def address_alone(url: str) -> str:
    """Of a webhook, whose path is the secret: where it is."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/***"
