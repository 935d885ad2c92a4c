"""`providers:` one entry into a `Provider` and its keys."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path as File
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from orchestrator.config import settings
from orchestrator.config.document import Document, Path, near
from orchestrator.config.hosted import ENGINE, read_hosted
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Provider
from orchestrator.providers import PRESETS, Preset

SECTIONS: dict[str, type] = {
    "pool": settings.Pool,
    "limits": settings.Limits,
    "timeouts": settings.Timeouts,
    "retry": settings.Retry,
    "breaker": settings.Breaker,
    "health": settings.Health,
    "connections": settings.Connections,
    "simulate": settings.Simulate,
    "replay": settings.Replay,
}
KEYS = {
    "preset",
    "base_url",
    "api_key",
    "api_version",
    "optional",
    "models",
    "model_options",
    "vllm",
    "command",
    *ENGINE,
    *SECTIONS,
}
KINDS = ("base_url", "simulate", "replay", "vllm", "command")
"""Where the answers come from: one of these, or a preset's base URL."""
HOSTED_CONCURRENCY = 256
"""Calls at once that a replica of a local model gets where nobody says: as many as vLLM takes by itself (max_num_seqs)."""
PROBE_S = 0.25
"""How long a provider on this machine may take to accept a connection."""


class Unavailable(Exception):
    """Why an optional provider is left out."""


class Read(NamedTuple):
    """A provider, and its API keys: one an account."""

    provider: Provider
    keys: tuple[str, ...]


def read_provider(document: Document, name: str, raw: Any, folder: File) -> Read | None:
    """One entry; None with its problems noted. Raises Unavailable for an optional one that lacks something."""
    path: Path = ("providers", name)
    if "/" in name or ":" in name or not name.strip():
        document.problem(path, "a provider's name may hold neither '/' nor ':', and may not be empty")
        return None
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        document.problem(path, "has to be a mapping")
        return None
    return _Entry(document, path, raw, folder).read(name)


