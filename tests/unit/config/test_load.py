"""What a configuration may be, and the one line that each mistake gets."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.callers import Caller
from orchestrator.config.load import load, load_mapping
from orchestrator.config.operations import CallerKey, Ledger
from orchestrator.config.settings import Config, Latency, Limits, Pool, Server, Strategy
from orchestrator.errors import ConfigError

SECRET = "sk-a-key-that-nobody-may-see"
ENV = {"KEY": SECRET, "EMPTY": ""}
SIM = "providers: {sim: {simulate: {}}}\n"
NAMED = "has to have 1 to 100 characters, and among them no space and no '/'"
PATTERN = "has to be a selector, or one with a '*' at the beginning or the end"


def keys(*begun: str) -> str:
    """Keys of the server, each with a hash of its own."""
    return SIM + f"server: {{keys: [{', '.join(f'{one}key_sha256: a{n:063x}}}' for n, one in enumerate(begun))}]}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def read(file: Path, text: str | bytes) -> Config:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, ENV)


def problems(file: Path, text: str | bytes) -> list[str]:
    """The problems, with the file's name cut off."""
    with pytest.raises(ConfigError) as raised:
        read(file, text)
    assert str(raised.value) == "\n".join(raised.value.problems)
    assert all(problem.startswith(f"{file}:") for problem in raised.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in raised.value.problems]


ONE = "has to be a mapping with the key 'providers'"
PRESET = (
    "there is no such preset; there is openai, anthropic, openrouter, groq, ollama, vllm, together, mistral, deepseek, "
    "gemini, azure, bedrock"
)
STRATEGY = "has to be one of first, fallback, race, hedge, balance, consensus, cascade, split, spill"
KIND = "needs exactly one of base_url, simulate, replay, vllm, command, or a known provider's preset"
MUCH = "has over 20000 values or 40 levels, aliases followed"
KEYS = "has to be a string, or a list of strings: one an account"
URL = "has to be an address such as http://10.0.0.5:8000/v1"
LEDGER = "has to be `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE` (in a password, `/` is written %2F)"
FORMS = "text, fields, {json: FIELD}, {regex: …}, {number: first | last} or {choice: [A, B]}"
TIER = "has to be a list of models, or a mapping with `strategy` and `models`"


def provider(text: str) -> str:
    return f"providers:\n  a: {text}\n"


def tier(text: str) -> str:
    return f"{SIM}tiers:\n  t: {text}\n"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = SIM + "tiers:\n" + "".join(f'  t{i}: ["tier:t{i + 1}"]\n' for i in range(8)) + "  t8: [sim/a]\n"
WIDE = SIM + "tiers:\n" + "".join(f'  t{i}: ["tier:t{i + 1}", "tier:t{i + 1}"]\n' for i in range(7)) + "  t7: [sim/a]\n"

