"""`tiers:` names for strategies over models, and over other tiers; and users' experiments, which are read alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from orchestrator.config.document import Document, Path, near
from orchestrator.config.schema import TierOptions
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Provider, Strategy, Tier
from orchestrator.config.strategy import make_strategy
from orchestrator.config.votes import check_votes

OF_ALL = {"strategy", "models", "resume", "content_filter", "params", "override", "cache"}
OF_STRATEGY: dict[str, set[str]] = {
    "first": set(),
    "fallback": set(),
    "race": {"commit"},
    "hedge": {"after", "extra_calls"},
    "balance": {"by", "explore", "weights"},
    "consensus": {"method", "extract", "quorum", "samples", "weights", "judge", "escalate", "on_disagreement"},
    "cascade": {"agree", "extract", "escalate", "on_disagreement"},
    "split": {"unit", "seed", "arms"},
    "spill": {"max_wait_s"},
}
"""The options of each strategy; `orchestrator.config.schema.TierOptions` says what they are."""
KEYS = {*OF_ALL, *(key for keys in OF_STRATEGY.values() for key in keys)}
MAX_LEVELS = 8
MAX_CANDIDATES = 64
"""Models that one request may come to, all nested tiers opened: two tiers of two in each of 30 levels would be 10^9."""


class Given(NamedTuple):
    """What experiments may name: the providers and tiers of a configuration."""

    providers: Mapping[str, Provider]
    named: set[str]
    """Every provider in the file, those with problems and those left out too."""
    tiers: Mapping[str, Tier]
    known: Mapping[str, Any]
    """The tiers' names, those left out too."""
    ledger: bool = False
    """Whether there is one, which budgets need."""


