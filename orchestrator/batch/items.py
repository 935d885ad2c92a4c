"""The items of a batch: JSONL, read from the disk as they are needed.

A line is one of ours, `{id, prompt | messages, answer?, params?}`, or one of OpenAI's Batch API, `{custom_id, method, url,
body}` (platform.openai.com/docs/guides/batch). Whatever else a line of ours has is left alone: tables have columns of their
own.

What stays in memory is the id of each item and its line, about 150 bytes; prompts and answers do not.
"""

from __future__ import annotations

import codecs
import hashlib
import heapq
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import orjson

from orchestrator.asks import Ask
from orchestrator.config.document import MAX_PROBLEMS, clean
from orchestrator.errors import ConfigError
from orchestrator.types import Json
from orchestrator.wire.http import Refused
from orchestrator.wire.shape import Parsed, Speaker
from orchestrator.wire.shapes import SHAPES

MAX_LINE_BYTES = 64_000_000
MAX_ID = 512
PRIORITY = 1
"""Of all requests of a batch: they wait for those of people."""
_CHAT = "/v1/chat/completions"


class Item(NamedTuple):
    """One line of the input."""

    line: int
    """Its number, from 1."""
    id: str
    path: str
    """Whose shape `body` has: an endpoint's path."""
    body: Json
    """The request, without `model`."""
    model: str | None = None
    """The one that an OpenAI line names."""
    expected: Any = None
    """The right answer, if the line has one."""
    openai: bool = False
    """Whether it is an OpenAI Batch line, and gets its result in that shape, too."""


class Asked(NamedTuple):
    """An item as a request."""

    ask: Ask
    speaker: Speaker


class Surveyed(NamedTuple):
    """What a look at the whole input has shown."""

    lines: Mapping[str, int]
    """Id -> line, in the order of the file."""
    sha256: str
    size_bytes: int


class Wrong(Exception):
    """What is wrong with a line: `KEY: what`."""


def read_items(path: str, chosen: Set[int] | None = None) -> Iterator[Item]:
    """The items of a file that has been surveyed; `chosen`: the lines that are wanted. Raises Wrong, and OSError."""
    with open(path, "rb") as file:
        for number, content in _lines(file):
            if chosen is None or number in chosen:
                yield item_of(number, content)


def survey(path: str, params: Mapping[str, Any], selector: str | None) -> Surveyed:
    """Looks through all lines, so that nothing is asked before it is known that all can be: `selector` is that of any arm.

    Raises ConfigError with `file:line: key: what` for every line that cannot be asked, and for an id that comes twice.
    """
    lines: dict[str, int] = {}
    problems: list[str] = []
    digest = hashlib.sha256()
    source = clean(path, 500)
    try:
        with open(path, "rb") as file:
            for number, content in _lines(file, digest):
                try:
                    item = item_of(number, content)
                    if (first := lines.setdefault(item.id, number)) != number:
                        raise Wrong(f"id: {clean(item.id)!r} stands twice (first in line {first})")
                    asked_of(item, selector, params)
                except Wrong as wrong:
                    problems.append(f"{source}:{number}: {wrong}")
                    if len(problems) == MAX_PROBLEMS:
                        problems.append(f"{source}:{number}: document: has more problems than these {MAX_PROBLEMS}")
                        break
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError((f"{source}:1: document: cannot be read: {error.strerror or error}",)) from None
    if not lines and not problems:
        problems.append(f"{source}:1: document: holds no item")
    if problems:
        raise ConfigError(tuple(problems))
    return Surveyed(lines, digest.hexdigest(), size)


def choose(lines: Mapping[str, int], limit: int | None, sample: int | None, seed: int) -> frozenset[int] | None:
    """The lines of the first `limit` items, and of those a `sample`; None: all.

    An item is in a sample by a hash of its id and the seed: the same whatever the order of the file, and the smaller one of
    two samples is a part of the larger.
    """
    if limit is None and sample is None:
        return None
    ids = [*lines][:limit]
    if sample is not None:
        ids = heapq.nsmallest(sample, ids, key=lambda one: place(one, seed))
    return frozenset(lines[one] for one in ids)


