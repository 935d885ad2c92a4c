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
    types = {one.name: str(one.type) for one in fields(section)}
    flags = [key for key, value in data.items() if isinstance(value, bool) and "bool" not in types.get(key, "bool")]
    for key in flags:
        # pydantic would take `true` for 1.
        number = any(word in types[key] for word in ("float", "int", "Count", "Seconds"))
        document.problem((*path, key), f"has to be {'a number' if number else 'text'}, not true or false")
    if flags:
        return None
    try:
        return _adapter(section).validate_python(data)
    except ValidationError as error:
        wrong: dict[Path, str] = {}
        for one in error.errors(include_url=False, include_input=False):
            at = tuple(part for part in one["loc"] if not _is_branch(part))
            wrong.setdefault(at, _reason(section, one))
        for at, reason in wrong.items():
            # A union complains for each of its members: what one says of a key within says more.
            if not any(other != at and other[: len(at)] == at for other in wrong):
                document.problem((*path, *at), reason)
        return None


def _is_branch(part: str | int) -> bool:
    """Whether a part of pydantic's location names a member of a union, and no key."""
    return isinstance(part, str) and (part in _BRANCHES or "[" in part or part.startswith("constrained-"))


def _reason(section: type, error: Any) -> str:
    """pydantic's complaint in our words. Never repeats the value: it may have come from a variable."""
    kind, message, context = error["type"], error["msg"], error.get("ctx", {})
    if kind == "unexpected_keyword_argument":
        names = _names(section, error["loc"][:-1])
        return "unknown key" + (
            near(str(error["loc"][-1]), names) or (f"; there is {', '.join(names)}" if names else "")
        )
    words = {
        "missing": "is missing",
        "float_parsing": "has to be a number",
        "float_type": "has to be a number",
        "int_parsing": "has to be a whole number",
        "int_parsing_size": "has to be a smaller number",
        "int_type": "has to be a whole number",
        "int_from_float": "has to be a whole number",
        "string_type": "has to be text",
        "tuple_type": "has to be a list",
        "bool_type": "has to be true or false",
        "bool_parsing": "has to be true or false",
        "too_short": f"has to have at least {context.get('min_length')} characters",
        "too_long": f"has to have at most {context.get('max_length')} characters",
        "string_too_short": f"has to have {context.get('min_length')} characters",
        "string_too_long": f"has to have {context.get('max_length')} characters",
        "literal_error": f"has to be {context.get('expected')}",
        "date_from_datetime_parsing": "has to be a date such as 2027-01-31",
        "date_parsing": "has to be a date such as 2027-01-31",
        "date_type": "has to be a date such as 2027-01-31",
        "mapping_type": "has to be a mapping",
        "dict_type": "has to be a mapping",
        "dataclass_type": "has to be a mapping",
        "finite_number": "has to be a finite number",
        "greater_than": f"has to be above {context.get('gt')}",
        "greater_than_equal": f"has to be at least {context.get('ge')}",
        "less_than_equal": f"has to be at most {context.get('le')}",
    }
    return words.get(kind, str(message))


_BRANCHES = frozenset({"str", "int", "float", "Extract", "Replicas"})


def _names(section: Any, path: tuple[str | int, ...]) -> list[str]:
    """The keys of a section, or of one nested within it."""
    for part in path:
        if not is_dataclass(section):
            return []
        default = {field.name: field.default_factory for field in fields(section)}.get(str(part))
        section = type(default()) if callable(default) else None
    return [field.name for field in fields(section)] if is_dataclass(section) else []
