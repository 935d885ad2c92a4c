"""Tools of a response, on models that know functions alone.

A function is one. So is a custom tool, with one argument: its input, free text. A grammar that the input has to keep to is
told to the model in the description: other interfaces have no means to hold it to one, and its caller has to check what it
gets. The local shell is a function of what its action holds. A namespace's tools are functions whose names begin with its
own; it is described once, before the first of them. Tools that an item of the conversation adds are tools like the others.
All of these are run by the caller. What OpenAI itself would run (`orchestrator.wire.responses_own`) is left out, and refused
where the caller insists on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from orchestrator.types import Json
from orchestrator.wire.checks import Names, an_object, check_function, named, objects, wrong
from orchestrator.wire.http import Refused
from orchestrator.wire.responses_own import is_own_tool

SHELL = "local_shell"
MORE = "additional_tools"
"""The kind of an item that adds tools."""
_KINDS = {"function": "function_call", "custom": "custom_tool_call", SHELL: "local_shell_call"}
_TEXT: Json = {"type": "string"}
_INPUT: Json = {
    "type": "object",
    "properties": {"input": _TEXT},
    "required": ["input"],
    "additionalProperties": False,
}
_SHELL: Json = {
    "name": SHELL,
    "description": "Runs a command on the machine of whoever asks, and returns what it wrote.",
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "array", "items": _TEXT, "description": "The program and its arguments"},
            "working_directory": _TEXT,
            "timeout_ms": {"type": "integer"},
            "env": {"type": "object", "additionalProperties": _TEXT},
        },
        "required": ["command"],
    },
}

_MAX_NAME = 64
"""Characters in a function's name, as OpenAI allows; other providers allow as many or more."""
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_NAME}}}")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST = 12


class Called(NamedTuple):
    """What a function of a chat completion is in the response."""

    kind: str
    """Of the item that a call of it is."""
    name: Any
    namespace: str | None = None


def _later(given: Any) -> Iterator[tuple[str, Json]]:
    """The tools that items of the conversation add to those of the request, and where they stand: Codex sends all of its own
    so (0.147 and later), in each request again. Raises Refused."""
    for position, item in enumerate(given if type(given) is list else ()):
        if type(item) is dict and item.get("type") == MORE:
            where = f"input[{position}].tools"
            objects(item.get("tools"), where)
            yield from ((f"{where}[{inner}]", tool) for inner, tool in enumerate(item["tools"]))


