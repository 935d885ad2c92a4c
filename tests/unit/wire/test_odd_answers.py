"""Answers in which any one value is odd: each shape says them, or does not take them for answers; nothing raises."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest

from orchestrator.asks import Answer
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.merging import Merging
from orchestrator.dialects.openai import as_chunks
from orchestrator.dialects.resume import SoFar
from orchestrator.python.stream import _Whole
from orchestrator.types import Chunk, Failure, Finish, Json, Piece, Request
from orchestrator.wire.chat import ChatSpeaker
from orchestrator.wire.completions import CompletionsSpeaker
from orchestrator.wire.messages import MessagesSpeaker
from orchestrator.wire.responses import ResponsesSpeaker
from orchestrator.wire.responses_tools import Tools
from orchestrator.wire.shape import Speaker
from tests.unit.dialects.test_anthropic import MESSAGE, STREAM

ODD: tuple[Any, ...] = (None, True, -1, 1.5, 2**63, "", "x", [], [1], ["a"], [[]], [{}], {}, {"a": 1})
ROW = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0}]}
SIGNED = {"google": {"thought_signature": "s"}}
SAID: Json = {
    "role": "assistant",
    "content": "hi",
    "refusal": "no",
    "reasoning": "hm",
    "reasoning_details": [
        {"type": "reasoning.text", "text": "a", "signature": "s"},
        {"type": "reasoning.encrypted", "data": "d", "format": "google-gemini-v1"},
    ],
    "extra_content": SIGNED,
    "annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 1}}],
    "tool_calls": [
        {
            "index": 0,
            "id": "a",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            "extra_content": SIGNED,
        }
    ],
}
USAGE = {"prompt_tokens": 10, "cost": 0.1, "prompt_tokens_details": {"cached_tokens": 3}}
HEAD = {"id": "c", "created": 1, "model": "m"}
CHOICE = {"index": 0, "logprobs": {"content": [ROW]}, "finish_reason": None}
WHOLE: dict[str, Json] = {
    "openai": {**HEAD, "choices": [{**CHOICE, "message": SAID, "finish_reason": "stop"}], "usage": USAGE},
    "anthropic": MESSAGE,
}
STREAMED: dict[str, list[Json]] = {
    "openai": [
        {**HEAD, "choices": [{**CHOICE, "delta": SAID}]},
        {**HEAD, "choices": [{**CHOICE, "delta": {"content": "yo", "tool_calls": SAID["tool_calls"]}}]},
        {**HEAD, "choices": [{**CHOICE, "delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": USAGE}},
        {**HEAD, "choices": [], "usage": USAGE},
    ],
    "anthropic": STREAM,
}


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*before, name)
        yield from paths(inner, (*before, name))


def odd(value: Any) -> Iterator[Any]:
    """The same with any one value in it another."""
    for path in paths(value):
        for other in ODD:
            changed = inner = deepcopy(value)
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = other
            yield changed


def speakers() -> list[Speaker]:
    return [
        ChatSpeaker(include_usage=True),
        CompletionsSpeaker("echo", include_usage=True),
        MessagesSpeaker(),
        ResponsesSpeaker({}, Tools({}), told=True),
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_odd_whole_answer(dialect: str) -> None:
    """Said whole, and as a stream."""
    for body in odd(WHOLE[dialect]):
        reply = DIALECTS[dialect].decode(Request({}), "m", 200, {}, orjson.dumps(body))
        if isinstance(reply, Failure):
            continue
        answer = Answer(reply, {}, "first", "p")
        chunks, last = as_chunks(reply.body)
        for speaker in speakers():
            speaker.chunks(chunks)
            speaker.end(last, reply.body.get("usage"), answer)
        for speaker in speakers():
            assert isinstance(orjson.loads(orjson.dumps(speaker.whole(reply.body, answer))), dict)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_odd_streamed_answer(dialect: str) -> None:
    """Said as a stream, put together for the cache and for callers in Python, and kept for whoever may have to go on."""
    for events in odd(STREAMED[dialect]):
        decoder = DIALECTS[dialect].decoder(Request({}), "m")
        pieces = list[Piece]()
        for event in events:
            pieces += decoder.feed(b"data: " + orjson.dumps(event) + b"\n\n")
        *before, last = [*pieces, *decoder.close()]
        assert isinstance(last, Finish | Failure)
        assert {Chunk} >= {*map(type, before)}
        chunks = [piece.data for piece in before if isinstance(piece, Chunk)]
        so_far, merging, whole = SoFar(), Merging(), _Whole()
        so_far.add(chunks)
        so_far.sent()
        merging.add(chunks)
        for chunk in chunks:
            whole.add(chunk)
        for speaker in speakers():
            speaker.chunks(chunks)
            if isinstance(last, Finish):
                speaker.end(last.last, last.usage_body, Answer(last, {}, "first", "p"))
        if isinstance(last, Finish):
            orjson.dumps([merging.body(last), whole.body(last.last)])
