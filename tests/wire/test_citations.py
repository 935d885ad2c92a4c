"""Pages that an answer cites, in a response."""

from __future__ import annotations

from typing import Any

import openai.types.responses as types
import orjson
from pydantic import TypeAdapter

from orchestrator.asks import Answer
from orchestrator.dialects.openai import as_chunks
from orchestrator.types import Json, Reply
from orchestrator.wire.responses import ResponsesShape
from tests.upstream import completion

EVENTS: TypeAdapter[Any] = TypeAdapter(types.ResponseStreamEvent)
PAGE = {"url": "https://x.org/y", "title": "Y", "start_index": 2, "end_index": 5}
CITED = {"type": "url_citation", **PAGE}
ODD = ["x", {"type": "file"}, {"type": "url_citation", "url_citation": {"title": "no address"}}]


def speaker(*, stream: bool) -> Any:
    return ResponsesShape().parse(orjson.dumps({"model": "a/b", "input": "x", "stream": stream}), {}).speaker


def events_of(chunks: list[bytes], last: Json, answer: Answer) -> list[Json]:
    said_by = speaker(stream=True)
    said = said_by.chunks(chunks) + said_by.end(last, None, answer)
    events = [orjson.loads(part.split(b"data: ")[1]) for part in said.split(b"\n\n") if part]
    for event in events:
        EVENTS.validate_python(event)
    return events


def test_what_a_message_cites() -> None:
    """OpenAI's search models and OpenRouter's; what is no citation of a page is left out, and what is missing is empty."""
    body = completion("m")
    message: Json = {"role": "assistant", "content": "alpha"}
    nested = {"type": "url_citation", "url_citation": {**PAGE, "content": "the page's text"}}
    message["annotations"] = [nested, *ODD, {"type": "url_citation", "url_citation": {"url": "https://z.org"}}]
    body["choices"][0]["message"] = message
    answer = Answer(Reply(body, "m"), {"attempts": []}, "first", "p", "m")
    whole = speaker(stream=False).whole(body, answer)
    types.Response.model_validate(whole, strict=True)
    (part,) = whole["output"][0]["content"]
    bare = {"type": "url_citation", "url": "https://z.org", "title": "", "start_index": 0, "end_index": 0}
    assert [CITED, bare] == part["annotations"]
    events = events_of(*as_chunks(body), answer)
    added = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert [(CITED, 0), (bare, 1)] == [(event["annotation"], event["annotation_index"]) for event in added]
    assert whole["output"] == events[-1]["response"]["output"]


def test_what_a_stream_cites() -> None:
    """Before its text or behind it, and once however often it is repeated; without a text there is nothing that cites."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    cites: Json = {"annotations": [{"type": "url_citation", "url_citation": PAGE}]}
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    answer = Answer(Reply({}, "m"), {"attempts": []}, "first", "p", "m")
    for deltas, expected in (
        ([cites, {"content": "al"}, {"content": "pha", **cites}], [CITED]),
        ([{"content": "alpha"}, {"content": "", **cites}], [CITED]),
        ([{"reasoning_content": "hm", **cites}, cites, {"content": "alpha"}], [CITED]),
        ([{"refusal": "no"}, cites], None),
    ):
        chunks = [orjson.dumps({**head, "choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
        events = events_of(chunks, last, answer)
        (part,) = events[-1]["response"]["output"][-1]["content"]
        assert expected == part.get("annotations")
        added = [event["annotation"] for event in events if event["type"] == "response.output_text.annotation.added"]
        assert (expected or []) == added