WRONG: dict[str, tuple[str | bytes, str]] = {
    # The document.
    "nothing": ("", f"1: document: {ONE}"),
    "a variable alone": ("${KEY}", f"1: document: {ONE}"),
    "a list": ("[1]", f"1: document: {ONE}"),
    "tabs": ("providers:\n\tsim: {}", "2: document: is not YAML: found character that cannot start any token; "
             "indent with spaces, not tabs"),
    "two documents": ("a: 1\n---\nb: 2", "2: document: is not YAML: but found another document"),
    "a bracket that stays open": ("a: 1\nb: {\nc: 2\n", "3: document: is not YAML: did not find expected ',' or '}', "
                                  "while parsing a flow mapping that begins in line 2"),
    "an unknown alias": ("a: *b", "1: document: is not YAML: found undefined alias"),
    "a zero byte": ("a: \x00", "1: document: is not YAML: unacceptable character #x0000: control characters are not "
                    'allowed in "<unicode string>", position 3'),
    "not UTF-8": (b"a: 1\nb: \xff", "2: document: is not UTF-8 (byte 8)"),
    "ten megabytes": ("# " + "x" * 10_000_000, "1: document: is larger than 1 MB"),
    "a bomb of aliases": (BOMB, f"1: document: {MUCH}"),
    "a hundred thousand brackets": ("[" * 100_000, "1: document: is not YAML: exceeded maximum nesting depth"),
    "fifty thousand mappings": ("{a: " * 50_000, f"1: document: {MUCH}"),
    "a hundred thousand dashes": ("- " * 100_000, f"1: document: {MUCH}"),
    "a list within itself": ("a: &a [*a]", f"1: document: {MUCH}"),
    "a merge of itself": ("a: &a {<<: *a}", f"1: document: {MUCH}"),
    "a merge of a number": ("a: {<<: 3}", "1: a: '<<' takes a mapping, or a list of them"),
    "the same key twice": ("a: 1\na: 2", "2: a: stands twice (first in line 1); remove one"),
    "a mapping as a key": ("? {a: b}\n: c", "1: document: a key has to be a plain word"),
    "code": ('a: !!python/object/apply:os.system "x"', "1: a: has the tag 'tag:yaml.org,2002:python/object/apply:os.system', "
             "which means nothing here; leave it out"),
    "a tag that does not fit": ("a: !!bool maybe", "1: a: 'maybe' cannot be read; put it in quotes if it is text"),
    "a tag of nothing": ("a: !!int ''", "1: a: '' cannot be read; put it in quotes if it is text"),
    "bytes": ("a: !!binary aGk=", "1: a: has the tag 'tag:yaml.org,2002:binary', which means nothing here; leave it out"),
    "a parameter that is no JSON": (tier("{models: [sim/a], params: {seed: 99999999999999999999999}}"),
                                    "3: tiers.t.params: has a value that JSON does not have, such as a number beyond 64 "
                                    "bits; quote it if it is text"),
    "month 13": ("a: 2024-13-45", "1: a: '2024-13-45' cannot be read; put it in quotes if it is text"),
    "a line break in a key": ('"a\\nb": 1\n' + SIM, "1: a\ufffdb: unknown key"),
    # The root.
    "a near key": (SIM + "tier: {}", "2: tier: unknown key; did you mean 'tiers'?"),
    "a hook that is no address": (SIM + "ledger: {alerts: {webhook: foo}}",
                                  "2: ledger.alerts.webhook: has to be an address such as https://hooks.example.com/T0/B0"),
    "a pattern of users": (SIM + "ledger: {}\nbudgets: {users: {jo*: 20}}",
                           "3: budgets.users.jo*: has to be a user's name, or '*' alone: each of the others"),
    "a budget of nobody's": (SIM + "server: {keys: [{name: a, key_sha256: " + "ab" * 32 + ", budget_usd: 1}]}",
                             "2: server.keys[0].budget_usd: needs a `ledger:` in the configuration: there is nobody to keep "
                             "account of what is spent"),
    "no providers": ("tiers: {}", "1: providers: is missing: name at least one provider, such as `sim: {simulate: {}}`"),
    "a short hash": (SIM + "server: {keys: [{name: a, key_sha256: abc}]}",
                     "2: server.keys[0].key_sha256: has to have 64 characters"),
    "no day": (SIM + "server: {keys: [{name: a, key_sha256: " + "ab" * 32 + ", expires: soon}]}",
               "2: server.keys[0].expires: has to be a date such as 2027-01-31"),
    "a hash of other letters": (SIM + "server: {keys: [{name: a, key_sha256: " + "xy" * 32 + "}]}",
                                "2: server.keys[0].key_sha256: has to be 64 hexadecimal digits: `orchestrator key new` "
                                "makes them"),
    "a key of an empty name": (keys("{name: '', "), "2: server.keys[0].name: " + NAMED),
    "a key's name with a slash": (keys("{name: a/b, "), "2: server.keys[0].name: " + NAMED),
    "a key of two users": (keys("{name: a, user: 'a:b', "), "2: server.keys[0].user: has to have 1 to 100 characters, and "
                           "among them no space, ':' or '/'"),
    "a star within": (keys("{name: a, models: ['a*b'], "), "2: server.keys[0].models[0]: " + PATTERN),
    "two stars in a pattern": (keys("{name: a, models: [x, '*b*'], "), "2: server.keys[0].models[1]: " + PATTERN),
    "an empty pattern": (keys("{name: a, models: [''], "), "2: server.keys[0].models[0]: " + PATTERN),
    "half a request a minute": (keys("{name: a, requests_per_minute: 0.5, "),
                                "2: server.keys[0].requests_per_minute: has to be at least 1.0"),
    "two keys of one name": (keys("{name: a, ", "{name: a, "), "2: server.keys[1].name: is the name of server.keys[0], too; "
                             "limits and spend go by names"),
    "keys as text": (SIM + "server: {keys: x}", "2: server.keys: has to be a list"),
    "percent over all": (SIM + "rollout: {percent: 101}", "2: rollout.percent: has to be at most 100.0"),
    "a time below zero": (SIM + "cache: {ttl_s: -1}", "2: cache.ttl_s: has to be at least 0.0"),
    "a cache of words": (SIM + "cache: {max_mb: much}", "2: cache.max_mb: has to be a number"),
    "a tier's cache of nothing": (tier("{models: [sim/a], cache: {}}"), "3: tiers.t.cache: has to be {ttl_s: SECONDS}"),
    "a tier's cache for ever": (tier("{models: [sim/a], cache: {ttl_s: .inf}}"),
                                "3: tiers.t.cache.ttl_s: has to be seconds, from 0 to 31,536,000"),
    "a list that is text": (SIM + "rollout: {allow: john}", "2: rollout.allow: has to be a list"),
    "half a price": (SIM + "pricing: {overrides: {a/b: {input_per_mtok_usd: 1}}}",
                     "2: pricing.overrides.a/b.output_per_mtok_usd: is missing"),
    "a threshold over all": (SIM + "ledger: {alerts: {thresholds: [0.5, 2]}}",
                             "2: ledger.alerts.thresholds[1]: has to be at most 1.0"),
    "a word for no": (SIM + "ledger: {store_text: never}", "2: ledger.store_text: has to be true or false"),
    "a ledger in memory": (SIM + "ledger: {url: 'sqlite:///:memory:'}",
                           "2: ledger.url: has to name a file: `sqlite:///ledger.db`, relative to the configuration's "
                           "folder"),
    "another ledger": (SIM + "ledger: {url: 'mysql://ada:${KEY}@db/x'}", f"2: ledger.url: {LEDGER}"),
    "a ledger without a database": (SIM + "ledger: {url: 'postgresql://ada:${KEY}@db'}", f"2: ledger.url: {LEDGER}"),
    "a ledger's port": (SIM + "ledger: {url: 'postgresql://db:x/y'}", f"2: ledger.url: {LEDGER}"),
    "half a password": (SIM + "ledger: {url: 'postgresql://ada:12/${KEY}@db/x'}", f"2: ledger.url: {LEDGER}"),
    "the other half": (SIM + "ledger: {url: 'postgresql://db/x#${KEY}'}", f"2: ledger.url: {LEDGER}"),
    "users in a list": (SIM + "users: []", "2: users: has to be a folder beside this file, or a mapping of users"),
    "a user's provider": (SIM + "users: {john: {providers: {}}}",
                          "2: users.john.providers: may not be defined by a user, who chooses strategies, models and "
                          "parameters"),
    "a user's near key": (SIM + "users: {john: {experiment: {}}}",
                          "2: users.john.experiment: unknown key; did you mean 'experiments'?"),
    "a user's far key": (SIM + "users: {john: {x: {}}}", "2: users.john.x: unknown key; there is user, experiments"),
    "an experiment's budget": (SIM + "users: {john: {experiments: {a: {models: [sim/a], budget_usd: -1}}}}",
                               "2: users.john.experiments.a.budget_usd: has to be at least 0.0"),
    "users in a file": (SIM + "users: config.yaml", "2: users: 'config.yaml' is no folder"),
    "users nowhere": (SIM + 'users: "a\\0b"', "2: users: has to be a folder beside this file, or a mapping of users"),
    "a user of a number": (SIM + "users: {john: 3}", "2: users.john: has to be a mapping with the key 'experiments'"),
    "a user's name": (SIM + "users: {'a b': {}}",
                      "2: users.a b: a user's name has 1 to 100 characters, and among them no space, ':' or '/'"),
    "another's name": (SIM + "users: {john: {user: eve}}",
                       "2: users.john.user: has to be 'john', as what holds it is called, or be left out"),
    "experiments in a list": (SIM + "users: {john: {experiments: []}}", "2: users.john.experiments: has to be a mapping"),
    "an experiment without a name": (SIM + 'users: {john: {experiments: {"": [sim/a]}}}',
                                     "2: users.john.experiments.: an experiment needs a name"),
    "an experiment's name": (SIM + "users: {john: {experiments: {'a:b': [sim/a]}}}",
                             "2: users.john.experiments.a:b: a name has 1 to 100 characters, and among them no space, "
                             "':' or '/'"),
    "an experiment over an experiment": (SIM + "users: {john: {experiments: {a: [sim/a], b: ['user:john:a']}}}",
                                         "2: users.john.experiments.b[0]: a user's experiment can only be asked for by a "
                                         "request"),
    "an experiment over no tier": (SIM + "users: {john: {experiments: {a: ['tier:a']}}}",
                                   "2: users.john.experiments.a[0]: there is no tier 'tier:a'"),
    "a budget": (SIM + "users: {john: {experiments: {a: {models: [sim/a], budget_usd: 1}}}}",
                 "2: users.john.experiments.a.budget_usd: needs a `ledger:` in the configuration: there is nobody "
                 "to keep account of what is spent"),
    "too many experiments": (SIM + "users: {john: {experiments: {" + ", ".join(f"e{i}: [sim/a]" for i in range(201)) + "}}}",
                             "2: users.john.experiments: may be 200 at most"),
    "an experiment of 65 models": (SIM + "tiers: {t: [" + "sim/a, " * 64 + "]}\n"
                                   "users: {john: {experiments: {t: [sim/a, 'tier:t']}}}",
                                   "3: users.john.experiments.t: comes to 65 models with its nested tiers; at most 64"),
    "an alias of nothing": (SIM + "aliases: {x: y}", "2: aliases.x: 'y' is not a model: 'provider/model' or 'tier:NAME'"),
    "an alias that hides": (SIM + "aliases: {sim/x: sim/y}",
                            "2: aliases.sim/x: would hide what the name already stands for; choose a bare name"),
    "two stars": (SIM + "aliases: {'*-*': sim/*}",
                  "2: aliases.*-*: may hold one '*', which stands for the same text in its selector"),
    "aliases in a list": (SIM + "aliases: [a]", "2: aliases: has to be a mapping of names to selectors"),
    "a variable that is not set": (SIM + "server: {max_body_mb: '${NO}'}", "2: server.max_body_mb: the environment "
                                   "variable NO is not set; export it, or give a default: ${NO:-…}"),
    "text in braces": (SIM + "server: {max_body_mb: ${KEY}}", "2: server.max_body_mb: has to be a number"),
    "a variable as key": (SIM + "${KEY}: 1", "2: ${KEY}: unknown key"),
    "the characters put aside": (SIM + "server: {max_body_mb: '${KEY}\uf8f0'}", "1: document: holds the character U+F8F0 "
                                 "or U+F8F1, which has a meaning of its own here"),
    "a megabyte that is none": (SIM + "server: {max_body_mb: '${KEY}'}", "2: server.max_body_mb: has to be a number"),
    # Providers.
    "no kind": (provider("{}"), f"2: providers.a: {KIND}"),
    "nothing in it": (provider(""), f"2: providers.a: {KIND}"),
    "two kinds": (provider("{base_url: http://x, simulate: {}}"), f"2: providers.a: {KIND}"),
    "a word": (provider("x"), "2: providers.a: has to be a mapping"),
    "a slash": ('providers: {"a/b": {simulate: {}}}', "1: providers.a/b: a provider's name may hold neither '/' nor ':', "
                "and may not be empty"),
    "an unknown preset": (provider("{preset: x}"), f"2: providers.a.preset: {PRESET}"),
    "a list as preset": (provider("{preset: [x]}"), f"2: providers.a.preset: {PRESET}"),
    "less than no replicas": (provider("{vllm: {replicas: {min: -1}, model: x}}"),
                              "2: providers.a.vllm.replicas.min: has to be at least 0"),
    "more replicas at least than at most": (provider("{vllm: {replicas: {min: 2}, model: x}}"),
                                            "2: providers.a.vllm.replicas.min: may not be over 'max', which is 1"),
    "one and a half GPUs": (provider("{vllm: {model: x, gpus: 1.5}}"),
                            "2: providers.a.vllm.gpus: has to be a whole number where it is over 1"),
    "a port of one's own": (provider("{vllm: {model: x, args: ['--port=1']}}"),
                            "2: providers.a.vllm.args[0]: may not hold --port: a free one is chosen on its node"),
    "a key for one's own server": (provider("{vllm: {model: x}, api_key: k}"), "2: providers.a.api_key: is made up anew "
                                   "whenever the server is started; leave it out"),
    "an engine without a port": (provider("{command: [server]}"), "2: providers.a.command: has to say {port} somewhere: the "
                                 "free port that the server is to listen on"),
    "replicas beside vLLM": (provider("{vllm: {model: x}, replicas: 2}"), "2: providers.a.replicas: belongs into 'vllm'"),
    "replicas of nothing": (provider("{simulate: {}, replicas: 2}"),
                            "2: providers.a.replicas: is for a local model: it stands beside 'command'"),
    "an engine as text": (provider("{command: server}"),
                          "2: providers.a.command: has to be a list of words: the program and its arguments"),
    "a probe of nothing": (provider("{simulate: {}, health: {every_s: 5, path: models}}"),
                           "2: providers.a.health.path: has to be a path such as /models"),
    "a probe with a break": (provider('{simulate: {}, health: {path: "/a b"}}'),
                             "2: providers.a.health.path: has to be a path such as /models"),
    "options that are none": (provider("{simulate: {}, model_options: 3}"),
                              "2: providers.a.model_options: has to be a mapping of models' names"),
    "an option that is none": (provider("{simulate: {}, model_options: {m: {tool: true}}}"),
                               "2: providers.a.model_options.m.tool: unknown key; did you mean 'tools'?"),
    "vLLM somewhere": ("providers: {vllm: {}}", "1: providers.vllm: needs a base_url: where it runs is for you to say"),
    "Azure nowhere": ("providers: {azure: {api_key: k}}", "1: providers.azure: the environment variable "
                      "AZURE_OPENAI_ENDPOINT is not set; export it, or give a base_url"),
    "a near provider key": (provider("{simulate: {}, time_outs: {}}"),
                            "2: providers.a.time_outs: unknown key; did you mean 'timeouts'?"),
    "no key": ("providers: {openai: {}}",
               "1: providers.openai.api_key: is missing; set the environment variable OPENAI_API_KEY"),
    "a variable for a key": (provider("{base_url: http://x, api_key: '${NO}'}"), "2: providers.a.api_key: the environment "
                             "variable NO is not set; export it, or mark the provider optional"),
    "an empty variable": (provider("{base_url: http://x, api_key: '${EMPTY}'}"), "2: providers.a.api_key: the environment "
                          "variable EMPTY is not set; export it, or mark the provider optional"),
    "half a variable": (provider("{base_url: http://x, api_key: '${KEY'}"), "2: providers.a.api_key: has a '${' that names "
                        "no variable: write ${NAME}, ${NAME:-default}, or $${ for '${'"),
    "a key in a mapping": (provider("{base_url: http://x, api_key: {a: b}}"), f"2: providers.a.api_key: {KEYS}"),
    "a key in two lines": (provider('{base_url: http://x, api_key: "a\\nb"}'), "2: providers.a.api_key: holds characters "
                           "that no HTTP header can carry; was it copied whole?"),
    "a key twice": (provider("{base_url: http://x, api_key: [a, a]}"),
                    "2: providers.a.api_key: names the same key twice; each one stands for an account"),
    "a word for yes": (provider("{simulate: {}, optional: sure}"),
                       "2: providers.a.optional: has to be true or false"),
    "no address": (provider("{base_url: '${KEY}'}"), f"2: providers.a.base_url: {URL}"),
    "a port too high": (provider("{base_url: 'http://x:99999'}"), f"2: providers.a.base_url: {URL}"),
    "a number as address": (provider("{base_url: 3}"), f"2: providers.a.base_url: {URL}"),
    "a password in the address": (provider("{base_url: 'http://u:p@x'}"), "2: providers.a.base_url: may hold neither "
                                  "credentials nor a query; a key belongs in api_key, a version in api_version"),
    "models as text": (provider("{simulate: {}, models: x}"), "2: providers.a.models: has to be a list of models' names"),
    "no such file": (provider("{replay: {files: {m: '${KEY}'}, questions: config.yaml}}"), "2: providers.a.replay.files.m: "
                     "there is no file '${KEY}'; a relative path starts at the configuration's folder"),
    "no file can be": (provider("{replay: {files: {m: config.yaml}, questions: 'a\\0b'}}".replace("'", '"')),
                       "2: providers.a.replay.questions: there is no file 'a\ufffdb'; a relative path starts at the "
                       "configuration's folder"),
    "no recordings": (provider("{replay: {files: {}, questions: config.yaml}}"),
                      "2: providers.a.replay.files: has to name at least one model"),
    "half a replay": (provider("{replay: {files: {m: config.yaml}}}"), "2: providers.a.replay.questions: is missing"),
    "a number as section": (provider("{simulate: {}, pool: 3}"), "2: providers.a.pool: has to be a mapping"),
    "true as a number": (provider("{simulate: {}, pool: {queue: true}}"),
                         "2: providers.a.pool.queue: has to be a number, not true or false"),
    "zero places": (provider("{simulate: {}, pool: {concurrency: 0}}"), "2: providers.a.pool.concurrency: has to be above 0"),
    "less than none": (provider("{simulate: {}, pool: {queue: -1}}"), "2: providers.a.pool.queue: has to be at least 0"),
    "half a place": (provider("{simulate: {}, pool: {queue: 1.5}}"), "2: providers.a.pool.queue: has to be a whole number"),
    "for ever": (provider("{simulate: {}, timeouts: {idle_s: .inf}}"),
                 "2: providers.a.timeouts.idle_s: has to be at most 86400.0"),
    "a near key within": (provider("{simulate: {latency_s: {meian: 3}}}"),
                          "2: providers.a.simulate.latency_s.meian: unknown key; did you mean 'median'?"),
    "a far key within": (provider("{simulate: {}, limits: {x: 3}}"),
                         "2: providers.a.limits.x: unknown key; there is requests_per_minute, tokens_per_minute"),
    # Tiers.
    "tiers in a list": (SIM + "tiers: []\n", "2: tiers: has to be a mapping"),
    "a tier without a name": (SIM + 'tiers: {"": [sim/a]}', "2: tiers.: a tier needs a name"),
    "a tier of a number": (tier("3"), f"3: tiers.t: {TIER}"),
    "a tier of nothing": (tier("[]"), "3: tiers.t: needs a list of at least one model, under `models`"),
    "a tier without models": (tier("{strategy: race}"), "3: tiers.t: needs a list of at least one model, under `models`"),
    "an unknown strategy": (tier("{strategy: rase, models: [sim/a]}"),
                            f"3: tiers.t.strategy: {STRATEGY}"),
    "a list as strategy": (tier("{strategy: [race], models: [sim/a]}"),
                           f"3: tiers.t.strategy: {STRATEGY}"),
    "a wait below nothing": (tier("{strategy: spill, models: [sim/a], max_wait_s: -1}"),
                             "3: tiers.t.max_wait_s: has to be seconds, from 0 to 3,600"),
    "a quorum of too many": (tier("{strategy: consensus, models: [sim/a, sim/b], quorum: 3}"),
                             "3: tiers.t.quorum: can never be reached: all votes together are 2"),
    "a quorum of too much weight": (tier("{strategy: consensus, models: [sim/a, sim/b], method: weighted, quorum: 3, "
                                         "weights: {sim/a: 0.5}}"),
                                    "3: tiers.t.quorum: can never be reached: all votes together are 1.5"),
    "too many samples": (tier("{strategy: consensus, models: [sim/a, sim/b], samples: 33}"),
                         "3: tiers.t.samples: come to 66 answers; at most 64"),
    "too few to agree": (tier("{strategy: cascade, models: [sim/a, sim/b], agree: 3}"),
                         "3: tiers.t.agree: can never be reached: there are 2 models"),
    "nobody to judge": (tier("{strategy: consensus, models: [sim/a], method: judge}"),
                        "3: tiers.t.judge: is missing: the selector of the model that judges"),
    "nobody to merge": (tier("{strategy: consensus, models: [sim/a], method: synthesize}"),
                        "3: tiers.t.judge: is missing: the selector of the model that merges"),
    "a judge without a case": (tier("{strategy: consensus, models: [sim/a], judge: sim/j}"),
                               "3: tiers.t.judge: has nothing to do where the method is majority: set method to judge or "
                               "synthesize"),
    "a judge that is a number": (tier("{strategy: consensus, models: [sim/a], method: judge, judge: 7}"),
                                 "3: tiers.t.judge: has to be a selector, such as 'openai/gpt-4o' or 'tier:smart'"),
    "weights of no weight": (tier("{strategy: consensus, models: [sim/a], weights: {sim/a: 2}}"),
                             "3: tiers.t.weights: count for nothing where the method is majority: set method to weighted"),
    "nobody to escalate to": (tier("{strategy: consensus, models: [sim/a], on_disagreement: escalate}"),
                              "3: tiers.t.escalate: is missing: the selector of the model that is asked where there is no "
                              "agreement"),
    "an escalation that never comes": (tier("{strategy: cascade, models: [sim/a, sim/b], escalate: sim/c, "
                                            "on_disagreement: error}"),
                                       "3: tiers.t.escalate: is never asked where on_disagreement is error"),
    "an unknown way out": (tier("{strategy: consensus, models: [sim/a], on_disagreement: cry}"),
                           "3: tiers.t.on_disagreement: has to be one of escalate, best, error"),
    "a broken expression": (tier("{strategy: consensus, models: [sim/a], extract: {regex: '(a'}}"),
                            "3: tiers.t.extract: is no regular expression of RE2's syntax (which has no look-around): "
                            "missing ): (a"),
    "an extract of two": (tier("{strategy: consensus, models: [sim/a], extract: {json: a, number: last}}"),
                          f"3: tiers.t.extract: has to be one of {FORMS}"),
    "an empty field": (tier("{strategy: consensus, models: [sim/a], extract: {json: ''}}"),
                       f"3: tiers.t.extract: 'json' has a value that is none of {FORMS}"),
    "a choice of one": (tier("{strategy: consensus, models: [sim/a], extract: {choice: [A]}}"),
                        f"3: tiers.t.extract: 'choice' has a value that is none of {FORMS}"),
    "a choice of the same": (tier("{strategy: consensus, models: [sim/a], extract: {choice: [A, a]}}"),
                             "3: tiers.t.extract: has the same choice twice"),
    "a near option": (tier("{strategy: race, models: [sim/a], comit: complete}"),
                      "3: tiers.t.comit: unknown key; did you mean 'commit'?"),
    "an unknown commit": (tier("{strategy: race, models: [sim/a], commit: x}"),
                          "3: tiers.t.commit: has to be first_token or complete"),
    "a hedge without a delay": (tier("{strategy: hedge, models: [sim/a]}"),
                                "3: tiers.t.after: is missing: seconds, or a percentile such as p95, after which the next "
                                "is asked"),
    "an unknown percentile": (tier("{strategy: hedge, models: [sim/a], after: p96}"),
                              "3: tiers.t.after: has to be seconds, or one of p50, p75, p90, p95, p99"),
    "a word as delay": (tier("{strategy: hedge, models: [sim/a], after: soon}"),
                        "3: tiers.t.after: has to be seconds, above 0 and below 3600"),
    "no number": (tier("{strategy: hedge, models: [sim/a], after: .nan}"),
                  "3: tiers.t.after: has to be seconds, above 0 and below 3600"),
    "a number of 400 digits": (tier("{strategy: hedge, models: [sim/a], after: " + "9" * 400 + "}"),
                               "3: tiers.t.after: has to be seconds, above 0 and below 3600"),
    "another's option": (tier("{models: [sim/a], quorum: 2}"),
                         "3: tiers.t.quorum: is no option of the strategy 'fallback', but of consensus"),
    "a weight of nobody": (tier("{strategy: balance, by: weight, models: [sim/a], weights: {sim/b: 1}}"),
                           "3: tiers.t.weights.sim/b: is no member of this tier"),
    "weights in a list": (tier("{strategy: balance, models: [sim/a], weights: [1]}"),
                          "3: tiers.t.weights: has to be a mapping of members to numbers of at least 0"),
    "balance by luck": (tier("{strategy: balance, models: [sim/a], by: luck}"),
                        "3: tiers.t.by: has to be latency, cost, in_flight or weight"),
    "too much to explore": (tier("{strategy: balance, models: [sim/a], explore: 2}"),
                            "3: tiers.t.explore: has to be a share between 0 and 1"),
    "no such resume": (tier("{models: [sim/a], resume: 3}"), "3: tiers.t.resume: has to be auto or off"),
    "no such filter": (tier("{models: [sim/a], content_filter: no}"),
                       "3: tiers.t.content_filter: has to be stop or fallback"),
    "a quorum of none": (tier("{strategy: consensus, models: [sim/a], quorum: 0}"),
                         "3: tiers.t.quorum: has to be a whole number between 1 and 64"),
    "an unknown method": (tier("{strategy: consensus, models: [sim/a], method: dice}"),
                          "3: tiers.t.method: has to be one of majority, weighted, judge, synthesize"),
    "an unknown extract": (tier("{strategy: cascade, models: [sim/a], extract: {xml: a}}"),
                           f"3: tiers.t.extract: has to be one of {FORMS}"),
    "a judge from nowhere": (tier("{strategy: consensus, models: [sim/a], method: judge, judge: so/what}"),
                             "3: tiers.t.judge: 'so/what' names no provider that is configured"),
    "a split without arms": (tier("{strategy: split}"), "3: tiers.t.arms: has to be a mapping of names to {weight, model}"),
    "a split with models": (tier("{strategy: split, models: [sim/a], arms: {a: {model: sim/a}}}"),
                            "3: tiers.t.models: a split has `arms` instead"),
    "a split of nobody": (tier("{strategy: split, arms: {a: {model: sim/a, weight: 0}}}"),
                          "3: tiers.t.arms: needs an arm with a weight above 0"),
    "a weight below nothing": (tier("{strategy: split, arms: {a: {model: sim/a, weight: -1}}}"),
                               "3: tiers.t.arms.a.weight: has to be at least 0.0"),
    "an arm without a model": (tier("{strategy: split, arms: {a: {weight: 1}}}"), "3: tiers.t.arms.a.model: is missing"),
    "an unknown unit": (tier("{strategy: split, unit: team, arms: {a: {model: sim/a}}}"),
                        "3: tiers.t.unit: has to be 'user' or 'request'"),
    "an override that is the request's": (tier("{models: [sim/a], override: {model: x}}"),
                                          "3: tiers.t.override: may not set model: that is the request's own"),
    "an arm from nowhere": (tier("{strategy: split, arms: {a: {model: so/what}}}"),
                            "3: tiers.t.arms.a.model: 'so/what' names no provider that is configured"),
    "over the whole": (tier("{strategy: hedge, after: 1, models: [sim/a], extra_calls: 2}"),
                       "3: tiers.t.extra_calls: has to be a share between 0 and 1"),
    "params in a list": (tier("{models: [sim/a], params: []}"),
                         "3: tiers.t.params: has to be a mapping of request parameters"),
    "params that are the request's": (tier("{models: [sim/a], params: {stream: true}}"),
                                      "3: tiers.t.params: may not set stream: that is the request's own"),
    "an experiment": (tier('["user:john:x"]'), "3: tiers.t[0]: a user's experiment can only be asked for by a request"),
    "no model": (tier("[sim]"), "3: tiers.t[0]: 'sim' is not a model: 'provider/model' or 'tier:NAME'"),
    "a number as model": (tier("[3]"), "3: tiers.t[0]: '3' is not a model: 'provider/model' or 'tier:NAME'"),
    "a near provider": (tier("[sin/a]"), "3: tiers.t[0]: 'sin/a' names no provider that is configured; did you mean 'sim'?"),
    "a provider from a variable": (tier("['${KEY}/x']"), "3: tiers.t[0]: '${KEY}/x' names no provider that is configured"),
    "a near tier": (tier('["tier:tt"]'), "3: tiers.t[0]: there is no tier 'tier:tt'; did you mean 't'?"),
    "a cycle": (SIM + 'tiers: {a: ["tier:b"], b: ["tier:a"]}',
                "2: tiers.a: is a member of itself: tier:a -> tier:b -> tier:a"),
    "nine levels": (CHAIN, "3: tiers.t0: nests tiers deeper than 8 levels"),
    "128 models": (WIDE, "3: tiers.t0: comes to 128 models with its nested tiers; at most 64"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_gets_one_line(name: str, file: Path) -> None:
    """File, line, key and what is wrong, within a second; what came out of a variable is never repeated."""
    text, expected = WRONG[name]
    began_s = time.perf_counter()
    assert [expected] == problems(file, text)
    assert time.perf_counter() - began_s < 1
    assert SECRET not in expected


def test_problems_come_together_up_to_fifty(file: Path) -> None:
    """One look shows all there is to repair; a thousand problems have one cause."""
    found = problems(file, SIM + "".join(f"key{i}: 1\n" for i in range(1000)))
    assert ["2: key0: unknown key", "3: key1: unknown key"] == found[:2]
    assert ["52: document: has more problems than these 50"] == found[50:]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Said as such, and so is a folder."""
    for path, reason in ((tmp_path / "x.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as raised:
            load(path)
        assert (f"{path}:1: document: cannot be read: {reason}",) == raised.value.problems


def test_a_whole_configuration(file: Path) -> None:
    """Sections reach their fields; variables, defaults and merges are filled in; keys are kept apart."""
    config = read(
        file,
        """
        providers:
          openai: {api_key: ["${KEY}", two]}
          lab: &lab
            base_url: http://10.0.0.5:8000/v1/
            api_key: ${NO:-none}
            pool: {concurrency: "8", queue: 0}
            limits: {requests_per_minute: 60}
            models: [a, b, a]
          spare: {<<: *lab, base_url: "http://${HOST:-spare}/v1", api_key: $${KEY}}
          sim: {simulate: {latency_s: {median: 1}}, breaker: }
        tiers:
          smart: [openai/gpt-4o, "tier:fast"]
          fast: {strategy: race, models: [lab/a, spare/org/b], commit: complete, params: {temperature: 0}}
          later: {strategy: hedge, models: [lab/a, lab/b], after: 2}
        server: {max_body_mb: 1}
        """,
    )
    assert ["openai", "lab", "spare", "sim"] == list(config.providers)
    assert {"openai": (SECRET, "two"), "lab": (), "spare": ("${KEY}",), "sim": ()} == config.keys
    assert SECRET not in repr(config)
    assert "https://api.openai.com/v1" == config.providers["openai"].base_url
    lab, spare, sim = (config.providers[name] for name in ("lab", "spare", "sim"))
    assert ("http://10.0.0.5:8000/v1", Pool(8, 0), Limits(60), ("a", "b")) == (
        lab.base_url,
        lab.pool,
        lab.limits,
        lab.models,
    )
    assert ("http://spare/v1", lab.pool) == (spare.base_url, spare.pool)
    assert sim.simulate is not None
    assert (Latency(1.0, 3.0), ("chat",)) == (sim.simulate.latency_s, sim.models)
    assert ("fallback", ("openai/gpt-4o", "tier:fast")) == (
        config.tiers["smart"].strategy.name,
        config.tiers["smart"].models,
    )
    assert ("complete", {"temperature": 0}) == (
        config.tiers["fast"].strategy.commit,
        config.tiers["fast"].strategy.params,
    )
    assert 2.0 == config.tiers["later"].strategy.after_s
    assert Server(1.0) == config.server


def test_empty_sections_are_their_defaults(file: Path) -> None:
    """A section whose lines were all commented out."""
    config = read(file, SIM + "tiers:\nserver:\n")
    assert ({}, Server()) == (dict(config.tiers), config.server)


def test_what_is_optional_is_left_out_with_its_reason(file: Path) -> None:
    """A missing variable; tiers that lose every member go along."""
    config = read(
        file,
        """
        providers:
          openai: {optional: true}
          claude: {preset: anthropic, optional: true}
          lab: {base_url: "http://${NO}/v1", optional: true}
          sim: {simulate: {}}
        tiers:
          gone: [openai/a, claude/b]
          too: ["tier:gone"]
          kept: ["tier:too", lab/x, sim/a]
          judged: {strategy: consensus, models: [sim/a], method: judge, judge: openai/a}
          risen: {strategy: cascade, models: [sim/a, sim/b], escalate: "tier:gone"}
          few: {strategy: consensus, models: [openai/a, claude/b, sim/a], quorum: 2}
          fewer: {strategy: consensus, models: [openai/a, sim/a, sim/b], quorum: 2}
        """,
    )
    assert {
        "openai": "OPENAI_API_KEY is not set",
        "claude": "ANTHROPIC_API_KEY is not set",
        "lab": "NO is not set",
        "tier:gone": "all its models were left out",
        "tier:too": "all its models were left out",
        "tier:judged": "its 'judge' was left out",
        "tier:risen": "'tier:gone' was left out",
        "tier:few": "too few of its models are left: 'quorum' can never be reached: all votes together are 1",
    } == config.left_out
    assert ["sim"] == list(config.providers)
    assert {"kept": ("sim/a",), "fewer": ("sim/a", "sim/b")} == {
        name: tier.models for name, tier in config.tiers.items()
    }


def test_a_configuration_of_nothing_but_what_was_left_out(file: Path) -> None:
    """There would be nobody to ask."""
    expected = "1: providers: all were left out: openai: OPENAI_API_KEY is not set"
    assert [expected] == problems(file, "providers: {openai: {optional: true}}")


def test_data_at_hand_are_read_like_a_file() -> None:
    """Tuples are lists, keys become text, and what goes round in circles is refused."""
    config = load_mapping({"providers": {"lab": {"base_url": "http://x", "models": ("a",), "api_key": "${KEY}"}}}, ENV)
    assert (("a",), (SECRET,)) == (config.providers["lab"].models, config.keys["lab"])
    circle: list[object] = []
    circle.append(circle)
    for data, expected in ((circle, MUCH), (None, ONE), (3, ONE)):
        with pytest.raises(ConfigError) as raised:
            load_mapping(data)
        assert (f"<inline>:1: document: {expected}",) == raised.value.problems


NAMES = (
    ("providers", "tiers", "server", "sim", "simulate", "replay", "files", "base_url", "api_key", "pool", "models")
    + ("strategy", "params", "preset", "openai", "optional", "latency_s", "keys", "tier:t", "sim/a", "${KEY}", "${")
)  # fmt: skip
names = st.sampled_from(NAMES)
words = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.text(max_size=3) | names
things = st.recursive(
    words, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=6
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["providers", "tiers", "server"]), st.dictionaries(names, things, max_size=3)))
def test_whatever_it_is_the_answer_is_a_configuration_or_its_problems(data: dict[str, object]) -> None:
    """Never another exception, and never a value that came out of a variable."""
    found: tuple[str, ...] = ()
    try:
        load_mapping(data, ENV)
    except ConfigError as error:
        found = error.problems
    assert all(problem.startswith("<inline>:1: ") and SECRET not in problem for problem in found)
    assert all(problem.isprintable() for problem in found)


def test_a_split_that_lost_an_arm_is_left_out(file: Path) -> None:
    """The others would get its share; an arm that nobody is sent to may be missing."""
    config = read(
        file,
        """
        providers: {openai: {optional: true}, sim: {simulate: {}}}
        tiers:
          gone: [openai/a]
          half: {strategy: split, arms: {a: {model: sim/a}, b: {model: openai/b}}}
          other: {strategy: split, arms: {a: {model: sim/a}, b: {model: "tier:gone"}}}
          whole: {strategy: split, unit: request, seed: s, arms: {a: {model: sim/a}, b: {model: openai/b, weight: 0}}}
          both: {strategy: split, arms: {a: {model: sim/a}, b: {model: sim/a, weight: 3}}}
        """,
    )
    assert {
        "whole": (Strategy("split", unit="request", seed="s", arms={"a": 1}), ("sim/a",)),
        "both": (Strategy("split", seed="both", arms={"a": 1, "b": 3}), ("sim/a", "sim/a")),
    } == {name: (tier.strategy, tier.models) for name, tier in config.tiers.items()}
    assert "an arm was left out" == config.left_out["tier:half"] == config.left_out["tier:other"]


def test_a_ledgers_database(file: Path) -> None:
    """A path is relative to the configuration's folder; without the section there is no ledger, and an empty one is all
    defaults."""
    assert read(file, SIM).ledger is None
    for empty in ("ledger: {}", "ledger:"):
        assert Ledger(f"sqlite:///{file.parent}/ledger.db") == read(file, SIM + empty).ledger
    assert Ledger("sqlite:////var/x.db") == read(file, SIM + "ledger: {url: 'sqlite:////var/x.db'}").ledger
    away = "postgresql://ada:secret@db:5433/ledger?sslmode=require"
    asked = read(file, SIM + f"ledger: {{url: '{away}', required: true, retention_days: 7}}")
    assert Ledger(away, 7, required=True) == asked.ledger
    assert "secret" not in repr(asked)


def test_keys_of_callers(file: Path) -> None:
    """Read, with hashes in lower case and days as days; two of one hash are a mistake that repeats neither."""
    config = read(
        file, SIM + f"server: {{keys: [{{name: ada, key_sha256: {'AB' * 32}, expires: 2027-01-01, admin: true}}]}}"
    )
    expected = CallerKey("ada", "ab" * 32, expires=date(2027, 1, 1), admin=True)
    assert (expected,) == config.callers
    assert "abab" not in repr(config)
    assert Caller("ada", admin=True) == expected.caller
    with pytest.raises(ConfigError) as wrong:
        read(file, SIM + "server: {keys: [" + ", ".join(f"{{name: {n}, key_sha256: {'ab' * 32}}}" for n in "ab") + "]}")
    problem = "server.keys[1].key_sha256: is that of server.keys[0], too; each caller has a key of its own"
    assert (f"{file}:2: {problem}",) == wrong.value.problems
    assert () == read(file, SIM + "server: {keys: }").callers
