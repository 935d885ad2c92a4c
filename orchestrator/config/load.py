"""From YAML to a validated `Config`: every problem at once, each in one line that says file, line, key and what to do.

What the contract names and this version does not have is refused as "not available yet", never ignored; an optional
provider that needs it, or a variable that is not set, is left out and listed with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from orchestrator.config import settings
from orchestrator.config.document import Document
from orchestrator.config.document import Path as Keys
from orchestrator.config.settings import Config, Provider, Strategy, Tier
from orchestrator.errors import ConfigError
from orchestrator.providers import PLANNED, PRESETS

_SECTIONS = {
    "pool": settings.Pool,
    "limits": settings.Limits,
    "timeouts": settings.Timeouts,
    "retry": settings.Retry,
    "breaker": settings.Breaker,
    "connections": settings.Connections,
    "simulate": settings.Simulate,
    "replay": settings.Replay,
}
_ROOT = {"providers", "tiers", "server"}
_ROOT_PLANNED = {"aliases", "users", "rollout", "pricing", "ledger", "cache"}
_PROVIDER = {"preset", "base_url", "api_key", "optional", "models", *_SECTIONS}
_PROVIDER_PLANNED = {"vllm", "command", "health", "model_options"}
_TIER = {"strategy", "models", "commit", "after", "extra_calls", "params"}
_TIER_PLANNED = {
    "by", "explore", "method", "extract", "quorum", "samples", "weights", "judge", "escalate", "on_disagreement",
    "agree", "max_wait_s", "unit", "arms", "resume", "content_filter", "budget_usd",
}  # fmt: skip
_STRATEGIES = {"first", "fallback", "race", "hedge"}
_STRATEGIES_PLANNED = {"balance", "consensus", "cascade", "split", "spill"}
LATER = "is not available yet"


def load(path: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> Config:
    """Reads a configuration file. Raises ConfigError with all that is wrong in it."""
    document = Document(str(path), os.environ if env is None else env)
    try:
        with open(path, "rb") as file:
            document.read(file.read(10_000_000))
    except OSError as error:
        raise ConfigError((f"{path}:1: document: cannot be read: {error.strerror}",)) from None
    return _Reader(document, Path(path).resolve().parent).config()


def load_mapping(data: Any, env: Mapping[str, str] | None = None, source: str = "<inline>") -> Config:
    """The same for data that are at hand. Relative paths start at the current folder."""
    document = Document(source, os.environ if env is None else env)
    document.take(data)
    return _Reader(document, Path.cwd()).config()


@cache
def _adapter(section: type) -> TypeAdapter[Any]:
    return TypeAdapter(section)


class _Unavailable(Exception):
    """What a provider needs is not available yet."""


class _Reader:
    def __init__(self, document: Document, folder: Path) -> None:
        self._document = document
        self._folder = folder
        self._providers: dict[str, Provider] = {}
        self._keys: dict[str, tuple[str, ...]] = {}
        self._tiers: dict[str, Tier] = {}
        self._left_out: dict[str, str] = {}

    def config(self) -> Config:
        document = self._document
        root = document.data
        server = settings.Server()
        if not document.problems and not isinstance(root, dict):
            document.problem((), "has to be a mapping with the key 'providers'")
        if not document.problems:
            self._known((), root, _ROOT, _ROOT_PLANNED)
            server = self._section(("server",), settings.Server, self._server(root.get("server", {})))
            self._read_providers(root.get("providers"))
            self._read_tiers(root.get("tiers", {}))
            self._drop_lost_tiers()
            self._find_cycles()
        if document.problems:
            raise ConfigError(tuple(document.problems))
        return Config(self._providers, self._tiers, server, self._keys, self._left_out, document.source)

    def _problem(self, keys: Keys, what: str) -> None:
        self._document.problem(keys, what)

    def _known(self, keys: Keys, data: dict[str, Any], known: set[str], planned: set[str]) -> None:
        """Refuses keys that are not known; raises _Unavailable within a provider through `_later`."""
        for key in data:
            if key in planned:
                self._later((*keys, key), f"'{key}'")
            elif key not in known:
                near = get_close_matches(key, known | planned, 1)
                self._problem((*keys, key), "unknown key" + (f"; did you mean '{near[0]}'?" if near else ""))

    def _later(self, keys: Keys, what: str) -> None:
        if keys[0] == "providers" and self._optional(keys[:2]):
            raise _Unavailable(f"{what} {LATER}")
        self._problem(keys, f"{what} {LATER}")

    def _optional(self, keys: Keys) -> bool:
        data = self._document.data["providers"][keys[1]]
        return isinstance(data, dict) and data.get("optional") is True

    def _server(self, data: Any) -> Any:
        if isinstance(data, dict) and data.pop("keys", None) is not None:
            self._problem(("server", "keys"), LATER)
        return data

    def _section(self, keys: Keys, section: type, data: Any) -> Any:
        """Validates one section into its dataclass."""
        if not isinstance(data, dict):
            self._problem(keys, "has to be a mapping")
            return None
        for key, value in data.items():
            if isinstance(value, bool):
                self._problem((*keys, key), "has to be a number, not true or false")
                return None
        try:
            return _adapter(section).validate_python(data)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                self._problem((*keys, *one["loc"]), _reason(section, one))
            return None

    def _read_providers(self, data: Any) -> None:
        if not isinstance(data, dict) or not data:
            self._problem(("providers",), "is missing: name at least one provider, such as `sim: {simulate: {}}`")
            return
        for name in data:
            raw = data[name] = {} if data[name] is None else data[name]
            keys: Keys = ("providers", name)
            if "/" in name or ":" in name or not name:
                self._problem(keys, "a provider's name may hold neither '/' nor ':'")
                continue
            if not isinstance(raw, dict):
                self._problem(keys, "has to be a mapping")
                continue
            try:
                self._provider(keys, name, raw)
            except _Unavailable as reason:
                self._left_out[name] = str(reason)

    def _provider(self, keys: Keys, name: str, raw: dict[str, Any]) -> None:
        missing = [variable for at, variable in self._document.missing.items() if at[:2] == keys]
        if missing and raw.get("optional") is True:
            raise _Unavailable(f"{missing[0]} is not set")
        for at, variable in self._document.missing.items():
            if at[:2] == keys:
                self._problem(
                    at, f"the environment variable {variable} is not set; export it, or mark the provider optional"
                )
        if not isinstance(raw.get("optional", False), bool):
            self._problem((*keys, "optional"), "has to be true or false")
        self._known(keys, raw, _PROVIDER, _PROVIDER_PLANNED)
        own = [kind for kind in ("base_url", "simulate", "replay") if kind in raw]
        preset = raw.get("preset", None if own else name)
        if preset in PLANNED and not own:
            self._later(keys, f"the preset '{preset}'")
            return
        row = PRESETS.get(preset) if isinstance(preset, str) else None
        if "preset" in raw and row is None:
            self._problem((*keys, "preset"), f"there is no preset '{preset}'; there is {', '.join(PRESETS)}")
            return
        if len(own) > 1 or (row is None and not own):
            self._problem(keys, "needs exactly one of base_url, simulate, replay, or a known provider's preset")
            return
        sections = {
            key: self._section((*keys, key), section, raw[key]) for key, section in _SECTIONS.items() if key in raw
        }
        if isinstance(replay := sections.get("replay"), settings.Replay):
            sections["replay"] = self._replay((*keys, "replay"), replay)
        base_url = self._base_url((*keys, "base_url"), raw["base_url"]) if "base_url" in raw else ""
        self._providers[name] = Provider(
            name,
            row.dialect if row else "openai",
            base_url or (row.base_url if row else ""),
            models=self._models((*keys, "models"), raw, sections),
            **{key: value for key, value in sections.items() if value is not None},
        )
        self._keys[name] = self._api_keys((*keys, "api_key"), raw, row.key_variable if row else None)

    def _models(self, keys: Keys, raw: dict[str, Any], sections: dict[str, Any]) -> tuple[str, ...] | None:
        models = raw.get("models")
        if models is None:
            if isinstance(replay := sections.get("replay"), settings.Replay):
                return tuple(replay.files)
            return ("chat",) if "simulate" in raw else None
        if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
            self._problem(keys, "has to be a list of models' names")
            return None
        return tuple(models)

    def _replay(self, keys: Keys, replay: settings.Replay) -> settings.Replay:
        def absolute(at: Keys, path: str) -> str:
            full = self._folder / path
            if not full.is_file():
                self._problem(at, f"there is no file {full}")
            return str(full)

        files = {model: absolute((*keys, "files", model), path) for model, path in replay.files.items()}
        questions = absolute((*keys, "questions"), replay.questions)
        return settings.Replay(files, questions, replay.latency_s, replay.tokens_per_s, replay.seed)

    def _base_url(self, keys: Keys, url: Any) -> str:
        parts = urlsplit("")
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good:
            self._problem(keys, "has to be an address such as http://10.0.0.5:8000/v1")
        elif parts.username or parts.password or parts.query or parts.fragment:
            self._problem(keys, "may hold neither credentials nor a query; a key belongs in api_key")
        return str(url).rstrip("/")

    def _api_keys(self, keys: Keys, raw: dict[str, Any], variable: str | None) -> tuple[str, ...]:
        value = raw.get("api_key")
        if value is None and variable is not None:
            value = self._document.env.get(variable)
            if not value:
                if raw.get("optional") is True:
                    del self._providers[str(keys[1])]
                    raise _Unavailable(f"{variable} is not set")
                self._problem(keys, f"is missing; set the environment variable {variable}")
        values = value if isinstance(value, list) else [value]
        if not all(one is None or (isinstance(one, str | int) and not isinstance(one, bool)) for one in values):
            self._problem(keys, "has to be a string, or a list of strings: one an account")
            return ()
        found = tuple(str(one) for one in values if one not in (None, "", "none"))
        for one in found:
            if not one.isascii() or not one.isprintable() or " " in one:
                self._problem(keys, "holds characters that no HTTP header can carry; was it copied whole?")
        return found

    def _read_tiers(self, data: Any) -> None:
        if not isinstance(data, dict):
            self._problem(("tiers",), "has to be a mapping")
            return
        for name, raw in data.items():
            keys: Keys = ("tiers", name)
            body = {"models": raw} if isinstance(raw, list) else raw
            if not isinstance(body, dict):
                self._problem(keys, "has to be a list of models, or a mapping with `strategy` and `models`")
                continue
            strategy = self._strategy(keys, body)
            models = self._members(keys if isinstance(raw, list) else (*keys, "models"), body.get("models"), data)
            if strategy is not None:
                self._tiers[name] = Tier(name, strategy, models)

    def _strategy(self, keys: Keys, body: dict[str, Any]) -> Strategy | None:
        name = body.get("strategy", "fallback")
        if name in _STRATEGIES_PLANNED:
            self._problem((*keys, "strategy"), f"the strategy '{name}' {LATER}")
            return None
        self._known(keys, body, _TIER, _TIER_PLANNED)
        strategy, problem = make_strategy({key: value for key, value in body.items() if key != "models"})
        if problem is not None:
            self._problem((*keys, problem[0]), problem[1])
        return strategy

    def _members(self, keys: Keys, members: Any, tiers: dict[str, Any]) -> tuple[str, ...]:
        if not isinstance(members, list) or not members:
            self._problem(keys, "needs a list of at least one model")
            return ()
        kept: list[str] = []
        for position, member in enumerate(members):
            at = (*keys, position)
            if not isinstance(member, str):
                self._problem(at, "has to be 'provider/model' or 'tier:NAME'")
                continue
            prefix, _, rest = member.partition(":" if member.startswith(("tier:", "user:")) else "/")
            if prefix == "user":
                self._problem(at, f"a user's experiment {LATER}")
            elif prefix == "tier":
                if rest in tiers:
                    kept.append(member)
                else:
                    self._unknown(at, f"there is no tier '{rest}'", rest, tiers)
            elif not rest:
                self._problem(at, f"'{member}' has to be 'provider/model' or 'tier:NAME'")
            elif prefix in self._providers:
                kept.append(member)
            elif prefix not in self._left_out and prefix not in (self._document.data.get("providers") or {}):
                self._unknown(at, f"there is no provider '{prefix}'", prefix, self._providers)
        return tuple(kept)

    def _unknown(self, keys: Keys, what: str, name: str, known: Mapping[str, Any]) -> None:
        near = get_close_matches(name, list(known), 1)
        self._problem(keys, what + (f"; did you mean '{near[0]}'?" if near else ""))

    def _drop_lost_tiers(self) -> None:
        """A tier whose members were all left out is left out, and so on upwards."""
        while lost := [name for name, tier in self._tiers.items() if not tier.models]:
            for name in lost:
                del self._tiers[name]
                self._left_out[f"tier:{name}"] = "all its models were left out"
            for name, tier in self._tiers.items():
                models = tuple(
                    m for m in tier.models if m.removeprefix("tier:") not in lost or not m.startswith("tier:")
                )
                self._tiers[name] = Tier(name, tier.strategy, models)

    def _find_cycles(self) -> None:
        done: set[str] = set()

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if name in trail:
                circle = " -> ".join(f"tier:{one}" for one in (*trail[trail.index(name) :], name))
                self._problem(("tiers", name), f"is a member of itself: {circle}")
                done.update(trail)
            elif name not in done:
                for member in self._tiers[name].models if name in self._tiers else ():
                    if member.startswith("tier:"):
                        visit(member[5:], (*trail, name))
                done.add(name)

        for name in self._tiers:
            visit(name, ())


def make_strategy(body: Mapping[str, Any]) -> tuple[Strategy | None, tuple[str, str] | None]:
    """A strategy from its keys, or the key that is wrong and why. Serves tiers and a request's own choice alike."""
    name = body.get("strategy", "fallback")
    if name not in _STRATEGIES:
        later = f"the strategy '{name}' {LATER}" if name in _STRATEGIES_PLANNED else ""
        return None, ("strategy", later or f"has to be one of {', '.join(sorted(_STRATEGIES))}")
    commit = body.get("commit", "first_token")
    if commit not in ("first_token", "complete"):
        return None, ("commit", "has to be first_token or complete")
    after = body.get("after")
    if isinstance(after, str):
        return None, ("after", f"a percentile {LATER}; give seconds" if after.startswith("p") else "has to be seconds")
    if name == "hedge" and after is None:
        return None, ("after", "is missing: the seconds after which the next model is asked")
    if after is not None and not (_is_number(after) and 0 < after < 3600):
        return None, ("after", "has to be seconds, above 0 and below 3600")
    extra = body.get("extra_calls", 0.05)
    if not (_is_number(extra) and 0 <= extra <= 1):
        return None, ("extra_calls", "has to be a share between 0 and 1")
    params = body.get("params", {})
    if not isinstance(params, dict):
        return None, ("params", "has to be a mapping of request parameters")
    return Strategy(name, commit, None if after is None else float(after), float(extra), params), None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def _reason(section: type, error: Any) -> str:
    """pydantic's complaint in our words. Never repeats the value: it may have come from a variable."""
    kind, message, context = error["type"], error["msg"], error.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        holder: Any = section
        for part in error["loc"][:-1]:
            nested = {field.name: field.default_factory for field in fields(holder)}.get(part)
            holder = type(nested()) if callable(nested) else holder
        names = [field.name for field in fields(holder)] if is_dataclass(holder) else []
        near = get_close_matches(str(error["loc"][-1]), names, 1)
        return "unknown key; " + (f"did you mean '{near[0]}'?" if near else f"there is {', '.join(names)}")
    words = {
        "missing": "is missing",
        "float_parsing": "has to be a number",
        "float_type": "has to be a number",
        "int_parsing": "has to be a whole number",
        "int_type": "has to be a whole number",
        "int_from_float": "has to be a whole number",
        "finite_number": "has to be a finite number",
        "greater_than": f"has to be above {context.get('gt')}",
        "greater_than_equal": f"has to be at least {context.get('ge')}",
        "less_than_equal": f"has to be at most {context.get('le')}",
        "dataclass_type": "has to be a mapping",
    }
    return words.get(kind, str(message))
