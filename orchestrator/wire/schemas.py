"""Whether a value is a JSON schema (json-schema.org/draft/2020-12), by the keywords that tools and answers commonly have.

About 1 µs a schema within; unknown keywords are let be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_Bad = tuple[str, str] | None
"""Where within a schema something is wrong, and what: the place is put together only if it is needed."""
TYPES = frozenset({"object", "string", "number", "integer", "boolean", "array", "null"})
"""What `type` may be."""


def flaw(schema: Any) -> _Bad:
    """What is wrong with a schema, and where in it; None for one that is well formed, as far as it is understood here."""
    if type(schema) is not dict:
        return None if type(schema) is bool else ("", "has to be a JSON schema: an object, true or false")
    for name, value in schema.items():
        check = _KEYWORDS.get(name)
        if check is not None and value is not None and (bad := check(value)) is not None:
            return f".{name}{bad[0]}", bad[1]
    return None


def _named_schemas(value: Any) -> _Bad:
    if type(value) is not dict:
        return "", "has to be an object of JSON schemas"
    for name, one in value.items():
        if (bad := flaw(one)) is not None:
            return f".{name}{bad[0]}", bad[1]
    return None


def _schemas(value: Any) -> _Bad:
    if type(value) is not list or not value:
        return "", "has to be a list of JSON schemas"
    for position, one in enumerate(value):
        if (bad := flaw(one)) is not None:
            return f"[{position}]{bad[0]}", bad[1]
    return None


def _items(value: Any) -> _Bad:
    # A list of them is older drafts' way to say prefixItems.
    return _schemas(value) if type(value) is list and value else None if value == [] else flaw(value)


def _type(value: Any) -> _Bad:
    if type(value) is str and value in TYPES:
        return None
    kinds = value if type(value) is list and value else (value,)
    if all(type(kind) is str and kind in TYPES for kind in kinds):
        return None
    return "", f"has to be one of {', '.join(sorted(TYPES))}, or a list of these"


def _required(value: Any) -> _Bad:
    good = type(value) is list and {*map(type, value)} <= {str}
    return None if good else ("", "has to be a list of properties' names")


def _enum(value: Any) -> _Bad:
    return None if type(value) is list else ("", "has to be a list of values")


_KEYWORDS: dict[str, Callable[[Any], _Bad]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "items": _items,
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"), _named_schemas),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _schemas),
    **dict.fromkeys(("additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"), flaw),
}
