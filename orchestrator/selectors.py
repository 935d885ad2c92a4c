"""From a request's `model` to a route: a model, a tier, a user's experiment, or a choice that the request brings along."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from orchestrator.callers import Caller
from orchestrator.config.settings import Config, Strategy
from orchestrator.config.strategy import make_strategy
from orchestrator.config.tiers import KEYS, MAX_CANDIDATES, OF_ALL, OF_STRATEGY
from orchestrator.config.votes import Wrong, check_votes
from orchestrator.errors import BadChoice, NotAllowed, UnknownSelector
from orchestrator.fitting import EXTENSIONS
from orchestrator.preferences import preferred, read_preferences
from orchestrator.routes import Candidate, Route
from orchestrator.types import Json

CACHED = 1_000
"""Routes of plain models that are kept; callers choose the names, so there is a bound."""
LONGEST = 200
"""Characters of such a name."""

COMPARED = 500
"""Experiments that are looked through for one that is spelled alike, where the user has none: there may be 200,000."""

_FIRST = Strategy("first")
_CHOICES = KEYS - OF_STRATEGY["split"]


class Selectors:
    """The routes of one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._tiers: dict[str, Route] = {}
        self._plain: dict[str, Route] = {}
        for name in config.tiers:
            self._tier(name)
        self._experiments = {
            f"user:{name}": Route(f"user:{name}", one.strategy, tuple(map(self._member, one.members)))
            for name, one in config.experiments.items()
        }
        self._patterns = sorted((a for a in config.aliases if "*" in a), key=len, reverse=True)
        """Aliases with a star, the longest and so the most particular first."""

    def _tier(self, name: str) -> Route:
        route = self._tiers.get(name)
        if route is None:
            tier = self._config.tiers[name]
            route = self._tiers[name] = Route(f"tier:{name}", tier.strategy, tuple(map(self._member, tier.members)))
        return route

    def _member(self, selector: str) -> Candidate | Route:
        if selector.startswith("tier:"):
            return self._tier(selector[5:])
        provider, _, model = selector.partition("/")
        return Candidate(provider, model)

    def resolve(
        self,
        selector: str,
        override: dict[str, Any] | None = None,
        user: str | None = None,
        caller: Caller | None = None,
    ) -> Route:
        """The route of a selector. Raises UnknownSelector (with near names), BadChoice for a wrong `override`, NotAllowed for
        what `caller` may not use, and for the experiment of another than `user` (None: nobody has said who asks).

        `override` is the request's `orchestrator` object, with `fallbacks` for OpenRouter's `models` and `provider` for its
        object of that name. Whatever it names has to be allowed, too. Without keys (`caller` is None) everything is.
        """
        if caller is not None:
            self._check(selector, caller)
        if override and "provider" in override:
            # Said of the way to go, whoever has chosen that.
            choice = {name: value for name, value in override.items() if name != "provider"}
            wish = read_preferences(override["provider"])
            return preferred(self.resolve(selector, choice, user, caller), wish, self._config.prices)
        if override and override.keys() != {"cache"}:
            return self._chosen(selector, override, user, caller)
        if selector.startswith("user:"):
            if caller is None and user is not None and user != _owner(selector):
                raise NotAllowed(_short(selector), _short(user))
            if (experiment := self._experiments.get(selector)) is None:
                raise self._unknown(selector, caller)
            return experiment
        if selector.startswith("tier:"):
            route = self._tiers.get(selector[5:])
            if route is None:
                raise self._unknown(selector, caller)
            return route
        plain = self._plain.get(selector)
        if plain is None:
            if not self._names_a_model(selector):
                meant = self._meant(selector)
                if meant is None:
                    raise self._unknown(selector, caller)
                return self.resolve(meant)
            provider, _, model = selector.partition("/")
            plain = Route(selector, _FIRST, (Candidate(provider, model),))
            if len(selector) <= LONGEST:
                if len(self._plain) >= CACHED:
                    self._plain.clear()
                self._plain[selector] = plain
        return plain

    def usable(self, selector: str, caller: Caller | None) -> bool:
        """Whether a caller may ask for it, if there is such a thing: an alias by its own name, or by what it stands for."""
        if caller is None:
            return True
        if selector.startswith("user:") and not caller.may_use_experiments_of(_owner(selector)):
            return False
        if caller.may_use(selector):
            return True
        if selector.startswith(("tier:", "user:")) or self._names_a_model(selector):
            return False  # it is no alias, although a pattern of one may fit it
        meant = self._meant(selector)
        return meant is not None and caller.may_use(meant)

    def check_extensions(self, body: Json, caller: Caller | None) -> None:
        """Looks at what a request says to one provider alone (`orchestrator.fitting`): a key that may not use everything may
        not have another model asked there either. Raises NotAllowed."""
        if caller is None or "*" in caller.models:
            return
        for name in ("", *(EXTENSIONS & body.keys())):
            said = body.get(name) if name else body
            if not isinstance(said, dict):
                continue
            if "preset" in said:
                raise NotAllowed("preset", caller.name, f"the key {caller.name!r} may not use a provider's own presets")
            named = said.get("models") if name else None
            models = named if isinstance(named, list) else []
            sellers = [one.name for one in self._config.providers.values() if one.quirks.extension == name]
            for seller in sellers if name else ():
                for model in models:
                    self._check(f"{seller}/{model}", caller)

    def _check(self, selector: str, caller: Caller) -> None:
        # Before it is looked up: whether there is something that one may not use is nobody's business.
        if self.usable(selector, caller):
            return
        shown = _short(selector)
        if selector.startswith("user:") and not caller.may_use_experiments_of(owner := _owner(selector)):
            whose = "nobody" if caller.user is None else repr(caller.user)
            reason = f"{shown!r} needs a key of {_short(owner)!r}, or an admin's; the key {caller.name!r} is a key of {whose}"
            raise NotAllowed(shown, caller.name, reason)
        may = f"it may use {', '.join(caller.models)}" if caller.models else "it may use none"
        raise NotAllowed(shown, caller.name, f"the key {caller.name!r} may not use {shown!r}; {may}")

    def _names_a_model(self, selector: str) -> bool:
        provider, _, model = selector.partition("/")
        return bool(model) and provider in self._config.providers

    def _meant(self, name: str) -> str | None:
        """The selector that an alias stands for; None: it is no alias."""
        aliases = self._config.aliases
        if name in aliases and "*" not in name:
            return aliases[name]
        for pattern in self._patterns:
            if (text := _star(pattern, name)) is not None:
                return aliases[pattern].replace("*", text)
        return None

    def _chosen(self, selector: str, override: dict[str, Any], user: str | None, caller: Caller | None) -> Route:
        choice = dict(override)
        choice.pop("cache", None)  # says nothing of the way (`orchestrator.cache.terms`)
        fallbacks = choice.pop("fallbacks", None)
        for name in choice:
            if name not in _CHOICES:
                raise BadChoice(f"orchestrator.{name}", f"unknown key; there is {', '.join(sorted(_CHOICES))}")
        models = choice.pop("models", None)
        where = "orchestrator.models"
        if models is None and fallbacks is not None:
            where = "models"
            models = [selector, *fallbacks] if isinstance(fallbacks, list) else fallbacks
        if models is None:
            models = [selector]
        if not isinstance(models, list) or not models or not all(isinstance(one, str) for one in models):
            raise BadChoice(where, "has to be a list of models")
        if len(models) > 16:
            raise BadChoice(where, "has to have at most 16 entries")
        if choice.get("strategy") == "split":
            raise BadChoice(
                "orchestrator.strategy", "'split' is for tiers and experiments: a request would choose its own arm"
            )
        strategy = make_strategy(choice)
        if isinstance(strategy, Wrong):
            raise BadChoice(f"orchestrator.{strategy.key}", strategy.reason)
        for name in choice:
            if name not in OF_ALL | OF_STRATEGY[strategy.name]:
                raise BadChoice(f"orchestrator.{name}", f"is no option of the strategy '{strategy.name}'")
        if unfit := check_votes(strategy, models):
            raise BadChoice(f"orchestrator.{unfit.key}", unfit.reason)
        if stray := [name for name in strategy.weights if name not in models]:
            raise BadChoice("orchestrator.weights", f"{stray[0][:200]!r} is not among the models")
        routes = [self.resolve(one, user=user, caller=caller) for one in (*models, *strategy.helpers)]
        if strategy.weights:
            # By the names that plans know members by: an alias may stand for one.
            weights = {one.selector: strategy.weights.get(name, 1.0) for name, one in zip(models, routes, strict=False)}
            strategy = replace(strategy, weights=weights)
        route = Route("", strategy, tuple(r.members[0] if r.strategy is _FIRST else r for r in routes))
        if (count := route.calls()) > MAX_CANDIDATES:
            raise BadChoice(where, f"comes to {count} models with its tiers; at most {MAX_CANDIDATES}")
        return route

    def _unknown(self, selector: str, caller: Caller | None) -> UnknownSelector:
        # Callers choose its length, and the search for what is spelled alike is quadratic.
        selector = _short(selector)
        left_out = self._config.left_out
        reason = left_out.get(selector) or left_out.get(selector.partition("/")[0], "")
        listed = self.listed()
        if selector.startswith("user:"):
            user = selector.rpartition(":")[0]
            # What is wrong with it is for its user and the platform to read, not for whoever asks.
            broken = user in left_out and not reason
            reason = "the file of its user has a mistake: GET /admin/config says which" if broken else reason
            listed = [name for name in self._experiments if name.startswith(f"{user}:")] or [*self._experiments][
                :COMPARED
            ]
        listed = [name for name in listed if self.usable(name, caller)]
        near = [name for name in listed if name.rpartition("/")[2] == selector]
        near += [name for name in get_close_matches(selector, listed, 3, 0.5) if name not in near]
        return UnknownSelector(selector, tuple(near[:3]), reason)

    def listed(self) -> list[str]:
        """Tiers, aliases, and the models that the configuration itself lists."""
        models = [f"{p.name}/{model}" for p in self._config.providers.values() for model in p.models or ()]
        return [f"tier:{name}" for name in self._config.tiers] + self.aliases(models) + models

    def aliases(self, models: Iterable[str]) -> list[str]:
        """The bare names that can be asked for: a star stands for whatever it fits among `models`."""
        names = [alias for alias in self._config.aliases if "*" not in alias]
        for pattern in self._patterns:
            target = self._config.aliases[pattern]
            texts = (_star(target, model) for model in models)
            names += [pattern.replace("*", text) for text in texts if text is not None]
        return list(dict.fromkeys(names))


def _owner(experiment: str) -> str:
    """The user in `user:NAME:EXPERIMENT`."""
    return experiment[5:].partition(":")[0]


def _short(text: str) -> str:
    """What a caller has sent, for a message."""
    return text if len(text) <= 200 else text[:200] + "…"


def _star(pattern: str, name: str) -> str | None:
    """What the `*` of a pattern stands for in a name, at least one character; None where they do not fit."""
    before, star, after = pattern.partition("*")
    rest = len(name) - len(before) - len(after)
    if not star or rest < 1 or not (name.startswith(before) and name.endswith(after)):
        return None
    return name[len(before) : len(before) + rest]
