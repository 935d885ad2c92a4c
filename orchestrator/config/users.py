"""`users:` researchers' experiments, in a folder with a file for each user, or within the configuration itself.

A user's file chooses strategies, models and parameters. It defines no providers, addresses or keys, and no variables are
filled in: who writes it could otherwise send the platform's keys to a model. What is wrong with one file concerns that user
alone: the experiments stay as they last were, as far as what they name is still there; everybody else's are taken over.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple

from orchestrator.config.document import MAX_BYTES, Document, Path, TooManyProblems, clean, near
from orchestrator.config.schema import Experiment
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Config, Tier
from orchestrator.config.tiers import Given, Tiers

MAX_USERS = 1_000
MAX_ENTRIES = 10_000
"""In the folder, whatever they are: more are not looked at."""
MAX_EXPERIMENTS = 200
"""Of one user."""
NOT_THERE = "is not there"
NEEDS_LEDGER = "needs a `ledger:` in the configuration: there is nobody to keep account of what is spent"

_NAME = re.compile(r"[^\s:/]{1,100}")
_KEYS = ("user", "experiments")
_OPERATORS = frozenset(
    {"providers", "keys", "server", "aliases", "tiers", "users", "rollout", "pricing", "ledger", "budgets", "cache"}
)
Signature = tuple[int, int, int]


class Loaded(NamedTuple):
    """A configuration with its users' experiments."""

    config: Config
    problems: Mapping[str, tuple[str, ...]]
    """User -> what is wrong with the file as it is now."""


class Folder:
    """The users' files as they were when they were last at rest."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: dict[str, Document] = {}
        """By user. Parsed once: a large file is no burden for those who change another."""
        self.problem: str | None = None
        """What is wrong with the folder itself, in words."""
        self._seen: dict[str, Signature] = {}
        """As they were at the last look."""
        self._done: dict[str, Signature] = {}
        """As they were when they were read."""

    def look(self, *, at_once: bool = False) -> bool:
        """Reads what has changed and, unless it is to be `at_once`, stopped changing. Says whether anything is new."""
        before = self.problem
        listed = self._list()
        changed = self.problem != before
        if listed is None:
            return changed
        for user, signature in listed.items():
            if signature != self._done.get(user) and (at_once or signature == self._seen.get(user)):
                path = f"{self.path}/{user}.yaml"
                document, read = _document(path)
                # Else somebody is writing it, or what was opened is not what was looked at.
                if read == signature == _signature(path):
                    self.files[user], self._done[user] = document, signature
                    changed = True
        for user in [user for user in self.files if user not in listed and (at_once or user not in self._seen)]:
            del self.files[user], self._done[user]
            changed = True
        self._seen = listed
        return changed

    def _list(self) -> dict[str, Signature] | None:
        """The users' files, at most `MAX_USERS`; None where the folder cannot be read: what was read of it stays."""
        self.problem = None
        users: list[str] = []
        inside = os.path.realpath(self.path) + os.sep
        try:
            with os.scandir(self.path) as entries:
                for count, entry in enumerate(entries):
                    if count == MAX_ENTRIES:
                        self.problem = f"holds over {MAX_ENTRIES} entries; not all of them were looked at"
                        break
                    user = entry.name.removesuffix(".yaml")
                    # Editors' own files have other endings, or begin with a dot. A link may lead about within the folder
                    # alone: a message about a file from elsewhere could say what is in it.
                    if user == entry.name or user.startswith("."):
                        continue
                    if not entry.is_symlink() or os.path.realpath(entry.path).startswith(inside):
                        users.append(user)
        except FileNotFoundError:
            self.problem = NOT_THERE
            return {}
        except OSError as error:
            self.problem = f"cannot be read: {error.strerror}"
            return None
        if len(users) > MAX_USERS:
            users = sorted(users)[:MAX_USERS]
            self.problem = f"holds over {MAX_USERS} users' files; those after '{clean(users[-1])}' were left out"
        signatures = {user: _signature(f"{self.path}/{user}.yaml") for user in users}
        return {user: signature for user, signature in signatures.items() if signature is not None}


def _signature(path: str) -> Signature | None:
    """What changes with a file; None: it is no file, or not to be seen."""
    try:
        return _of_stat(os.stat(path))
    except OSError:
        return None


def _of_stat(found: os.stat_result) -> Signature | None:
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _document(path: str) -> tuple[Document, Signature | None]:
    """A user's file, parsed, and what was read, by its signature; its problems say why it could not be."""
    document = Document(path, {}, lambda _: False, variables=False)
    read: Signature | None = None
    try:
        # Should something else have taken its place since it was listed, it is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            read = _of_stat(os.fstat(file.fileno()))
            document.read(file.read(MAX_BYTES + 1))
    except OSError as error:
        read = _signature(path)
        document.problem((), f"cannot be read: {error.strerror}")
    except TooManyProblems:
        document.data = None
    return document, read


