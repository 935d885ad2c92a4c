"""OpenAI's dialect: what goes out, what comes in, and what a stream becomes."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.config.settings import ModelOptions
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.openai import ChunkDecoder, OpenAI, as_chunks
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Piece, Reply, Request

DIALECT = OpenAI()
ASKED = Request({})


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice], **more}


def decode(*events: Any, choices: int = 1, size: int | None = None) -> list[Piece]:
    data = b"".join(map(event, events))
    decoder = ChunkDecoder("asked", choices)
    size = size or len(data) or 1
    pieces = [piece for i in range(0, len(data), size) for piece in decoder.feed(data[i : i + size])]
    return pieces + decoder.close()


def deltas(pieces: list[Piece]) -> list[Any]:
    return [json.loads(p.data)["choices"][0]["delta"] for p in pieces if isinstance(p, Chunk)]


def failure(pieces: list[Piece]) -> Failure:
    last = pieces[-1]
    assert isinstance(last, Failure)
    return last


def finish(pieces: list[Piece]) -> Finish:
    last = pieces[-1]
    assert isinstance(last, Finish)
    return last


def test_encode_adds_what_the_wire_needs_and_touches_nothing_else() -> None:
    """Unknown fields pass; a stream asks for its usage."""
    request = Request({"messages": [], "foo": 1, "stream_options": {"x": 2}}, stream=True)
    call = DIALECT.encode(request, "gpt", ModelOptions())
    assert json.loads(call.content) == {
        "messages": [],
        "foo": 1,
        "model": "gpt",
        "stream": True,
        "stream_options": {"x": 2, "include_usage": True},
    }
    assert call.headers == {"content-type": "application/json"}


def test_decode_keeps_the_body_and_reads_its_usage() -> None:
    """The provider's own fields are passed on."""
    body = {
        "model": "gpt-x",
        "choices": [{"message": {"content": "hi"}}],
        "odd": [1],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 2},
            "cost": 0.5,
        },
    }
    reply = DIALECT.decode(ASKED, "gpt", 200, {}, json.dumps(body).encode())
    assert isinstance(reply, Reply)
    assert (reply.body, reply.model) == (body, "gpt-x")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cached_tokens, reply.usage.cost_usd) == (
        3,
        4,
        2,
        0.5,
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"{}", b'{"choices": []}', b"[]", b"[3]", b'{"choices": [1]}', b'{"choices": 3']
    + [b'{"choices": [{"message": {"content": "a"}, "x": ' + b"[" * 300 + b"]" * 300 + b"}]}"],
)
def test_a_200_without_an_answer_is_a_bad_answer(content: bytes) -> None:
    """It counts as a failure of the server's."""
    outcome = DIALECT.decode(ASKED, "m", 200, {}, content)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.BAD_ANSWER


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "message": "x"}, FailureKind.CONTEXT_LENGTH),
        (400, {"message": "This model's maximum context length is 8192 tokens"}, FailureKind.CONTEXT_LENGTH),
        (400, {"code": "content_policy_violation", "message": "x"}, FailureKind.CONTENT_POLICY),
        (400, {"message": "no such field"}, FailureKind.MALFORMED),
        (401, {"message": "bad key"}, FailureKind.UNAUTHORIZED),
        (402, {"message": "pay"}, FailureKind.QUOTA),
        (404, {"code": "model_not_found", "message": "x"}, FailureKind.NOT_FOUND),
        (413, {"message": "large"}, FailureKind.TOO_LARGE),
        (422, {"message": "odd"}, FailureKind.MALFORMED),
        (429, {"code": "rate_limit_exceeded", "message": "slow"}, FailureKind.RATE_LIMITED),
        (429, {"code": "insufficient_quota", "message": "x"}, FailureKind.QUOTA),
        (500, {"message": "x"}, FailureKind.SERVER_ERROR),
        (529, {"message": "x"}, FailureKind.SERVER_ERROR),
        (302, {"message": "x"}, FailureKind.BAD_ANSWER),
    ],
)
def test_errors_are_told_apart(status: int, error: dict[str, Any], kind: FailureKind) -> None:
    """By status, code and message."""
    outcome = DIALECT.decode(ASKED, "m", status, {"retry-after": "3"}, json.dumps({"error": error}).encode())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.status, outcome.retry_after_s) == (kind, status, 3.0)


