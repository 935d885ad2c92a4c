"""`orchestrator key new`: a key, shown once, and the line of the configuration that lets it in."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.config.callers import read_caller
from orchestrator.config.document import Document
from orchestrator.keys import hash_of, make_key


def new(fields: Mapping[str, Any], *, as_json: bool) -> int:
    """Prints a new key and its line for `server: keys:`; nothing is kept. 2, with what is wrong, for fields that are."""
    key = make_key()
    said = {name: value for name, value in fields.items() if value is not None and value is not False}
    row = {"name": said.pop("name"), "key_sha256": hash_of(key), **said}
    document = Document("orchestrator key new", {}, lambda _: False, variables=False)
    document.take(row)
    if not document.problems:
        read_caller(document, (), document.data)
    if document.problems:
        print("\n".join(one.partition(": ")[2] for one in document.problems), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps({"key": key, "entry": row}))
        return 0
    print(key)
    # JSON's values are YAML's as well, whatever they hold.
    entry = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in row.items())
    print(
        "It is not kept anywhere and cannot be shown again. In the configuration, below `server: keys:`",
        file=sys.stderr,
    )
    print(f"    - {{{entry}}}")
    return 0
