"""The table of what models can do: where it is from, and that it does not refuse what a model could do."""

from __future__ import annotations

from dataclasses import fields

import pytest

from orchestrator.abilities import ABILITIES, SOURCES
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import ModelOptions, Provider
from orchestrator.providers import PRESETS

ROWS = [(provider, model, row) for provider, table in ABILITIES.items() for model, row in table.items()]


def test_every_table_has_its_source_and_its_preset() -> None:
    """And each is the one that its preset goes by."""
    assert set(ABILITIES) == set(SOURCES)
    assert all(source.startswith("https://") for source in SOURCES.values())
    assert all(PRESETS[name].model_options is table for name, table in ABILITIES.items())


@pytest.mark.parametrize(("provider", "model", "row"), ROWS)
def test_a_row_says_something_that_can_be(provider: str, model: str, row: ModelOptions) -> None:
    """Nobody writes more than the whole context; a pattern for all to come refuses nothing."""
    assert any(getattr(row, one.name) is not None for one in fields(row))
    if row.context_tokens is not None and row.max_tokens is not None:
        assert row.max_tokens <= row.context_tokens
    if model in ("claude-*", "llama-3*"):
        assert row.context_tokens is None
        assert False not in (row.tools, row.images, row.json_schema)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-5.4", ModelOptions(False, True, True, True, 1_050_000, 128_000)),
        ("openai", "gpt-5.9-next", ModelOptions()),
        ("openai", "gpt-4o-audio-preview", ModelOptions()),
        ("anthropic", "claude-opus-4-6", ModelOptions(False, True, True, True, 1_000_000, 128_000)),
        ("anthropic", "claude-opus-9", ModelOptions(tools=True, images=True)),
        ("anthropic", "claude-opus-4-20250514", ModelOptions(True, True, True, None, 200_000, 32_000)),
        ("groq", "llama-3.3-70b-versatile", ModelOptions(True, True, None, None, 131_072, 32_768)),
        ("gemini", "gemini-3.8-flash", ModelOptions(None, True, True, True, 1_048_576, 65_536)),
        ("mistral", "mistral-large-latest", ModelOptions()),
        ("deepseek", "deepseek-v4-pro", ModelOptions(tools=True, context_tokens=1_000_000, max_tokens=393_216)),
    ],
)
def test_what_is_known_of_a_model(provider: str, model: str, expected: ModelOptions) -> None:
    """A name that moves on, or one that nobody knows, is tried."""
    assert expected == Provider("", model_options=ABILITIES[provider]).options_of(model)


def test_the_configuration_goes_over_it() -> None:
    """A name over a pattern, a longer pattern over a shorter, and each over all that the table has below it."""
    options = {
        "claude-*": {"tools": False},
        "claude-opus-*": {"context_tokens": 5},
        "claude-opus-5": {"images": False},
    }
    providers = {"providers": {"anthropic": {"api_key": "k", "model_options": options}}}
    provider = load_mapping(providers, {}).providers["anthropic"]
    assert ModelOptions(False, False, True, True, 1_000_000, 128_000) == provider.options_of("claude-sonnet-5")
    assert ModelOptions(False, False, True, True, 5, 128_000) == provider.options_of("claude-opus-4-6")
    assert ModelOptions(False, False, False, True, 5, 128_000) == provider.options_of("claude-opus-5")
    assert ModelOptions(None, False, True, None, 5, None) == provider.options_of("claude-opus-9")
