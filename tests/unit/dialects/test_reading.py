"""JSON as upstreams write it."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dialects.reading import Unreadable, read_json

DEEP = b"[" * 300 + b"]" * 300


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "x\ty\nz\x00"}', {"a": "x\ty\nz\x00"}),
        (b'{"a": "x\xf0\x9f"}', {"a": "x\ufffd"}),
        (b'{"a": "x\\ud83d", "b": "\\ude00"}', {"a": "x\ufffd", "b": "\ufffd"}),
        (b'{"a": NaN, "b": [-Infinity, "\\ud83d\\ude00"]}', {"a": None, "b": [None, "\U0001f600"]}),
        (b'{"a": 123456789012345678901234567890, "b": NaN}', {"a": 1.2345678901234568e29, "b": None}),
    ],
)
def test_what_was_meant_is_plain(data: bytes, expected: Any) -> None:
    """What no text of UTF-8 can hold becomes U+FFFD, what no number of JSON is, null."""
    assert expected == read_json(data)


@pytest.mark.parametrize(
    "data", [b"", b"{nope", b"data: {}", b'{"a": 1e999, "b": NaN}', DEEP, b"NaN" + DEEP, b"[" * 200_000, b"9" * 5000]
)
def test_what_is_no_json_or_too_deep_is_refused(data: bytes) -> None:
    """By one kind of error."""
    with pytest.raises(Unreadable):
        read_json(data)


@given(st.recursive(st.none() | st.floats(allow_nan=True) | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_pythons_json_writes_is_read_and_can_be_written(value: Any) -> None:
    """With its constants that are no JSON: they are null."""
    assert _finite(value) == orjson.loads(orjson.dumps(read_json(json.dumps(value).encode())))


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [*map(_finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """A value, or Unreadable."""
    try:
        value = read_json(data)
    except Unreadable:
        return
    assert value == read_json(orjson.dumps(value))
