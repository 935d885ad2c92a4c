"""`orchestrator check CONFIG`: a file, or every YAML file directly in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.load import load_all
from orchestrator.config.users import Loaded
from orchestrator.errors import ConfigError


def run(path: str, as_json: bool) -> int:
    """Validates without starting anything: 0, or 2 with one line per problem."""
    files = [path]
    if Path(path).is_dir():
        files = sorted(str(one) for one in Path(path).iterdir() if one.suffix in (".yaml", ".yml"))
        if not files:
            return _report({path: (f"{path}:1: document: the folder has no .yaml file",)}, as_json)
    results: dict[str, Loaded | tuple[str, ...]] = {}
    for file in files:
        try:
            results[file] = load_all(file)
        except ConfigError as error:
            results[file] = error.problems
    return _report(results, as_json)


def _report(results: Mapping[str, Loaded | tuple[str, ...]], as_json: bool) -> int:
    problems = [problem for result in results.values() for problem in _problems(result)]
    if as_json:
        files = {file: _row(result) for file, result in results.items()}
        print(json.dumps({"ok": not problems, "problems": problems, "files": files}))
    else:
        for file, result in results.items():
            if isinstance(result, Loaded):
                config = result.config
                names = f"providers {', '.join(config.providers)}; tiers {', '.join(config.tiers) or 'none'}"
                names += f"; experiments {', '.join(config.experiments)}" if config.experiments else ""
                print(f"{file}: {names}")
                for name, reason in config.left_out.items():
                    print(f"left out: {name}: {reason}")
        for problem in problems:
            print(problem, file=sys.stderr)
    return 2 if problems else 0


def _problems(result: Loaded | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(result, Loaded):
        return tuple(line for lines in result.problems.values() for line in lines)
    return result


def _row(result: Loaded | tuple[str, ...]) -> dict[str, Any]:
    problems = _problems(result)
    row: dict[str, Any] = {"ok": not problems, **({"problems": problems} if problems else {})}
    if isinstance(result, Loaded):
        config = result.config
        row |= {
            "providers": [*config.providers],
            "tiers": [*config.tiers],
            "experiments": [*config.experiments],
            "aliases": [*config.aliases],
            "left_out": dict(config.left_out),
        }
    return row