class _Entry:
    def __init__(self, document: Document, path: Path, raw: dict[str, Any], folder: File) -> None:
        self._document = document
        self._path = path
        self._raw = raw
        self._folder = folder
        self._optional = raw.get("optional") is True

    def _problem(self, key: str | Path, what: str) -> None:
        self._document.problem((*self._path, *((key,) if isinstance(key, str) else key)), what)

    def read(self, name: str) -> Read | None:
        raw = self._raw
        if not self._variables():
            return None
        if not isinstance(raw.get("optional", False), bool):
            self._problem("optional", "has to be true or false")
        for key in raw:
            if key not in KEYS:
                self._problem(key, "unknown key" + near(key, KEYS))
        own = [kind for kind in KINDS if kind in raw]
        row, good = self._preset(name, own)
        if not good:
            return None
        if len(own) > 1 or (row is None and not own):
            self._problem((), f"needs exactly one of {', '.join(KINDS)}, or a known provider's preset")
            return None
        sections = {
            key: read_section(self._document, (*self._path, key), section, raw[key])
            for key, section in SECTIONS.items()
            if key in raw
        }
        if isinstance(health := sections.get("health"), settings.Health):
            path = health.path
            if not path.startswith("/") or not (path.isascii() and path.isprintable()) or " " in path:
                self._problem(("health", "path"), "has to be a path such as /models")
            if row and "path" not in (raw["health"] or {}):
                sections["health"] = replace(health, path=row.probe_path)
        if isinstance(replay := sections.get("replay"), settings.Replay):
            sections["replay"] = self._replay(replay)
        version = self._api_version(row)
        hosted = read_hosted(self._document, self._path, raw, self._folder)
        if hosted is not None:
            pool = sections.get("pool") or settings.Pool()
            if "concurrency" not in (raw.get("pool") or {}):
                sections["pool"] = replace(pool, concurrency=HOSTED_CONCURRENCY)
        base_url = self._where(row, version)
        if base_url and row and row.local and self._optional and not self._document.answers(base_url):
            raise Unavailable(f"nothing answers at {base_url}")
        provider = Provider(
            name,
            row.dialect if row else "openai",
            base_url,
            row.key_header if row else "authorization",
            row.model_prefix if row else "",
            models=self._models(sections),
            model_options=self._model_options(row),
            quirks=self._quirks(row, version),
            api_version=version,
            hosted=hosted,
            **{key: value for key, value in sections.items() if value is not None},
        )
        return Read(provider, self._api_keys(row))

    def _api_version(self, row: Preset | None) -> str:
        """A dated version of the interface; empty: the newest, which has no date."""
        version = self._raw.get("api_version")
        if version is None:
            return ""
        if row is None or not row.dated_base_url:
            self._problem("api_version", "is for the preset azure alone")
        elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", str(version)):
            self._problem("api_version", "has to be a date such as 2024-10-21, or 2025-04-01-preview")
        return str(version)

    def _where(self, row: Preset | None, version: str) -> str:
        """The base URL; empty for what is run here."""
        if "base_url" in self._raw:
            return self._base_url(self._raw["base_url"])
        run_here = any(kind in self._raw for kind in KINDS)
        return self._row_url(row, version) if row and not run_here else ""

    @staticmethod
    def _quirks(row: Preset | None, version: str) -> settings.Quirks:
        if row is None:
            return settings.Quirks()
        # A dated version may not know the names of today.
        return replace(row.quirks, renames={}) if version else row.quirks

    def _row_url(self, row: Preset, version: str) -> str:
        """The preset's address, its variables filled in."""
        if not row.base_url:
            self._problem((), "needs a base_url: where it runs is for you to say")
            return ""
        url = row.dated_base_url if version else row.base_url
        for name in re.findall(r"\$\{(\w+)\}", url):
            value = self._document.env.get(name)
            if not value:
                if self._optional:
                    raise Unavailable(f"{name} is not set")
                self._problem((), f"the environment variable {name} is not set; export it, or give a base_url")
                return ""
            url = url.replace(f"${{{name}}}", value.rstrip("/"))
        return self._base_url(url)

    def _model_options(self, row: Preset | None) -> dict[str, settings.ModelOptions]:
        """What the preset knows, with the configured options over it: a pattern over all that fits it, a name over all."""
        table = dict(row.model_options) if row else {}
        raw = self._raw.get("model_options")
        if raw is None:
            return table
        path: Path = (*self._path, "model_options")
        if not isinstance(raw, dict):
            self._document.problem(path, "has to be a mapping of models' names")
            return table
        for model in sorted(raw, key=lambda name: (not name.endswith("*"), len(name))):
            read = read_section(self._document, (*path, model), settings.ModelOptions, raw[model])
            if read is None:
                continue
            said = {one.name: getattr(read, one.name) for one in fields(read) if one.name in (raw[model] or {})}
            table[model] = Provider("", model_options=table).options_of(model.removesuffix("*"))
            fits = [name for name in table if model.endswith("*") and name.startswith(model[:-1])]
            table |= {name: replace(table[name], **said) for name in {model, *fits}}
        return table

    def _variables(self) -> bool:
        """Whether all are there; what lacks one is not looked at any further."""
        missing = {at: variable for at, variable in self._document.missing.items() if at[:2] == self._path}
        for at, variable in missing.items():
            if self._optional:
                raise Unavailable(f"{variable} is not set")
            what = f"the environment variable {variable} is not set; export it, or mark the provider optional"
            self._document.problem(at, what)
        return not missing

    def _preset(self, name: str, own: list[str]) -> tuple[Preset | None, bool]:
        """The row of a preset, if there is one; False: what was named cannot be used."""
        named = "preset" in self._raw
        preset = self._raw.get("preset") if named else name
        if not named and own == ["vllm"]:
            return PRESETS["vllm"], True
        if not named and own and (own != ["base_url"] or name not in PRESETS):
            return None, True
        row = PRESETS.get(preset) if isinstance(preset, str) else None
        if named and row is None:
            self._problem("preset", f"there is no such preset; there is {', '.join(PRESETS)}")
        return row, row is not None or not named

    def _models(self, sections: dict[str, Any]) -> tuple[str, ...] | None:
        models = self._raw.get("models")
        if models is None:
            if isinstance(replay := sections.get("replay"), settings.Replay):
                return tuple(replay.files)
            return ("chat",) if "simulate" in self._raw else None
        if not isinstance(models, list) or not all(isinstance(model, str) and model for model in models):
            self._problem("models", "has to be a list of models' names")
            return None
        return tuple(dict.fromkeys(models))

    def _replay(self, replay: settings.Replay) -> settings.Replay:
        def absolute(key: Path, text: str) -> str:
            full = self._folder / text
            try:
                found = full.is_file()
            except (OSError, ValueError):  # a name that is too long, or holds a zero byte
                found = False
            if not found:
                shown = self._document.shown((*self._path, *key), text)
                self._problem(key, f"there is no file {shown}; a relative path starts at the configuration's folder")
            return str(full)

        files = {model: absolute(("replay", "files", model), path) for model, path in replay.files.items()}
        if not files:
            self._problem(("replay", "files"), "has to name at least one model")
        questions = absolute(("replay", "questions"), replay.questions)
        return settings.Replay(files, questions, replay.latency_s, replay.tokens_per_s, replay.seed)

    def _base_url(self, url: Any) -> str:
        parts = urlsplit("")
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            good = good and url.isprintable() and " " not in url
        except ValueError:
            good = False
        if not good:
            self._problem("base_url", "has to be an address such as http://10.0.0.5:8000/v1")
        elif parts.username or parts.password or parts.query or parts.fragment:
            self._problem(
                "base_url",
                "may hold neither credentials nor a query; a key belongs in api_key, a version in api_version",
            )
        return str(url).rstrip("/")

    def _api_keys(self, row: Preset | None) -> tuple[str, ...]:
        value = self._raw.get("api_key")
        if "vllm" in self._raw or "command" in self._raw:
            if value is not None:
                self._problem("api_key", "is made up anew whenever the server is started; leave it out")
            return ()
        if value is None and row is not None:
            value = self._document.env.get(row.key_variable)
            if not value and row.key_needed:
                if self._optional:
                    raise Unavailable(f"{row.key_variable} is not set")
                self._problem("api_key", f"is missing; set the environment variable {row.key_variable}")
        values = value if isinstance(value, list) else [value]
        if not all(one is None or (isinstance(one, str | int) and not isinstance(one, bool)) for one in values):
            self._problem("api_key", "has to be a string, or a list of strings: one an account")
            return ()
        found = tuple(str(one) for one in values if one not in (None, "", "none"))
        if not all(one.isascii() and one.isprintable() and " " not in one for one in found):
            self._problem("api_key", "holds characters that no HTTP header can carry; was it copied whole?")
        if len(set(found)) < len(found):
            self._problem("api_key", "names the same key twice; each one stands for an account")
        return found