def test_an_error_in_a_list_is_one_within_a_200_too() -> None:
    """Gemini's."""
    outcome = DIALECT.decode(ASKED, "m", 200, {}, b'[{"error": {"code": 429, "message": "slow"}}]')
    assert isinstance(outcome, Failure)
    assert FailureKind.RATE_LIMITED is outcome.kind


def test_a_stream_in_place_of_a_whole_answer_is_added_up() -> None:
    """Some servers do nothing but stream."""
    for before in (b"", b"\n: hello\n\n", b"event: chunk\n", b"\xef\xbb\xbf"):
        reply = DIALECT.decode(ASKED, "m", 200, {}, before + b"".join(map(event, STREAM)))
        assert isinstance(reply, Reply)
        (choice,) = reply.body["choices"]
        assert ("hello \u00e9\U0001f600", "stop") == (choice["message"]["content"], choice["finish_reason"])
        assert ("chat.completion", "m", 2) == (
            reply.body["object"],
            reply.model,
            reply.body["usage"]["completion_tokens"],
        )
        assert reply.usage is not None
        assert (1, 2) == reply.usage[:2]


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((chunk({"content": "a"}),), FailureKind.CUT),
        (({"error": {"message": "x", "code": 429}},), FailureKind.RATE_LIMITED),
        ((chunk({"content": "a"}, "stop", anthropic={"event": {}}),), FailureKind.BAD_ANSWER),
    ],
)
def test_a_stream_that_adds_up_to_nothing_whole_is_a_failure(events: tuple[Any, ...], kind: FailureKind) -> None:
    """It was cut, says an error, or has events of Anthropic's, for which a whole answer has no place."""
    outcome = DIALECT.decode(ASKED, "m", 200, {}, b"".join(map(event, events)))
    assert isinstance(outcome, Failure)
    assert kind is outcome.kind


@pytest.mark.parametrize("body", [{"error": "boom"}, {"message": "boom"}, {"detail": "boom"}, {"detail": ["boom"]}])
def test_other_shapes_of_errors_keep_their_words(body: Any) -> None:
    """What the provider said reaches the caller."""
    outcome = DIALECT.decode(ASKED, "m", 500, {}, json.dumps(body).encode())
    assert isinstance(outcome, Failure)
    assert "boom" in outcome.message


@pytest.mark.parametrize("value", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "soon"])
def test_an_odd_date_to_come_back_at_is_none(value: str) -> None:
    """What else the answer says of it counts then."""
    headers = {"retry-after": value, "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s"}
    outcome = DIALECT.decode(ASKED, "m", 429, headers, b"{}")
    assert isinstance(outcome, Failure)
    assert 2.0 == outcome.retry_after_s


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "in ten minutes"}, 600),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "1000"}, None),
        ({"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": [1]}, None),
        ({"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": 1e300}, None),
        ({"X-RateLimit-Remaining": 0}, None),
        ("none", None),
    ],
)
def test_openrouter_says_within_the_error_when_its_limit_is_reset(headers: Any, expected: float | None) -> None:
    """In milliseconds since 1970; what is no such number says nothing."""
    if expected is not None:
        headers = {**headers, "X-RateLimit-Reset": str(int((time.time() + 600) * 1000))}
    error = {"error": {"code": 429, "message": "slow", "metadata": {"headers": headers}}}
    outcome = DIALECT.decode(ASKED, "m", 429, {}, json.dumps(error).encode())
    assert isinstance(outcome, Failure)
    assert (outcome.retry_after_s is None) if expected is None else (540 < (outcome.retry_after_s or 0) <= 600)


def test_keys_that_a_provider_echoes_are_masked() -> None:
    """No credential reaches a message."""
    error = {"error": {"message": "Incorrect API key provided: sk-proj-abcdefgh12345678. Bearer abcdef"}}
    outcome = DIALECT.decode(ASKED, "m", 401, {}, json.dumps(error).encode())
    assert isinstance(outcome, Failure)
    assert "abcdef" not in f"{outcome.message} {outcome.body}"


STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "he"}, odd=[1]),
    chunk({"content": "llo \u00e9\U0001f600"}),
    chunk({}, "stop"),
    {**chunk({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "odd": 3}},
    b"[DONE]",
)


def test_a_plain_stream_passes_as_the_bytes_that_came() -> None:
    """Chunks that keep the rules are not rewritten; the finish is held until the usage is known."""
    pieces = decode(*STREAM)
    assert [p.data for p in pieces[:-1] if isinstance(p, Chunk)][1] == json.dumps(STREAM[1]).encode()
    end = finish(pieces)
    assert end.last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert end.usage_body == {"prompt_tokens": 1, "completion_tokens": 2, "odd": 3}


