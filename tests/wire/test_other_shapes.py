"""Text completions and embeddings, on providers that speak chat completions and embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.config.settings import Simulate
from orchestrator.simulate.server import start
from tests.upstream import Upstream
from tests.wire.conftest import Serve, Stack
from tests.wire.python import Scripted
from tests.wire.test_stack import events


@pytest.fixture
async def sim(serve: Serve, upstream: Upstream) -> AsyncIterator[Stack]:
    """A simulated provider, and one that misbehaves."""
    server = await start(Simulate(), name="sim")
    quick = {"retry": {"attempts": 1}, "timeouts": {"first_token_s": 0.2, "idle_s": 0.2}}
    up = {"base_url": f"http://127.0.0.1:{upstream.port}/v1", **quick}
    yield await serve({"providers": {"sim": {"base_url": server.base_url, "models": []}, "up": up}})
    await server.stop()


async def post(stack: Stack, path: str, **body: Any) -> Any:
    return await stack.http.post(f"/v1/{path}", json=body)


async def test_a_completion(sim: Stack) -> None:
    """The text, before it the prompt if that is wanted."""
    said = (await post(sim, "completions", model="sim/echo+latency-0", prompt="one two")).json()
    assert ("text_completion", "one two", "stop", 2) == (
        said["object"], said["choices"][0]["text"], said["choices"][0]["finish_reason"], said["usage"]["completion_tokens"],
    )  # fmt: skip
    assert ("sim", "ok") == (said["provider"], said["orchestrator"]["attempts"][0]["outcome"])
    echoed = (await post(sim, "completions", model="sim/echo+latency-0", prompt=["one"], echo=True, n=2)).json()
    assert [(0, "oneone"), (1, "oneone")] == [(one["index"], one["text"]) for one in echoed["choices"]]


@pytest.mark.parametrize("echo", [False, True])
async def test_a_streamed_completion(sim: Stack, echo: bool) -> None:
    """Text in pieces, a reason to stop once, usage when asked for, [DONE]."""
    options = {"include_usage": True}
    asked = {
        "model": "sim/echo+latency-0",
        "prompt": "one two",
        "stream": True,
        "stream_options": options,
        "echo": echo,
    }
    *chunks, usage, done = events((await post(sim, "completions", **asked)).text)
    assert ("one two" * (1 + echo), "[DONE]", 2) == (
        "".join(chunk["choices"][0]["text"] for chunk in chunks), done, usage["usage"]["completion_tokens"],
    )  # fmt: skip
    assert ["stop"] == [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert {"text_completion"} == {chunk["object"] for chunk in [*chunks, usage]}
    assert "sim" == chunks[-1]["provider"]


async def test_several_streamed_completions(sim: Stack) -> None:
    """Each has its reason to stop, once."""
    asked = {"model": "sim/echo+latency-0", "prompt": "one two", "stream": True, "n": 3}
    *chunks, _ = events((await post(sim, "completions", **asked)).text)
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [(i, "stop") for i in range(3)] == sorted(
        (c["index"], c["finish_reason"]) for c in said if c["finish_reason"]
    )
    assert ["one two"] * 3 == ["".join(c["text"] for c in said if c["index"] == i) for i in range(3)]


async def test_a_completion_that_is_cut(sim: Stack) -> None:
    """An error event, and no clean end."""
    last = events((await post(sim, "completions", model="up/cut-1", prompt="x", stream=True)).text)[-1]
    assert "stream_cut" == last["error"]["code"]


async def test_embeddings(sim: Stack) -> None:
    """One or many, as numbers or packed; the same text has the same."""
    one = (await post(sim, "embeddings", model="sim/e", input="the sky is blue")).json()
    many = (
        await post(sim, "embeddings", model="sim/e", input=["the sky is blue", "x"], encoding_format="base64")
    ).json()
    vector = one["data"][0]["embedding"]
    packed = struct.unpack(f"<{len(vector)}f", base64.b64decode(many["data"][0]["embedding"]))
    assert vector == pytest.approx(packed, abs=1e-6)
    assert ([0, 1], 5) == ([row["index"] for row in many["data"]], many["usage"]["prompt_tokens"])
    short = (await post(sim, "embeddings", model="sim/e", input=[1, 2, 3], dimensions=8)).json()
    assert (8, "sim", None) == (len(short["data"][0]["embedding"]), short["provider"], short["usage"]["cost"])


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        ([0.5, -1, 2.0], "base64", base64.b64encode(struct.pack("<3f", 0.5, -1, 2)).decode()),
        ([0.5, -1, 2.0], "float", [0.5, -1, 2.0]),
        ([0.5, "x"], "base64", [0.5, "x"]),
        ([1e300], "base64", [1e300]),
        ("AAAAPw==", "base64", "AAAAPw=="),
    ],
)
async def test_embeddings_of_a_provider_that_does_not_pack(serve: Serve, given: Any, wanted: str, said: Any) -> None:
    """They are packed where that was asked for: OpenAI's clients ask for it unless they are told otherwise."""
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    row = {"object": "embedding", "index": 0, "embedding": given}
    scripted = Scripted({"object": "list", "model": "e", "data": [row], "usage": usage})
    async with scripted.serve() as config:
        stack = await serve(config)
        answer = (await post(stack, "embeddings", model="up/e", input="x", encoding_format=wanted)).json()
    assert [{**row, "embedding": said}] == answer["data"]


async def test_embeddings_of_the_next(sim: Stack) -> None:
    """A provider that has none is passed over."""
    choice = {"models": ["up/unavailable", "sim/e"]}
    said = (await post(sim, "embeddings", model="x", input="x", orchestrator=choice)).json()
    assert ["server_error", "ok"] == [one["outcome"] for one in said["orchestrator"]["attempts"]]
    nothing = await post(sim, "embeddings", model="up/nochoices", input="x")
    assert (502, "bad_answer") == (nothing.status_code, nothing.json()["error"]["code"])


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no prompt": ("completions", {}, "prompt"),
    "several prompts": ("completions", {"prompt": ["a", "b"]}, "prompt"),
    "tokens": ("completions", {"prompt": [1, 2]}, "prompt"),
    "a suffix": ("completions", {"prompt": "x", "suffix": "y"}, "suffix"),
    "the best of": ("completions", {"prompt": "x", "best_of": 3}, "best_of"),
    "logprobs as a flag": ("completions", {"prompt": "x", "logprobs": True}, "logprobs"),
    "stream options as text": ("completions", {"prompt": "x", "stream_options": "y"}, "stream_options"),
    "no input": ("embeddings", {}, "input"),
    "an empty input": ("embeddings", {"input": ["x", ""]}, "input[1]"),
    "an input of flags": ("embeddings", {"input": [[True]]}, "input[0]"),
    "too many": ("embeddings", {"input": ["x"] * 2049}, "input"),
    "a format": ("embeddings", {"input": "x", "encoding_format": "int8"}, "encoding_format"),
    "dimensions": ("embeddings", {"input": "x", "dimensions": 0}, "dimensions"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_says_where(sim: Stack, name: str) -> None:
    """400, with the field."""
    path, fields, param = WRONG[name]
    answer = await post(sim, path, model="sim/e", **fields)
    assert (400, param) == (answer.status_code, answer.json()["error"]["param"])
