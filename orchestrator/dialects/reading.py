"""JSON as upstreams write it: also what orjson refuses, where it is plain what was meant.

Costs nothing where orjson takes it.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

MAX_DEPTH = 250
"""Levels of nesting. orjson reads 1024 but writes only 254, and what is taken in has to be sent on."""


class Unreadable(ValueError):
    """It is no JSON, or is nested deeper than can be sent on."""


def read_json(data: bytes) -> Any:
    """The value. Raises Unreadable."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _leniently(data)
    if too_deep(data, value):
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _leniently(data: bytes) -> Any:
    """A BOM, control characters within texts, bytes that are no UTF-8, halves of a surrogate pair (JavaScript's, of a text
    that was cut within a character): both become U+FFFD. NaN and Infinity (Python's) become null."""
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"), strict=False, parse_constant=lambda _: None)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return orjson.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error


def too_deep(data: bytes, value: Any) -> bool:
    """Whether what was read of `data` cannot be written again."""
    # Only what has that many brackets can be that deep; few have, and for those writing it once is the quickest test.
    if len(data) <= 2 * MAX_DEPTH or data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    try:
        orjson.dumps([[[[value]]]])
    except orjson.JSONEncodeError:
        return True
    return False
