"""Parsing of a chat request."""

from typing import Any

import orjson
import pytest

from orchestrator.dialects.reading import MAX_DEPTH
from orchestrator.wire.chat import ChatSpeaker, parse_chat, parse_object
from orchestrator.wire.http import Refused
from orchestrator.wire.shape import Parsed

USER = [{"role": "user", "content": "12345678"}]


def chat(**fields: Any) -> bytes:
    return orjson.dumps({"model": "tier:fast", "messages": USER, **fields})


def asks_usage(parsed: Parsed) -> bool:
    assert isinstance(parsed.speaker, ChatSpeaker)
    return parsed.speaker._include_usage


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "has to be a JSON object"),
        (b'{"a": }', "line 1 column 7"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":"\xff"}', "not valid UTF-8: invalid start byte at byte 6"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "depth limit"),
        (b'{"a":' + b"[" * 260 + b"]" * 260 + b"}", f"deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place(body: bytes, words: str) -> None:
    """400, saying what is wrong and where."""
    with pytest.raises(Refused, match=words) as refused:
        parse_object(body)
    assert (400, "invalid_json") == (refused.value.status, refused.value.code)


def test_many_brackets_are_not_depth() -> None:
    """A long flat body is taken."""
    assert {"a": [[]] * 1000} == parse_object(orjson.dumps({"a": [[]] * 1000}))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"), ({"model": None}, "model"), ({"model": 3}, "model"),
        ({"messages": []}, "messages"), ({"messages": None}, "messages"), ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"), ({"messages": [*USER, {"content": "x"}]}, "messages[1]"),
        ({"stream": 1}, "stream"), ({"stream_options": []}, "stream_options"),
        ({"temperature": True}, "temperature"), ({"temperature": "1"}, "temperature"),
        ({"n": 0}, "n"), ({"n": True}, "n"), ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": 3}, "stop"), ({"stop": [3]}, "stop"), ({"orchestrator": "race"}, "orchestrator"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    """400 with the field as `param`."""
    with pytest.raises(Refused) as refused:
        parse_chat(chat(**fields))
    assert (400, param) == (refused.value.status, refused.value.param)


def test_routing_fields_are_taken_out_and_all_else_is_untouched() -> None:
    """What is unknown reaches the provider as it came, nulls included."""
    rest = {"messages": USER, "top_k": 3, "n": None, "temperature": None, "stop": ["a"], "user": "u"}
    parsed = parse_chat(chat(**rest, stream=True, stream_options={"include_usage": True}))
    assert rest == parsed.request.body
    assert ("tier:fast", True, True, "u", None) == (
        parsed.selector, parsed.request.stream, asks_usage(parsed), parsed.user, parsed.override
    )  # fmt: skip


def test_the_requests_own_choice_is_gathered() -> None:
    """`orchestrator`, OpenRouter's `models` and `provider` become one override."""
    parsed = parse_chat(chat(orchestrator={"strategy": "race"}, models=["a/x"], provider={"only": ["a"]}))
    assert {"strategy": "race", "fallbacks": ["a/x"], "provider": {"only": ["a"]}} == parsed.override
    assert {"messages": USER} == parsed.request.body


def test_other_stream_options_reach_the_provider() -> None:
    """Only `include_usage` is ours."""
    parsed = parse_chat(chat(stream=True, stream_options={"include_usage": False, "include_obfuscation": False}))
    assert (False, {"include_obfuscation": False}) == (
        asks_usage(parsed),
        parsed.request.body["stream_options"],
    )


def test_tools_are_estimated_by_the_length_of_their_json() -> None:
    """As providers count them, more or less."""
    tools = [{"type": "function", "function": {"name": "f", "description": "é" * 400}}]
    request = parse_chat(chat(tools=tools)).request
    assert (8 + len(orjson.dumps(tools))) // 4 + 3 == request.input_tokens
    assert ("tools",) == request.needs


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("12345678", 5),
        ([{"type": "text", "text": "1234"}, {"type": "image_url", "image_url": {"url": "u"}}], 4),
        (None, 3),
    ],
)
def test_input_is_estimated(content: Any, tokens: int) -> None:
    """Four characters of text a token, three tokens a message."""
    assert tokens == parse_chat(chat(messages=[{"role": "assistant", "content": content}])).request.input_tokens