@given(st.integers(1, 400))
def test_every_split_of_a_stream_decodes_alike(size: int) -> None:
    """Bytes may come in any pieces."""
    assert decode(*STREAM, size=size) == decode(*STREAM)


def test_the_head_of_the_first_chunk_is_that_of_all_and_the_role_comes_once() -> None:
    """One stable id, created and model; a role in the first chunk alone."""
    pieces = decode(
        chunk({"content": "a"}), chunk({"role": "assistant", "content": "b"}, id="c2", model="n"), b"[DONE]"
    )
    assert deltas(pieces) == [{"role": "assistant", "content": "a"}, {"content": "b"}]
    assert {json.loads(p.data)["id"] for p in pieces if isinstance(p, Chunk)} == {"c1"}


@pytest.mark.parametrize("identity", [None, "", 7])
def test_calls_of_answers_without_identities_have_their_own(identity: Any) -> None:
    """Gemini has said null, and nothing for a call: two answers of one conversation may not name theirs alike."""
    call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"id": identity, "choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "stop"}]}
    streamed = chunk({"tool_calls": [{**call, "index": 0}]}, id=identity)
    found = set[str]()
    for _ in range(2):
        reply = DIALECT.decode(ASKED, "m", 200, {}, json.dumps(body).encode())
        assert isinstance(reply, Reply)
        found.add(reply.body["choices"][0]["message"]["tool_calls"][0]["id"])
        (delta,) = deltas(decode(streamed, b"[DONE]"))
        found.add(delta["tool_calls"][0]["id"])
    assert 4 == len(found)


@pytest.mark.parametrize(("created", "expected"), [(5.75, 5), ("5", 5), (None, 0), (1e300, 0), ([], 0)])
def test_a_streams_time_is_a_whole_number(created: Any, expected: int) -> None:
    """Clients in typed languages take nothing else."""
    (piece, _) = decode({**chunk({"content": "a"}, "stop"), "created": created})
    assert isinstance(piece, Chunk)
    assert expected == json.loads(piece.data)["created"]


def test_done_without_a_reason_gets_one() -> None:
    """The answer is whole; clients insist on a finish_reason."""
    assert finish(decode(chunk({"content": "a"}), b"[DONE]")).last["choices"][0]["finish_reason"] == "stop"


def test_an_end_with_a_reason_but_without_done_is_whole() -> None:
    """finish_reason says that all has been said."""
    assert finish(decode(chunk({"content": "a"}), chunk({}, "length"))).last["choices"][0]["finish_reason"] == "length"


def test_text_on_the_finish_chunk_goes_out_before_it() -> None:
    """Nothing is lost by holding it back."""
    pieces = decode(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), b"[DONE]")
    assert [d.get("content") for d in deltas(pieces)] == ["a", "b"]


@pytest.mark.parametrize(("reason", "expected"), [("length", "length"), ("", "stop")])
def test_an_empty_finish_reason_is_none(reason: str, expected: str) -> None:
    """The answer goes on, however long nothing comes: it is not held for the last of it."""
    decoder = DIALECT.decoder(ASKED, "m")
    pieces = decoder.feed(
        b"".join(b"data: " + json.dumps(chunk({"content": "a"}, "")).encode() + b"\n\n" for _ in "12")
    )
    assert [None, None] == [json.loads(p.data)["choices"][0]["finish_reason"] for p in pieces if isinstance(p, Chunk)]
    assert not decoder.holding
    last = b"data: " + json.dumps(chunk({}, reason)).encode() + b"\n\ndata: [DONE]\n\n"
    assert expected == finish(decoder.feed(last)).last["choices"][0]["finish_reason"]


@pytest.mark.parametrize("reason", ["", None])
@pytest.mark.parametrize(("calls", "expected"), [(None, "stop"), ([{"id": "c", "function": {}}], "tool_calls")])
def test_a_whole_answer_without_a_reason(reason: str | None, calls: Any, expected: str) -> None:
    """Gets one."""
    choice = {"index": 0, "message": {"content": "hi", "tool_calls": calls}, "finish_reason": reason}
    reply = DIALECT.decode(ASKED, "m", 200, {}, json.dumps({"choices": [choice]}).encode())
    assert isinstance(reply, Reply)
    assert expected == reply.body["choices"][0]["finish_reason"]


