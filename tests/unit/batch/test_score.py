"""`score:` of a batch's specification."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.batch.score import CHOICES, Score, read_score
from orchestrator.config.settings import Extract
from orchestrator.config.votes import Wrong


@pytest.mark.parametrize(
    ("given", "score"),
    [
        ({"extract": {"json": "answer"}, "match": "number"}, Score("number", Extract(json="answer"))),
        ({"match": "number"}, Score("number", Extract(number="last"))),
        ({"match": "choice"}, Score("choice", Extract(choice=CHOICES))),
        ({"match": "json"}, Score("json", "fields")),
        ({"match": "exact", "extract": None}, Score("exact", "text")),
        (
            {"match": "number", "tolerance": 0.5, "units": "ignore"},
            Score("number", Extract(number="last"), 0.5, "ignore"),
        ),
        ({"match": "json", "fields": ["a", "b"]}, Score("json", "fields", fields=("a", "b"))),
        (
            {"match": "judge", "judge": "tier:smart", "rubric": "Is polite."},
            Score("judge", judge="tier:smart", rubric="Is polite."),
        ),
    ],
)
def test_what_is_read(given: Any, score: Score) -> None:
    """What is left out is what goes best with the way of matching."""
    assert score == read_score(given)


@pytest.mark.parametrize(
    ("given", "key", "reason"),
    [
        ("number", "score", "has to be a mapping"),
        ({}, "match", "is missing"),
        ({"match": "fuzzy"}, "match", "is none: one of exact"),
        ({"match": ["exact"]}, "match", "is none"),
        ({"match": "exact", "matches": 1}, "matches", "is not known"),
        ({"match": "exact", "extract": {"jason": "a"}}, "extract", "has to be one of"),
        ({"match": "exact", "extract": {"regex": "(?=a)"}}, "extract", "no regular expression"),
        ({"match": "exact", "extract": "fields"}, "extract", "set match: json"),
        ({"match": "json", "extract": {"number": "last"}}, "extract", "fields or {json: FIELD}"),
        ({"match": "json", "extract": "text"}, "extract", "fields or {json: FIELD}"),
        ({"match": "number", "extract": {"choice": ["A", "B"]}}, "extract", "set match: choice"),
        ({"match": "exact", "tolerance": 1}, "tolerance", "belongs to match: number"),
        ({"match": "number", "tolerance": -1}, "tolerance", "at least 0"),
        ({"match": "number", "tolerance": True}, "tolerance", "at least 0"),
        ({"match": "number", "units": "drop"}, "units", "keep or ignore"),
        ({"match": "json", "fields": "a"}, "fields", "a list of names"),
        ({"match": "json", "fields": []}, "fields", "a list of names"),
        ({"match": "judge"}, "judge", "is missing"),
        ({"match": "judge", "judge": 5}, "judge", "a selector"),
        ({"match": "judge", "judge": "a/b", "rubric": " "}, "rubric", "a text"),
    ],
)
def test_what_is_wrong(given: Any, key: str, reason: str) -> None:
    """The key that is wrong is named, and what it has to be."""
    wrong = read_score(given)
    assert isinstance(wrong, Wrong)
    assert key == wrong.key
    assert reason in wrong.reason
