"""Requests as providers want them: what is changed, what is not, and for whom."""

from __future__ import annotations

import pytest

from orchestrator.config.settings import Quirks
from orchestrator.fitting import EXTENSIONS, fitted
from orchestrator.providers import PRESETS
from orchestrator.types import Json, Request

HI = {"role": "user", "content": "Hi"}


def test_a_request_that_needs_nothing_is_the_very_same() -> None:
    """Not a copy: that is the usual case."""
    request = Request({"messages": [HI], "foo": 1})
    assert fitted(request, Quirks()) is request
    assert fitted(request, PRESETS["openrouter"].quirks) is request


@pytest.mark.parametrize(
    ("quirks", "body", "expected"),
    [
        (Quirks(renames={"a": "b"}), {"a": 1, "c": 2}, {"b": 1, "c": 2}),
        (Quirks(renames={"a": "b"}), {"a": 1, "b": 2}, {"b": 2}),
        (Quirks(drops=frozenset({"a"})), {"a": 1, "c": 2}, {"c": 2}),
        (Quirks(roles={"developer": "system"}), {"input": "x"}, {"input": "x"}),
        (Quirks(extension="groq"), {"groq": {"x": 1, "model": "m", "stream": True}, "x": 0, "y": 2}, {"x": 1, "y": 2}),
        (Quirks(extension="groq"), {"openrouter": {"models": ["m"]}, "y": 2}, {"y": 2}),
        (Quirks(), {"openrouter": {"models": ["m"]}, "groq": {"x": 1}, "y": 2}, {"y": 2}),
        (Quirks(extension="groq"), {"groq": "text", "together": 1}, {"groq": "text", "together": 1}),
        (
            Quirks(extension="mistral", renames={"seed": "random_seed"}, drops=frozenset({"user"})),
            {"seed": 1, "user": "u", "mistral": {"seed": 2, "user": "v"}},
            {"random_seed": 1, "seed": 2, "user": "v"},
        ),
        (Quirks(), {"anthropic": {"top_k": 1}}, {"anthropic": {"top_k": 1}}),
    ],
)
def test_what_is_fitted(quirks: Quirks, body: Json, expected: Json) -> None:
    """What no row names passes; an extension that is no object is a field like any other."""
    request = Request(body)
    before = repr(body)
    assert expected == fitted(request, quirks).body
    assert before == repr(body)


def test_groq_is_not_told_what_a_model_thought() -> None:
    """It answers 400 to a turn with a field that it does not know."""
    turn = {"role": "assistant", "content": "so", "tool_calls": []}
    thought = {"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{}], "annotations": []}
    assert [turn] == fitted(Request({"messages": [{**turn, **thought}]}), PRESETS["groq"].quirks).body["messages"]


@pytest.mark.parametrize("preset", ["openai", "azure"])
def test_openai_is_given_calls_without_what_streams_and_others_say_of_them(preset: str) -> None:
    """ "Unknown parameter: 'messages[1].tool_calls[0].index'" is a 400, as are others' thoughts."""
    call: Json = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn: Json = {"role": "assistant", "content": None, "tool_calls": [call]}
    signed = {"extra_content": {"google": {"thought_signature": "x"}}}
    given: Json = {**turn, "reasoning_content": "hm", "reasoning_details": [{}], "refusal": None}
    given["tool_calls"] = [{**call, "index": 0, **signed}]
    quirks = PRESETS[preset].quirks
    assert [HI, {**turn, "refusal": None}] == fitted(Request({"messages": [HI, given]}), quirks).body["messages"]
    request = Request({"messages": [HI, turn]})
    assert request.body["messages"] is fitted(request, quirks).body["messages"]


def test_calls_of_other_models_have_identities_that_mistral_takes() -> None:
    """Nine letters and digits, the same in a call and in its result; its own stay."""
    given = ["call_005AKQn2j5TEr4S6i3zNN59m", "D681PevKs", "toolu_01é23", None]
    calls: list[Json] = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in given]
    turns: list[Json] = [{"role": "assistant", "content": "", "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": one, "content": "x"} for one in given]
    before = repr(turns)
    said, *results = fitted(Request({"messages": turns}), PRESETS["mistral"].quirks).body["messages"]
    found = [call["id"] for call in said["tool_calls"]]
    assert found == [result["tool_call_id"] for result in results]
    assert ("D681PevKs", None, before) == (found[1], found[3], repr(turns))
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in found[:3])
    assert 3 == len(set(found[:3]))


def test_messages_are_fitted_and_their_unknown_fields_pass() -> None:
    """Roles by the provider's names; what it refuses is left out."""
    quirks = Quirks(roles={"developer": "system"}, turn_drops=frozenset({"refusal"}))
    given: list[Json] = [
        {"role": "developer", "content": "x"},
        {**HI, "name": "n"},
        {"role": "assistant", "refusal": None},
    ]
    expected = [{"role": "system", "content": "x"}, {**HI, "name": "n"}, {"role": "assistant"}]
    assert expected == fitted(Request({"messages": given}), quirks).body["messages"]
    assert "developer" == given[0]["role"]


def test_every_preset_has_its_own_extension() -> None:
    """Named like it; Anthropic's is its dialect's affair."""
    assert {name: row.quirks.extension for name, row in PRESETS.items() if name in EXTENSIONS} == {
        name: name for name in EXTENSIONS
    }
    assert {"anthropic"} == set(PRESETS) - EXTENSIONS
