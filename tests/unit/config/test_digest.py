"""What tells the pools of one configuration apart from those of another."""

from __future__ import annotations

import os
import subprocess
import sys

from orchestrator.config.digest import digest
from orchestrator.config.load import load_mapping
from orchestrator.types import Json

MISTRAL: Json = {"mistral": {"api_key": "k", "models": ["m"]}}
OLLAMA: Json = {"ollama": {"models": ["o"]}}
SAYS = f"""
from orchestrator.config.digest import digest
from orchestrator.config.load import load_mapping
print(digest(load_mapping({{"providers": {MISTRAL}}}, {{}})))
"""


def of(**providers: Json) -> str:
    return digest(load_mapping({"providers": providers}, {}))


def test_it_is_the_same_in_every_process() -> None:
    """Mistral's row has sets, whose order follows the seed of the process's hashes."""
    found = {
        subprocess.run(
            [sys.executable, "-c", SAYS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert {of(**MISTRAL)} == found


def test_what_it_depends_on() -> None:
    """Settings and keys, but not the order in which providers stand."""
    assert of(**MISTRAL, **OLLAMA) == of(**OLLAMA, **MISTRAL)
    other_key = {"mistral": {**MISTRAL["mistral"], "api_key": "other"}}
    other_pool = {"mistral": {**MISTRAL["mistral"], "pool": {"concurrency": 1}}}
    assert 3 == len({of(**MISTRAL), of(**other_key), of(**other_pool)})
