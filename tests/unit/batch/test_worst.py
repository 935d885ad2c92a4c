"""Which items are worth a look."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.batch.columns import columns
from orchestrator.batch.worst import CHARACTERS, EACH, Worst, clipped, questions_of, rows_of, worst
from tests.unit.batch.made import failed, line, right


def test_where_most_arms_fail_and_where_they_disagree() -> None:
    """The worst and the most even first; no item twice; the order of lines means nothing."""
    marks = {"all": "xxxx", "most": "xx!o", "even": "xxoo", "one": "xooo", "none": "oooo", "split": "oxoo"}
    rows = [
        failed(item, arm) if mark == "!" else right(item, arm, mark == "o")
        for item, arms in marks.items()
        for arm, mark in zip("abcd", arms, strict=True)
    ]
    found = Worst(["all", "most", "even"], ["one", "split"])
    assert found == worst(columns(rows))
    assert found == worst(columns(rows[::-1]))


def test_answers_that_are_not_scored() -> None:
    """They disagree where they differ."""
    said = {"same": ("Yes", "yes."), "differ": ("yes", "no")}
    rows = [line(item, arm, text=text) for item, texts in said.items() for arm, text in zip("ab", texts, strict=True)]
    assert Worst([], ["differ"]) == worst(columns(rows))


def test_not_too_many() -> None:
    """Of each kind; none of nothing."""
    rows = [right(f"{i:03}", "a", False) for i in range(100)]
    assert [f"{i:03}" for i in range(EACH)] == worst(columns(rows)).failing
    assert Worst([], []) == worst(columns([]))


def test_the_lines_of_some_items() -> None:
    """By item and arm."""
    rows = [line("1", "a"), line("1", "b"), line("2", "a")]
    assert {"1": {"a": rows[0], "b": rows[1]}} == rows_of(rows, {"1"})


def test_what_was_asked(tmp_path: Path) -> None:
    """From the input, in its own lines and OpenAI's; what is not there is left out."""
    path = tmp_path / "questions.jsonl"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    lines = [
        {"id": "1", "prompt": "How?"},
        {"id": "2", "messages": messages},
        {"custom_id": "3", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": messages[1:]}},
        {"custom_id": "4", "body": {"input": ["a", "b"]}},
        {"id": "5", "prompt": "Not wanted."},
        ["no", "item"],
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines) + "no JSON\n")
    asked = {"1": "How?", "2": "system: Be brief.\n\nuser: Why?", "3": "Why?", "4": "['a', 'b']"}
    assert asked == questions_of(str(path), {"1", "2", "3", "4", "6"})
    assert {} == questions_of(str(path), {"nobody's"})
    assert {} == questions_of(str(tmp_path / "none"), {"1"})
    assert {} == questions_of(None, {"1"})


def test_a_long_text_is_clipped() -> None:
    """With how much is missing."""
    assert "a" * CHARACTERS == clipped("a" * CHARACTERS)
    assert clipped("a" * (CHARACTERS + 1_234)).endswith("a\n… 1,234 more characters")
