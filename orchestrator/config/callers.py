"""`server: keys:` who may use the endpoint."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from orchestrator.config.document import Document, Path
from orchestrator.config.operations import CallerKey
from orchestrator.config.sections import read_section

_NAME = re.compile(r"[^\s/]{1,100}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_AT: Path = ("server", "keys")


def read_callers(document: Document, data: Any) -> tuple[CallerKey, ...]:
    """The keys, with every problem noted. Hashes are in lower case."""
    if data is None:
        return ()
    if not isinstance(data, list):
        document.problem(_AT, "has to be a list")
        return ()
    found: list[CallerKey] = []
    names: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for number, raw in enumerate(data):
        at = (*_AT, number)
        key = read_caller(document, at, raw)
        if key is None:
            continue
        if (first := names.setdefault(key.name, number)) != number:
            document.problem((*at, "name"), f"is the name of server.keys[{first}], too; limits and spend go by names")
        if (first := hashes.setdefault(key.key_sha256, number)) != number:
            document.problem(
                (*at, "key_sha256"), f"is that of server.keys[{first}], too; each caller has a key of its own"
            )
        found.append(key)
    return tuple(found)


def read_caller(document: Document, at: Path, raw: Any) -> CallerKey | None:
    """One of them; None where it is wrong."""
    before = len(document.problems)
    key: CallerKey | None = read_section(document, at, CallerKey, raw)
    if key is None:
        return None
    if not _NAME.fullmatch(key.name):
        document.problem((*at, "name"), "has to have 1 to 100 characters, and among them no space and no '/'")
    if not _HASH.fullmatch(key.key_sha256):
        document.problem((*at, "key_sha256"), "has to be 64 hexadecimal digits: `orchestrator key new` makes them")
    if key.user is not None and (not _NAME.fullmatch(key.user) or ":" in key.user):
        document.problem((*at, "user"), "has to have 1 to 100 characters, and among them no space, ':' or '/'")
    for place, pattern in enumerate(key.models):
        if not pattern or pattern.count("*") > 1 or "*" in pattern[1:-1]:
            what = "has to be a selector, or one with a '*' at the beginning or the end"
            document.problem((*at, "models", place), what)
    return None if len(document.problems) > before else replace(key, key_sha256=key.key_sha256.lower())