def place(item: str, seed: int) -> bytes:
    """Where an item stands in the order of samples."""
    return hashlib.sha256(f"{seed}:{item}".encode()).digest()


def item_of(number: int, content: bytes) -> Item:
    """The item of a line. Raises Wrong."""
    if len(content) >= MAX_LINE_BYTES:
        raise Wrong(f"document: is longer than {MAX_LINE_BYTES // 1_000_000} MB")
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Wrong(f"document: is not JSON: {clean(str(error), 200)}") from None
    if not isinstance(data, dict):
        raise Wrong("document: has to be a JSON object")
    return _openai(number, data) if "custom_id" in data else _own(number, data)


def asked_of(item: Item, selector: str | None, params: Mapping[str, Any]) -> Asked:
    """The request that puts an item to a selector; None: to the item's own model. Raises Wrong."""
    model = selector if selector is not None else item.model
    if model is None:
        raise Wrong("model: is missing: there are no arms, and the line names no model")
    body = {**params, **item.body, "model": model}
    try:
        parsed: Parsed = SHAPES[item.path].parse(orjson.dumps(body), {})
    except orjson.JSONEncodeError as error:
        raise Wrong(f"document: cannot be written as JSON: {error}") from None
    except Refused as refused:
        param = refused.param or "document"
        raise Wrong(f"{param}: {str(refused).removeprefix(f'{param!r} ')}") from None
    request = parsed.request._replace(priority=PRIORITY)
    return Asked(Ask(parsed.selector, request, parsed.override, uuid4().hex, parsed.user), parsed.speaker)


def judging(selector: str, messages: Sequence[Json]) -> Ask:
    """The request that asks a judge, as steadily as it can be asked."""
    body = orjson.dumps({"model": selector, "messages": messages, "temperature": 0})
    parsed = SHAPES[_CHAT].parse(body, {})
    return Ask(parsed.selector, parsed.request._replace(priority=PRIORITY), None, uuid4().hex)


def _lines(file: BinaryIO, digest: Any = None) -> Iterator[tuple[int, bytes]]:
    """The lines that say anything, with their numbers."""
    number = 0
    while content := file.readline(MAX_LINE_BYTES):
        number += 1
        if digest is not None:
            digest.update(content)
        if number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        if content.strip():
            yield number, content


def _own(number: int, data: Json) -> Item:
    if ("prompt" in data) == ("messages" in data):
        raise Wrong("prompt: give either a prompt or messages, and not both")
    params = data.get("params")
    if params is not None and not isinstance(params, dict):
        raise Wrong("params: has to be an object")
    params = params or {}
    _whole(params)
    for name in ("model", "messages"):
        if name in params:
            raise Wrong(f"params.{name}: is no parameter")
    messages = data.get("messages")
    if "prompt" in data:
        if not isinstance(data["prompt"], str) or not data["prompt"]:
            raise Wrong("prompt: has to be text")
        messages = [{"role": "user", "content": data["prompt"]}]
    return Item(number, _id(data, "id"), _CHAT, {**params, "messages": messages}, None, data.get("answer"))


def _openai(number: int, data: Json) -> Item:
    identity = _id(data, "custom_id")
    if data.get("method", "POST") != "POST":
        raise Wrong("method: has to be POST")
    path = data.get("url")
    if path not in SHAPES:
        raise Wrong(f"url: has to be one of {', '.join(SHAPES)}")
    body = data.get("body")
    if not isinstance(body, dict):
        raise Wrong("body: has to be an object")
    _whole(body)
    model = body.get("model")
    if model is not None and (not isinstance(model, str) or not model):
        raise Wrong("body.model: has to be text")
    rest = {name: value for name, value in body.items() if name not in ("model", "stream")}
    return Item(number, identity, path, rest, model, data.get("answer"), openai=True)


def _whole(body: Json) -> None:
    if body.get("stream"):
        raise Wrong("stream: has to be false or absent: a batch has whole answers")


def _id(data: Json, key: str) -> str:
    given = data.get(key)
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_ID:
        raise Wrong(f"{key}: has to be text of at most {MAX_ID} characters, or a whole number")
    return given
