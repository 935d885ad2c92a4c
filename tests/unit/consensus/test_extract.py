"""What of an answer is compared."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.settings import Extract
from orchestrator.consensus.extract import expression, extract, field_of, object_of


def body(content: Any, finish: str = "stop", **message: Any) -> Any:
    return {"choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}]}


def key(content: Any, how: Extract | str, finish: str = "stop") -> str | None:
    found = extract(body(content, finish), how)
    return None if found is None else found.key


ANSWER = Extract(json="answer")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"answer": "18"}', "18"),
        ('{"answer": 18.0}', "18"),
        ('```json\n{"reasoning": "a\nb", "answer": "$18"}\n```', "18"),
        ('Let me see. {"answer": 1} No: {"answer": 2} is right', "2"),
        ('{"note": {"answer": "7"}} and {"other": 1}', "7"),
        ('{"reasoning": "16 - 7 = 9, "quoted" and wrong", "answer": "18"}', "18"),
        ('{"reasoning": "x",\n "answer": 18\n', "18"),
        ('"answer": "1"\n"answer": "1.0"\n', "1"),
        ('"answer": "1"\n"answer": "2"\n', None),
        ('{"reasoning": "x", "answer": "18', None),
        ('{"reasoning": "x", "answer": 18', None),
        ('{"answer": null}', None),
        ('{"answer": true}', "true"),
        ('{"answer": ""}', ""),
        ('{"steps": "16 - "7" = 9", "inner": {"answer": 3}, "answer": "18"}', None),
        ('{"answer": "x", "steps": [{"answer": 5}', None),
        ('{see below} {"answer": 2}', "2"),
        ('{"answer": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ('```{"answer": 123456789012345678901234567890}```', "123456789012345678901234567890"),
        ('{"answer": NaN}', "nan"),
        ("no JSON", None),
        ("", None),
        ("[" * 5000, None),
        ('{"a":' * 3000, None),
        ('{"answer": ' + "1" * 5000 + "}", None),
    ],
)
def test_a_field(text: str, expected: str | None) -> None:
    """Out of fences and prose, with raw line feeds; of broken JSON only what is whole and said alike everywhere."""
    found = field_of(text, "answer")
    assert expected == (None if found is None else found.key)


def test_a_field_within_a_field() -> None:
    """`a.b`, unless there is one of that very name."""
    assert "1" == key('{"a": {"b": 1}}', Extract(json="a.b"))
    assert "2" == key('{"a": {"b": 1}, "a.b": 2}', Extract(json="a.b"))


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("16 eggs, 3 for breakfast: 13.", "16", "13"),
        ("He pays $1,234.50 in all", "1234.5", "1234.5"),
        ("from 2-3 to -4", "2", "-4"),
        ("it is 3/4", "0.75", "0.75"),
        ("\\boxed{18}", "18", "18"),
        ("5 is the 6th", "5", "6"),
        ("1,2,3", "1", "3"),
        ("about .5", "0.5", "0.5"),
        ("none", None, None),
    ],
)
def test_a_number(text: str, first: str | None, last: str | None) -> None:
    """The first or the last."""
    assert (first, last) == (key(text, Extract(number="first")), key(text, Extract(number="last")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "b"), ("(b)", "b"), ("**B.**", "b"), ("The answer is (C), not A", "c"),
        ("A or B? Answer: B because A fails", "b"),
        ("I would say B", "b"), ("a good question", None), ("ABC", None), ("", None),
    ],
)  # fmt: skip
def test_a_choice(text: str, expected: str | None) -> None:
    """Alone, said to be the answer, or named last; a single letter as it is written, unless it stands alone."""
    assert expected == key(text, Extract(choice=("A", "B", "C")))


def test_a_choice_of_words() -> None:
    """Without regard to case; the longer one where one begins with another."""
    words = Extract(choice=("yes", "no", "not sure"))
    assert ("yes", "not sure", "no") == (key("YES!", words), key("I am Not Sure", words), key("Answer: no", words))


def test_a_regular_expression() -> None:
    """The first group of the last match, or the match."""
    assert "2" == key("#### 1\n#### 2", Extract(regex=r"#### (\d+)"))
    assert "abc" == key("x ABC", Extract(regex="[A-C]+"))
    assert key("x", Extract(regex="y")) is None
    assert key("x", Extract(regex="y*")) is None
    assert "3" == key("#### 3", Extract(regex=r"\d*"))
    assert key("#### 12", Extract(regex=r"#### (\d+)"), "length") is None
    assert "12" == key("#### 12 and", Extract(regex=r"#### (\d+)"), "length")
    assert "a?b" == key("a\ud800b", Extract(regex=r"a\S\S"))
    with pytest.raises(ValueError, match="missing"):
        expression("(a")


HOSTILE: dict[str, tuple[str, Extract | str]] = {
    "an expression": ("a" * 50_000 + "b", Extract(regex="(a|a|aa)+$")),
    "stars": ("*" * 200_000, Extract(choice=("A", "B"))),
    "spaces": (("answer" + " " * 4_000) * 40 + "z", Extract(choice=("A", "B"))),
    "thousands": ("111," * 50_000 + "11", Extract(number="last")),
    "fractions": ("1 / " * 50_000, Extract(number="first")),
    "marks": ("a" + "\u0300\u0327" * 100_000, "text"),
    "brackets": ('{"' * 100_000, ANSWER),
    "nests": ('{"a":[' * 50_000, ANSWER),
    "names": ('"answer":' * 50_000, ANSWER),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_takes_long(name: str) -> None:
    """Of texts that would take naive ways minutes. (A second, and some slack for a busy machine.)"""
    text, how = HOSTILE[name]
    began = time.monotonic()
    key(text, how)
    assert time.monotonic() - began < 4


def test_the_text() -> None:
    """All of it, its parts joined; nothing where there is none, or its end was cut off."""
    assert "hello you" == key([{"type": "text", "text": "Hello "}, {"type": "text", "text": "you."}, 7], "text")
    assert key("  ", "text") is None
    assert key(None, "text") is None
    assert key("The answer is 4", "text", "length") is None
    assert key("17 and then", Extract(number="last"), "length") is None
    assert "18" == key('{"answer": 18} and so', ANSWER, "length")


def test_calls_of_tools() -> None:
    """By name and arguments, however the arguments are written."""

    def called(arguments: Any) -> Any:
        return body(None, tool_calls=[{"id": "1", "function": {"name": "f", "arguments": arguments}}, "x"])

    one, other = extract(called('{"a": 1, "b": "X"}'), ANSWER), extract(called('{"b":"x","a":1.0}'), "text")
    assert one is not None
    assert other is not None
    assert one.key == other.key
    assert extract(called("{broken"), "text") is not None
    assert extract(called(None), "text") is not None
    assert extract(body(None, tool_calls="x"), "text") is None


ODD: dict[str, tuple[Any, Extract | str]] = {
    "a reason that is a list": (body("x", ["stop"]), "text"),  # type: ignore[arg-type]
    "half a character": (body('{"answer": ["\\ud800"]}'), ANSWER),
    "half a character in a name": (body('{"answer": {"\\ud800": 1}}'), ANSWER),
    "a number of many digits": (body('so {"answer": 123456789012345678901234567890}'), ANSWER),
    "lists within lists": (body('{"answer": ' + "[" * 60 + "]" * 60 + "}"), ANSWER),
    "a dotless i": (body("The answer is \u0131ndia"), Extract(choice=("India", "China"))),
    "a half of text": (body("\ud800"), "text"),
    "arguments of many digits": (
        body(None, tool_calls=[{"function": {"name": "f", "arguments": '{"a": ' + "1" * 30 + "}"}}]), "text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_found_can_be_written(name: str) -> None:
    """As JSON: what a model says never breaks the answer that reports it."""
    found = extract(*ODD[name])
    assert found is None or orjson.dumps([found.key, found.shown])


def test_an_object() -> None:
    """The last in a text; none for what holds none."""
    assert {"b": 2} == object_of('{"a": 1} {"b": 2}')
    assert {"a": {"b": 1}} == object_of('so: {"a": {"b": 1}}')
    assert object_of("[1]") is None


@given(st.text(alphabet='{}[]",:\\ \nanswer0123456789.-truefalsn', max_size=300))
def test_anything_can_be_looked_at(text: str) -> None:
    """No text breaks it, and what is found is a field's value or part of the text."""
    for how in (ANSWER, Extract(number="last"), Extract(choice=("A", "B")), "text"):
        found = extract(body(text), how)
        assert found is None or isinstance(found.key, str)
