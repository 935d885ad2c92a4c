"""What a batch needs of the folder that it stands in, for a job's working directory: little enough to be uploaded.

What the spec names by a relative path goes along: the spec, its input, its configuration, and of that the users' folder and
recorded answers. An absolute path is taken to be there on the cluster, too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.batch.blocks import in_blocks
from orchestrator.batch.spec import problem
from orchestrator.config.document import Document

LARGE_BYTES = 50_000_000
"""Ray's job server takes 100 MiB (`DASHBOARD_CLIENT_MAX_SIZE`), compressed; here a warning is due."""


class Packed(NamedTuple):
    """A copy of what is needed."""

    spec: str
    """Where the spec is in it."""
    files: int
    size_bytes: int


def pack(spec: str, into: str) -> Packed:
    """Copies what a spec needs into a folder, at the same places relative to each other. The spec has to be a valid one.

    Raises ConfigError for an input that is too large to go along.
    """
    files = sorted({os.path.abspath(path) for path in _needed(spec)})
    root = os.path.commonpath([os.path.dirname(path) for path in files])
    size = 0
    for path in files:
        copy = os.path.join(into, os.path.relpath(path, root))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
        size += os.path.getsize(copy)
    return Packed(os.path.relpath(os.path.abspath(spec), root), len(files), size)


def _needed(spec: str) -> Iterator[str]:
    yield spec
    written = _data(spec)
    for given in _beside(spec, written.get("input")):
        if in_blocks(given):
            what = "is of many files, which are not uploaded: put them where the cluster reads them"
            raise problem(spec, ("input",), f"{what}, and give an absolute path or a URI")
        yield given
    for config in _beside(spec, written.get("config")):
        yield config
        inner = _data(config)
        users = inner.get("users")
        for folder in _beside(config, users):
            yield from (str(one) for one in Path(folder).glob("*.yaml"))
        providers = inner.get("providers")
        for provider in providers.values() if isinstance(providers, dict) else ():
            replay = provider.get("replay") if isinstance(provider, dict) else None
            if isinstance(replay, dict):
                yield from _beside(config, replay.get("questions"))
                for recorded in (replay.get("files") or {}).values():
                    yield from _beside(config, recorded)


def _beside(file: str, given: Any) -> Iterator[str]:
    """The path that a file names, if it is a relative one."""
    if isinstance(given, str) and not os.path.isabs(given) and "://" not in given:
        yield os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)), given))


def _data(path: str) -> dict[str, Any]:
    """What a YAML file says, variables filled in as far as they are set here."""
    document = Document(path, os.environ, lambda _: False)
    document.read(Path(path).read_bytes())
    return document.data if isinstance(document.data, dict) else {}
