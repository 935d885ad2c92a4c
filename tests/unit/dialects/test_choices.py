"""Contents that are lists, whatever stands in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dialects.choices import flatten

REFERENCE = {"type": "reference", "reference_ids": [1]}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
ODD = {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "reference"}]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], {"content": ""}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"content": "ab"}),
        ([{"type": "thinking", "thinking": "hm"}], {"content": "", "reasoning_content": "hm"}),
        ([{"type": "thinking", "thinking": [{"text": "h"}, {"text": "m"}]}], {"content": "", "reasoning_content": "hm"}),
        ([SIGNED], {"content": "", "reasoning_content": "hm", "content_parts": [SIGNED]}),
        ([ODD, REFERENCE], {"content": "", "content_parts": [ODD, REFERENCE]}),
        ([{"type": "text", "text": None}, 3, {"type": "thinking", "thinking": 5}],
         {"content": "", "content_parts": [{"type": "text", "text": None}, 3, {"type": "thinking", "thinking": 5}]}),
    ],
)  # fmt: skip
def test_a_content_that_is_a_list(content: list[Any], expected: dict[str, Any]) -> None:
    """Text is text, thoughts are thoughts, and the rest is kept."""
    message = {"role": "assistant", "content": content}
    assert flatten(message)
    assert {"role": "assistant", **expected} == message


@given(st.none() | st.text() | st.integers() | st.dictionaries(st.text(), st.text()))
def test_any_other_content_stays(content: Any) -> None:
    """As it came."""
    message = {"content": content}
    assert not flatten(message)
    assert {"content": content} == message