class Tiers:
    """Reads them all; members are checked against the providers that there are, and those that were left out."""

    def __init__(self, document: Document, providers: Mapping[str, Provider], named: set[str]) -> None:
        self._document = document
        self._providers = providers
        self._named = named
        """Every provider in the file, those with problems and those left out too."""
        self._root: Path = ("tiers",)
        self._prefix = "tier:"
        """Of their selectors."""
        self._given: Given | None = None
        """Set where experiments are read: members are the tiers given."""
        self.tiers: dict[str, Tier] = {}
        self.left_out: dict[str, str] = {}
        """By selector."""

    @classmethod
    def of_user(cls, document: Document, given: Given, user: str, root: Path) -> Tiers:
        """A reader of a user's experiments, which stand at `root`: tiers by other selectors, which no other may name."""
        reader = cls(document, given.providers, given.named)
        reader._root, reader._prefix, reader._given = root, f"user:{user}:", given
        return reader

    def read(self, data: Any) -> None:
        """All of `tiers:`, or of a user's `experiments:`."""
        if data is None:
            return
        if not isinstance(data, dict):
            self._document.problem(self._root, "has to be a mapping")
            return
        known = data if self._given is None else self._given.known
        for name, raw in data.items():
            path = (*self._root, name)
            if not name.strip():
                self._document.problem(path, f"{'a tier' if self._given is None else 'an experiment'} needs a name")
            elif not isinstance(raw, list | dict):
                self._document.problem(path, "has to be a list of models, or a mapping with `strategy` and `models`")
            else:
                self._tier(name, path, raw, known)
        self._drop_lost()
        self._measure()

    def _tier(self, name: str, path: Path, raw: list[Any] | dict[str, Any], data: Mapping[str, Any]) -> None:
        body = raw if isinstance(raw, dict) else {"models": raw}
        before = len(self._document.problems)
        strategy = self._strategy(path, body)
        named = body.get("strategy")
        if named == "split":
            self._split(name, path, body, strategy, data)
            return
        at = (*path, "models") if body is raw and "models" in body else path
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
                self.left_out[self._prefix + name] = f"its '{lost[0]}' was left out"
                models = ()
            self.tiers[name] = Tier(name, strategy, models)

    def _strategy(self, path: Path, body: dict[str, Any]) -> Strategy | None:
        """The strategy; None where it is wrong, with the problem noted."""
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
        strategy = make_strategy(body)
        if isinstance(strategy, Strategy):
            return strategy if good else None
        self._document.problem((*path, strategy.key), strategy.reason)
        return None

    def _split(
        self, name: str, path: Path, body: dict[str, Any], strategy: Strategy | None, data: Mapping[str, Any]
    ) -> None:
        before, at = len(self._document.problems), (*path, "arms")
        if "models" in body:
            self._document.problem((*path, "models"), "a split has `arms` instead")
        if not isinstance(body.get("arms"), dict) or not body["arms"]:
            self._document.problem(at, "has to be a mapping of names to {weight, model}")
            return
        read = read_section(
            self._document, path, TierOptions, {k: body[k] for k in ("unit", "seed", "arms") if k in body}
        )
        if read is None:
            return
        arms = {arm: one.weight for arm, one in read.arms.items()}
        if not any(arms.values()):
            self._document.problem(at, "needs an arm with a weight above 0")
        models = {arm: one.model for arm, one in read.arms.items()}
        lost = {model for arm, model in models.items() if self._member((*at, arm, "model"), model, data) is None}
        if strategy is not None and len(self._document.problems) == before:
            # Two users' experiments of one name are two.
            own = (self._prefix + name).partition(":")[2]
            strategy = replace(strategy, unit=read.unit, seed=own if read.seed is None else read.seed, arms=arms)
            self.tiers[name] = _without(Tier(name, strategy, tuple(models.values())), lost)

    def _members(self, path: Path, members: Any, data: Mapping[str, Any]) -> tuple[str, ...]:
        if not isinstance(members, list) or not members:
            self._document.problem(path, "needs a list of at least one model, under `models`")
            return ()
        found = (self._member((*path, position), member, data) for position, member in enumerate(members))
        return tuple(member for member in found if member is not None)

    def _member(self, at: Path, member: Any, data: Mapping[str, Any]) -> str | None:
        """A selector that can be used; None where it was left out, or has a problem."""
        what = check_selector(self._document.shown(at, member), member, self._providers, self._named, data)
        if what:
            self._document.problem(at, what)
        elif member.startswith("tier:"):
            # Of those that are being read it is not known yet.
            return str(member) if self._given is None or member[5:] in self._given.tiers else None
        elif member.partition("/")[0] in self._providers:
            return str(member)
        return None

    def _drop_lost(self) -> None:
        """A tier whose members were all left out is left out, and so on upwards; a split, if it lost an arm."""
        while lost := {self._prefix + name: why for name, tier in self.tiers.items() if (why := self._lost(tier))}:
            for selector, why in lost.items():
                del self.tiers[selector.removeprefix(self._prefix)]
                self.left_out.setdefault(selector, why)
            for name, tier in self.tiers.items():
                self.tiers[name] = _without(tier, set(lost))

    def _lost(self, tier: Tier) -> str | None:
        """Why a tier cannot be used after all; None: it can."""
        if not tier.models:
            return "an arm was left out" if tier.strategy.name == "split" else "all its models were left out"
        if gone := [one for one in tier.strategy.helpers if one in self.left_out]:
            return f"'{gone[0]}' was left out"
        wrong = check_votes(tier.strategy, tier.models)
        return None if wrong is None else f"too few of its models are left: '{wrong.key}' {wrong.reason}"

    def _measure(self) -> None:
        """Refuses tiers that are members of themselves, nest too deep or come to too many models."""
        sizes: dict[str, int] = {}
        given = {} if self._given is None else {f"tier:{name}": tier for name, tier in self._given.tiers.items()}
        tiers = {**given, **{self._prefix + name: tier for name, tier in self.tiers.items()}}

        def wrong(selector: str, what: str) -> None:
            self._document.problem((*self._root, selector.removeprefix(self._prefix)), what)

        def size(selector: str, trail: tuple[str, ...]) -> int:
            if selector in trail:
                wrong(selector, f"is a member of itself: {' -> '.join((*trail[trail.index(selector) :], selector))}")
                return 0
            if len(trail) == MAX_LEVELS:
                if trail[0] not in sizes:
                    wrong(trail[0], f"nests tiers deeper than {MAX_LEVELS} levels")
                    sizes[trail[0]] = 0
                return 0
            if selector not in sizes:
                found = 0
                if (tier := tiers.get(selector)) is not None:
                    within = (*trail, selector)
                    widths = [size(one, within) if one.startswith("tier:") else 1 for one in tier.members]
                    found = tier.strategy.calls(widths)
                if found > MAX_CANDIDATES:
                    wrong(selector, f"comes to {found} models with its nested tiers; at most {MAX_CANDIDATES}")
                    found = 0
                sizes[selector] = found
            return sizes[selector]

        for name in tuple(self.tiers):
            size(self._prefix + name, ())


def _without(tier: Tier, lost: set[str]) -> Tier:
    """A tier without the members that were left out. A split that lost an arm has none: the others' shares would lie."""
    strategy, models = tier.strategy, tuple(model for model in tier.models if model not in lost)
    if strategy.name == "split" and models != tier.models:
        arms = {arm: (weight, model) for (arm, weight), model in zip(strategy.arms.items(), tier.models, strict=True)}
        kept = {arm: weight for arm, (weight, model) in arms.items() if model not in lost}
        # An arm that nobody is sent to may be missing.
        models = models if all(arm in kept or not weight for arm, (weight, _) in arms.items()) else ()
        strategy = replace(strategy, arms=kept)
    return replace(tier, strategy=strategy, models=models)


def check_selector(
    shown: str, selector: Any, providers: Mapping[str, Provider], named: set[str], tiers: Mapping[str, Any]
) -> str | None:
    """What is wrong with a selector that stands in a configuration, `shown` as it stands there; None: nothing."""
    prefix, _, rest = "", "", ""
    if isinstance(selector, str):
        prefix, _, rest = selector.partition(":" if selector.startswith(("tier:", "user:")) else "/")
    if prefix == "user" and selector.startswith("user:"):
        return "a user's experiment can only be asked for by a request"
    if not rest:
        return f"{shown} is not a model: 'provider/model' or 'tier:NAME'"
    if selector.startswith("tier:"):
        return None if rest in tiers else f"there is no tier {shown}" + near(rest, tiers)
    if prefix not in providers and prefix not in named:
        return f"{shown} names no provider that is configured" + near(prefix, named)
    return None
