"""HTML made of elements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.batch.markup import joined, tag


@pytest.mark.parametrize(
    ("element", "html"),
    [
        (tag("p", "a < b & c"), "<p>a &lt; b &amp; c</p>"),
        (tag("p", "</p><script>alert(1)</script>"), "<p>&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        (tag("p", tag("b", "a"), None, ["b", tag("i", 5)]), "<p><b>a</b>b<i>5</i></p>"),
        (tag("p", class_='x" onclick="y', id=None), '<p class="x&quot; onclick=&quot;y"></p>'),
        (tag("meta", http_equiv="refresh", name="x"), '<meta http-equiv="refresh" name="x">'),
        (tag("p", "a\x00b\x1b\ud800\n"), "<p>a\ufffdb\ufffd?\n</p>"),
    ],
)
def test_an_element(element: str, html: str) -> None:
    """What is put into it is escaped, unless it is an element."""
    assert html == element


@given(st.text())
def test_a_text_makes_no_element(text: str) -> None:
    """Whatever it is, and it can be written."""
    shown = joined([text])
    assert "<" not in shown
    assert '"' not in tag("a", title=text).removeprefix('<a title="').removesuffix('"></a>')
    shown.encode()
