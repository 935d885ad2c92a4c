"""Whether an answer is right: what of it is read, and how that is compared with what was expected.

    scorer = Scorer(Score("number", Extract(json="answer")))
    scorer.score('{"answer": "1,234"}', 1234)        # Scored(correct=True, extracted='1,234', ...)

Answers are read as a vote reads them (`orchestrator.consensus`), so an arm that is a vote and one that is a single model are
measured by the same rule. An answer from which nothing can be read is wrong; an item that cannot be scored (nothing is
expected, a judge that contradicts itself) is neither right nor wrong, and counts for no accuracy.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from orchestrator.batch import grading
from orchestrator.batch.amounts import amount, plain
from orchestrator.batch.score import CHOICES, Score
from orchestrator.config.settings import Extract
from orchestrator.consensus import normal
from orchestrator.consensus.extract import WINDOW, Extracted, expression, extract, object_of
from orchestrator.money import on_grid
from orchestrator.types import Json

SHOWN_CHARACTERS = 1_000
"""What was read from an answer is kept up to here."""
_FENCED = re.compile(r"\s*```[^\n`]{0,99}\n(.*?)\n?\s*```\s*", re.DOTALL)
_LABEL = r"(?<!\w)({})[*_]{{0,2}}[).:\]][*_]{{0,2}}\s{{1,9}}\S"
"""How a choice stands before what it stands for: `A) 12 m`, `(b): 12 m`."""


class Scored(NamedTuple):
    """What a line of the results says of an answer, as its `score`."""

    correct: bool | None
    """None: it could not be scored."""
    extracted: str | None = None
    """What was compared, as it stood in the answer."""
    why: str | None = None
    """What is wrong, where it is not merely another answer than the expected one."""
    cost_usd: float | None = None
    """What the judge cost; None: there was none, or it is not known. No part of what the arm cost."""


class Opinion(NamedTuple):
    """What a judge answered."""

    text: str | None
    """None: it did not."""
    cost_usd: float | None = None


Ask = Callable[[str, Sequence[Json]], Awaitable[Opinion]]
"""Asks a selector with the messages of a conversation. A failure is an opinion without a text."""
_NO_ANSWER = Scored(False, None, "no answer was found in the text")
_NOTHING_EXPECTED = Scored(None, None, "no answer is expected for this item")


class Scorer:
    """Scores by one rule. Without state: one serves any number of tasks."""

    def __init__(self, rule: Score) -> None:
        self._rule = rule
        self._match = {
            "exact": _exact,
            "number": _number,
            "contains": _contains,
            "regex": _regex,
            "choice": _choice,
        }.get(rule.match)

    @property
    def judge(self) -> str | None:
        """The selector of the model that judges: answers are then scored by `judged`. None: by `score`."""
        return self._rule.judge

    def score(self, text: str | None, expected: Any, *, cut: bool = False) -> Scored:
        """Scores one answer. `cut`: its end is not the end of an answer (a limit on its length was reached).

        Raises ValueError where a model has to judge.
        """
        if self._rule.judge is not None:
            raise ValueError("a model judges: use Scorer.judged")
        if expected is None or expected == []:
            return _NOTHING_EXPECTED
        if self._match is None:
            return self._fields(text or "", expected, cut=cut)
        found = self._read(text or "", cut=cut)
        wanted = expected if isinstance(expected, list) else [expected]
        results = [self._match(self._rule, found, one) for one in wanted]
        if found is None:
            # An expected answer that is none is the item's fault.
            return next((one for one in results if one.correct is None), _NO_ANSWER)
        best = max(results, key=lambda one: (one.correct is True, one.correct is False), default=_NOTHING_EXPECTED)
        return best._replace(extracted=_shown(found))

    async def judged(
        self, messages: Sequence[Json], text: str | None, expected: Any, ask: Ask, *, cut: bool = False
    ) -> Scored:
        """Has one answer judged: twice, at the same time. `messages` is the conversation that it answers."""
        rule = self._rule
        assert rule.judge is not None
        found = self._read(text or "", cut=cut)
        asked = self.questions(messages, "" if found is None else _words(found.shown), expected)
        if asked is None:
            return _NOTHING_EXPECTED
        if found is None:
            return _NO_ANSWER
        opinions = await asyncio.gather(*(ask(rule.judge, one) for one in asked))
        first, second = (grading.verdict(one.text) for one in opinions)
        costs = [one.cost_usd for one in opinions]
        cost_usd = None if None in costs else on_grid(sum(cost for cost in costs if cost is not None))
        why = None
        if None in (first, second):
            why = "the judge gave no verdict"
        elif first is not second:
            why = "the judge contradicted itself when the order was reversed"
        return Scored(first if why is None else None, _shown(found), why, cost_usd)

    def questions(self, messages: Sequence[Json], text: str, expected: Any) -> tuple[list[Json], list[Json]] | None:
        """What a judge is asked about an answer; None: nothing, since it would have nothing to go by."""
        expected = None if expected == [] else expected
        if expected is None and self._rule.rubric is None:
            return None
        return grading.questions(messages, text, None if expected is None else _words(expected), self._rule.rubric)

    def _read(self, text: str, *, cut: bool) -> Extracted | None:
        how = self._rule.extract
        if self._rule.match == "number" and (how == "text" or (isinstance(how, Extract) and how.number is not None)):
            text = plain(text)
        if how == "text" and (fenced := _FENCED.fullmatch(text[-normal.MAX_CHARACTERS :])) is not None:
            text = fenced[1]
        if isinstance(how, Extract) and how.choice and (label := _label(text, how.choice)) is not None:
            return Extracted(label.casefold(), label)
        return extract(_body(text, cut), how)

    def _fields(self, text: str, expected: Any, *, cut: bool) -> Scored:
        """`match: json`."""
        wanted = object_of(expected) if isinstance(expected, str) else expected
        if not isinstance(wanted, dict):
            return Scored(None, None, "the expected answer is no object")
        how = self._rule.extract
        if isinstance(how, Extract):
            inner = extract(_body(text, cut), how)
            found = inner.shown if inner is not None and isinstance(inner.shown, dict) else None
        else:
            found = None if cut else object_of(text)
        if found is None:
            return _NO_ANSWER
        names = self._rule.fields or tuple(wanted)
        shown = {name: found[name] for name in names if name in found}
        wrong = [n for n in names if normal.value(found.get(n)) != normal.value(wanted.get(n))]
        why = f"differs in {', '.join(wrong)}" if wrong else None
        return Scored(not wrong, _shown(Extracted("", shown)), why)


def _exact(_: Score, found: Extracted | None, expected: Any) -> Scored:
    return Scored(found is not None and found.key == normal.value(expected))


def _number(rule: Score, found: Extracted | None, expected: Any) -> Scored:
    units = rule.units == "ignore"
    wanted = amount(_words(expected), units=units)
    if wanted is None:
        return Scored(None, None, "the expected answer is no number")
    if found is None:
        return _NO_ANSWER
    number = amount(_words(found.shown), units=units)
    if number is None:
        return Scored(False, None, "the answer is no number")
    return Scored(abs(number - wanted) <= Fraction(str(rule.tolerance)))


def _contains(_: Score, found: Extracted | None, expected: Any) -> Scored:
    needle = normal.value(expected)
    if not needle:
        return Scored(None, None, "the expected answer is empty")
    if found is None:
        return _NO_ANSWER
    text = _words(found.shown)[: normal.MAX_CHARACTERS]
    if normal.number(needle) is not None:
        return Scored(any(normal.number(one[0]) == needle for one in normal.NUMBERS.finditer(text)))
    # Whole words: `art` is not in `cart`.
    whole = (
        rf"(?<!\w){re.escape(needle)}(?!\w)" if needle[:1].isalnum() and needle[-1:].isalnum() else re.escape(needle)
    )
    return Scored(re.search(whole, normal.text(text)) is not None)


def _regex(_: Score, found: Extracted | None, expected: Any) -> Scored:
    try:
        pattern = expression(str(expected))
    except ValueError as error:
        return Scored(None, None, f"the expected pattern is none of RE2's syntax: {error}")
    return Scored(found is not None and pattern.search(normal.writable(_words(found.shown))) is not None)


def _choice(rule: Score, found: Extracted | None, expected: Any) -> Scored:
    choices = rule.extract.choice if isinstance(rule.extract, Extract) and rule.extract.choice else CHOICES
    wanted = _named(_words(expected), choices)
    if wanted is None:
        return Scored(None, None, "the expected answer names none of the choices")
    if found is None:
        return _NO_ANSWER
    named = _named(_words(found.shown), choices)
    return Scored(named == wanted, None, "the answer names none of the choices" if named is None else None)


def _named(text: str, choices: tuple[str, ...]) -> str | None:
    """The choice that a text begins with or names."""
    if (label := _label(text, choices)) is not None:
        return label.casefold()
    found = extract(_body(text, cut=False), Extract(choice=choices))
    return None if found is None else found.key


def _label(text: str, choices: tuple[str, ...]) -> str | None:
    """The choice that a text begins with, if it is the only one that stands there as a label: `A) 12 m`, no list of all."""
    either = "|".join(re.escape(one) for one in sorted(choices, key=len, reverse=True))
    said = text[:WINDOW]
    labels = [*re.finditer(_LABEL.format(either), said, re.IGNORECASE)]
    return labels[0][1] if len(labels) == 1 and not said[: labels[0].start()].strip(" \t\n\r([*_`\"'") else None


def _body(text: str, cut: bool) -> Json:
    return {"choices": [{"message": {"content": text}, "finish_reason": "length" if cut else "stop"}]}


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _shown(found: Extracted) -> str:
    return _words(found.shown)[:SHOWN_CHARACTERS]
