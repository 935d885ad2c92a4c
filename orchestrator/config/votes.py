"""The options of `consensus` and `cascade`: what is compared, how many have to agree, and what happens if they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.config.settings import Extract, Strategy

MAX_VOTES = 64
METHODS = ("majority", "weighted", "judge", "synthesize")
DISAGREEMENT = ("escalate", "best", "error")


class Wrong(NamedTuple):
    """A key that is wrong, and why. The reason never repeats the value."""

    key: str
    reason: str


def read_votes(name: str, body: Mapping[str, Any]) -> dict[str, Any] | Wrong:
    """The fields of a `Strategy` that a vote has, or the first key that is wrong."""
    if name not in ("consensus", "cascade"):
        return {}
    extract = read_extract(body.get("extract"))
    if isinstance(extract, Wrong):
        return extract
    for key, least in (("quorum", 1), ("samples", 1), ("agree", 2)):
        count = body.get(key)
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int) or not least <= count <= MAX_VOTES
        ):
            return Wrong(key, f"has to be a whole number between {least} and {MAX_VOTES}")
    method = body.get("method") or "majority"
    if method not in METHODS:
        return Wrong("method", f"has to be one of {', '.join(METHODS)}")
    for key in ("judge", "escalate"):
        if body.get(key) is not None and (not isinstance(body[key], str) or not body[key]):
            return Wrong(key, "has to be a selector, such as 'openai/gpt-4o' or 'tier:smart'")
    judge, escalate = body.get("judge"), body.get("escalate")
    if method in ("judge", "synthesize") and judge is None:
        return Wrong(
            "judge", f"is missing: the selector of the model that {'judges' if method == 'judge' else 'merges'}"
        )
    if method not in ("judge", "synthesize") and judge is not None:
        return Wrong("judge", f"has nothing to do where the method is {method}: set method to judge or synthesize")
    if body.get("weights") and method != "weighted":
        return Wrong("weights", f"count for nothing where the method is {method}: set method to weighted")
    disagreement = body.get("on_disagreement") or ("best" if escalate is None else "escalate")
    if disagreement not in DISAGREEMENT:
        return Wrong("on_disagreement", f"has to be one of {', '.join(DISAGREEMENT)}")
    if disagreement == "escalate" and escalate is None:
        return Wrong("escalate", "is missing: the selector of the model that is asked where there is no agreement")
    if disagreement != "escalate" and escalate is not None:
        return Wrong("escalate", f"is never asked where on_disagreement is {disagreement}")
    return {
        "method": method,
        "extract": extract,
        "quorum": body.get("quorum"),
        "samples": body.get("samples") or 1,
        "judge": judge,
        "escalate": escalate,
        "on_disagreement": disagreement,
        "agree": body.get("agree") or 2,
    }


def read_extract(given: Any) -> Extract | str | Wrong | None:
    """What is compared: `text`, `fields`, or one of `{json: …}`, `{regex: …}`, `{number: …}`, `{choice: […]}`."""
    if given is None or given in ("text", "fields"):
        return given if isinstance(given, str) else None
    forms = "text, fields, {json: FIELD}, {regex: …}, {number: first | last} or {choice: [A, B]}"
    if not isinstance(given, dict) or len(given) != 1:
        return Wrong("extract", f"has to be one of {forms}")
    kind, value = next(iter(given.items()))
    match kind:
        case "json" if isinstance(value, str) and value:
            return Extract(json=value)
        case "number" if value in ("first", "last"):
            return Extract(number=value)
        case "choice" if (
            isinstance(value, list)
            and 1 < len(value) <= MAX_VOTES
            and all(isinstance(one, str) and one.strip() for one in value)
        ):
            if len({one.casefold() for one in value}) < len(value):
                return Wrong("extract", "has the same choice twice")
            return Extract(choice=tuple(value))
        case "regex" if isinstance(value, str) and value:
            return _expression(value)
        case "json" | "number" | "choice" | "regex":
            return Wrong("extract", f"'{kind}' has a value that is none of {forms}")
    return Wrong("extract", f"has to be one of {forms}")


def _expression(pattern: str) -> Extract | Wrong:
    # RE2 is loaded where somebody has a use for it.
    from orchestrator.consensus.extract import expression

    try:
        expression(pattern)
    except ValueError as error:
        return Wrong("extract", f"is no regular expression of RE2's syntax (which has no look-around): {error}")
    return Extract(regex=pattern)


def check_votes(strategy: Strategy, models: tuple[str, ...] | list[str]) -> Wrong | None:
    """What cannot work with so many models."""
    if strategy.name == "cascade" and strategy.agree > len(models):
        return Wrong("agree", f"can never be reached: there are {len(models)} models")
    if strategy.name != "consensus":
        return None
    count = len(models) * strategy.samples
    if count > MAX_VOTES:
        return Wrong("samples", f"come to {count} answers; at most {MAX_VOTES}")
    most: float = count
    if strategy.method == "weighted":
        most = math.fsum(strategy.weights.get(model, 1.0) for model in models for _ in range(strategy.samples))
    if strategy.quorum is not None and strategy.quorum > most:
        return Wrong("quorum", f"can never be reached: all votes together are {most:g}")
    return None
