"""`aliases:` bare names that existing clients send, for selectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.document import Document, Path
from orchestrator.config.settings import Provider
from orchestrator.config.tiers import check_selector


def read_aliases(
    document: Document, data: Any, providers: Mapping[str, Provider], named: set[str], tiers: Mapping[str, Any]
) -> dict[str, str]:
    """The aliases that can be used: those of what was left out are left out."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        document.problem(("aliases",), "has to be a mapping of names to selectors")
        return {}
    found: dict[str, str] = {}
    for name, target in data.items():
        at: Path = ("aliases", name)
        stars = name.count("*"), target.count("*") if isinstance(target, str) else 0
        what = check_selector(document.shown(at, target), target, providers, named, tiers)
        if not name.strip() or name.startswith(("tier:", "user:")) or name.partition("/")[0] in named:
            document.problem(at, "would hide what the name already stands for; choose a bare name")
        elif stars[0] > 1 or stars[1] > stars[0]:
            document.problem(at, "may hold one '*', which stands for the same text in its selector")
        elif what and not (stars[1] and isinstance(target, str) and target.startswith("tier:")):
            document.problem(at, what)
        elif target.startswith("tier:") or target.partition("/")[0] in providers:
            found[name] = target
    return found