def test_a_second_finish_reason_is_dropped() -> None:
    """Exactly one a choice."""
    pieces = decode(chunk({"content": "a"}, "stop"), chunk({}, "stop"), b"[DONE]")
    assert [json.loads(p.data)["choices"][0]["finish_reason"] for p in pieces if isinstance(p, Chunk)] == [None]
    assert finish(pieces).last["choices"][0]["finish_reason"] == "stop"


def test_tool_calls_are_put_in_order() -> None:
    """An index always; id, type and name once."""
    first = {"id": "t1", "function": {"name": "f", "arguments": ""}}
    more = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    other = {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    pieces = decode(*(chunk({"tool_calls": [call]}) for call in (first, more, other)), b"[DONE]")
    assert [d["tool_calls"][0] for d in deltas(pieces)] == [
        {"id": "t1", "function": {"name": "f", "arguments": ""}, "index": 0, "type": "function"},
        {"function": {"arguments": "{}"}, "index": 0},
        {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}, "index": 1},
    ]
    assert finish(pieces).last["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        # Of one index each, with an identity that says nothing.
        ([(0, "null", "f", ""), (1, "null", "g", ""), (0, None, None, "a"), (1, None, None, "b")], {0: "fa", 1: "gb"}),
        # Of one index all, whole or not, taken up again by their identities.
        ([(0, "x", "f", "1"), (0, "y", "g", "2"), (0, None, None, "3"), (0, "x", "f", "4")], {0: "f14", 1: "g23"}),
        # Of no index.
        ([(None, "x", "f", "1"), (None, None, None, "2"), (None, None, "g", "3"), (None, "x", None, "4")],
         {0: "f124", 1: "g3"}),
        # An identity made up for each delta.
        ([(0, "x", "f", ""), (0, "y", None, "1"), (0, "z", None, "2")], {0: "f12"}),
        # None at all.
        ([(0, "", "f", "1"), (0, "", None, "2"), (1, "", "g", "3")], {0: "f12", 1: "g3"}),
    ],
)  # fmt: skip
def test_whose_delta_it_is(
    calls: list[tuple[int | None, str | None, str | None, str]], expected: dict[int, str]
) -> None:
    """By index, or else by identity, or else by order; each call has an identity, and has its name once."""
    said = [
        chunk({"tool_calls": [{"index": index, "id": identity, "function": {"name": name, "arguments": arguments}}]})
        for index, identity, name, arguments in calls
    ]
    found: dict[int, str] = {}
    identities: dict[int, str] = {}
    for delta in deltas(decode(*said, b"[DONE]")):
        for call in delta["tool_calls"]:
            function = call["function"]
            found[call["index"]] = found.get(call["index"], "") + (function.get("name") or "") + function["arguments"]
            if "id" in call:
                assert call["index"] not in identities
                identities[call["index"]] = call["id"]
    assert expected == found
    assert set(expected) == set(identities)
    assert all(identities.values())


def test_custom_calls_stay_what_they_are() -> None:
    """Their input is a text, and their kind is said once."""
    first = {"index": 0, "id": "t1", "type": "custom", "custom": {"name": "f", "input": "a"}}
    more = {"index": 0, "id": "t1", "type": "custom", "custom": {"name": "f", "input": "b"}}
    unsaid = {"index": 1, "id": "t2", "custom": {"name": "g", "input": "c"}}
    pieces = decode(*(chunk({"tool_calls": [call]}) for call in (first, more, unsaid)), b"[DONE]")
    assert [first, {"index": 0, "custom": {"input": "b"}}, {**unsaid, "type": "custom"}] == [
        delta["tool_calls"][0] for delta in deltas(pieces)
    ]


def test_a_name_that_comes_late_is_kept() -> None:
    """Once."""
    calls = [{"index": 0, "id": "t1", "type": "function", "function": {"name": "", "arguments": ""}}]
    calls += [{"index": 0, "function": {"name": "f", "arguments": text}} for text in ("{", "}")]
    pieces = decode(*(chunk({"tool_calls": [call]}) for call in calls), b"[DONE]")
    functions = [delta["tool_calls"][0]["function"] for delta in deltas(pieces)]
    assert [calls[0]["function"], {"name": "f", "arguments": "{"}, {"arguments": "}"}] == functions


