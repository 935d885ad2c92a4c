"""What of OpenAI's responses has no place in a chat completion, because OpenAI's servers alone do it.

A client offers such tools in any case, and most conversations do without: they are left out, and the answer names them. So
are the items that they have left in a conversation. What a caller insists on (`tool_choice`) is refused instead. The names
are those of platform.openai.com/docs/api-reference/responses/create and of the official client (openai 3.x), and the kinds of
items that Codex adds to them; names with a date, such as `web_search_preview_2025_03_11`, belong to the name before it.
"""

from __future__ import annotations

from typing import Any, TypeGuard

FIELDS = frozenset(
    {"access_programs", "background_options", "context_management", "image"}  # settings of OpenAI's servers
    | {"client_metadata"}  # Codex's name for metadata
    | {"metadata"}  # of what is kept: a chat completion that is not (`store`) is refused for it
)
"""Fields that reach no provider."""

_TOOLS = frozenset(
    {"file_search", "image_generation", "code_interpreter", "mcp", "tool_search", "programmatic_tool_calling"}
    | {"shell", "apply_patch"}  # run by the client, in words that OpenAI's models alone have learned
)
_TOOL_FAMILIES = ("web_search", "computer")
_ITEMS = frozenset(
    {"file_search_call", "image_generation_call", "code_interpreter_call", "tool_search_call", "tool_search_output"}
    | {"mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response", "program", "program_output"}
    | {"web_search_call", "computer_call", "computer_call_output"}
    | {"shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"}
    | {"compaction", "compaction_summary", "context_compaction", "compaction_trigger"}
    | {"configuration_update", "agent_reasoning"}
)


def is_own_tool(kind: Any) -> TypeGuard[str]:
    """Whether tools of that kind are run by OpenAI, or are known to its models alone."""
    return type(kind) is str and (kind in _TOOLS or kind.startswith(_TOOL_FAMILIES))


def is_own_item(kind: str) -> bool:
    """Whether items of that kind mean something to OpenAI alone, so that a conversation is whole without them."""
    return kind in _ITEMS
