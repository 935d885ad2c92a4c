"""HTML made of elements: what is put into one is escaped, unless it is an element itself.

Texts of models are hostile until shown otherwise; there is no way to get one into a page but through `tag`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any


class Markup(str):
    """What need not be escaped: made by `tag`, or a part of this project."""

    __slots__ = ()


_VOID = frozenset(("meta", "br"))


def tag(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """One element. None among the content or the attributes is left out; `class_` is `class`, `http_equiv` `http-equiv`."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>" if name in _VOID else f"<{name}{shown}>{joined(content)}</{name}>")


def joined(content: Iterable[Any]) -> Markup:
    """Pieces one after the other; lists among them are taken apart."""
    return Markup("".join(_piece(one) for one in content if one is not None))


def _piece(one: Any) -> str:
    if isinstance(one, Markup):
        return str(one)
    if isinstance(one, list | tuple):
        return joined(one)
    # Control characters are no HTML, and half a character (a lone surrogate) is no UTF-8.
    text = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in str(one)).encode("utf-8", "replace").decode()
    return escape(text)
