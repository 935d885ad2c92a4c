"""`orchestrator check CONFIG`: a file, or every YAML file directly in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.load import load
from orchestrator.config.settings import Config
from orchestrator.errors import ConfigError


def run(path: str, as_json: bool) -> int:
    """Validates without starting anything: 0, or 2 with one line per problem."""
    files = [path]
    if Path(path).is_dir():
        files = sorted(str(one) for one in Path(path).iterdir() if one.suffix in (".yaml", ".yml"))
        if not files:
            return _report({path: (f"{path}:1: document: the folder has no .yaml file",)}, as_json)
    results: dict[str, Config | tuple[str, ...]] = {}
    for file in files:
        try:
            results[file] = load(file)
        except ConfigError as error:
            results[file] = error.problems
    return _report(results, as_json)


def _report(results: Mapping[str, Config | tuple[str, ...]], as_json: bool) -> int:
    problems = [problem for result in results.values() if isinstance(result, tuple) for problem in result]
    if as_json:
        files = {file: _row(result) for file, result in results.items()}
        print(json.dumps({"ok": not problems, "problems": problems, "files": files}))
    else:
        for file, result in results.items():
            if isinstance(result, Config):
                names = f"providers {', '.join(result.providers)}; tiers {', '.join(result.tiers) or 'none'}"
                print(f"{file}: {names}")
                for name, reason in result.left_out.items():
                    print(f"left out: {name}: {reason}")
        for problem in problems:
            print(problem, file=sys.stderr)
    return 2 if problems else 0


def _row(result: Config | tuple[str, ...]) -> dict[str, Any]:
    if isinstance(result, tuple):
        return {"ok": False, "problems": result}
    return {
        "ok": True,
        "providers": [*result.providers],
        "tiers": [*result.tiers],
        "aliases": [*result.aliases],
        "left_out": dict(result.left_out),
    }
