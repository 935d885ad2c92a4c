"""Numbers as models and data sets write them: in TeX, in a box, after `####`, mixed with fractions, with a unit.

What comes out is exact, so that a third is a third. Every function takes a bounded time for any text.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from orchestrator.consensus import normal
from orchestrator.consensus.extract import WINDOW

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,9}\{")
_BOXES = 20
"""At most so many boxes are tried, from the last one on."""
_FRACTION = re.compile(r"(\d?)\\[dt]?frac\s{0,9}(?:\{([^{}]{1,99})\}|(\d))\s{0,9}(?:\{([^{}]{1,99})\}|(\d))")
_VULGAR = re.compile("(\\d?)([\u00bc-\u00be\u2150-\u215e])")
_MIXED = re.compile(r"(?<![\w./,])(\d{1,9})\s{1,3}(\d{1,9})/(\d{1,9})(?![\w/])")
_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s{0,9}\{([^{}]{0,999})\}")
_THOUSANDS = re.compile("(?<=\\d)(?:\\{,\\}|,?\\\\[,!]|[\u00a0\u2009\u202f])(?=\\d{3}(?!\\d))")
"""What TeX and typographers put between thousands."""
_SPACES = re.compile(r"\\[,;:! ()\[\]]|~|\\(?:left|right|quad|qquad)(?![a-zA-Z])")
_ESCAPED = re.compile(r"\\([$%#&_])")


def plain(text: str) -> str:
    """A text without TeX: what stands in its last box or after its last `####`, where there is one, else all of it."""
    said = text[-WINDOW:]
    box = _boxed(said)
    said = said.rpartition("####")[2] if box is None else box
    said = _THOUSANDS.sub(",", said)
    said = _WORDS.sub(r" \1", said)
    said = _FRACTION.sub(_over, said)
    said = _ESCAPED.sub(r"\1", _SPACES.sub(" ", said))
    said = _VULGAR.sub(lambda one: f"{one[1]} {unicodedata.normalize('NFKC', one[2])}".lstrip(), said)
    return _MIXED.sub(_improper, said.replace("\u2044", "/"))


def _over(found: re.Match[str]) -> str:
    whole, above, digit, below, other = found.groups()
    return f"{whole} {above or digit}/{below or other}".lstrip()


def _improper(found: re.Match[str]) -> str:
    whole, above, below = (int(group) for group in found.groups())
    return f"{whole * below + above}/{below}" if above < below else found[0]


def _boxed(text: str) -> str | None:
    """What the last whole box holds."""
    for opening in reversed([*_BOX.finditer(text)][-_BOXES:]):
        depth = 1
        for at in range(opening.end(), len(text)):
            depth += (text[at] == "{") - (text[at] == "}")
            if depth == 0:
                return text[opening.end() : at]
    return None


def amount(text: str, *, units: bool = False) -> Fraction | None:
    """The number that a text is; None: it is none. `units`: what else stands beside its one number is passed over."""
    said = plain(text)
    number = normal.number(normal.text(said))
    if number is None and units:
        found = {normal.number(one[0]) for one in normal.NUMBERS.finditer(said)}
        number = found.pop() if len(found) == 1 else None
    return None if number is None else Fraction(number)
