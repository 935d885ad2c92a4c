"""The simulated and the replaying provider, over HTTP as callers see them."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from orchestrator.config.settings import Latency, Replay, Simulate
from orchestrator.simulate.answers import draw_s, instance_of, last_user_text, pieces_of
from orchestrator.simulate.server import Server, start

PARTS = [{"type": "text", "text": "two "}, {"type": "image_url"}, {"type": "text", "text": "parts"}]


@pytest.fixture
async def sim() -> AsyncIterator[Server]:
    server = await start(Simulate(Latency(0, 0), 100_000), name="sim")
    yield server
    await server.stop()


async def ask(server: Server, model: str, **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hello there"}], **fields}
    async with httpx.AsyncClient(timeout=10) as http:
        return await http.post(f"{server.base_url}/chat/completions", json=body)


def text(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


async def test_it_says_that_it_is_simulated(sim: Server) -> None:
    """In the text, and in the fingerprint."""
    answer = await ask(sim, "chat")
    assert text(answer).startswith("[simulated by sim, model chat] You said: hello there ")
    assert "simulated" == answer.json()["system_fingerprint"]
    usage = answer.json()["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


async def test_the_same_seed_gives_the_same_answers() -> None:
    """Call by call; another seed gives others."""
    found = []
    for seed in (1, 1, 2):
        server = await start(Simulate(Latency(0, 0), 100_000, seed=seed), name="sim")
        found.append([text(await ask(server, "chat")) for _ in range(3)])
        await server.stop()
    assert found[0] == found[1] != found[2]


async def test_knobs(sim: Server) -> None:
    """Latency, tokens, errors, and echo; `n` choices; a limit on tokens."""
    began_s = time.perf_counter()
    assert 7 == (await ask(sim, "latency-0.1+tokens-7+rate-0")).json()["usage"]["completion_tokens"]
    assert 0.1 <= time.perf_counter() - began_s < 1
    assert "hello there" == text(await ask(sim, "echo"))
    failed = await ask(sim, "error-503")
    assert (503, "server_error") == (failed.status_code, failed.json()["error"]["type"])
    assert 400 <= (await ask(sim, "error-429")).status_code < 500
    assert 2 == len((await ask(sim, "echo", n=2)).json()["choices"])
    short = await ask(sim, "tokens-50", max_tokens=3)
    assert ("length", 3) == (short.json()["choices"][0]["finish_reason"], short.json()["usage"]["completion_tokens"])


async def test_answers_for_votes(sim: Server) -> None:
    """What it says, how often it is right, and which answer a judge likes."""
    assert "42" == text(await ask(sim, "say-42"))
    said = [text(await ask(sim, "right-0.5")) for _ in range(40)]
    assert {"The answer is 42.", "The answer is 41."} == set(said)
    shown = 'Which?\n<answer number="1">\na\n</answer>\n\n<answer number="2">\nb\n</answer>'
    body = {"messages": [{"role": "user", "content": shown}]}
    picks = [
        orjson.loads(text(await ask(sim, f"judge-{which}", **body)))["best"] for which in ("first", "last", "b", "z")
    ]
    assert [1, 2, 2, 1] == picks
    assert "there is nothing to judge" == text(await ask(sim, "judge-first"))


async def test_answers_in_json(sim: Server) -> None:
    """By a schema that is given, or shown in what it is told; else an object of its own."""
    wanted = {"response_format": {"type": "json_object"}}
    assert '{"answer":"simulated"}' == text(await ask(sim, "chat", **wanted))
    told = 'Answer as {broken} {"properties": {"n": {"type": "integer", "minimum": -9, "maximum": 0}}}'
    assert '{"n":0}' == text(await ask(sim, "chat", messages=[{"role": "user", "content": told}], **wanted))
    schema = {"properties": {"n": {"type": "integer", "minimum": -9}, "m": {"type": "number", "minimum": 2}}}
    strict = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert '{"n":1,"m":2.0}' == text(await ask(sim, "chat", **strict))
    assert "7" == text(await ask(sim, "say-7", **strict))


async def test_more_choices_than_are_made(sim: Server) -> None:
    """Refused, as OpenAI does: they would fill the memory."""
    assert (200, 400) == ((await ask(sim, "chat", n=128)).status_code, (await ask(sim, "chat", n=129)).status_code)


async def test_errors_at_their_rate() -> None:
    """A share of the calls, by the seed."""
    server = await start(Simulate(Latency(0, 0), 100_000, error_rate=0.5), name="sim")
    statuses = [(await ask(server, "chat")).status_code for _ in range(40)]
    await server.stop()
    assert 8 < statuses.count(500) < 32
    assert {200, 500} == set(statuses)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "the body is not JSON"), (b"[]", "'model' is missing"), (b'{"model": "x"}', "'messages' is missing")],
)
async def test_bad_requests(sim: Server, content: bytes, reason: str) -> None:
    """Refused as OpenAI does."""
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{sim.base_url}/chat/completions", content=content)
    assert (400, reason) == (answer.status_code, answer.json()["error"]["message"])


async def test_the_other_paths(sim: Server) -> None:
    """Models, counters, and nothing else."""
    async with httpx.AsyncClient() as http:
        models = await http.get(f"{sim.base_url}/models")
        health = await http.get(f"{sim.base_url.removesuffix('/v1')}/health")
        other = await http.get(f"{sim.base_url}/other")
    assert ["chat"] == [row["id"] for row in models.json()["data"]]
    assert {"status": "ok", "in_flight": 0, "peak": 0, "served": 0} == health.json()
    assert 404 == other.status_code


async def test_a_stream_keeps_its_pace(sim: Server) -> None:
    """Ten tokens at 100 a second take a tenth of a second; usage comes when it is asked for."""
    body = {"model": "tokens-10+rate-100", "messages": [{"role": "user", "content": "x"}], "stream": True, "n": 2}
    began_s = time.perf_counter()
    async with httpx.AsyncClient() as http:
        plain = await http.post(f"{sim.base_url}/chat/completions", json=body)
        seconds = time.perf_counter() - began_s
        counted = await http.post(
            f"{sim.base_url}/chat/completions", json={**body, "stream_options": {"include_usage": True}}
        )
    assert 0.08 < seconds < 1
    chunks = [orjson.loads(line[6:]) for line in plain.text.split("\n") if line.startswith("data: {")]
    assert 22 == len(chunks)
    assert "usage" not in chunks[-1]
    assert 20 == orjson.loads(counted.text.split("data: ")[-2])["usage"]["completion_tokens"]


async def test_recordings_are_replayed_to_the_byte(tmp_path: Path) -> None:
    """Found by the last user message; an unknown model or question is a 404."""
    odd = " two  spaces\n\n\tand a tab, \u00e9\u4e2d \U0001f600 "
    (tmp_path / "q.jsonl").write_bytes(orjson.dumps({"id": "1", "prompt": "two parts"}) + b"\n\n")
    (tmp_path / "r.jsonl").write_bytes(orjson.dumps({"id": "1", "output": odd}) + b"\n")
    replay = Replay({"m": str(tmp_path / "r.jsonl")}, str(tmp_path / "q.jsonl"), Latency(0, 0), 100_000)
    server = await start(replay, name="rec")
    messages = [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "x"}]
    assert odd == text(await ask(server, "m", messages=messages))
    codes = [(await ask(server, "m")).json()["error"]["code"], (await ask(server, "x")).json()["error"]["code"]]
    await server.stop()
    assert ["recording_not_found", "model_not_found"] == codes


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "1"}', '{"id": 1, "prompt": "x"}'])
async def test_a_recording_that_cannot_be_read(tmp_path: Path, line: str) -> None:
    """File and line are named."""
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "0", "prompt": "x"}\n' + line)
    with pytest.raises(ValueError, match=r"q\.jsonl:2: is not a JSON object with the strings id, prompt"):
        await start(Replay({}, str(path)), name="rec")


def test_latencies_have_their_median_and_p99() -> None:
    """Over many draws, within a tenth."""
    rng = random.Random(1)
    draws = sorted(draw_s(Latency(0.4, 3.0), rng) for _ in range(20_000))
    assert draws[10_000] == pytest.approx(0.4, rel=0.1)
    assert draws[19_800] == pytest.approx(3.0, rel=0.1)
    assert {0.4} == {draw_s(Latency(0.4, 0.1), rng) for _ in range(10)}


@pytest.mark.parametrize("sample", ["", "a", " a", "a b", "a\n\n b ", "\t", "é 中 😀"])
def test_pieces_joined_are_the_text(sample: str) -> None:
    """Nothing is lost at the seams."""
    assert sample == "".join(pieces_of(sample))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], ""),
        (["x", {"role": "assistant", "content": "a"}], ""),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": PARTS}], "two parts"),
        ([{"role": "user", "content": None}], ""),
    ],
)
def test_the_last_user_message(messages: list[Any], expected: str) -> None:
    """Its text, its parts joined."""
    assert expected == last_user_text(messages)


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 18},
        "tags": {"type": "array", "items": {"enum": ["x"]}},
        "inner": {"$ref": "#/$defs/inner"}, "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "$defs": {"inner": {"type": "object", "properties": {"flag": {"type": "boolean"}, "again": {"$ref": "#/$defs/none"}}}},
}  # fmt: skip
INSTANCE = {"name": "simulated", "age": 18, "tags": ["x"], "inner": {"flag": True, "again": {}}, "maybe": 1.0}


async def test_a_schema_is_kept_to(sim: Server) -> None:
    """The smallest instance; a schema that refers to itself ends."""
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert INSTANCE == orjson.loads(text(await ask(sim, "chat", response_format=wanted)))
    endless = {"type": "object", "properties": {"self": {"$ref": "#"}}}
    assert isinstance(instance_of(endless), dict)


async def test_tools_are_called_until_there_are_results(sim: Server) -> None:
    """The first one, all of them by a knob, the one that is named, none where none may be."""
    tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("f", "g")]

    async def called(model: str, **fields: Any) -> list[str]:
        choice = (await ask(sim, model, tools=tools, **fields)).json()["choices"][0]
        assert (choice["finish_reason"] == "tool_calls") == ("tool_calls" in choice["message"])
        return [call["function"]["name"] for call in choice["message"].get("tool_calls", [])]

    named = {"type": "function", "function": {"name": "g"}}
    results = [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "1", "content": "y"}]
    assert ["f"] == await called("chat")
    assert ["f", "g"] == await called("parallel")
    assert ["g"] == await called("chat", tool_choice=named)
    assert [] == await called("chat", tool_choice="none")
    assert [] == await called("chat", messages=results)
