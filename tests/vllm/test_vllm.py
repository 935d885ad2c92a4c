"""What vLLM can do, through the endpoint: what is asked reaches it, and what it says comes back."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest

from bench.serving import Served
from tests.vllm.conftest import GPUS

START_S = 400.0
MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue?"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "wet": {"type": "boolean"}, "size": {"enum": [1, 2, 3]}},
    "required": ["colour", "wet", "size"],
    "additionalProperties": False,
}

pytestmark = pytest.mark.timeout(START_S + 100)


def wait(true: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
    """What a condition comes to, once it is true."""
    deadline_s = time.monotonic() + limit_s
    while not (found := true()):
        assert time.monotonic() < deadline_s, f"{what} did not come within {limit_s:g} s"
        time.sleep(0.2)
    return found


def replica(served: Served, provider: str) -> dict[str, Any]:
    rows = httpx.get(f"{served.root}/admin/pools").json()["pools"]
    shown = next(row["replicas"] for row in rows if row["provider"] == provider)
    found: dict[str, Any] = shown[0] if shown else {}
    return found


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's client, once the model is up."""
    wait(lambda: replica(served, "gpu").get("state") in ("up", "failed"), "vLLM", START_S)
    assert replica(served, "gpu")["state"] == "up", replica(served, "gpu")["reason"]
    with openai.OpenAI(base_url=served.url, api_key="none", timeout=120, max_retries=0) as made:
        yield made


def metric(served: Served, name: str) -> float:
    """One of vLLM's own, asked of it directly."""
    (server,) = [one for one in served.processes("api_server") if "launcher.py" not in " ".join(one.cmdline())
                 and "--enable-lora" in one.cmdline()]  # fmt: skip
    words = server.cmdline()
    text = httpx.get(f"http://127.0.0.1:{words[words.index('--port') + 1]}/metrics").text
    rows = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in rows)


def test_a_whole_answer(client: openai.OpenAI) -> None:
    """Its own body, with usage."""
    reply = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=8, temperature=0)
    assert ("tiny", "length", 8) == (
        reply.model,
        reply.choices[0].finish_reason,
        reply.usage and reply.usage.completion_tokens,
    )


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    """Token by token, at temperature 0."""
    whole = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=16, temperature=0)
    stream = client.chat.completions.create(
        model="gpu/tiny", messages=MESSAGES, max_tokens=16, temperature=0, stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text
    assert "length" == chunks[-1].choices[0].finish_reason


def test_structured_output_fits_its_schema(client: openai.OpenAI) -> None:
    """Although the weights are random: by OpenAI's field and by vLLM's own."""
    form: Any = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    for fields in ({"response_format": form}, {"extra_body": {"structured_outputs": {"json": SCHEMA}}},
                   {"extra_body": {"vllm": {"structured_outputs": {"json": SCHEMA}}}}):  # fmt: skip
        reply = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=200, **fields)
        thing = json.loads(reply.choices[0].message.content or "")
        assert {"colour", "wet", "size"} == thing.keys()
        assert thing["colour"] in ("red", "green")
        assert isinstance(thing["wet"], bool)
        assert thing["size"] in (1, 2, 3)


def test_a_choice_and_a_pattern(client: openai.OpenAI) -> None:
    """Guided decoding by vLLM's own fields."""
    choice = {"structured_outputs": {"choice": ["yes", "no"]}}
    reply = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=20, extra_body=choice)
    assert reply.choices[0].message.content in ("yes", "no")
    pattern = {"structured_outputs": {"regex": "[a-c]{3}[0-9]"}}
    reply = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=20, extra_body=pattern)
    assert re.fullmatch("[a-c]{3}[0-9]", reply.choices[0].message.content or "")


def test_tools_are_told_and_called(client: openai.OpenAI) -> None:
    """The template tells them to the model; a strict one that has to be called is called with arguments that fit."""
    tool: Any = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA, "strict": True}}
    without = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=1)
    told = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=1, tools=[tool])
    assert told.usage is not None
    assert without.usage is not None
    assert told.usage.prompt_tokens > without.usage.prompt_tokens + 100
    reply = client.chat.completions.create(
        model="gpu/tiny", messages=MESSAGES, max_tokens=400, tools=[tool], tool_choice="required"
    )
    call = (reply.choices[0].message.tool_calls or [])[0]
    assert call.type == "function"
    assert ("paint", {"colour", "wet", "size"}) == (call.function.name, json.loads(call.function.arguments).keys())