class Tools:
    """The tools of one request, and their names on either side."""

    def __init__(self, data: Json) -> None:
        """Raises Refused."""
        self.given: list[Json] = []
        """Those that a model is told of, as they came."""
        self.left_out: list[str] = []
        """What was left out of the request, and why."""
        self._own: list[tuple[str, str]] = []
        """What OpenAI alone runs: where it stands, and its kind."""
        self._functions: dict[str, Json] = {}
        self._called: dict[str, Called] = {}
        self._names = Names()
        self._again = False
        """Whether a tool may be there already: what is said of it last counts."""
        self._flat: dict[tuple[str, str], str] = {}
        """The function for each tool of a namespace, by both their names."""
        tools = [(f"tools[{position}]", tool) for position, tool in enumerate(data.get("tools") or [])]
        later = [*_later(data.get("input"))]
        # What has no namespace keeps its name.
        self._taken = {SHELL, *(name for _, tool in tools + later if type(name := tool.get("name")) is str)}
        for where, tool in tools:
            self._take(tool, where)
        self._again = True
        for where, tool in later:
            self._take(tool, where)
        self.chat = self._chosen(data.get("tool_choice"))
        """`tools` and `tool_choice` of a chat completion."""

    def called(self, name: Any) -> Called:
        """What a model calls by that name."""
        return self._called.get(str(name), Called("function_call", name))

    def name_of(self, item: Json, where: str) -> str:
        """The function's name for a tool that an item names, also for one that is no longer offered. Raises Refused."""
        name, namespace = named(item.get("name"), f"{where}.name"), item.get("namespace")
        if namespace is None:
            return name
        key = (named(namespace, f"{where}.namespace"), name)
        return self._flat.get(key) or _flat(*key, self._taken)

    def _take(self, tool: Json, where: str) -> None:
        kind = tool.get("type")
        if is_own_tool(kind):
            self._own.append((f"{where}.type", kind))
            self.left_out.append(f"{where}: {kind} means something to OpenAI alone")
            return
        if not self._again or tool not in self.given:
            self.given.append(tool)
        match kind:
            case "function" | "custom":
                name = tool.get("name")
                self._add(name, _function(tool, where), Called(_KINDS[kind], name), f"{where}.name")
            case "local_shell":
                self._add(SHELL, _SHELL, Called(_KINDS[SHELL], SHELL), f"{where}.type")
            case "namespace":
                self._take_namespace(tool, where)
            case _:
                raise _not_run(f"{where}.type", kind)

    def _take_namespace(self, tool: Json, where: str) -> None:
        namespace = named(tool.get("name"), f"{where}.name")
        said = tool.get("description")
        if said is not None and type(said) is not str:
            raise wrong(f"{where}.description", "has to be text")
        objects(tool.get("tools"), f"{where}.tools")
        for position, inner in enumerate(tool["tools"]):
            at = f"{where}.tools[{position}]"
            if inner.get("type") not in ("function", "custom"):
                raise wrong(f"{at}.type", f"is {inner.get('type')!r}, and has to be function or custom in a namespace")
            name = named(inner.get("name"), f"{at}.name")
            known = self._flat.get((namespace, name))
            if known is not None and not self._again:
                raise wrong(f"{at}.name", f"is {name!r}, and so is another tool's")
            function = _function(inner, at)
            if said:
                function["description"] = f"{said}\n\n{function.get('description', '')}".strip()
                said = None
            flat = known or _flat(namespace, name, self._taken)
            self._flat[namespace, name] = flat
            self._taken.add(flat)
            self._add(flat, {**function, "name": flat}, Called(_KINDS[inner["type"]], name, namespace), f"{at}.name")

    def _add(self, name: Any, function: Json, called: Called, where: str) -> None:
        if not self._again or name not in self._functions:
            self._names.add(name, where)
        self._functions[name] = function
        self._called[name] = called

    def _chosen(self, choice: Any) -> Json:
        if type(choice) is dict:
            return self._choice(choice)
        if choice not in (None, "none", "auto", "required"):
            raise wrong("tool_choice", "has to be none, auto, required, or an object that names a tool")
        if choice == "required" and not self._functions:
            if self._own:
                raise _not_run(*self._own[0])
            raise wrong("tool_choice", "requires a tool, and there are none in 'tools'")
        return _offered(self._functions.values(), choice)

    def _choice(self, choice: Json) -> Json:
        match choice.get("type"):
            case "function" | "custom":
                name = self._choose(choice, "tool_choice")
                return _offered(self._functions.values(), {"type": "function", "function": {"name": name}})
            case "allowed_tools":
                allowed = frozenset(self._allowed(choice))
                kept = [function for name, function in self._functions.items() if name in allowed]
                mode = choice.get("mode") or "auto"
                if mode == "required" and not kept:
                    raise wrong("tool_choice.tools", "has no tool that can be called here, and one is required")
                return _offered(kept, mode)
        raise wrong("tool_choice.type", "has to be function, custom or allowed_tools: OpenAI's own are not run here")

    def _allowed(self, choice: Json) -> Iterator[str]:
        for position, one in enumerate(choice.get("tools") or ()):
            where = f"tool_choice.tools[{position}]"
            an_object(one, where)
            if not is_own_tool(one.get("type")):
                yield self._choose(one, where)

    def _choose(self, one: Json, where: str) -> str:
        name = SHELL if one.get("type") == SHELL else one.get("name")
        if one.get("namespace") is not None:
            name = self.name_of(one, where)
        elif str(name) not in self._functions:
            # OpenAI's choices say no namespace: a name that one of them alone has is enough.
            inner = [flat for flat, called in self._called.items() if called.name == name]
            name = inner[0] if len(inner) == 1 else name
        self._names.choose(name, where)
        return str(name)


def _not_run(where: str, kind: Any) -> Refused:
    what = "has to be function, custom, namespace or local_shell: OpenAI's own are not run here"
    return wrong(where, f"is {kind!r}, and {what}")


def _offered(functions: Collection[Json], choice: Any) -> Json:
    """Nothing where there are no tools: a choice among none, or an empty list of them, is refused by OpenAI."""
    if not functions:
        return {}
    tools = [{"type": "function", "function": function} for function in functions]
    return {"tools": tools} if choice is None else {"tools": tools, "tool_choice": choice}


def _flat(namespace: str, name: str, taken: Collection[str]) -> str:
    """One name for a tool in a namespace: both, and where that is no name or is taken, with a digest of both."""
    plain = f"{namespace}__{name}"
    if _NAME.fullmatch(plain) and plain not in taken:
        return plain
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[:_DIGEST]
    return f"{_OTHER.sub('_', plain)[: _MAX_NAME - _DIGEST - 1]}_{digest}"


def _function(tool: Json, where: str) -> Json:
    check_function(tool, where)
    if tool["type"] == "custom":
        return {"name": tool.get("name"), "description": _description(tool, where), "parameters": _INPUT}
    return {name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name) is not None}


def _description(tool: Json, where: str) -> str:
    """What a custom tool is for, and the grammar of its input."""
    said = tool.get("description") or ""
    form = tool.get("format")
    if form is None:
        return said
    an_object(form, f"{where}.format")
    if form.get("type") != "grammar":
        return said
    return f"{said}\n\nThe input has to keep to this grammar ({form.get('syntax')}):\n{form.get('definition')}".strip()
