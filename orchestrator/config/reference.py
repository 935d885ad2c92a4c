"""docs/configuration.md, made from the classes that validate.

    python -m orchestrator.config.reference > docs/configuration.md

Names, types, bounds and defaults come from the dataclasses, meanings from the comment strings below their fields, which
only the source holds. A test sees to it that the page is current.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import MISSING, fields
from textwrap import dedent
from typing import Any

from orchestrator.abilities import ABILITIES, SOURCES
from orchestrator.config import operations, schema, settings
from orchestrator.config.tiers import OF_ALL, OF_STRATEGY
from orchestrator.providers import PRESETS

_HEAD = """\
# Configuration

One YAML file: `orchestrator check FILE` validates it, or every `.yaml` file of a folder, without starting anything. Times
are seconds; names end in their unit. `${NAME}` is an environment variable, `${NAME:-default}` has a default, `$${` stands
for `${`. A variable that is not set is an error, except in a provider with `optional: true`, which is then left out and
listed as left out. Anchors and merges (`<<`) work. A file may have 1 MB, 20,000 values and 40 levels.

A changed file is taken over within 2 s without dropping a request; one with a mistake changes nothing, is logged, and
shows in `/admin/config`; so it is with each user's file by itself.

This page is made from the classes that validate the file. Do not edit it: `python -m orchestrator.config.reference`.

## `providers: NAME:`

The name is the prefix of its models' selectors, `NAME/model`. Needed is one of `base_url`, `simulate`, `replay`,
`vllm`, `command`, or a known name.

| key | type | default | meaning |
| --- | --- | --- | --- |
"""
_USERS = """
## `users: FOLDER`

A folder beside the configuration with a file `NAME.yaml` for each user, or the users themselves, as a mapping. A file is read
like the configuration, with the same bounds and within 2 s; files with other endings, and those that begin with a dot, are
none. It chooses strategies, models and parameters. It defines no providers, addresses or keys, and `${` is a mistake in it.

A file with a mistake concerns its user alone: the experiments stay as they last were, as far as the providers and tiers that
they name are still there, or are left out where they never could be used. Deleting a file removes its experiments. There may
be 1,000 files, with 200 experiments each; links may lead to files within the folder alone.

An experiment is asked for as `user:NAME:EXPERIMENT`, by its user: a request that says another `user` (`metadata.user_id` in
Anthropic's shape) gets 403, one that says none is answered. With keys (`server: keys:`) it is the key that counts: that
user's, or an admin's.
"""
_PROVIDER = (
    ("preset", "text", "the provider's own name", "a known provider, see below"),
    ("base_url", "address", "the preset's", "up to and including the version segment"),
    (
        "api_key",
        "text, or a list",
        "the preset's variable",
        "`none`: no credentials are sent; a list of keys is a list of accounts: limits, health and load are kept for "
        "each, calls are spread over them",
    ),
    (
        "optional",
        "true, false",
        "false",
        "left out, with its reason, where a variable is not set or nothing listens (`ollama`)",
    ),
    (
        "api_version",
        "date",
        "",
        "`azure` alone: a dated version of its interface, such as 2024-10-21, with a path for each deployment; else v1",
    ),
    ("models", "list of text", "asked of the provider", "what /v1/models lists; any other is passed on all the same"),
    (
        "command",
        "list of text",
        "",
        "a server of OpenAI's shape that is run here, with `{port}`, `{host}` and `{key}` filled in; a program that begins "
        "with `./` is found from the configuration's folder. Beside it stand `gpus`, `replicas`, `env`, `cold_start_s` and "
        "`hang_s`: see below",
    ),
)

_FITTED = """
A request may carry an object named like one of them (`"openrouter": {"provider": {…}, "models": […]}`): its fields reach that
provider as they stand, over the others, and no other provider sees them. So can a field be sent along that one alone knows,
or, for OpenRouter, one that is a choice of route here. All other fields pass as they came, known or not; but these:

| name | given | left out |
| --- | --- | --- |
"""
_ABLE = """
DeepSeek goes on with a stream that was cut where it is told to: `base_url: https://api.deepseek.com/beta`, and
`model_options: {"*": {prefill: true}}`.

### What models can do

A request is passed over for what stands here, never for what does not. `model_options` goes over it: a pattern over all rows
that fit it, a name over all. As documented on 2026-11-25.

"""


def _meanings(section: type) -> dict[str, str]:
    """The comment strings below the fields of a class, its bases' too."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__[:-1]):
        body: Any = ast.parse(dedent(inspect.getsource(base))).body[0]
        for field, comment in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(comment, ast.Expr):
                value: Any = comment.value
                found[ast.unparse(field.target)] = " ".join(value.value.split())
    return found


_NAMED = {
    "Usd": "number from 0",
    "Seconds": "seconds",
    "Count": "whole number from 1",
    "str": "text",
    "float": "number",
    "int": "whole number",
}


def _type(annotation: str) -> str:
    """An annotation for people."""
    text = re.sub(r"\s*\|\s*None", "", annotation)
    bounds = [f"{'over' if kind == 'Gt' else 'from' if kind == 'Ge' else 'to'} {_number(float(at.replace('_', '')))}"
              for kind, at in re.findall(r"(Gt|Ge|Le)\(([\d_.]+)\)", text)]  # fmt: skip
    if literal := re.findall(r"[\"']([^\"']+)[\"']", text):
        text = ", ".join(f"`{one}`" for one in literal)
        if "Extract" in annotation:
            text += ", or a mapping"
    else:
        text = re.sub(r"Annotated\[(\w+)[^\]]*\]", r"\1", text)
        for pattern, shown in (
            (r"Mapping\[str, str\]", "mapping of text"),
            (r"Mapping\[str, object\]", "mapping"),
            (r"Mapping\[str, (\w+)\]", r"mapping of \1"),
            (r"tuple\[(\w+), \.\.\.\]", r"list of \1"),
            (r"^bool$", "true, false"),
            (r" \| ", " or "),
        ):
            text = re.sub(pattern, shown, text)
        text = re.sub(r"\b(Usd|Seconds|Count|str|float|int)\b", lambda match: _NAMED[match[1]], text)
    return " ".join([text, *bounds]).replace("|", "\\|")


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _default(field: Any) -> str:
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if value is MISSING:
        return "*needed*"
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, str | int | float):
        return _number(value) if isinstance(value, float) else str(value)
    return "see below"


