"""`tiers:` names for strategies over models, and over other tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.document import Document, Path, near
from orchestrator.config.schema import TierOptions
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Provider, Strategy, Tier
from orchestrator.config.strategy import LATER, PLANNED, make_strategy
from orchestrator.config.votes import check_votes

OF_ALL = {"strategy", "models", "resume", "content_filter", "params"}
OF_STRATEGY: dict[str, set[str]] = {
    "first": set(),
    "fallback": set(),
    "race": {"commit"},
    "hedge": {"after", "extra_calls"},
    "balance": {"by", "explore", "weights"},
    "consensus": {"method", "extract", "quorum", "samples", "weights", "judge", "escalate", "on_disagreement"},
    "cascade": {"agree", "extract", "escalate", "on_disagreement"},
    "split": {"unit", "arms"},
    "spill": {"max_wait_s"},
}
"""The options of each strategy; `orchestrator.config.schema.TierOptions` says what they are."""
KEYS = {*OF_ALL, *(key for keys in OF_STRATEGY.values() for key in keys)}
MAX_LEVELS = 8
MAX_CANDIDATES = 64
"""Models that one request may come to, all nested tiers opened: two tiers of two in each of 30 levels would be 10^9."""


class Tiers:
    """Reads them all; members are checked against the providers that there are, and those that were left out."""

    def __init__(self, document: Document, providers: Mapping[str, Provider], named: set[str]) -> None:
        self._document = document
        self._providers = providers
        self._named = named
        """Every provider in the file, those with problems and those left out too."""
        self.tiers: dict[str, Tier] = {}
        self.left_out: dict[str, str] = {}

    def read(self, data: Any) -> None:
        """All of `tiers:`."""
        if data is None:
            return
        if not isinstance(data, dict):
            self._document.problem(("tiers",), "has to be a mapping")
            return
        for name, raw in data.items():
            path: Path = ("tiers", name)
            body = {"models": raw} if isinstance(raw, list) else raw
            if not name.strip():
                self._document.problem(path, "a tier needs a name")
            elif not isinstance(body, dict):
                self._document.problem(path, "has to be a list of models, or a mapping with `strategy` and `models`")
            else:
                self._tier(name, path, body, data)
        self._drop_lost()
        self._measure()

    def _tier(self, name: str, path: Path, body: dict[str, Any], data: dict[str, Any]) -> None:
        before = len(self._document.problems)
        strategy = self._strategy(path, body)
        named = body.get("strategy")
        if named == "split":
            self._arms(path, body.get("arms"), data)
            models: tuple[str, ...] = ()
        else:
            at = (*path, "models") if "models" in body and isinstance(data[name], dict) else path
            models = self._members(at, body.get("models"), data)
        helpers = [key for key in ("judge", "escalate") if isinstance(body.get(key), str)]
        lost = [key for key in helpers if self._member((*path, key), body[key], data) is None]
        if strategy is not None:
            named_models = body.get("models") or ()
            for member in strategy.weights:
                if member not in named_models:
                    self._document.problem((*path, "weights", member), "is no member of this tier")
            if len(self._document.problems) == before and (wrong := check_votes(strategy, list(named_models))):
                self._document.problem((*path, wrong.key), wrong.reason)
            if len(self._document.problems) == before and lost:
                # To go on without it would answer otherwise than the tier says.
                self.left_out[f"tier:{name}"] = f"its '{lost[0]}' was left out"
                models = ()
            self.tiers[name] = Tier(name, strategy, models)
        elif len(self._document.problems) == before:
            self._document.problem((*path, "strategy"), f"'{named}' {LATER}")

    def _strategy(self, path: Path, body: dict[str, Any]) -> Strategy | None:
        """The strategy; None where it is wrong, with the problem noted, or not built yet."""
        named = body.get("strategy", "fallback")
        if not isinstance(named, str) or named not in OF_STRATEGY:
            self._document.problem((*path, "strategy"), f"has to be one of {', '.join(OF_STRATEGY)}")
            return None
        good = True
        for key in body:
            if key in OF_ALL | OF_STRATEGY[named]:
                continue
            good = False
            owners = [name for name, keys in OF_STRATEGY.items() if key in keys]
            if owners:
                what = f"is no option of the strategy '{named}', but of {', '.join(owners)}"
            else:
                what = "unknown key" + near(key, KEYS)
            self._document.problem((*path, key), what)
        if named not in PLANNED:
            strategy = make_strategy(body)
            if isinstance(strategy, Strategy):
                return strategy if good else None
            self._document.problem((*path, strategy.key), strategy.reason)
            return None
        options = {key: value for key, value in body.items() if key in KEYS and key != "models"}
        if options.get("resume") is False:
            options["resume"] = "off"
        if good:
            read_section(self._document, path, TierOptions, options)
        return None

    def _arms(self, path: Path, arms: Any, data: dict[str, Any]) -> None:
        if not isinstance(arms, dict) or not arms:
            self._document.problem((*path, "arms"), "has to be a mapping of names to {weight, model}")
            return
        for name, arm in arms.items():
            if isinstance(arm, dict) and "model" in arm:
                self._member((*path, "arms", name, "model"), arm["model"], data)

    def _members(self, path: Path, members: Any, data: dict[str, Any]) -> tuple[str, ...]:
        if not isinstance(members, list) or not members:
            self._document.problem(path, "needs a list of at least one model, under `models`")
            return ()
        found = (self._member((*path, position), member, data) for position, member in enumerate(members))
        return tuple(member for member in found if member is not None)

    def _member(self, at: Path, member: Any, data: dict[str, Any]) -> str | None:
        """A selector that can be used; None where it was left out, or has a problem."""
        what = check_selector(self._document.shown(at, member), member, self._providers, self._named, data)
        if what:
            self._document.problem(at, what)
        elif member.startswith("tier:") or member.partition("/")[0] in self._providers:
            return str(member)
        return None

    def _drop_lost(self) -> None:
        """A tier whose members were all left out is left out, and so on upwards."""
        while lost := {f"tier:{name}": why for name, tier in self.tiers.items() if (why := self._lost(tier))}:
            for selector, why in lost.items():
                del self.tiers[selector.removeprefix("tier:")]
                self.left_out.setdefault(selector, why)
            for name, tier in self.tiers.items():
                models = tuple(model for model in tier.models if model not in lost)
                self.tiers[name] = Tier(name, tier.strategy, models)

    def _lost(self, tier: Tier) -> str | None:
        """Why a tier cannot be used after all; None: it can."""
        if not tier.models:
            return "all its models were left out"
        if gone := [one for one in tier.strategy.helpers if one in self.left_out]:
            return f"'{gone[0]}' was left out"
        wrong = check_votes(tier.strategy, tier.models)
        return None if wrong is None else f"too few of its models are left: '{wrong.key}' {wrong.reason}"

    def _measure(self) -> None:
        """Refuses tiers that are members of themselves, nest too deep or come to too many models."""
        sizes: dict[str, int] = {}

        def size(name: str, trail: tuple[str, ...]) -> int:
            if name in trail:
                circle = " -> ".join(f"tier:{one}" for one in (*trail[trail.index(name) :], name))
                self._document.problem(("tiers", name), f"is a member of itself: {circle}")
                return 0
            if len(trail) == MAX_LEVELS:
                if trail[0] not in sizes:
                    self._document.problem(("tiers", trail[0]), f"nests tiers deeper than {MAX_LEVELS} levels")
                    sizes[trail[0]] = 0
                return 0
            if name not in sizes:
                found = 0
                tier = self.tiers.get(name)
                for member in () if tier is None else (*tier.models * tier.strategy.samples, *tier.strategy.helpers):
                    found += size(member[5:], (*trail, name)) if member.startswith("tier:") else 1
                if found > MAX_CANDIDATES:
                    what = f"comes to {found} models with its nested tiers; at most {MAX_CANDIDATES}"
                    self._document.problem(("tiers", name), what)
                    found = 0
                sizes[name] = found
            return sizes[name]

        for name in tuple(self.tiers):
            size(name, ())


def check_selector(
    shown: str, selector: Any, providers: Mapping[str, Provider], named: set[str], tiers: Mapping[str, Any]
) -> str | None:
    """What is wrong with a selector that stands in a configuration, `shown` as it stands there; None: nothing."""
    prefix, _, rest = "", "", ""
    if isinstance(selector, str):
        prefix, _, rest = selector.partition(":" if selector.startswith(("tier:", "user:")) else "/")
    if prefix == "user" and selector.startswith("user:"):
        return f"a user's experiment {LATER}"
    if not rest:
        return f"{shown} is not a model: 'provider/model' or 'tier:NAME'"
    if selector.startswith("tier:"):
        return None if rest in tiers else f"there is no tier {shown}" + near(rest, tiers)
    if prefix not in providers and prefix not in named:
        return f"{shown} names no provider that is configured" + near(prefix, named)
    return None