def test_arguments_that_are_an_object_become_a_text() -> None:
    """Whole and streamed: clients parse them."""
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    (delta,) = deltas(decode(chunk({"tool_calls": [call]}), b"[DONE]"))
    body = {"choices": [{"message": {"tool_calls": [call]}}]}
    reply = DIALECT.decode(ASKED, "m", 200, {}, json.dumps(body).encode())
    assert isinstance(reply, Reply)
    for calls in (delta["tool_calls"], reply.body["choices"][0]["message"]["tool_calls"]):
        assert '{"a":1}' == calls[0]["function"]["arguments"]


def test_n_choices_finish_when_all_have() -> None:
    """The last finish is held, the others pass."""
    two = {**chunk({}), "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": "stop"}]}
    pieces = decode(two, chunk({"content": "a"}, "stop"), b"[DONE]", choices=2)
    assert [(0, "stop")] == ends(finish(pieces).last)
    assert [(1, None), (1, "stop"), (0, None)] == [
        end for piece in pieces if isinstance(piece, Chunk) for end in ends(json.loads(piece.data))
    ]


def ends(said: dict[str, Any]) -> list[tuple[int, str | None]]:
    return [(choice["index"], choice["finish_reason"]) for choice in said["choices"]]


@pytest.mark.parametrize("end", [(), (b"[DONE]",)])
def test_fewer_choices_than_were_asked_for(end: tuple[bytes, ...]) -> None:
    """A provider that knows no `n`: whole, once all that there are have finished, and each has one reason."""
    usage = {**chunk({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    pieces = decode(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), usage, *end, choices=3)
    assert [(0, "stop")] == ends(finish(pieces).last)
    assert ["a", "b"] == [delta["content"] for delta in deltas(pieces)]


def test_choices_one_after_the_other() -> None:
    """The end of one is said when the next begins."""
    later = [
        {**chunk({}), "choices": [{"index": 1, "delta": {"content": text}, "finish_reason": reason}]}
        for text, reason in (("b", None), ("c", None), ("", "length"))
    ]
    pieces = decode(chunk({"content": "a"}), chunk({}, "stop"), *later, choices=2)
    said = [end for piece in pieces if isinstance(piece, Chunk) for end in ends(json.loads(piece.data))]
    assert [(0, None), (0, "stop"), (1, None), (1, None)] == said
    assert [(1, "length")] == ends(finish(pieces).last)
    assert FailureKind.CUT is failure(decode(chunk({"content": "a"}), chunk({}, "stop"), *later[:2], choices=2)).kind


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((), FailureKind.BAD_ANSWER),
        ((b"[DONE]",), FailureKind.BAD_ANSWER),
        ((chunk({"content": "a"}),), FailureKind.CUT),
        ((chunk({"content": "a"}), b"{nope"), FailureKind.BAD_EVENT),
        ((chunk({"content": "a"}), {"error": {"message": "x", "code": 429}}), FailureKind.RATE_LIMITED),
        (({"error": {"message": "x", "type": "overloaded_error"}},), FailureKind.SERVER_ERROR),
        (({"error": "x"},), FailureKind.SERVER_ERROR),
    ],
)
def test_streams_that_fail(events: tuple[Any, ...], kind: FailureKind) -> None:
    """Never a clean end on a truncated answer."""
    assert failure(decode(*events)).kind is kind


TEXT = json.dumps(chunk({"role": "assistant", "content": "QQ"})).encode()
ODD_EVENTS = {
    "a sign of life": (b"data: \n\ndata:   \n\n" + event(TEXT) + b"data:\n\n", "QQ"),
    "spaces around": (b"data:  " + TEXT + b" \n\ndata:  [DONE] \n\n", "QQ"),
    "no blank lines": (b"data: " + TEXT + b"\ndata: " + TEXT + b"\ndata: [DONE]\n\n", "QQQQ"),
    "over several lines": (b"data: " + TEXT.replace(b", ", b",\ndata: ") + b"\n\n", "QQ"),
    "half a character": (event(TEXT.replace(b"QQ", b"a\\ud83d")), "a\ufffd"),
    "half of its bytes": (event(TEXT.replace(b"QQ", b"a\xf0\x9f")), "a\ufffd"),
    "a tab": (event(TEXT.replace(b"QQ", b"a\tb")), "a\tb"),
    "no number": (event(TEXT.replace(b'"created": 5', b'"created": 5, "odd": NaN')), "QQ"),
}


