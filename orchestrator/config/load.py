"""From YAML to a validated `Config`: every problem at once, each in one line that says file, line, key and what to do.

An optional provider that needs a variable which is not set is left out, and listed with its reason.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.config.aliases import read_aliases
from orchestrator.config.callers import read_callers
from orchestrator.config.document import MAX_BYTES, Document, TooManyProblems, near
from orchestrator.config.ledger import read_ledger
from orchestrator.config.operations import Budgets, Cache, CallerKey, Logs, Telemetry
from orchestrator.config.pricing import read_prices
from orchestrator.config.provider import PROBE_S, Unavailable, read_provider
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Config, Provider, Rollout, Server, Tier
from orchestrator.config.tiers import Given, Tiers
from orchestrator.config.users import NEEDS_LEDGER, Folder, Loaded, read_user, with_users
from orchestrator.errors import ConfigError

_ROOT = {
    "providers",
    "aliases",
    "tiers",
    "users",
    "rollout",
    "pricing",
    "ledger",
    "cache",
    "server",
    "logs",
    "telemetry",
    "budgets",
}


def default_config() -> str:
    """Where configs/default.yaml is: beside the sources, or within the wheel."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "configs" / "default.yaml"
    return str(beside if beside.is_file() else package / "data" / "default.yaml")


def answers(url: str) -> bool:
    """Whether somebody accepts connections at an address of this machine."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_S):
            return True
    except OSError:
        return False


def load(
    path: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    answers: Callable[[str], bool] = answers,
) -> Config:
    """Reads a configuration file, and its users'. Raises ConfigError with what is wrong in it; a user whose file cannot be
    used is left out.

    `answers` says whether somebody listens at an address: an optional provider of this machine is left out otherwise.
    """
    return load_all(path, env, answers).config


def load_all(
    path: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    answers: Callable[[str], bool] = answers,
) -> Loaded:
    """The same, with what is wrong in users' files."""
    config = load_file(path, env, answers)
    if config.users_folder is None:
        return Loaded(config, {})
    folder = Folder(config.users_folder)
    folder.look(at_once=True)
    return with_users(config, folder, {})


def load_file(
    path: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    answers: Callable[[str], bool] = answers,
) -> Config:
    """The file alone, without a folder of users that it may name. Raises ConfigError."""
    document = Document(str(path), os.environ if env is None else env, answers)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError((f"{document.source}:1: document: cannot be read: {reason}",)) from None
    return _config(document, Path(path).resolve().parent, content)


def load_mapping(data: Any, env: Mapping[str, str] | None = None, source: str = "<inline>") -> Config:
    """The same for data that are at hand. Relative paths start at the current folder."""
    document = Document(source, os.environ if env is None else env, answers)
    return _config(document, Path.cwd(), data)


def _config(document: Document, folder: Path, content: Any) -> Config:
    try:
        if isinstance(content, bytes):
            document.read(content)
        else:
            document.take(content)
        if not document.problems and not isinstance(document.data, dict):
            document.problem((), "has to be a mapping with the key 'providers'")
        if not document.problems:
            config = _read(document, document.data, folder)
            if not document.problems:
                return config
    except TooManyProblems:
        pass
    raise ConfigError(tuple(document.problems))


