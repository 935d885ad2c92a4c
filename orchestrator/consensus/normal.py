"""The normal form of an answer: two that mean the same are equal in it.

Numbers are compared by value (`$1,234.50`, `1234.5`, `1.2345e3`), anything else as text without regard to case, white space,
emphasis, quotation marks and the full stop at its end. A number with a unit stays text: 3 apples are not 3 oranges.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import orjson

MAX_CHARACTERS = 100_000
"""Longer texts are compared by so much of them."""
MAX_DEPTH = 40
"""Of a JSON value that is compared."""
_DIGITS = 60
"""A number with more of them is compared as text."""

NUMBER = r"(?:(?<![\w.])[-+\u2212])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
_PLAIN = re.compile(NUMBER)
NUMBERS = re.compile(rf"(?<![\w.])\.\d+|{NUMBER}(?:\s*/\s*{NUMBER})?")
"""The numbers in a text: with thousands' commas, a fraction, an exponent; the minus sign is none after a word (`2-3`)."""
_CURRENCY = "$€£¥₹"
_EDGES = " \t\n\r*_`~\"'“”‘’«»"
_STOPS = ".,;:!?"


def number(text: str) -> str | None:
    """A number's normal form, or None: `1,234.50` -> `1234.5`, `1/4` -> `0.25`, `1/3` as it is."""
    text = text.strip().replace("\u2212", "-")
    above, slash, below = text.partition("/")
    if slash:
        over, under = number(above), number(below)
        if over is None or under is None or "/" in over + under or under == "0":
            return None
        return _of_fraction(Fraction(over) / Fraction(under))
    if len(text) > _DIGITS or not (_PLAIN.fullmatch(text) or re.fullmatch(r"[-+]?\.\d+", text)):
        return None
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    if not value:
        return "0"
    if abs(value.adjusted()) > _DIGITS:
        return str(value.normalize())
    return format(value, "f").rstrip("0").rstrip(".") if "." in format(value, "f") else format(value, "f")


def _of_fraction(value: Fraction) -> str:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1 or value.denominator > 10**20:
        return f"{value.numerator}/{value.denominator}"
    found = number(format(Decimal(value.numerator) / Decimal(value.denominator), "f"))
    return found or f"{value.numerator}/{value.denominator}"


def text(value: str) -> str:
    """The normal form of a text."""
    said = unicodedata.normalize("NFKC", value[:MAX_CHARACTERS]).strip(_EDGES)
    amount = said.strip(_CURRENCY + " ").removesuffix(".").removesuffix("%").strip(_CURRENCY + " ")
    if said[:1] == "-" and said[1:2] in _CURRENCY and said[1:2]:
        amount = "-" + said[2:].removesuffix(".").strip()
    if (found := number(amount)) is not None:
        return found
    line = " ".join(said.casefold().split())
    return line.rstrip(_STOPS + _EDGES) or line


def value(found: Any, depth: int = 0) -> str | None:
    """The normal form of a JSON value; None for null, and for what is nested beyond reason."""
    if found is None or depth > MAX_DEPTH:
        return None
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return text(found)
    if isinstance(found, int | float | Decimal):
        return number(str(found)) or str(found)
    inner = _plain(found, depth)
    return None if inner is None else orjson.dumps(inner, option=orjson.OPT_SORT_KEYS).decode()


def _plain(found: Any, depth: int) -> Any:
    """A list or an object with everything in it in its normal form; None: too deep."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(found, list):
        return [_plain(one, depth + 1) for one in found]
    if isinstance(found, dict):
        return {str(name): _plain(one, depth + 1) for name, one in found.items()}
    return value(found, depth)