@pytest.mark.parametrize("name", ODD_EVENTS)
def test_events_that_are_not_quite_json(name: str) -> None:
    """Their text is not lost, and what is handed on is JSON."""
    data, expected = ODD_EVENTS[name]
    decoder = DIALECT.decoder(ASKED, "m")
    pieces = decoder.feed(data)
    if b"[DONE]" not in data:
        pieces += decoder.feed(event(b"[DONE]"))
    sent = [orjson.loads(piece.data)["choices"][0]["delta"]["content"] for piece in pieces if isinstance(piece, Chunk)]
    assert expected == "".join(sent)
    assert isinstance(pieces[-1], Finish)
    assert [] == decoder.close()


@pytest.mark.parametrize(
    "odd", [b"{nope", b'{"a": 1}\ndata: {nope', TEXT[:-1] + b', "x": ' + b"[" * 300 + b"]" * 300 + b"}"]
)
def test_an_event_that_cannot_be_read_or_sent_on_fails_the_stream(odd: bytes) -> None:
    """Not JSON, in part; or nested deeper than can be written."""
    assert FailureKind.BAD_EVENT is failure(decode(chunk({"content": "a"}), odd)).kind


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"detail": "boom"}, "boom"),
        ({"detail": {"error": {"message": "boom", "code": 503}}}, "boom"),
        ({"detail": {"error": "boom"}}, "HTTP 500: boom"),
        ({"code": "InternalError", "message": "boom", "request_id": "r"}, "boom"),
    ],
)
def test_an_error_that_is_not_called_one_is_no_clean_end(error: Any, said: str) -> None:
    """Nor is [DONE] behind it."""
    last = failure(decode(chunk({"content": "a"}), error, b"[DONE]"))
    assert FailureKind.SERVER_ERROR is last.kind
    assert said in last.message
    whole = DIALECT.decode(ASKED, "m", 200, {}, json.dumps(error).encode())
    assert isinstance(whole, Failure)
    assert said in whole.message


def test_what_stands_beside_an_answer_is_no_error() -> None:
    """Some gateways call every answer a success, in words."""
    beside = {"code": 200, "message": "success"}
    embeddings = json.dumps({**beside, "data": [{"embedding": [0.5]}]}).encode()
    assert isinstance(DIALECT.decode(Request({}, operation="embeddings"), "m", 200, {}, embeddings), Reply)
    blocks = json.dumps({**beside, "content": [{"type": "text", "text": "hi"}]}).encode()
    assert isinstance(DIALECTS["anthropic"].decode(ASKED, "m", 200, {}, blocks), Reply)


@pytest.mark.parametrize("code", ["9" * 5000, "503", 503.0, "\u0665", "-1"])
def test_a_code_is_a_status_if_it_is_one(code: Any) -> None:
    """As a number or as its text; whatever else it is, it is a failure of the server's."""
    outcome = DIALECT.decode(ASKED, "m", 200, {}, json.dumps({"error": {"code": code, "message": "x"}}).encode())
    assert isinstance(outcome, Failure)
    assert (503 if code in ("503", 503.0) else 500) == outcome.status


def test_what_stands_beside_choices_is_no_error() -> None:
    """Nor is a code alone, or a message alone."""
    odd = ({"message": "queued"}, {"code": 0, "message": "ok"}, {"code": "x"}, chunk({"content": "b"}, detail="d"))
    assert isinstance(decode(chunk({"content": "a"}), *odd, b"[DONE]")[-1], Finish)


def test_rubbish_after_the_end_says_nothing() -> None:
    """The answer was whole before it."""
    assert isinstance(decode(chunk({"content": "a"}, "stop"), b"{nope")[-1], Finish)


@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n "])
def test_a_whole_body_in_place_of_a_stream_becomes_one(before: bytes) -> None:
    """Some servers ignore `stream`; what they call it is not to be relied upon, how it begins is."""
    body = {"id": "x", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    decoder = DIALECT.decoder(ASKED, "m")
    assert [] == [piece for byte in before + json.dumps(body).encode() for piece in decoder.feed(bytes([byte]))]
    pieces = decoder.close()
    assert [{"role": "assistant", "content": "hi"}] == deltas(pieces)
    assert "stop" == finish(pieces).last["choices"][0]["finish_reason"]
    assert ([], []) == (decoder.feed(b"{}"), decoder.close())


@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf", b": hello\n\n", b"event: x\n"])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_stream_is_one_however_it_begins(before: bytes, size: int) -> None:
    """Comments, blank lines and names of events come before the first."""
    decoder, data = DIALECT.decoder(ASKED, "m"), before + event(chunk({"content": "a"}, "stop"))
    pieces = [piece for i in range(0, len(data), size) for piece in decoder.feed(data[i : i + size])]
    assert [{"role": "assistant", "content": "a"}] == deltas(pieces)
    assert isinstance(decoder.close()[-1], Finish)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": {"message": "slow", "code": 429}}', FailureKind.RATE_LIMITED),
        (b'{"choices": [', FailureKind.BAD_ANSWER),
        (b"<html>", FailureKind.BAD_ANSWER),
        (b" ", FailureKind.BAD_ANSWER),
    ],
)
def test_a_body_in_place_of_a_stream_that_is_no_answer(body: bytes, kind: FailureKind) -> None:
    """It is the failure that it says."""
    decoder = DIALECT.decoder(ASKED, "m")
    assert [] == decoder.feed(body)
    assert kind is failure(decoder.close()).kind


