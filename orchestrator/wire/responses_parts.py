"""The parts that a response is made of, and what those of its items are called in events
(platform.openai.com/docs/api-reference/responses-streaming)."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.dialects.messages import count, whole_number
from orchestrator.types import Json
from orchestrator.wire.chat import logprob_rows


class Part(NamedTuple):
    """A kind of part."""

    holder: str
    """The item's field that has it."""
    place: str
    """What events call its place there."""
    part: str
    """In events about the part as a whole."""
    said: str
    """In events about what it says."""
    held: str
    """Its own field with what it says."""
    lists: tuple[str, ...] = ()
    """What it has besides: lists, which begin empty."""


PARTS: dict[str, Part] = {
    "output_text": Part("content", "content_index", "content_part", "output_text", "text", ("annotations", "logprobs")),
    "refusal": Part("content", "content_index", "content_part", "refusal", "refusal"),
    "reasoning_text": Part("content", "content_index", "content_part", "reasoning_text", "text"),
    "summary_text": Part("summary", "summary_index", "reasoning_summary_part", "reasoning_summary_text", "text"),
}


def thoughts(asked: Json) -> str:
    """The kind of part that thoughts are: a summary, where the request wants one.

    There is none but the thoughts themselves, and clients that ask for a summary show nothing else (the AI SDK for one),
    nor do they give anything else back in the next turn, where a signature without its text is refused.
    """
    reasoning = asked.get("reasoning")
    wanted = isinstance(reasoning, dict) and (reasoning.get("summary") or reasoning.get("generate_summary"))
    return "summary_text" if wanted else "reasoning_text"


def logprobs_of(choice: Json) -> list[Json]:
    """The log probabilities of a chat completion's choice as a response has them."""
    return [{**_token(row), "top_logprobs": _tops(row.get("top_logprobs"))} for row in logprob_rows(choice) or ()]


def _tops(given: Any) -> list[Json]:
    return [_token(top) for top in given if isinstance(top, dict)] if isinstance(given, list) else []


def _token(row: Json) -> Json:
    """One token. Its bytes are not null in a response, as they may be in a chat completion."""
    token = str(row.get("token"))
    return {"token": token, "bytes": row.get("bytes") or list(token.encode()), "logprob": row.get("logprob")}


def citations_of(delta: Json) -> list[Json]:
    """The pages that a chat completion's message cites, or a delta, as a response has them. OpenAI's search models and
    OpenRouter's nest what the annotation is about (openrouter.ai/docs/features/web-search)."""
    given = delta.get("annotations")
    found = []
    for one in given if isinstance(given, list) else ():
        cited = one.get("url_citation") if isinstance(one, dict) else None
        if isinstance(cited, dict) and isinstance(url := cited.get("url"), str):
            at = {name: whole_number(cited.get(name)) for name in ("start_index", "end_index")}
            found.append({"type": "url_citation", "url": url, "title": str(cited.get("title") or ""), **at})
    return found


def usage_of_chat(usage: Any) -> Json | None:
    """A chat completion's usage as a response has it."""
    if not isinstance(usage, dict):
        return None
    read, wrote = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": _detail(usage, "prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": _detail(usage, "prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": _detail(usage, "completion_tokens_details", "reasoning_tokens")},
        "total_tokens": read + wrote,
    }


def _detail(usage: Json, holder: str, name: str) -> int:
    details = usage.get(holder)
    return count(details.get(name)) if isinstance(details, dict) else 0
