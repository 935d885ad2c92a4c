"""Calls of a response's tools: in a conversation as calls of functions, in an answer in the shape that was asked for."""

from __future__ import annotations

import orjson

from orchestrator.types import Json
from orchestrator.wire.checks import an_object, wrong
from orchestrator.wire.responses_tools import SHELL, Called, Tools

CALLS = {"function_call": "fc", "custom_tool_call": "ctc", "local_shell_call": "lsh"}
"""The kinds of items that are calls, with the beginnings of their identities."""
RESULTS = frozenset(f"{kind}_output" for kind in CALLS)


def call_of(item: Json, where: str, tools: Tools) -> Json:
    """A call in the input as a call of a function. Raises Refused."""
    arguments = item.get("arguments") or "{}"
    if item["type"] == "local_shell_call":
        an_object(item.get("action"), f"{where}.action")
        action = {field: value for field, value in item["action"].items() if field != "type" and value is not None}
        name, arguments = SHELL, orjson.dumps(action).decode()
    else:
        name = tools.name_of(item, where)
        if item["type"] == "custom_tool_call":
            arguments = orjson.dumps({"input": item.get("input") or ""}).decode()
    return {"id": call_id_of(item, where), "type": "function", "function": {"name": name, "arguments": arguments}}


def call_id_of(item: Json, where: str) -> str:
    """Which call an item is, or is the result of. (The local shell's results say it as `id`.) Raises Refused."""
    identity = item.get("call_id") or (item.get("id") if item["type"] == "local_shell_call_output" else None)
    if type(identity) is not str:
        raise wrong(f"{where}.call_id", "is missing")
    return identity


def begun(called: Called) -> Json:
    """What an item holds of a call before its arguments have come."""
    if called.kind == "local_shell_call":
        return {"action": _action({})}
    namespace = {} if called.namespace is None else {"namespace": called.namespace}
    return {"name": called.name, **namespace, ("input" if called.kind == "custom_tool_call" else "arguments"): ""}


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


def _action(said: Json) -> Json:
    command, env = said.get("command"), said.get("env")
    return {
        "type": "exec",
        "command": [str(word) for word in command] if isinstance(command, list) else [],
        "env": env if isinstance(env, dict) else {},
        **{name: said[name] for name in ("working_directory", "timeout_ms", "user") if said.get(name) is not None},
    }
