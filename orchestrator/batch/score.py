"""`score:` of a batch's specification: what is read from an answer, and when it is right (contract §7).

score: {extract: {json: answer}, match: number}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.config.settings import Extract
from orchestrator.config.votes import Wrong, read_extract

Match = Literal["exact", "number", "contains", "regex", "choice", "json", "judge"]
MATCHES: tuple[Match, ...] = ("exact", "number", "contains", "regex", "choice", "json", "judge")
CHOICES = ("A", "B", "C", "D", "E")
"""What `match: choice` tells apart where `extract: {choice: […]}` does not list anything else."""
_ONLY: Mapping[str, Match] = {
    "tolerance": "number",
    "units": "number",
    "fields": "json",
    "judge": "judge",
    "rubric": "judge",
}
"""Keys that mean something to one way of matching alone."""


@dataclass(frozen=True, slots=True)
class Score:
    """When an answer is right. An expected answer that is a list stands for any of its elements (except to `json`)."""

    match: Match
    """`exact`: equal in the normal form (`orchestrator.consensus.normal`: case, white space, edges; numbers by value).
    `number`: equal by value. `contains`: the expected words, or number, stand in it. `regex`: the expected pattern (RE2's
    syntax) is found in it. `choice`: the same choice is named. `json`: each expected field is equal in the normal form.
    `judge`: a model says so."""
    extract: Extract | Literal["text", "fields"] = "text"
    """What of the answer is compared."""
    tolerance: float = 0.0
    """number: the greatest difference that still counts as equal."""
    units: Literal["keep", "ignore"] = "keep"
    """number: whether `20 cups` is 20. Kept, it is not: what has a unit is no number."""
    fields: tuple[str, ...] = ()
    """json: the fields that count; none named: those of the expected answer."""
    judge: str | None = None
    """judge: the selector that is asked, twice an answer."""
    rubric: str | None = None
    """judge: what makes an answer right, beside the expected one or in its place."""


def read_score(given: Any) -> Score | Wrong:
    """A specification's `score:`, or the first key that is wrong. The reason never repeats the value."""
    if not isinstance(given, dict):
        return Wrong("score", "has to be a mapping, such as {extract: {json: answer}, match: number}")
    unknown = [str(key) for key in given if key not in ("match", "extract", *_ONLY)]
    if unknown:
        return Wrong(unknown[0], f"is not known; known are match, extract, {', '.join(_ONLY)}")
    match = given.get("match")
    if match not in MATCHES:
        return Wrong("match", f"{'is missing' if match is None else 'is none'}: one of {', '.join(MATCHES)}")
    for key, of in _ONLY.items():
        if given.get(key) is not None and match != of:
            return Wrong(key, f"counts for nothing where match is {match}: it belongs to match: {of}")
    extract = read_extract(given.get("extract"))
    if isinstance(extract, Wrong):
        return extract
    if (wrong := _misfit(match, extract) or _wrong_option(given)) is not None:
        return wrong
    if match == "judge" and given.get("judge") is None:
        return Wrong("judge", "is missing: the selector of the model that judges")
    return Score(
        match,
        extract or _default(match),  # type: ignore[arg-type]
        float(given.get("tolerance") or 0.0),
        given.get("units") or "keep",
        tuple(given.get("fields") or ()),
        given.get("judge"),
        given.get("rubric"),
    )


def _default(match: Match) -> Extract | str:
    if match == "number":
        return Extract(number="last")
    if match == "choice":
        return Extract(choice=CHOICES)
    return "fields" if match == "json" else "text"


def _misfit(match: Match, extract: Extract | str | None) -> Wrong | None:
    """What can never match."""
    if extract == "fields" and match != "json":
        return Wrong(
            "extract", f"gives an object where it is fields, which match: {match} cannot compare: set match: json"
        )
    plain = isinstance(extract, Extract) and extract.json is None
    if match == "json" and (plain or extract == "text"):
        return Wrong("extract", "has to be fields or {json: FIELD} where match is json")
    if match == "number" and isinstance(extract, Extract) and extract.choice:
        return Wrong("extract", "gives a choice, which is no number: set match: choice")
    return None


def _wrong_option(given: Mapping[str, Any]) -> Wrong | None:
    tolerance = given.get("tolerance")
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < float("inf")
    ):
        return Wrong("tolerance", "has to be a number of at least 0")
    if given.get("units") not in (None, "keep", "ignore"):
        return Wrong("units", "has to be keep or ignore")
    fields = given.get("fields")
    if fields is not None and not (
        isinstance(fields, list) and fields and all(isinstance(one, str) and one for one in fields)
    ):
        return Wrong("fields", "has to be a list of names")
    for key, what in (("judge", "a selector, such as 'openai/gpt-4o' or 'tier:smart'"), ("rubric", "a text")):
        if given.get(key) is not None and (not isinstance(given[key], str) or not given[key].strip()):
            return Wrong(key, f"has to be {what}")
    return None