def test_a_body_in_place_of_a_stream_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an event has."""
    monkeypatch.setattr("orchestrator.dialects.events.MAX_EVENT_BYTES", 9)
    decoder = DIALECT.decoder(ASKED, "m")
    assert [] == decoder.feed(b'{"a": "12')
    assert FailureKind.BAD_ANSWER is failure(decoder.feed(b"3")).kind
    assert [] == decoder.feed(b"4")


@pytest.mark.parametrize("none", ["", 0, [], {}])
def test_a_reason_that_is_no_word_ends_nothing(none: Any) -> None:
    """SGLang's and Ollama's empty text in every chunk: the next one may be long in coming."""
    decoder = DIALECT.decoder(ASKED, "m")
    (piece,) = decoder.feed(event(chunk({"role": "assistant", "content": "a"}, none)))
    assert isinstance(piece, Chunk)
    assert (False, None) == (decoder.holding, json.loads(piece.data)["choices"][0]["finish_reason"])
    pieces = decoder.feed(event(chunk({"content": "b"}, none)) + event(chunk({}, "length")) + event(b"[DONE]"))
    assert [{"content": "b"}] == deltas(pieces)
    assert "length" == finish(pieces).last["choices"][0]["finish_reason"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("eos_token", "stop"),
        ("tool_use", "tool_calls"),
        ("sensitive", "content_filter"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        ("something new", "something new"),
    ],
)
def test_a_reason_that_is_not_openais_is_said_in_its_words(said: str, expected: str) -> None:
    """Whole and streamed; the provider's own word is kept beside it."""
    body = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": said}]}
    reply = DIALECT.decode(ASKED, "m", 200, {}, json.dumps(body).encode())
    assert isinstance(reply, Reply)
    streamed = finish(decode(chunk({"content": "a"}), chunk({}, said), b"[DONE]")).last["choices"][0]
    for choice in (reply.body["choices"][0], streamed):
        assert (expected, said) == (choice["finish_reason"], choice.get("native_finish_reason", said))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("insufficient_system_resource", FailureKind.SERVER_ERROR),
        ("network_error", FailureKind.SERVER_ERROR),
        ("abort", FailureKind.SERVER_ERROR),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", FailureKind.BAD_ANSWER),
    ],
)
def test_a_reason_that_says_that_the_answer_is_not_whole(said: str, kind: FailureKind) -> None:
    """It is no answer, but a failure: whole, where the message may be missing, and streamed."""
    for choice in ({"finish_reason": said, "message": {"content": "a"}}, {"finish_reason": said, "message": {}}):
        outcome = DIALECT.decode(ASKED, "m", 200, {}, json.dumps({"choices": [choice]}).encode())
        assert isinstance(outcome, Failure)
        assert kind is outcome.kind
    assert kind is failure(decode(chunk({"content": "a"}), chunk({}, said), b"[DONE]")).kind


@pytest.mark.parametrize("reason", ["content_filter: PROHIBITED_CONTENT", "length"])
def test_a_choice_of_geminis_without_a_message_is_an_answer_that_says_nothing(reason: str) -> None:
    """All of it was filtered, or thought: the reason says so, and nobody else is asked in its place."""
    body = {"choices": [{"index": 0, "finish_reason": reason}], "usage": {"prompt_tokens": 9}}
    reply = DIALECT.decode(ASKED, "m", 200, {}, json.dumps(body).encode())
    assert isinstance(reply, Reply)
    (choice,) = reply.body["choices"]
    assert {"role": "assistant", "content": None} == choice["message"]
    assert reason.partition(":")[0] == choice["finish_reason"]
    stopped = {"choices": [{"index": 0, "finish_reason": "stop"}]}
    assert isinstance(DIALECT.decode(ASKED, "m", 200, {}, json.dumps(stopped).encode()), Failure)


