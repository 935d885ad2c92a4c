"""The normal form of an answer: two that mean the same are equal in it.

Numbers are compared by value (`$1,234.50`, `1234.5`, `1.2345e3`), anything else as text without regard to case, white space,
emphasis, quotation marks and the full stop at its end. A number with a unit stays text: 3 apples are not 3 oranges.

What models write is not to be trusted: each function takes a bounded time for any input, and what comes out can be written
as JSON.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import orjson

MAX_CHARACTERS = 50_000
"""Longer texts are compared by so much of them."""
MAX_DEPTH = 40
"""Of a JSON value that is compared; a deeper one is none."""
_DIGITS = 60
"""A number with more of them is compared as text."""
_STRETCH = 1_000
"""Texts are composed (NFKC) in stretches: marks without end on one letter would take quadratic time."""

NUMBER = r"(?:(?<![\w.])[-+\u2212])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
_PLAIN = re.compile(NUMBER)
NUMBERS = re.compile(rf"(?<![\w.])\.\d+|{NUMBER}(?:\s{{0,9}}/\s{{0,9}}{NUMBER})?")
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
        if over is None or under is None or "/" in over + under or under == "0" or below.strip().startswith("0"):
            return None  # `2024/05` is no fraction
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
    shown = format(value, "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _of_fraction(value: Fraction) -> str:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    plain = f"{value.numerator}/{value.denominator}"
    if rest != 1 or value.denominator > 10**20:
        return plain
    return number(format(Decimal(value.numerator) / Decimal(value.denominator), "f")) or plain


def text(value: str) -> str:
    """The normal form of a text."""
    said = _composed(value[:MAX_CHARACTERS]).strip(_EDGES)
    amount = said.strip(_CURRENCY + " ").removesuffix(".").removesuffix("%").strip(_CURRENCY + " ")
    if said[:1] == "-" and said[1:2] in _CURRENCY and said[1:2]:
        amount = "-" + said[2:].removesuffix(".").strip()
    if (found := number(amount)) is not None:
        return found
    line = " ".join(said.casefold().split())
    return line.rstrip(_STOPS + _EDGES) or line


def _composed(value: str) -> str:
    if value.isascii():
        return value
    whole = value.encode("utf-8", "replace").decode()  # half a character (a lone surrogate) is none
    stretches = (whole[start : start + _STRETCH] for start in range(0, len(whole), _STRETCH))
    return "".join(unicodedata.normalize("NFKC", stretch) for stretch in stretches)


def value(found: Any) -> str | None:
    """The normal form of a JSON value; None for null, and for what is nested beyond reason."""
    if found is None:
        return None
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return text(found)
    if isinstance(found, int | float):
        return number(str(found)) or str(found)
    try:
        return orjson.dumps(_plain(found, 0), option=orjson.OPT_SORT_KEYS).decode()
    except RecursionError:
        return None


def _plain(found: Any, depth: int) -> Any:
    """A list or an object with everything in it in its normal form. Raises RecursionError for one that is too deep."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(found, list):
        return [_plain(one, depth + 1) for one in found]
    if isinstance(found, dict):
        return {text(str(name)): _plain(one, depth + 1) for name, one in found.items()}
    return value(found)


def writable(found: Any) -> Any:
    """A value as JSON can hold it: numbers beyond 64 bits as text, halves of characters replaced.

    Raises RecursionError for one that is nested too deep.
    """
    return _writable(found, 0)


def _writable(found: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(found, str):
        return found if found.isascii() else found.encode("utf-8", "replace").decode()
    if isinstance(found, list):
        return [_writable(one, depth + 1) for one in found]
    if isinstance(found, dict):
        return {_writable(str(name), depth): _writable(one, depth + 1) for name, one in found.items()}
    if isinstance(found, int) and not -(2**63) <= found < 2**64:
        return str(found)
    if isinstance(found, float) and not abs(found) < float("inf"):
        return str(found)  # Python reads NaN and Infinity, which are no JSON
    return found
