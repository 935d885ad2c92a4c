"""When two answers are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.consensus import normal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18", "18"), ("18.00", "18"), ("1,234.50", "1234.5"), ("1e3", "1000"), ("1.5E-2", "0.015"), (".5", "0.5"),
        ("-7", "-7"), ("\u22127", "-7"), ("-0.0", "0"), ("007", "7"), ("1/4", "0.25"), ("2 / 8", "0.25"), ("1/3", "1/3"),
        ("-1/3", "-1/3"), ("0.1", "0.1"), ("12345678901234567890", "12345678901234567890"), ("1e999", "1E+999"),
        ("2024/05", None),
        ("1/0", None), ("1/2/3", None), ("", None), ("x", None), ("1,23", None), ("1.2.3", None), ("9" * 100, None),
        ("1 000", None), ("٣", "3"),
    ],
)  # fmt: skip
def test_numbers(text: str, expected: str | None) -> None:
    """By value; what is none is None."""
    assert expected == normal.number(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$18", "18"), ("18 ", "18.00"), ("50%", "50"), ("-$5", "-5"), ("€1,000", "1000"), ("18.", "18"), ("**18**", "18"),
        ("Oslo.", "oslo"), ("  Oslo\n", "OSLO"), ('"Oslo"', "Oslo"), ("the  capital\n is Oslo", "The capital is Oslo!"),
        ("ﬁne", "fine"), ("Straße", "STRASSE"), ("3 Apples", "3 apples."), ("`x = 1`", "x = 1"),
    ],
)  # fmt: skip
def test_the_same(one: str, other: str) -> None:
    """Amounts without their currency, texts without case, spaces, emphasis and the stop at the end."""
    assert normal.text(one) == normal.text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 apples", "3 oranges"),
        ("18", "18.1"),
        ("Oslo", "Bergen"),
        ("-5", "5"),
        ("a b", "ab"),
        ("1/3", "0.33"),
        ("!", "?"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    """What means something else stays apart."""
    assert normal.text(one) != normal.text(other)


def test_json_values() -> None:
    """Deep, whatever the order of names; a number is itself, in a string or not; null and what is too deep is nothing."""
    assert normal.value({"a": ["X ", 1.0], "b": True}) == normal.value({"b": True, "a": ["x", "1"]})
    assert ("18", "18", "true", None) == tuple(map(normal.value, (18, "18.0", True, None)))
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    assert normal.value({"a": 1}) != normal.value({"a": 2})
    assert normal.value(deep) is None
    assert normal.value(["\ud800"]) == normal.value(["?"])


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_a_number_is_itself_however_it_is_written(whole: int, places: int) -> None:
    """With commas, with noughts behind the point, with a currency."""
    expected = str(whole)
    assert expected == normal.text(f"{whole:,}" + ("." + "0" * places if places else ""))
    assert expected == normal.text(f"  {whole}. ")


@given(st.text(max_size=200))
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    """Nothing is left to be made normal, for any text."""
    once = normal.text(text)
    assert normal.text(once) == normal.text(normal.text(once))
