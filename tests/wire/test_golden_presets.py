"""What each provider documents of its requests, answers and streams, against what goes over the wire and comes of it.

The files name their sources, and when they were read. A field that a row does not mention has to pass as it came.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from orchestrator.attempt import EndpointStream
from orchestrator.config.load import load_mapping
from orchestrator.dialects.openai import OpenAI
from orchestrator.dialects.openai_stream import ChunkDecoder
from orchestrator.endpoint import Endpoint
from orchestrator.providers import PRESETS
from orchestrator.transport import Transport
from orchestrator.types import Chunk, Failure, Finish, Piece, Reply, Request, Sent, Usage
from tests.wire.test_presets import DOCUMENTED, KEY

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "presets"
FILES = {file.stem: orjson.loads(file.read_bytes()) for file in sorted(GOLDEN.glob("*.json"))}
ASK = {"messages": [{"role": "user", "content": "The capital of Norway?"}]}


def rows(kind: str) -> Any:
    return pytest.mark.parametrize(
        ("name", "row"),
        [pytest.param(name, row, id=f"{name}: {row['what']}") for name, file in FILES.items() for row in file[kind]],
    )


def endpoint(name: str, answer: Any) -> Endpoint:
    """The provider by its preset, over a wire that `answer` is at the other end of."""
    documented, row = DOCUMENTED[name], PRESETS[name]
    env = {**documented.env, **({row.key_variable: KEY} if row.key_needed else {})}
    settings = {**documented.settings, **FILES[name].get("settings", {})}
    config = load_mapping({"providers": {name: settings}}, env)
    provider = config.providers[name]
    return Endpoint(
        provider,
        config.keys[name],
        Transport(provider.connections, provider.timeouts, httpx.MockTransport(answer)),
    )


def test_every_preset_has_its_file() -> None:
    """Each with its sources and the day on which they were read."""
    assert {name for name, row in PRESETS.items() if row.dialect == "openai"} == set(FILES)
    assert all(file["sources"] and file["read"] for file in FILES.values())


@rows("requests")
async def test_what_goes_over_the_wire(name: str, row: Any) -> None:
    """Exactly that, and no other provider's fields."""
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(orjson.loads(request.content))
        return httpx.Response(500)

    model, stream = FILES[name]["model"], row.get("stream", False)
    resume = Sent(row["resume"], {"id": "c"}) if "resume" in row else None
    one = endpoint(name, answer)
    body = {**ASK, **row["body"]}
    asked = Request(body, stream, resume=resume)
    before = orjson.dumps(asked.body)
    failure = await (one.open if stream else one.call)(asked, model)
    assert isinstance(failure, Failure)
    expected = {**ASK, **row["wire"], "model": model}
    if "turn" in row:
        expected["messages"] = [*body["messages"], row["turn"]]
    assert expected == seen[0]
    assert before == orjson.dumps(asked.body)  # another candidate is given the same


@rows("answers")
async def test_what_becomes_of_a_whole_answer(name: str, row: Any) -> None:
    """What it says is all there."""
    outcome = await endpoint(name, lambda _: httpx.Response(200, json=row["body"])).call(Request(ASK), "m")
    if "failure" in row:
        assert isinstance(outcome, Failure)
        assert row["failure"] == outcome.kind.value
        return
    assert isinstance(outcome, Reply), outcome
    assert row.get("expected", row["body"]) == outcome.body
    if "usage" in row:
        assert outcome.usage is not None
        assert Usage(*row["usage"]) == outcome.usage


def written(row: Any) -> bytes:
    events = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in row["events"])
    return row.get("raw", "").encode() + events + b"data: [DONE]\n\n"


def decoded(data: bytes, cuts: tuple[int, ...]) -> list[Piece]:
    decoder = OpenAI().decoder(Request({}), "m")
    assert isinstance(decoder, ChunkDecoder)
    pieces: list[Piece] = []
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        pieces += decoder.feed(data[start:end])
    return pieces + decoder.close()


@rows("streams")
async def test_what_becomes_of_a_stream(name: str, row: Any) -> None:
    """What is handed on, and how it ends; in one piece, and split at every byte."""
    data = written(row)
    pieces = decoded(data, ())
    *before, last = pieces
    chunks = [orjson.loads(piece.data) for piece in before if isinstance(piece, Chunk)]
    assert row["deltas"] == [chunk["choices"][0]["delta"] for chunk in chunks]
    for field, value in row.get("fields", {}).items():
        assert any(value == chunk.get(field) for chunk in chunks)
    if "failure" in row:
        assert isinstance(last, Failure)
        assert row["failure"] == last.kind.value
    else:
        assert isinstance(last, Finish)
        assert row["last"] == last.last
        assert (Usage(*row["usage"]) if "usage" in row else None) == last.usage
    assert all(pieces == decoded(data, (cut,)) for cut in range(1, len(data)))
    assert pieces == decoded(data, tuple(range(1, len(data))))


@rows("streams")
async def test_a_stream_over_the_wire(name: str, row: Any) -> None:
    """The same through the whole endpoint."""
    wire = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=written(row))
    stream = await endpoint(name, lambda _: wire).open(Request(ASK, stream=True), "m")
    assert isinstance(stream, EndpointStream), stream
    pieces = await stream.read()
    while isinstance(pieces[-1], Chunk):
        pieces += await stream.read()
    assert len(row["deltas"]) == len(pieces) - 1
    assert ("failure" in row) == isinstance(pieces[-1], Failure)