def _read(document: Document, root: dict[str, Any], folder: Path) -> Config:
    """What a document says; of no use if it has problems."""
    for key in root:
        if key not in _ROOT:
            document.problem((key,), "unknown key" + near(key, _ROOT))
    lacking = {at: variable for at, variable in document.missing.items() if at[:1] != ("providers",)}
    for at, variable in lacking.items():
        what = f"the environment variable {variable} is not set; export it, or give a default: ${{{variable}:-…}}"
        document.problem(at, what)
    if "ledger" in root and root["ledger"] is None:
        root = {**root, "ledger": {}}  # `ledger:` alone is one with everything as it is by default
    with_ledger = root.get("ledger") is not None
    # What lacks a variable is not looked at any further: there would be nothing but more of the same.
    root = {key: value for key, value in root.items() if all(at[0] != key for at in lacking)}
    server = root.get("server")
    callers: tuple[CallerKey, ...] = ()
    if isinstance(server, dict) and "keys" in server:
        callers = read_callers(document, server["keys"])
        for number, caller in enumerate(callers if not with_ledger else ()):
            if caller.budget_usd is not None:
                document.problem(("server", "keys", number, "budget_usd"), NEEDS_LEDGER)
        server = {key: value for key, value in server.items() if key != "keys"}
    serving = read_section(document, ("server",), Server, server)
    providers: dict[str, Provider] = {}
    keys: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    named = root.get("providers")
    if not isinstance(named, dict) or not named:
        document.problem(("providers",), "is missing: name at least one provider, such as `sim: {simulate: {}}`")
        named = {}
    for name, raw in named.items():
        try:
            read = read_provider(document, name, raw, folder)
        except Unavailable as reason:
            left_out[name] = str(reason)
        else:
            if read is not None:
                providers[name], keys[name] = read
    tiers = Tiers(document, providers, set(named))
    written = root.get("tiers")
    tiers.read(written)
    aliases = read_aliases(
        document, root.get("aliases"), providers, set(named), written if isinstance(written, dict) else {}
    )
    # A tier that was left out takes its aliases along.
    aliases = {a: to for a, to in aliases.items() if not to.startswith("tier:") or to not in tiers.left_out}
    if left_out and not providers and not document.problems:
        document.problem(("providers",), f"all were left out: {'; '.join(f'{k}: {v}' for k, v in left_out.items())}")
    given = Given(providers, set(named), tiers.tiers, written if isinstance(written, dict) else {}, with_ledger)
    experiments, lost, users_folder = _read_users(document, given, root.get("users"), folder)
    return Config(
        providers,
        tiers.tiers,
        aliases,
        serving or Server(),
        keys,
        {**left_out, **tiers.left_out, **lost},
        experiments,
        users_folder,
        read_section(document, ("rollout",), Rollout, root.get("rollout")) or Rollout(),
        read_section(document, ("cache",), Cache, root.get("cache")) or Cache(),
        read_section(document, ("logs",), Logs, root.get("logs")) or Logs(),
        _read_telemetry(document, root.get("telemetry")),
        document.source,
        prices=read_prices(document, root.get("pricing"), folder, providers, set(named)),
        ledger=read_ledger(document, root.get("ledger"), folder),
        budgets=_read_budgets(document, root.get("budgets"), with_ledger=with_ledger),
        callers=callers,
    )


def _read_users(
    document: Document, given: Given, users: Any, folder: Path
) -> tuple[dict[str, Tier], dict[str, str], str | None]:
    """The experiments of users who stand in the file itself, those left out, and the folder that holds users' files."""
    experiments: dict[str, Tier] = {}
    left_out: dict[str, str] = {}
    if isinstance(users, str) and users.strip() and users.isprintable():
        path = folder / users
        if os.path.exists(path) and not os.path.isdir(path):
            document.problem(("users",), f"{document.shown(('users',), users)} is no folder")
        return experiments, left_out, str(path)
    if isinstance(users, dict):
        for name, user in users.items():
            found, lost = read_user(document, given, name, ("users", name), user)
            experiments |= found
            left_out |= lost
    elif users is not None:
        document.problem(("users",), "has to be a folder beside this file, or a mapping of users")
    return experiments, left_out, None


def _read_telemetry(document: Document, raw: Any) -> Telemetry:
    read = read_section(document, ("telemetry",), Telemetry, raw)
    if read is None:
        return Telemetry()
    assert isinstance(read, Telemetry)
    parts = urlsplit(read.otlp or "http://unsaid")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        document.problem(("telemetry", "otlp"), "has to be an address such as http://127.0.0.1:4318")
    elif parts.username is not None or parts.password is not None or parts.query:
        document.problem(
            ("telemetry", "otlp"), "has to hold no credentials: they go into 'headers', which are never shown"
        )
    return read


def _read_budgets(document: Document, data: Any, *, with_ledger: bool) -> Budgets:
    read: Budgets = read_section(document, ("budgets",), Budgets, data) or Budgets()
    for name in ("users", "experiments"):
        if not with_ledger and getattr(read, name) not in (None, {}):
            document.problem(("budgets", name), NEEDS_LEDGER)
    for user in read.users:
        if "*" in user and user != "*":
            document.problem(("budgets", "users", user), "has to be a user's name, or '*' alone: each of the others")
    return read
