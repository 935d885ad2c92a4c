"""`orchestrator check CONFIG`."""

from __future__ import annotations

import json
import sys

from orchestrator.config.load import load
from orchestrator.errors import ConfigError


def run(path: str, as_json: bool) -> int:
    """Validates without starting anything: 0, or 2 with one line per problem."""
    try:
        config = load(path)
    except ConfigError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": list(error.problems)}))
        else:
            print(error, file=sys.stderr)
        return 2
    if as_json:
        left_out = dict(config.left_out)
        print(
            json.dumps({"ok": True, "providers": [*config.providers], "tiers": [*config.tiers], "left_out": left_out})
        )
        return 0
    print(f"{path}: providers {', '.join(config.providers)}; tiers {', '.join(config.tiers) or 'none'}")
    for name, reason in config.left_out.items():
        print(f"left out: {name}: {reason}")
    return 0