def test_several_answers_and_their_probabilities(client: openai.OpenAI) -> None:
    """`n`, `logprobs`."""
    reply = client.chat.completions.create(
        model="gpu/tiny", messages=MESSAGES, max_tokens=3, n=3, logprobs=True, top_logprobs=2
    )
    assert [0, 1, 2] == [choice.index for choice in reply.choices]
    content = reply.choices[0].logprobs and reply.choices[0].logprobs.content
    assert content
    assert 3 == len(content)
    assert all(len(one.top_logprobs) == 2 and math.exp(one.logprob) <= 1 for one in content)


def test_text_completions(client: openai.OpenAI) -> None:
    """The older shape reaches it as well."""
    reply = client.completions.create(model="gpu/tiny", prompt="Once upon", max_tokens=5)
    assert 5 == (reply.usage and reply.usage.completion_tokens)


def test_an_adapter_is_a_model(client: openai.OpenAI) -> None:
    """LoRA: listed by its name, asked for by its name, and it says something else."""
    assert {"gpu/tiny", "gpu/other"} <= {one.id for one in client.models.list()}
    said = [
        client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=24, temperature=0)
        for name in ("gpu/tiny", "gpu/other")
    ]
    assert ["tiny", "other"] == [one.model for one in said]
    assert said[0].choices[0].message.content != said[1].choices[0].message.content


def test_a_cut_stream_is_gone_on_with(client: openai.OpenAI) -> None:
    """By `continue_final_message`: what comes after the text that was sent is what vLLM says after it."""
    stream = client.chat.completions.create(
        model="tier:resumed", messages=MESSAGES, max_tokens=8, temperature=0, stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    begun: Any = [*MESSAGES, {"role": "assistant", "content": "alpha beta"}]
    rest = client.chat.completions.create(
        model="gpu/tiny", messages=begun, max_tokens=8, temperature=0,
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )  # fmt: skip
    assert f"alpha beta{rest.choices[0].message.content}" == text


def test_what_a_caller_left_is_aborted(client: openai.OpenAI, served: Served) -> None:
    """Its own metrics say so: nothing runs any more, and many tokens were never made."""
    before = metric(served, "vllm:generation_tokens_total")
    # It may be at its end before a server that is busy with so many tokens says that it runs: what it made is what counts.
    stream = client.chat.completions.create(
        model="gpu/tiny", messages=MESSAGES, max_tokens=4000, n=16, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()

    def made() -> float:
        return metric(served, "vllm:generation_tokens_total") - before

    def at_rest() -> bool:
        so_far = made()
        time.sleep(1)
        return metric(served, "vllm:num_requests_running") == 0 and made() == so_far

    wait(at_rest, "an end")
    assert made() < 16 * 4000


def test_embeddings(client: openai.OpenAI) -> None:
    """Of a server that is started for it, and waited for."""
    made = client.with_options(timeout=START_S).embeddings.create(model="vectors/tiny", input=["red", "green"])
    assert [0, 1] == [row.index for row in made.data]
    assert {128} == {len(row.embedding) for row in made.data}


def test_what_keeps_it_from_starting_is_said_in_its_own_words(client: openai.OpenAI) -> None:
    """An argument that it does not know."""
    with pytest.raises(openai.APIStatusError, match="unrecognized arguments: --no-such-argument") as caught:
        client.with_options(timeout=START_S).chat.completions.create(model="wrong/tiny", messages=MESSAGES)
    assert 503 == caught.value.status_code


def test_an_engine_that_is_killed_takes_its_server_along_and_both_are_back(
    client: openai.OpenAI, served: Served
) -> None:
    """kill -9 of vLLM's own child: told as what it was, and started again."""
    before = replica(served, "gpu")["restarts"]
    engines = [one for one in served.processes("EngineCore") if one.status() != psutil.STATUS_ZOMBIE]
    assert engines
    for engine in engines:
        os.kill(engine.pid, 9)
    wait(lambda: replica(served, "gpu")["restarts"] > before, "its end")
    wait(lambda: replica(served, "gpu")["state"] == "up", "vLLM", START_S)
    reply = client.chat.completions.create(model="gpu/tiny", messages=MESSAGES, max_tokens=4)
    assert 4 == (reply.usage and reply.usage.completion_tokens)


@pytest.mark.skipif(GPUS > 0, reason="of one GPU there are no halves")
def test_a_tensor_parallel_model(client: openai.OpenAI, served: Served) -> None:
    """Two processes have half of it each, and answer together; both go with it. (`gpus: 2` says that argument by itself.)"""
    client = client.with_options(timeout=START_S)
    reply = client.chat.completions.create(model="halves/tiny", messages=MESSAGES, max_tokens=8, temperature=0)
    assert reply.usage is not None
    assert 8 == reply.usage.completion_tokens
    halves = [one.pid for one in served.processes("VLLM::Worker_TP")]
    assert 2 == len(halves)
    wait(lambda: not any(psutil.pid_exists(pid) for pid in halves), "the end of an idle model's halves", 60)
