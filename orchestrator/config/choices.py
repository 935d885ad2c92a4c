"""A strategy from its keys: what a tier may say, and what a request may say for itself.

The same rules serve both, so that they cannot drift apart. Nothing here imports pydantic or YAML: it runs per request.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from orchestrator.config.settings import Strategy

LATER: Final = "is not available yet"
"""What the contract names and this version does not have is refused in these words, never ignored."""

STRATEGIES: Final = ("first", "fallback", "race", "hedge")
STRATEGIES_PLANNED: Final = ("balance", "consensus", "cascade", "split", "spill")
CHOICES: Final = ("strategy", "commit", "after", "extra_calls", "params")
CHOICES_PLANNED: Final = (
    "agree",
    "arms",
    "by",
    "content_filter",
    "escalate",
    "explore",
    "extract",
    "judge",
    "max_wait_s",
    "method",
    "on_disagreement",
    "quorum",
    "resume",
    "samples",
    "unit",
    "weights",
)

MAX_LEAVES: Final = 64
"""Candidates below one route: a race asks them all at once."""
MAX_AFTER_S: Final = 3_600.0

_OF_ONE: Final = {"commit": "race", "after": "hedge", "extra_calls": "hedge"}


def choose(choice: Mapping[str, Any], base: Strategy | None = None) -> tuple[Strategy, dict[str, str]]:
    """The strategy that `choice` describes, over `base` if given, and what is wrong: key -> why.

    The strategy is of use only where nothing is wrong. Values are not repeated in the reasons. Unknown keys are the
    caller's business. A key that is None counts as absent.
    """
    base = base or Strategy()
    wrong: dict[str, str] = {}
    given = {key: value for key, value in choice.items() if value is not None}
    name: Any = given.get("strategy", base.name)
    if not isinstance(name, str) or name not in STRATEGIES:
        known_later = isinstance(name, str) and name in STRATEGIES_PLANNED
        wrong["strategy"] = f"'{name}' {LATER}" if known_later else f"has to be one of {', '.join(STRATEGIES)}"
        return base, wrong
    for key, owner in _OF_ONE.items():
        if key in given and name != owner:
            wrong[key] = f"means nothing to the strategy '{name}'; it belongs to '{owner}'"
    same = name == base.name
    commit: Any = given.get("commit", base.commit if same else "first_token")
    if commit not in ("first_token", "complete"):
        wrong["commit"] = "has to be first_token or complete"
    after: Any = given.get("after", base.after_s if same else None)
    if name == "hedge" and (reason := _after(after)):
        wrong["after"] = reason
    extra: Any = given.get("extra_calls", base.extra_calls)
    if not _number(extra) or not 0 <= extra <= 1:
        wrong["extra_calls"] = "has to be a share from 0 to 1"
    params: Any = given.get("params", base.params)
    if not isinstance(params, Mapping):
        wrong["params"] = "has to be a mapping of request parameters, such as {temperature: 0}"
    if wrong:
        return base, wrong
    return Strategy(name, commit, float(after) if name == "hedge" else None, float(extra), params), wrong


def _after(after: Any) -> str:
    if isinstance(after, str) and after[:1] == "p" and after[1:].isdecimal():
        return f"a percentile {LATER}; give seconds"
    if after is None:
        return "is missing: the seconds of silence after which the next model is asked"
    if not _number(after) or not 0 < after <= MAX_AFTER_S:
        return f"has to be seconds, above 0 and at most {MAX_AFTER_S:.0f}"
    return ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
