"""The reference page is what the classes say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from orchestrator.config import schema, settings
from orchestrator.config.reference import page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    """`python -m orchestrator.config.reference > docs/configuration.md` makes it anew."""
    assert page() == PAGE.read_text(encoding="utf-8")


def test_every_key_of_every_section_is_on_it() -> None:
    """Nothing can be configured that is not written down."""
    text = page()
    sections = [
        one for module in (settings, schema) for one in vars(module).values() if hasattr(one, "__pydantic_config__")
    ]
    assert len(sections) > 20
    for section in sections:
        for field in fields(section):
            assert f"| `{field.name}` |" in text
