"""`tiers:` names for strategies over models, and over other tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.document import Document, Path, near
from orchestrator.config.settings import Provider, Strategy, Tier
from orchestrator.config.strategy import LATER, PLANNED, Wrong, make_strategy

KEYS = {"strategy", "models", "commit", "after", "extra_calls", "params"}
PLANNED_KEYS = {
    "by", "explore", "method", "extract", "quorum", "samples", "weights", "judge", "escalate", "on_disagreement",
    "agree", "max_wait_s", "unit", "arms", "resume", "content_filter", "budget_usd",
}  # fmt: skip
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
        strategy = self._strategy(path, body)
        at = (*path, "models") if "models" in body and isinstance(data[name], dict) else path
        models = self._members(at, body.get("models"), data)
        if strategy is not None:
            self.tiers[name] = Tier(name, strategy, models)

    def _strategy(self, path: Path, body: dict[str, Any]) -> Strategy | None:
        strategy = make_strategy({key: value for key, value in body.items() if key != "models"})
        named = body.get("strategy")
        if not (isinstance(named, str) and named in PLANNED):
            # The keys of a strategy that is not there yet are not complained about as well.
            for key in body:
                if key in PLANNED_KEYS:
                    self._document.problem((*path, key), f"'{key}' {LATER}")
                elif key not in KEYS:
                    self._document.problem((*path, key), "unknown key" + near(key, KEYS | PLANNED_KEYS))
        if isinstance(strategy, Wrong):
            self._document.problem((*path, strategy.key), strategy.reason)
            return None
        return strategy

    def _members(self, path: Path, members: Any, data: dict[str, Any]) -> tuple[str, ...]:
        if not isinstance(members, list) or not members:
            self._document.problem(path, "needs a list of at least one model, under `models`")
            return ()
        kept: list[str] = []
        for position, member in enumerate(members):
            at = (*path, position)
            shown = self._document.shown(at, member)
            prefix, _, rest = "", "", ""
            if isinstance(member, str):
                prefix, _, rest = member.partition(":" if member.startswith(("tier:", "user:")) else "/")
            if prefix == "user" and not member.startswith("user/"):
                self._document.problem(at, f"a user's experiment {LATER}")
            elif not rest:
                self._document.problem(at, f"{shown} is not a model: 'provider/model' or 'tier:NAME'")
            elif member.startswith("tier:"):
                if rest in data:
                    kept.append(member)
                else:
                    self._document.problem(at, f"there is no tier {shown}" + near(rest, data))
            elif prefix in self._providers:
                kept.append(member)
            elif prefix not in self._named:
                self._document.problem(at, f"{shown} names no provider that is configured" + near(prefix, self._named))
        return tuple(kept)

    def _drop_lost(self) -> None:
        """A tier whose members were all left out is left out, and so on upwards."""
        while lost := {f"tier:{name}" for name, tier in self.tiers.items() if not tier.models}:
            for selector in lost:
                del self.tiers[selector.removeprefix("tier:")]
                self.left_out[selector] = "all its models were left out"
            for name, tier in self.tiers.items():
                models = tuple(model for model in tier.models if model not in lost)
                self.tiers[name] = Tier(name, tier.strategy, models)

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
                for member in self.tiers[name].models if name in self.tiers else ():
                    found += size(member[5:], (*trail, name)) if member.startswith("tier:") else 1
                if found > MAX_CANDIDATES:
                    what = f"comes to {found} models with its nested tiers; at most {MAX_CANDIDATES}"
                    self._document.problem(("tiers", name), what)
                    found = 0
                sizes[name] = found
            return sizes[name]

        for name in tuple(self.tiers):
            size(name, ())
