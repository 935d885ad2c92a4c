"""Server-sent events, whatever the split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dialects import sse
from orchestrator.dialects.sse import EventTooLarge, SseDecoder

CORPUS = (
    "\ufeff: comment\n\ndata: one\n\ndata:two\r\n\r\ndata: thr\u00e9e \U0001f600\rdata: lines\r\r"
    "event: x\nid: 7\ndata: five\n\n"
    "retry: 10\n\ndata\n\ndata: a: b\n\n"
).encode()
EVENTS = [b"one", b"two", "thr\u00e9e \U0001f600\nlines".encode(), b"five", b"", b"a: b"]


def decode(parts: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    return [event for part in parts for event in decoder.feed(part)] + decoder.close()


@pytest.mark.parametrize("size", range(1, len(CORPUS) + 1))
def test_every_size_of_piece_gives_the_same_events(size: int) -> None:
    """One byte at a time, all at once, and everything between."""
    assert decode([CORPUS[i : i + size] for i in range(0, len(CORPUS), size)]) == EVENTS


@given(st.lists(st.integers(0, len(CORPUS)), max_size=12))
def test_every_split_gives_the_same_events(cuts: list[int]) -> None:
    """Pieces may be empty, and may end within a character or between CR and LF."""
    edges = [0, *sorted(cuts), len(CORPUS)]
    assert decode([CORPUS[a:b] for a, b in pairwise(edges)]) == EVENTS


def test_an_event_without_its_blank_line_is_delivered_at_the_end() -> None:
    """A provider that is cut there had said it all."""
    assert decode([b"data: x\n\ndata: y"]) == [b"x", b"y"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that never ends is refused."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    decoder = SseDecoder()
    decoder.feed(b"data: " + b"0" * 90)
    with pytest.raises(EventTooLarge):
        decoder.feed(b"0" * 90)
