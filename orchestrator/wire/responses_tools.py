"""Tools of a response, on models that know functions alone; and their calls, back in the shape that was asked for.

A function is one. So is a custom tool, with one argument: its input, free text. A grammar that the input has to keep to is
told to the model in the description: other interfaces have no means to hold it to one, and its caller has to check what it
gets. The local shell is a function of what its action holds. Both are run by the caller. What OpenAI itself would run
(searches of the web or of files, a code interpreter, MCP) is refused by name.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.types import Json
from orchestrator.wire.checks import Names, an_object, check_function, named, wrong

SHELL = "local_shell"
CALLS = {"function_call": "fc", "custom_tool_call": "ctc", "local_shell_call": "lsh"}
"""The kinds of items that are calls, with the beginnings of their identities."""
RESULTS = frozenset(f"{kind}_output" for kind in CALLS)
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


def tools_of(data: Json) -> Json:
    """`tools` and `tool_choice` of a response as those of a chat completion. Raises Refused."""
    names = Names()
    functions = [_function(tool, f"tools[{position}]", names) for position, tool in enumerate(data.get("tools") or ())]
    found: Json = {"tools": [{"type": "function", "function": one} for one in functions]} if functions else {}
    choice = data.get("tool_choice")
    if type(choice) is dict:
        found |= _choice(choice, found.get("tools", []), names)
    elif choice not in (None, "none", "auto", "required"):
        raise wrong("tool_choice", "has to be none, auto, required, or an object that names a tool")
    elif choice == "required" and not functions:
        raise wrong("tool_choice", "requires a tool, and there are none in 'tools'")
    elif choice is not None and functions:
        found["tool_choice"] = choice
    return found


def _function(tool: Json, where: str, names: Names) -> Json:
    kind = tool.get("type")
    if kind == SHELL:
        names.add(SHELL, f"{where}.type")
        return _SHELL
    if kind not in ("function", "custom"):
        raise wrong(
            f"{where}.type",
            f"is {kind!r}, and has to be function, custom or local_shell: OpenAI's own are not run here",
        )
    names.add(tool.get("name"), f"{where}.name")
    check_function(tool, where)
    if kind == "custom":
        return {"name": tool["name"], "description": _description(tool, where), "parameters": _INPUT}
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


def _choice(choice: Json, tools: list[Json], names: Names) -> Json:
    match choice.get("type"):
        case "function" | "custom":
            names.choose(choice.get("name"), "tool_choice")
            return {"tool_choice": {"type": "function", "function": {"name": choice["name"]}}}
        case "allowed_tools":
            allowed = [_named(one, f"tool_choice.tools[{i}]", names) for i, one in enumerate(choice.get("tools") or ())]
            kept = [tool for tool in tools if tool["function"]["name"] in allowed]
            return {"tools": kept, "tool_choice": choice.get("mode") or "auto"}
    raise wrong("tool_choice.type", "has to be function, custom or allowed_tools: OpenAI's own are not run here")


def _named(one: Any, where: str, names: Names) -> str:
    an_object(one, where)
    name = SHELL if one.get("type") == SHELL else one.get("name")
    names.choose(name, where)
    return str(name)


def call_of(item: Json, where: str) -> Json:
    """A call in the input as a call of a function. Raises Refused."""
    name, arguments = item.get("name"), item.get("arguments") or "{}"
    if item["type"] == "custom_tool_call":
        arguments = orjson.dumps({"input": item.get("input") or ""}).decode()
    elif item["type"] == "local_shell_call":
        an_object(item.get("action"), f"{where}.action")
        action = {field: value for field, value in item["action"].items() if field != "type" and value is not None}
        name, arguments = SHELL, orjson.dumps(action).decode()
    return {
        "id": call_id_of(item, where),
        "type": "function",
        "function": {"name": named(name, f"{where}.name"), "arguments": arguments},
    }


def call_id_of(item: Json, where: str) -> str:
    """Which call an item is, or is the result of. (The local shell's results say it as `id`.) Raises Refused."""
    identity = item.get("call_id") or (item.get("id") if item["type"] == "local_shell_call_output" else None)
    if type(identity) is not str:
        raise wrong(f"{where}.call_id", "is missing")
    return identity


def kinds_of(tools: Any) -> dict[str, str]:
    """The kind of item that a call of a tool is, by its name, where it is no function."""
    kinds = {"custom": "custom_tool_call", SHELL: "local_shell_call"}
    given = tools or ()
    return {tool.get("name", SHELL): kinds[tool["type"]] for tool in given if tool["type"] in kinds}


def begun(kind: str, name: Any) -> Json:
    """What an item holds of a call before its arguments have come."""
    if kind == "local_shell_call":
        return {"action": _action({})}
    return {"name": name, ("input" if kind == "custom_tool_call" else "arguments"): ""}


def _action(said: Json) -> Json:
    command, env = said.get("command"), said.get("env")
    return {
        "type": "exec",
        "command": [str(word) for word in command] if isinstance(command, list) else [],
        "env": env if isinstance(env, dict) else {},
        **{name: said[name] for name in ("working_directory", "timeout_ms", "user") if said.get(name) is not None},
    }


def ended(kind: str, arguments: str) -> Json:
    """What an item holds of a call once its arguments are whole. A custom tool's input is the text in them, or all of it."""
    if kind == "function_call":
        return {"arguments": arguments or "{}"}
    try:
        said = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    if kind == "local_shell_call":
        return {"action": _action(said)}
    return {"input": said["input"] if isinstance(said.get("input"), str) else arguments}
