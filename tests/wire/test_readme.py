"""The README's examples do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from orchestrator.config.load import load_mapping

README = Path(__file__).resolve().parents[2] / "README.md"


def examples(section: str) -> list[str]:
    """The Python code of a section."""
    text = README.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_from_python() -> None:
    """The first two run as they stand, in a process of their own, with warnings as errors. (The third needs a cluster; it is
    what tests/e2e/connected.py does.)"""
    first, second, _ = examples("From Python")
    says = (first, ("simulated 1\n", "['get_weather']", "sim Usage(")), (second, ("[simulated by sim, model",))
    for example, expected in says:
        command = [sys.executable, "-W", "error", "-c", example]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert (0, "") == (ran.returncode, ran.stderr)
        assert [] == [one for one in expected if one not in ran.stdout]


def test_cache() -> None:
    """The section's example is a configuration, beside the provider that it names."""
    text = README.read_text().partition("\n### Cache\n")[2]
    (example,) = re.findall(r"```yaml\n(.*?)```", text.partition("\n### ")[0], re.DOTALL)
    config = load_mapping({"providers": {"openai": {"api_key": "none"}}, **yaml.safe_load(example)}, {})
    assert (3600, 86_400) == (config.cache.ttl_s, config.tiers["facts"].strategy.cache_ttl_s)
