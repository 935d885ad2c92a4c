"""Signatures of models: sealed for the way through another shape, put back, stood in for, and kept from others."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from orchestrator.dialects.anthropic_turns import acceptable, without_sealed
from orchestrator.dialects.signatures import (
    Signature,
    is_sealed,
    kept,
    put,
    signatures,
    stood_in,
    unsealed,
    unsigned,
)
from orchestrator.fitting import fitted
from orchestrator.providers import PRESETS
from orchestrator.types import Json, Request

CALL: Json = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED: Json = {"google": {"thought_signature": "s+/="}}
STAND_IN: Json = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def test_a_signature_comes_back_as_it_was() -> None:
    """Of a call, and of a turn; under either name that Google's stand under."""
    for content in (SIGNED, {"vertex": {"thought_signature": "s"}}):
        for call in ("c", None):
            (signature,) = signatures({"extra_content": content}, call)
            sealed = signature.sealed()
            assert (True, signature) == (is_sealed(sealed), unsealed(sealed))
            turn: Json = {"role": "assistant", "tool_calls": [{**CALL, "id": "a"}, dict(CALL)]}
            put(signature, turn)
            assert content == (turn if call is None else turn["tool_calls"][1])["extra_content"]
            assert "extra_content" not in turn["tool_calls"][0]


def test_a_signature_whose_call_is_not_there_belongs_nowhere() -> None:
    """A caller may have left the call out."""
    for turn in ({"role": "assistant"}, {"role": "assistant", "tool_calls": [{**CALL, "id": "a"}]}):
        before = repr(turn)
        put(Signature("google", "s", "c"), turn)
        assert before == repr(turn)


@pytest.mark.parametrize(
    "content", [None, "s", {}, {"google": "s"}, {"google": {}}, {"google": {"thought_signature": 3}},
                {"google": {"thought_signature": ""}}, {"google": {"thought": True}}, {"other": {"thought_signature": "s"}}],
)  # fmt: skip
def test_what_is_no_signature(content: Any) -> None:
    """Nothing is made of it, and nothing is taken away."""
    turn: Json = {"extra_content": content, "tool_calls": [{**CALL, "extra_content": content}]}
    assert [] == list(signatures(turn))
    assert unsigned(turn) is turn


def seal(value: Any) -> str:
    return f"orchestrator:google:{base64.urlsafe_b64encode(orjson.dumps(value)).decode()}"


@pytest.mark.parametrize(
    "given", ["orchestrator:", "orchestrator:google:é", "orchestrator:google:a", "orchestrator:google:e30+", seal([]),
              seal({}), seal({"maker": "google"}), seal({"maker": "else", "data": "s"}), "orchestrator:google:e30",
              seal({"maker": "google", "data": "s", "call": 3}), seal({"type": "reasoning.encrypted", "data": [["deep"]]})],
)  # fmt: skip
def test_what_has_been_changed_on_its_way(given: str) -> None:
    """Nothing is made of it."""
    assert is_sealed(given)
    assert unsealed(given) is None


@pytest.mark.parametrize("given", [None, 3, "", "gAAAAA", "EqQBCgIYAhIM"])
def test_what_was_not_sealed_here(given: Any) -> None:
    """A maker's own, or nothing."""
    assert not is_sealed(given)


def test_anthropics_own_stands_as_it_is() -> None:
    """From itself, and by way of OpenRouter; all others' come back with what belongs to them."""
    for more in ({}, {"format": None}, {"format": "anthropic-claude-v1"}):
        assert "d" == kept({"type": "reasoning.encrypted", "data": "d", **more})
        assert "s" == kept({"type": "reasoning.text", "text": "t", "signature": "s", **more})
    for more in ({}, {"text": ""}, {"text": "", "format": "anthropic-claude-v1"}):
        hidden = {"type": "reasoning.text", "signature": "s", **more}
        assert ("s", hidden) == (kept(hidden), unsealed(kept(hidden, alone=True)))
    assert "d" == kept({"type": "reasoning.encrypted", "data": "d"}, alone=True)
    detail = {"type": "reasoning.text", "signature": "s", "format": "a:b", "index": 0}
    assert detail == unsealed(kept({**detail, "text": "t", "id": None, "x": [1]}))
    assert kept({"type": "reasoning.text", "text": "t", "format": "google-gemini-v1"}) is None