def read_user(
    document: Document, given: Given, user: str, root: Path, data: Any
) -> tuple[dict[str, Tier], dict[str, str]]:
    """A user's experiments by `NAME:EXPERIMENT`, and those left out, by selector. The document notes what is wrong."""
    if not isinstance(data, dict):
        document.problem(root, "has to be a mapping with the key 'experiments'")
        return {}, {}
    if not _NAME.fullmatch(user) or not user.isprintable():
        document.problem(root, "a user's name has 1 to 100 characters, and among them no space, ':' or '/'")
    for key in data:
        if key in _OPERATORS:
            document.problem(
                (*root, key), "may not be defined by a user, who chooses strategies, models and parameters"
            )
        elif key not in _KEYS:
            document.problem((*root, key), "unknown key" + (near(key, _KEYS) or f"; there is {', '.join(_KEYS)}"))
    if data.get("user") not in (None, user):
        document.problem((*root, "user"), f"has to be '{clean(user)}', as what holds it is called, or be left out")
    at = (*root, "experiments")
    experiments = data.get("experiments")
    budgets: dict[str, float | None] = {}
    if isinstance(experiments, dict) and len(experiments) > MAX_EXPERIMENTS:
        document.problem(at, f"may be {MAX_EXPERIMENTS} at most")
    elif isinstance(experiments, dict):
        budgets = {name: _budget(document, given, (*at, name), body) for name, body in experiments.items()}
        experiments = {name: _without_budget(body) for name, body in experiments.items()}
        for name in experiments:
            if name.strip() and not (_NAME.fullmatch(name) and name.isprintable()):
                document.problem((*at, name), "a name has 1 to 100 characters, and among them no space, ':' or '/'")
    reader = Tiers.of_user(document, given, user, at)
    reader.read(experiments)
    return {
        f"{user}:{name}": replace(tier, name=f"{user}:{name}", budget_usd=budgets.get(name))
        for name, tier in reader.tiers.items()
    }, reader.left_out


def _budget(document: Document, given: Given, path: Path, body: Any) -> float | None:
    """What an experiment may spend, by its researcher."""
    if not isinstance(body, dict) or body.get("budget_usd") is None:
        return None
    read: Experiment | None = read_section(document, path, Experiment, {"budget_usd": body["budget_usd"]})
    if read is not None and not given.ledger:
        document.problem((*path, "budget_usd"), NEEDS_LEDGER)
    return None if read is None else read.budget_usd


def _without_budget(body: Any) -> Any:
    return {key: value for key, value in body.items() if key != "budget_usd"} if isinstance(body, dict) else body


def with_users(config: Config, folder: Folder, former: Mapping[str, Tier]) -> Loaded:
    """A configuration, whose own file names `folder`, with the experiments in it.

    Those of a file that cannot be used are the `former` ones, as far as what they name is still there.
    """
    named = {*config.providers, *(name for name in config.left_out if ":" not in name)}
    lost = {name.removeprefix("tier:"): "" for name in config.left_out if name.startswith("tier:")}
    given = Given(config.providers, named, config.tiers, {**config.tiers, **lost}, config.ledger is not None)
    experiments: dict[str, Tier] = {}
    # A configuration that came from another's snapshot brings along what was left out there.
    left_out = {name: why for name, why in config.left_out.items() if not name.startswith(("user:", "users:"))}
    problems: dict[str, tuple[str, ...]] = {}
    if folder.problem is not None:
        left_out[f"users:{folder.path}"] = folder.problem
        if folder.problem != NOT_THERE:  # it may come
            problems["users"] = (f"{clean(folder.path, 500)}:1: document: {folder.problem}",)
    for user, parsed in sorted(folder.files.items()):
        document = copy(parsed)
        document.problems = [*parsed.problems]
        found, lacking = _read_file(document, given, user)
        if document.problems:
            problems[clean(user)] = tuple(document.problems)
            found = {
                name: tier for name, tier in former.items() if name.startswith(f"{user}:") and _stands(tier, given)
            }
            lacking = _lacking(user, document, found)
        experiments.update(found)
        left_out.update(lacking)
    return Loaded(replace(config, experiments=experiments, left_out=left_out), problems)


def _read_file(document: Document, given: Given, user: str) -> tuple[dict[str, Tier], dict[str, str]]:
    if document.problems or document.data is None:
        return {}, {}  # an empty file is a user without experiments
    try:
        return read_user(document, given, user, (), document.data)
    except TooManyProblems:
        return {}, {}


def _lacking(user: str, document: Document, found: Mapping[str, Tier]) -> dict[str, str]:
    """What is left out because of a broken file, by selector, with the reason."""
    written = document.data.get("experiments") if isinstance(document.data, dict) else None
    names = [clean(name) for name in written][:MAX_EXPERIMENTS] if isinstance(written, dict) else []
    lost = [f"user:{user}:{name}" for name in names if f"{user}:{name}" not in found]
    return dict.fromkeys(lost if found else [f"user:{clean(user)}"], document.problems[0])


def _stands(tier: Tier, given: Given) -> bool:
    """Whether all that an experiment names is still there."""
    return all(
        model[5:] in given.tiers if model.startswith("tier:") else model.partition("/")[0] in given.providers
        for model in tier.members
    )
