"""Numbers as models and data sets write them."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.batch.amounts import amount, plain


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"),
        ("1,234.50", "1234.5"),
        ("1\u202f234\u202f567", "1234567"),
        ("1{,}234", "1234"),
        ("1,\\!234", "1234"),
        ("$1,234", "1234"),
        ("-7", "-7"),
        ("\u22127", "-7"),
        ("-$7.50", "-7.5"),
        ("12 %", "12"),
        ("12\\%", "12"),
        ("3/4", "3/4"),
        ("1 3/4", "7/4"),
        ("-1 3/4", "-7/4"),
        ("1\u00be", "7/4"),
        ("\u2153", "1/3"),
        ("\\frac{3}{4}", "3/4"),
        ("-\\dfrac12", "-1/2"),
        ("2\\tfrac{1}{3}", "7/3"),
        ("\\boxed{\\frac{3}{4}}", "3/4"),
        ("first \\boxed{5}, and so \\boxed{ 12 }", "12"),
        ("\\boxed{$1{,}000$}", "1000"),
        ("\\( 42 \\)", "42"),
        ("16 - 3 - 4 = 9\n#### 18", "18"),
        ("1e3", "1000"),
        ("**42**", "42"),
        ("2024/05", None),
        ("20 cups", None),
        ("12 apples and 3 pears", None),
        ("\\boxed{never ends", None),
        ("", None),
    ],
)
def test_an_amount(text: str, number: str | None) -> None:
    """Its exact value, however it is written; what has a unit is none."""
    assert (None if number is None else Fraction(number)) == amount(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("20 cups", "20"),
        ("about $1,234 a year", "1234"),
        ("\\boxed{12\\text{ m}}", "12"),
        ("6 of 6", "6"),
        ("3 minutes and 36 seconds", None),
        ("no number", None),
    ],
)
def test_an_amount_without_its_unit(text: str, number: str | None) -> None:
    """The one number in the text; of several nobody knows which is meant."""
    assert (None if number is None else Fraction(number)) == amount(text, units=True)


@given(st.text("\\boxed{}frac1 2/3,.-#½", max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever is written, it is a number or none."""
    found = amount(text, units=True)
    assert found is None or isinstance(found, Fraction)


@pytest.mark.parametrize(
    "text", ["\\boxed{" * 50_000, "1 " * 50_000, "\\frac{" * 50_000, "{,}" * 50_000, "1 1/" * 50_000, "9" * 100_000]
)
def test_no_text_takes_long(text: str) -> None:
    """A bounded time for any text."""
    began = time.process_time()
    plain(text)
    assert time.process_time() - began < 1
