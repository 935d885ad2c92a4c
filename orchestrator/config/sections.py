"""One section of a configuration into its dataclass, by pydantic, with complaints in our words."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator.config.document import Document, Path, near


@cache
def _adapter(section: type) -> TypeAdapter[Any]:
    return TypeAdapter(section)


def read_section(document: Document, path: Path, section: type, data: Any) -> Any:
    """The validated section, or None with every problem noted. A section without content is its default."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        document.problem(path, "has to be a mapping")
        return None
    flags = [key for key, value in data.items() if isinstance(value, bool)]
    for key in flags:
        # pydantic would take `true` for 1.
        document.problem((*path, key), "has to be a number, not true or false")
    if flags:
        return None
    try:
        return _adapter(section).validate_python(data)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            document.problem((*path, *one["loc"]), _reason(section, one))
        return None


def _reason(section: type, error: Any) -> str:
    """pydantic's complaint in our words. Never repeats the value: it may have come from a variable."""
    kind, message, context = error["type"], error["msg"], error.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        names = _names(section, error["loc"][:-1])
        return "unknown key" + (near(str(error["loc"][-1]), names) or f"; there is {', '.join(names)}")
    words = {
        "missing": "is missing",
        "float_parsing": "has to be a number",
        "float_type": "has to be a number",
        "int_parsing": "has to be a whole number",
        "int_parsing_size": "has to be a smaller number",
        "int_type": "has to be a whole number",
        "int_from_float": "has to be a whole number",
        "string_type": "has to be text",
        "mapping_type": "has to be a mapping",
        "dict_type": "has to be a mapping",
        "dataclass_type": "has to be a mapping",
        "finite_number": "has to be a finite number",
        "greater_than": f"has to be above {context.get('gt')}",
        "greater_than_equal": f"has to be at least {context.get('ge')}",
        "less_than_equal": f"has to be at most {context.get('le')}",
    }
    return words.get(kind, str(message))


def _names(section: Any, path: tuple[str | int, ...]) -> list[str]:
    """The keys of a section, or of one nested within it."""
    for part in path:
        default = {field.name: field.default_factory for field in fields(section)}.get(str(part))
        section = type(default()) if callable(default) else section
    return [field.name for field in fields(section)] if is_dataclass(section) else []
