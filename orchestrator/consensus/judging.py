"""What a judge and a merging model are asked, and what a judge's answer means.

A judge sees the conversation and the numbered answers, and names the best one. Language models prefer an answer for where
it stands (Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", 2023, section 3.3), so it is asked twice,
the second time in reverse order, and only a choice that is the same both times counts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from orchestrator.config.settings import Extract
from orchestrator.consensus.extract import calls_of, extract, text_of
from orchestrator.types import Json, Request

_JUDGE = (
    "Several answers to the conversation above follow. Judge which one is the best: correct first, then complete, then "
    'clear. The order in which they stand means nothing. Answer with a JSON object and nothing else: {{"best": N}}, where N '
    "is the number of the best answer, from 1 to {count}."
)
_MERGE = (
    "Several answers to the conversation above follow, from different models. Some may be wrong. Write the one best answer: "
    "keep what is right, settle what they disagree on by thinking for yourself, and leave out what is not supported. Answer "
    "as the conversation asks, in the format that it asks for, and do not mention that there were several answers."
)


def shuffled(count: int, request: Request) -> list[int]:
    """An order of the answers: the same for the same conversation, so that a run can be repeated."""
    order = list(range(count))
    random.Random(_text(request.body["messages"][-1])[-2_000:]).shuffle(order)  # noqa: S311 - an order, no secret
    return order


def judging(request: Request, answers: Sequence[str]) -> Request:
    """Asks which of the answers is the best."""
    # Nothing but the question: what a caller set for the answer (length, format, tools) would be in a judge's way. Without
    # tools, some providers refuse turns that call them or bring their results: these are told in words.
    told = request._replace(body={"messages": _told(request.body["messages"])})
    return _derived(told, {}, _JUDGE.format(count=len(answers)), answers)


def merging(request: Request, answers: Sequence[str]) -> Request:
    """Asks for one answer made of them all, by the request's own parameters."""
    body = {name: value for name, value in request.body.items() if name not in ("messages", "n", "anthropic")}
    return _derived(request, body, _MERGE, answers)


def _derived(request: Request, body: Json, instruction: str, answers: Sequence[str]) -> Request:
    # An answer must not be able to end itself and begin another.
    whole = [text.replace("</answer", "<\\/answer").replace("<answer", "<\\answer") for text in answers]
    shown = "\n\n".join(f'<answer number="{i}">\n{text}\n</answer>' for i, text in enumerate(whole, 1))
    said = f"{instruction}\n\n{shown}"
    messages = list(request.body["messages"])
    last = messages[-1]
    # Some models' templates insist on turns that alternate: the question and what is to be done with it are one.
    if last.get("role") == "user" and isinstance(last.get("content"), str):
        messages[-1] = {**last, "content": f"{last['content']}\n\n{said}"}
    elif last.get("role") == "user" and isinstance(last.get("content"), list):
        messages[-1] = {**last, "content": [*last["content"], {"type": "text", "text": said}]}
    else:
        messages.append({"role": "user", "content": said})
    tokens = request.input_tokens + len(said) // 4
    needs = tuple(need for need in request.needs if need == "images" or body)
    return request._replace(body={**body, "messages": messages}, stream=False, input_tokens=tokens, needs=needs)


def picked(body: Json, count: int) -> int | None:
    """The place of the answer that a judge names, from 0; None where it names none."""
    found = extract(body, Extract(json="best")) or extract(body, Extract(number="last"))
    if found is None or not found.key.isdecimal() or len(found.key) > 3 or not 1 <= int(found.key) <= count:
        return None
    return int(found.key) - 1


def _text(message: Json) -> str:
    return text_of(message) or str(message.get("content") or "")[:2_000]


def _told(messages: Sequence[Json]) -> list[Json]:
    """A conversation without calls of tools: what was called and what came of it in words."""
    turns: list[Json] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if calls := calls_of(message):
            said = [text_of(message), *(f"[calls {one['name']} with {one['arguments']}]" for one in calls)]
            content = "\n".join(text for text in said if text)
        elif role in ("tool", "function"):
            role, content = "user", f"[result of the call: {text_of(message)}]"
        last = turns[-1] if turns else {}
        if role == last.get("role") == "user" and isinstance(content, str) and isinstance(last["content"], str):
            turns[-1] = {"role": "user", "content": f"{last['content']}\n{content}"}
        else:
            turns.append({"role": role, "content": content})
    return turns
