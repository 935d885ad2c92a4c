"""Chunks put together again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dialects import merging
from orchestrator.dialects.merging import Merging
from orchestrator.dialects.whole import as_chunks
from orchestrator.types import Finish, Json

HEAD = {"id": "c", "created": 1, "model": "m"}


def chunk(delta: Json, index: int = 0, **more: Any) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": None}]
    return orjson.dumps({**HEAD, "object": "chat.completion.chunk", "choices": choices, **more})


def finish(*reasons: str, **more: Any) -> Finish:
    choices = [{"index": i, "delta": {}, "finish_reason": reason} for i, reason in enumerate(reasons)]
    last = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return Finish(last, "m", usage_body={"total_tokens": 7})


def merged(*chunks: bytes, end: Finish | None = None) -> Json | None:
    merging = Merging()
    for one in chunks:
        merging.add([one])
    return merging.body(end or finish("stop"))


def message(*deltas: Json) -> Json:
    body = merged(*map(chunk, deltas))
    assert body is not None
    said: Json = body["choices"][0]["message"]
    return said


def test_a_text() -> None:
    """Head, finish and usage are those of the end; the text is joined."""
    expected = {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"total_tokens": 7},
    }
    assert expected == merged(chunk({"role": "assistant", "content": "He"}), chunk({"content": "llo"}))


def test_calls_of_tools() -> None:
    """By their index, which a whole answer does not have; what comes once stays, however often it comes."""
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 1}'}}
    rest = [{"index": 0, "type": "function", "function": {"arguments": part}} for part in ('{"y"', ": 2}")]
    said = message(
        {"content": None, "tool_calls": [first]}, {"tool_calls": [second]}, *({"tool_calls": [r]} for r in rest)
    )
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"y": 2}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 1}'}},
    ]
    assert {"role": "assistant", "content": None, "tool_calls": calls} == said


def test_thoughts() -> None:
    """Their text is joined, and details that go on with one another are one; a later signature is the whole one's."""
    details = [
        {"type": "reasoning.text", "text": "hm", "index": 0, "signature": None},
        {"type": "reasoning.text", "text": ", so", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "e", "index": 0},
        {"type": "reasoning.text", "text": "apart"},
    ]
    said = message(*({"reasoning_content": "h", "reasoning_details": [one]} for one in details))
    expected = [{"type": "reasoning.text", "text": "hm, so", "index": 0, "signature": "s"}, *details[2:]]
    assert ("hhhh", expected) == (said["reasoning_content"], said["reasoning_details"])


def test_several_choices_and_what_stands_beside_them() -> None:
    """Each by its index, log probabilities one after the other."""
    said = [("a", 0), ("x", 1), ("b", 0), ("y", 1)]
    chunks = []
    for text, index in said:
        choices = [{"index": index, "delta": {"content": text}, "logprobs": {"content": [{"token": text}]}}]
        chunks.append(orjson.dumps({**HEAD, "choices": choices}))
    body = merged(*chunks, end=finish("stop", "length"))
    assert body is not None
    assert ["ab", "xy"] == [choice["message"]["content"] for choice in body["choices"]]
    assert ["stop", "length"] == [choice["finish_reason"] for choice in body["choices"]]
    assert [["a", "b"], ["x", "y"]] == [[t["token"] for t in c["logprobs"]["content"]] for c in body["choices"]]


def test_lists_of_plain_values() -> None:
    """Are put together, too."""
    assert {"tags": [1, 2, 3]} == {"tags": message({"tags": [1, 2]}, {"tags": [3]})["tags"]}


def test_what_has_no_place_in_a_whole_answer() -> None:
    """An event of Anthropic's: rather none than half of it. What stands at the end has its place."""
    event = {"event": {"type": "content_block_start", "index": 1}}
    assert None is merged(chunk({"content": "a"}), chunk({}, anthropic=event))
    adding = Merging()
    for one in (chunk({"content": "x" * merging.REDUCE_BYTES}, anthropic=event), chunk({"content": "a"})):
        adding.add([one])
    assert None is adding.body(finish("stop"))
    body = merged(chunk({"content": "a"}), end=finish("stop", anthropic={"stop_reason": "end_turn"}))
    assert body is not None
    assert {"stop_reason": "end_turn"} == body["anthropic"]


def test_a_stream_without_usage() -> None:
    """There is none in the whole, either; nor has it what was put on the last chunk here."""
    end = Finish({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "provider": "p"}, "m")
    body = merged(chunk({"content": "a"}), end=end)
    assert body is not None
    assert body.keys().isdisjoint({"usage", "provider"})


TEXTS = st.text(max_size=20)
CALLS = st.lists(
    st.builds(
        lambda name, said: {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": said}},
        st.sampled_from(["f", "g"]),
        TEXTS,
    ),
    max_size=3,
)


@pytest.mark.parametrize("bound", [1, merging.REDUCE_BYTES])
def test_the_way_there_and_back(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole answer, streamed and put together, is the same, whenever it is worked in."""
    monkeypatch.setattr(merging, "REDUCE_BYTES", bound)

    @given(st.lists(st.tuples(TEXTS, CALLS), min_size=1, max_size=3))
    def check(said: list[tuple[str, list[Json]]]) -> None:
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})},
                "finish_reason": "stop",
            }
            for i, (text, calls) in enumerate(said)
        ]
        body = {**HEAD, "object": "chat.completion", "choices": choices, "usage": {"total_tokens": 7}}
        chunks, last = as_chunks(body)
        adding = Merging()
        adding.add(chunks)
        assert body == adding.body(Finish(last, "m", usage_body={"total_tokens": 7}))

    check()
