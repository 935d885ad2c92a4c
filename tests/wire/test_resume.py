"""Streams that were cut: the whole answer, or an error that says why not; never a clean end on half an answer."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dialects import resume
from orchestrator.dialects.openai import OpenAI
from orchestrator.dialects.resume import Resumed, SoFar
from orchestrator.types import Chunk, Failure, FailureKind, Finish, Request, Sent
from tests.upstream import Upstream, delta
from tests.wire.conftest import Serve, Stack
from tests.wire.test_stack import events

WHOLE = "alpha beta gamma"


@pytest.fixture
async def resuming(upstream: Upstream, serve: Serve) -> Stack:
    """One provider whose models answer afresh, and one whose models continue."""
    up = {
        "base_url": f"http://127.0.0.1:{upstream.port}/v1",
        "models": [],
        "retry": {"attempts": 1},
        "timeouts": {"first_token_s": 1, "idle_s": 0.2, "answer_s": 1, "total_s": 5},
    }
    continues = {**up, "model_options": {"*": {"prefill": True}}}
    return await serve({"providers": {"up": up, "on": continues}})


async def ask(stack: Stack, *models: str, **fields: object) -> list[object]:
    """The events of a stream by these models, one after the other."""
    answer = await stack.chat("x", stream=True, orchestrator={"models": list(models), **fields})
    assert answer.status_code == 200, answer.text
    return events(answer.text)


def text(found: list[object]) -> str:
    chunks = [event for event in found if isinstance(event, dict) and "choices" in event]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("fault", ["cut-1", "cut-2", "cut-3", "stall-2", "badevent-1"])
@pytest.mark.parametrize("next_", ["up/ok", "up/split", "on/prefill"])
async def test_a_cut_stream_is_completed(resuming: Stack, upstream: Upstream, fault: str, next_: str) -> None:
    """The whole answer, each word once; one role, one finish, one identity; both attempts are told."""
    found = await ask(resuming, f"up/{fault}", next_)
    assert found.pop() == "[DONE]"
    assert text(found) == WHOLE
    chunks = [event for event in found if isinstance(event, dict)]
    assert 1 == len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks})
    assert chunks[0]["model"] == fault
    assert 1 == sum("role" in choice["delta"] for chunk in chunks for choice in chunk["choices"])
    assert 1 == sum(choice["finish_reason"] is not None for chunk in chunks for choice in chunk["choices"])
    report = chunks[-1]["orchestrator"]
    assert next_ == report["winner"]
    assert [fault, next_.partition("/")[2]] == [one["model"] for one in report["attempts"]]
    assert "ok" == report["attempts"][1]["outcome"]


@pytest.mark.parametrize(
    ("next_", "why"),
    [
        ("up/other", "its answer is another one than was begun"),
        ("up/short", "its answer ends before the text that was already sent"),
        ("up/unavailable", "HTTP 503: overloaded"),
        ("on/ok", "the last turn is not one that can be answered"),
    ],
)
async def test_a_stream_that_cannot_be_completed_says_why(resuming: Stack, next_: str, why: str) -> None:
    """An error event with what befell it first, and no [DONE]; the refusal to go on does not hide it."""
    found = await ask(resuming, "up/cut-2", next_)
    last = found.pop()
    assert isinstance(last, dict)
    assert "stream_cut" == last["error"]["code"]
    assert "going on elsewhere failed" in last["error"]["message"]
    assert why in last["error"]["message"]
    assert text(found) == "alpha beta"


async def test_a_third_completes_what_the_second_could_not(resuming: Stack) -> None:
    """One after the other, each from what the caller has."""
    found = await ask(resuming, "up/cut-2", "up/other", "up/cut-3", "up/ok")
    assert "[DONE]" == found[-1]
    assert text(found) == WHOLE


@pytest.mark.parametrize("how", ["off", "tools"])
async def test_what_is_not_gone_on_with(resuming: Stack, upstream: Upstream, how: str) -> None:
    """Where it is switched off, and tool calls in progress: nobody else is asked."""
    fields = {"resume": "off"} if how == "off" else {}
    found = await ask(resuming, "up/tools-1" if how == "tools" else "up/cut-1", "up/ok", **fields)
    last = found[-1]
    assert isinstance(last, dict)
    assert "stream_cut" == last["error"]["code"]
    assert "going on" not in last["error"]["message"]
    assert [] == upstream.attempts("ok")


def chunk(content: dict[str, object], **choice: object) -> bytes:
    made = delta("m", content)
    made["choices"][0].update(choice)
    return orjson.dumps(made)


HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], None),
        ([chunk({"role": "assistant", "content": ""})], Sent("", HEAD)),
        ([chunk({"content": "a"}), chunk({"content": "b", "reasoning_content": "hm"})], Sent("ab", HEAD)),
        ([chunk({"content": "a"}, index=1)], None),
        ([chunk({"content": "a"}, logprobs={"content": []})], None),
        ([chunk({"tool_calls": [{"index": 0}]})], None),
        ([chunk({"refusal": "no"})], None),
    ],
)  # fmt: skip
def test_what_a_caller_has(chunks: list[bytes], expected: Sent | None) -> None:
    """Text alone can be gone on with."""
    so_far = SoFar()
    for one in chunks:
        so_far.add([one])
    assert expected == so_far.sent()


@pytest.mark.parametrize("most", [40_000, 29_999])
def test_what_a_caller_has_is_kept_small(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text, while there is not too much of it; then nothing."""
    monkeypatch.setattr(resume, "MAX_CHARACTERS", most)
    so_far, kept = SoFar(), 0
    for position in range(30_000):
        so_far.add([chunk({"content": "x" if position else "a"})])
        kept = max(kept, sum(map(len, so_far._chunks)))
    assert kept < resume.REDUCE_BYTES
    sent = so_far.sent()
    assert sent == (Sent("a" + "x" * 29_999, HEAD) if most == 40_000 else None)
    so_far.add([chunk({"content": "more"})])
    assert (so_far.sent() is None) == (most < 40_000)


@given(st.text("ab ", max_size=8), st.text("ab ", max_size=8), st.lists(st.integers(1, 4), max_size=12), st.booleans())
def test_whatever_the_split_each_character_comes_once(sent: str, more: str, sizes: list[int], same: bool) -> None:
    """An answer that begins with the text gives the rest of it; any other fails, and nothing of it is handed on."""
    answer = sent + more if same else more
    pieces, at = [], 0
    for size in [*sizes, len(answer)]:
        pieces.append(answer[at : at + size])
        at += size
    data = b"".join(b"data: " + chunk({"content": piece}) + b"\n\n" for piece in pieces)
    data += b"data: " + chunk({}, finish_reason="stop") + b"\n\ndata: [DONE]\n\n"
    head = {**HEAD, "id": "first", "model": "before"}
    found = Resumed(OpenAI().decoder(Request({}), "m"), Sent(sent, head), continues=False).feed(data)
    said = [orjson.loads(piece.data) for piece in found if isinstance(piece, Chunk)]
    last = found[-1]
    if not answer.startswith(sent):
        assert isinstance(last, Failure)
        assert last.kind is FailureKind.NO_RESUME
        assert said == []
        return
    assert isinstance(last, Finish)
    assert "first" == last.last["id"]
    assert answer[len(sent) :] == "".join(one["choices"][0]["delta"]["content"] for one in said)
    assert all(
        one["id"] == "first" and one["model"] == "before" and "role" not in one["choices"][0]["delta"] for one in said
    )