def _table(section: type) -> str:
    meanings = _meanings(section)
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for field in fields(section):
        meaning = meanings.get(field.name, "").replace("|", "\\|")
        rows.append(f"| `{field.name}` | {_type(str(field.type))} | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _section(title: str, section: type) -> str:
    said = " ".join((section.__doc__ or "").split())
    said = re.sub(r"^`[^`]*:`\s*", "", said)
    return f"\n## `{title}`\n\n{said[:1].upper()}{said[1:]}\n\n{_table(section)}"


def _known() -> str:
    """What is known of providers and their models."""
    parts = ["\n## Known providers\n\n| name | address | key | documented at |\n| --- | --- | --- | --- |\n"]
    for name, row in PRESETS.items():
        address = f"`{row.base_url}`" if row.base_url else "has to be said"
        key = f"`{row.key_variable}`{'' if row.key_needed else ', if it is set'}"
        parts.append(f"| `{name}` | {address} | {key} | {row.docs} |\n")
    parts.append(_FITTED)
    for name, row in PRESETS.items():
        quirks = row.quirks
        renamed = [f"`{old}` as `{new}`" for old, new in (*quirks.renames.items(), *quirks.roles.items())]
        dropped = [f"`{field}`" for field in sorted(quirks.drops)]
        turns = [f"`messages[].{field}`" for field in sorted(quirks.turn_drops)]
        turns += [f"`messages[].tool_calls[].{field}`" for field in sorted(quirks.call_drops)]
        if quirks.stand_in:
            renamed.append("`messages[].tool_calls[0].extra_content`, unless signed, to models that insist on it")
        if renamed or dropped or turns:
            parts.append(f"| `{name}` | {', '.join(renamed)} | {', '.join(dropped + turns)} |\n")
    columns = [field.name for field in fields(settings.ModelOptions) if field.name != "typical_s"]
    parts.append(_ABLE + f"| model | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}\n")
    for name, table in ABILITIES.items():
        for model, options in table.items():
            known = [_able(getattr(options, column)) for column in columns]
            parts.append(f"| `{name}/{model}` | {' | '.join(known)} |\n")
    parts.append("\n" + "; ".join(f"`{name}`: {source}" for name, source in SOURCES.items()) + ".\n")
    return "".join(parts)


def _able(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:,}"


def page() -> str:
    """The whole page."""
    parts = [_HEAD, *(f"| `{key}` | {kind} | {default} | {said} |\n" for key, kind, default, said in _PROVIDER)]
    provider = "providers: NAME: "
    for name, section in (
        ("pool:", settings.Pool), ("limits:", settings.Limits), ("timeouts:", settings.Timeouts),
        ("retry:", settings.Retry), ("breaker:", settings.Breaker), ("health:", settings.Health),
        ("connections:", settings.Connections),
        ("model_options: MODEL:", settings.ModelOptions), ("simulate:", settings.Simulate), ("replay:", settings.Replay),
    ):  # fmt: skip
        parts.append(_section(provider + name, section))
    parts.append(_section(provider + "latency_s:", settings.Latency))
    parts.append(_section(provider + "vllm:", schema.Vllm))
    parts.append(_section(provider + "command:", schema.Engine))
    parts.append(_section(provider + "replicas:", settings.Replicas))
    parts.append(_known())
    parts.append(
        "\n## `aliases: NAME: SELECTOR`\n\nBare names that existing clients send. A `*` in the name stands for any text, "
        'and in the selector for the same: `"claude-*": "openrouter/anthropic/claude-*"`.\n'
    )
    parts.append(_section("tiers: NAME:", schema.TierOptions))
    parts.append("\nOf all strategies: " + ", ".join(f"`{key}`" for key in sorted(OF_ALL)) + ". Beside these:\n\n")
    parts.append("| strategy | options |\n| --- | --- |\n")
    for name, keys in OF_STRATEGY.items():
        options = ", ".join(f"`{key}`" for key in sorted(keys))
        parts.append(f"| `{name}` | {options} |\n")
    parts.append(_section("extract:", settings.Extract))
    parts.append(_section("arms: NAME:", schema.Arm))
    parts.append(_USERS)
    parts.append(_section("users: NAME:", schema.User))
    parts.append(_section("users: NAME: experiments: NAME:", schema.Experiment))
    parts.append(_section("rollout:", settings.Rollout))
    parts.append(_section("pricing:", operations.Pricing))
    parts.append(_section("pricing: overrides: SELECTOR:", operations.PriceOverride))
    parts.append(_section("ledger:", operations.Ledger))
    parts.append(_section("ledger: alerts:", operations.Alerts))
    parts.append(_section("budgets:", operations.Budgets))
    parts.append(_section("cache:", operations.Cache))
    parts.append(_section("server:", settings.Server))
    parts.append(_section("server: keys:", operations.CallerKey))
    parts.append(_section("logs:", operations.Logs))
    parts.append(_section("telemetry:", operations.Telemetry))
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