def test_what_is_no_object_where_groq_has_one_passes() -> None:
    """A field of that name may be anybody's."""
    pieces = decode(chunk({"content": "a"}, x_groq="mine"), chunk({}, "stop"), b"[DONE]")
    assert ["mine"] == [json.loads(piece.data)["x_groq"] for piece in pieces if isinstance(piece, Chunk)]
    assert isinstance(pieces[-1], Finish)


def test_unknown_fields_of_chunks_that_are_not_handed_on_come_at_the_end() -> None:
    """Those without choices, and those that say nothing but a role again; the last chunk's own go before them."""
    pieces = decode(
        {"id": "", "choices": [], "early": 1, "odd": 1},
        chunk({"content": "a"}),
        chunk({"role": "assistant"}, again=2),
        chunk({}, "stop", odd=3),
        {**chunk({}), "choices": [], "late": 4, "usage": {}},
        b"[DONE]",
    )
    assert [{"role": "assistant", "content": "a"}] == deltas(pieces)
    last = finish(pieces).last
    assert {"early": 1, "again": 2, "odd": 3, "late": 4} == {k: last[k] for k in ("early", "again", "odd", "late")}
    assert "c1" == last["id"]


def test_models_are_listed() -> None:
    """Or none, where the body is not a list of models."""
    assert DIALECT.decode_models(b'{"data": [{"id": "a"}, {"id": "b"}]}') == ("a", "b")
    assert DIALECT.decode_models(b'[{"id": "a"}]') == ("a",)
    assert DIALECT.decode_models(b"[]") == DIALECT.decode_models(b"3") == ()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats(-1, 1) | st.sampled_from(["", "x", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ("id", "model", "created", "choices", "index", "delta", "message", "role", "content", "tool_calls")
                + ("function", "name", "type", "finish_reason", "usage", "error", "code", "cost", "prompt_tokens")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def framed(fields: dict[str, Any], choice: Any, delta: Any) -> dict[str, Any]:
    """Deep enough to reach every branch, whatever stands in it."""
    return {**fields, "choices": [{**choice, "delta": delta}] if isinstance(choice, dict) else [choice]}


CHUNKS = st.lists(
    ANY | st.builds(framed, st.dictionaries(st.sampled_from(("id", "model", "usage")), ANY, max_size=2), ANY, ANY),
    max_size=4,
)


@settings(max_examples=400)
@given(CHUNKS, st.booleans())
def test_whatever_an_upstream_streams_is_chunks_and_one_end(chunks: list[Any], done: bool) -> None:
    """No shape of JSON raises; all that is handed on is an object with a list of choices and a text for its model."""
    decoder = OpenAI().decoder(ASKED, "m")
    data = b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + (
        b"data: [DONE]\n\n" if done else b""
    )
    pieces = decoder.feed(data)
    if not pieces or isinstance(pieces[-1], Chunk):
        pieces += decoder.close()
    assert [] == decoder.feed(b"data: {}\n\n")
    assert [] == decoder.close()
    *before, last = pieces
    assert isinstance(last, Finish | Failure)
    sent = [orjson.loads(piece.data) for piece in before if isinstance(piece, Chunk)]
    assert len(sent) == len(before)
    if isinstance(last, Finish):
        sent.append(last.last)
        assert isinstance(last.model, str)
    for chunk in sent:
        assert isinstance(chunk["model"], str)
        assert all(
            isinstance(choice["index"], int) and isinstance(choice["delta"], dict) for choice in chunk["choices"]
        )


@settings(max_examples=300)
@given(ANY | st.builds(lambda choice: {"choices": [choice]}, ANY), st.sampled_from([200, 400, 429, 500]))
@example({"choices": [{"message": {"tool_calls": [None]}}]}, 200)
def test_whatever_an_upstream_answers_is_a_reply_or_a_failure(body: Any, status: int) -> None:
    """No shape of JSON raises, whole or as the chunks of a stream."""
    outcome = OpenAI().decode(ASKED, "m", status, {}, orjson.dumps(body))
    if isinstance(outcome, Reply):
        assert isinstance(outcome.model, str)
        chunks, last = as_chunks(outcome.body)
        assert len(chunks) == len(last["choices"])
    else:
        assert isinstance(outcome.message, str)