@pytest.mark.parametrize(
    ("model", "insists"),
    [("gemini-3.8-flash", True), ("gemini-3-pro-preview", True), ("models/gemini-3.1-flash-lite-preview", True),
     ("google/gemini-3-flash-preview", True), ("gemini-4-pro", True), ("gemini-10-flash", True),
     ("gemini-flash-latest", True), ("gemini-flash-lite-latest", True), ("gemini-2.5-pro", False),
     ("gemini-2.0-flash", False), ("gemini-1.5-pro-latest", False), ("gemma-4-31b-it", False), ("not-gemini-3", False)],
)  # fmt: skip
def test_which_models_insist(model: str, insists: bool) -> None:
    """Gemini from 3 on, by name."""
    turn = {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "d"}]}
    request = Request({"messages": [{"role": "user", "content": "hi"}, turn]})
    before = repr(request)
    found = fitted(request, PRESETS["gemini"].quirks, model).body["messages"][1]
    first = {**CALL, "extra_content": STAND_IN} if insists else CALL
    assert {**turn, "tool_calls": [first, {**CALL, "id": "d"}]} == found
    assert before == repr(request)


@pytest.mark.parametrize("calls", [None, [], "x", ["x"], [{**CALL, "extra_content": SIGNED}]])
def test_turns_that_need_no_stand_in(calls: Any) -> None:
    """Without calls, with a signature, or what is no list of calls: as they came."""
    turn = {"role": "assistant", "tool_calls": calls}
    assert stood_in(turn, STAND_IN) is turn


def test_a_stand_in_leaves_the_rest_of_what_stands_beside_a_call() -> None:
    """Whatever that is."""
    for given, more in (({"x": 1}, {"x": 1}), ("x", {})):
        (call,) = stood_in({"tool_calls": [{**CALL, "extra_content": given}]}, STAND_IN)["tool_calls"]
        assert {**more, **STAND_IN} == call["extra_content"]


def test_signatures_are_kept_from_others_and_nothing_else_is() -> None:
    """What stands beside them stays; a request without them is the very same."""
    beside = {**SIGNED, "x": 1}
    turn: Json = {"role": "assistant", "extra_content": SIGNED, "tool_calls": ["x", {**CALL, "extra_content": beside}]}
    quirks = PRESETS["openrouter"].quirks
    (found,) = fitted(Request({"messages": [turn]}), quirks, "x/y").body["messages"]
    assert {"role": "assistant", "tool_calls": ["x", {**CALL, "extra_content": {"x": 1}}]} == found
    for model in ("google/gemini-3-pro", "google/gemini-2.5-pro"):
        request = Request({"messages": [turn]})
        assert fitted(request, quirks, model) is request


def test_turns_in_anthropics_shape_without_what_was_sealed() -> None:
    """Thoughts of others are for Claude no thoughts; other models of that shape may have any but what is sealed."""
    sealed = Signature("google", "s", "c").sealed()
    hidden = {"type": "redacted_thinking", "data": sealed}
    shown = {"type": "thinking", "thinking": "t", "signature": sealed}
    own = [{"type": "redacted_thinking", "data": "d"}, {"type": "thinking", "thinking": "t", "signature": "s"}]
    text = {"type": "text", "text": "so"}
    turns = [{"role": "assistant", "content": [hidden, shown, *own, text, "x"]}, {"role": "assistant", "content": [hidden]},
             {"role": "user", "content": "hi"}]  # fmt: skip
    assert [{"role": "assistant", "content": [*own, text, "x"]}, turns[2]] == acceptable(turns)
    assert [{"role": "assistant", "content": [shown, *own, text, "x"]}, turns[2]] == without_sealed(turns)
