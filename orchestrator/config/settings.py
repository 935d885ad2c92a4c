"""The configuration as frozen values: contract §2, one dataclass a section.

These classes are the schema. pydantic validates into them (`orchestrator.config.load`), but nothing here imports it, so
a pool actor that receives its settings need not load pydantic: that saves 12 MB in each. `__pydantic_config__` is a
plain dict that pydantic reads; unknown keys are refused.

Every field's unit stands in its name; its meaning in the comment string below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from annotated_types import Ge, Gt, Le

from orchestrator.config.operations import Budgets, Cache, CallerKey, Ledger, Logs, Telemetry
from orchestrator.config.scalars import STRICT, Count, Seconds
from orchestrator.pricing.book import Prices


@dataclass(frozen=True, slots=True)
class Pool:
    """`pool:` how many calls a provider account takes at once, and how many may wait."""

    __pydantic_config__: ClassVar = STRICT
    concurrency: Count = 64
    queue: Annotated[int, Ge(0), Le(1_000_000)] = 256
    """Calls that may wait for a place; one more is refused with 429."""
    queue_timeout_s: Seconds = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`limits:` what the account allows; absent means no limit of ours."""

    __pydantic_config__: ClassVar = STRICT
    requests_per_minute: Annotated[float, Gt(0)] | None = None
    tokens_per_minute: Annotated[float, Gt(0)] | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`timeouts:` `first_token_s` and `idle_s` are for streams, `answer_s` for a unary call."""

    __pydantic_config__: ClassVar = STRICT
    connect_s: Seconds = 5.0
    first_token_s: Seconds = 60.0
    idle_s: Seconds = 30.0
    answer_s: Seconds = 300.0
    total_s: Seconds = 600.0
    """The whole call, its retries and its time in the queue included."""


@dataclass(frozen=True, slots=True)
class Retry:
    """`retry:` of the same candidate, where the failure allows it."""

    __pydantic_config__: ClassVar = STRICT
    attempts: Annotated[int, Ge(1), Le(20)] = 3
    """Tries altogether; 1 means no retry."""
    backoff_s: Seconds = 0.5
    backoff_max_s: Seconds = 8.0
    honour_retry_after_s: Annotated[float, Ge(0), Le(3600)] = 5.0
    """A longer Retry-After is not waited out: the next candidate is asked."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """`breaker:` opens after `failures` within `window_s`; probes after `cooldown_s`."""

    __pydantic_config__: ClassVar = STRICT
    failures: Count = 5
    window_s: Seconds = 30.0
    cooldown_s: Seconds = 10.0
    ratio: Annotated[float, Ge(0), Le(1)] = 0.5
    """At least this share of the calls has to have failed since the first of those failures."""


@dataclass(frozen=True, slots=True)
class Health:
    """`health:` an active probe of the provider's accounts: a GET, which bills nothing."""

    __pydantic_config__: ClassVar = STRICT
    every_s: Annotated[float, Ge(0), Le(86_400)] = 0.0
    """Seconds between probes; 0: none."""
    path: str = "/models"
    """What is asked for, below the base URL."""


@dataclass(frozen=True, slots=True)
class Connections:
    """`connections:` of the pool to its upstream."""

    __pydantic_config__: ClassVar = STRICT
    keepalive: Count = 100
    """Idle connections that are kept."""
    idle_s: Seconds = 60.0


@dataclass(frozen=True, slots=True)
class Latency:
    """A log-normal latency by its median and its 99th percentile."""

    __pydantic_config__: ClassVar = STRICT
    median: Annotated[float, Ge(0), Le(3600)] = 0.4
    p99: Annotated[float, Ge(0), Le(3600)] = 3.0


@dataclass(frozen=True, slots=True)
class Simulate:
    """`simulate:` a provider that makes its answers up, behind a real HTTP server."""

    __pydantic_config__: ClassVar = STRICT
    latency_s: Latency = field(default_factory=Latency)
    """Time to the first token."""
    tokens_per_s: Annotated[float, Gt(0)] = 80.0
    error_rate: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of calls answered with a 500."""
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Replay:
    """`replay:` recorded answers, found by the last user message, served by the same server."""

    __pydantic_config__: ClassVar = STRICT
    files: Mapping[str, str]
    """Model name -> JSONL of {id, output}; a path relative to the configuration's folder."""
    questions: str
    """JSONL of {id, prompt}; a path relative to the configuration's folder."""
    latency_s: Latency = field(default_factory=lambda: Latency(0.05, 0.5))
    tokens_per_s: Annotated[float, Gt(0)] = 1_000.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Replicas:
    """`replicas:` between how many a local model scales; a number alone is both bounds."""

    __pydantic_config__: ClassVar = STRICT
    min: Annotated[int, Ge(0), Le(1000)] = 1
    """0: none while nobody asks; a call then starts one."""
    max: Annotated[int, Ge(1), Le(1000)] = 1
    target: Count = 32
    """Calls at once that each of them is meant to have: more than that for 2 s brings another one."""
    idle_s: Seconds = 300.0
    """For how long fewer have to do before one is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A server that the orchestrator itself runs, once a replica: what `vllm:` and `command:` come to."""

    command: tuple[str, ...]
    """The program and its arguments; `{host}`, `{port}`, `{key}` and `{python}` (ours) are filled in on its node."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Over the environment of its node; `{host}`, `{port}` and `{key}` are filled in, too."""
    gpus: float = 0.0
    replicas: Replicas = field(default_factory=Replicas)
    cold_start_s: float = 600.0
    """How long it may take until it answers, and how long a call waits for it that has nobody else to ask."""
    hang_s: float = 30.0
    """How long its health may stay unanswered before it is ended and started anew."""
    serves: tuple[str, ...] = ()
    """The models that it is known to have before it can be asked."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """`model_options: MODEL:` what a model can do, over the preset's own table. Left out: not known, and tried."""

    __pydantic_config__: ClassVar = STRICT
    prefill: bool | None = None
    """Continues a conversation that ends with an assistant turn."""
    tools: bool | None = None
    images: bool | None = None
    json_schema: bool | None = None
    """Structured output by a schema."""
    context_tokens: Count | None = None
    max_tokens: Count | None = None
    """The most that it writes."""
    typical_s: Seconds | None = None
    """How long it usually takes to its first token: what a hedge goes by until there are 50 calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What a provider wants otherwise than OpenAI has it; `orchestrator.fitting` does it. Nothing, for most."""

    extension: str = ""
    """The field of a request whose own fields reach this provider, over the others; those of other providers do not."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Fields of a request that it wants by another name."""
    drops: frozenset[str] = frozenset()
    """Fields that it refuses, and that an answer is as good without."""
    turn_drops: frozenset[str] = frozenset()
    """Fields of a message that it refuses."""
    call_drops: frozenset[str] = frozenset()
    """Fields of a tool's call in a message that it refuses."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Roles of messages that it wants by another name."""
    call_id_characters: int | None = None
    """How many letters and digits the identity of a tool's call has to be made of; None: it takes any."""
    prefill_fields: Mapping[str, object] = field(default_factory=dict)
    """What a request has to say beside a last assistant turn for it to be continued."""
    prefill_turn: Mapping[str, object] = field(default_factory=dict)
    """What that turn itself has to say."""
    signing_models: str = ""
    """Those that insist on their signature on the first call of each of the assistant's turns: a regular expression that is
    looked for in the model's name. Empty: none."""
    stand_in: Mapping[str, object] = field(default_factory=dict)
    """What such a call has as `extra_content` where another model made it, or its signature is lost."""


_NOTHING_KNOWN = ModelOptions()


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider after presets and variables: what its pool actor needs, save for the keys.

    Keys never travel with it (`Config.keys` holds them), so that it may be shown, logged and passed as an argument.
    """

    name: str
    dialect: str = "openai"
    base_url: str = ""
    """Up to and including the version segment, without a trailing slash; empty for what is run by the orchestrator itself."""
    key_header: str = "authorization"
    """The header that carries the key; `authorization` carries it as a bearer token, any other as it is."""
    model_prefix: str = ""
    """Stands before the names that the provider lists, and not in those that it is asked for."""
    pool: Pool = field(default_factory=Pool)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: Retry = field(default_factory=Retry)
    breaker: Breaker = field(default_factory=Breaker)
    health: Health = field(default_factory=Health)
    connections: Connections = field(default_factory=Connections)
    models: tuple[str, ...] | None = None
    """What /v1/models lists; None: asked of the provider. An unlisted model is passed on all the same."""
    model_options: Mapping[str, ModelOptions] = field(default_factory=dict)
    """By the model's name; one `*` at the end stands for any rest. The preset's own, with the configuration's over them."""
    quirks: Quirks = field(default_factory=Quirks)
    api_version: str = ""
    """Azure's dated interface: each model has a path of its own (its deployment), and each call names this version."""
    simulate: Simulate | None = None
    replay: Replay | None = None
    hosted: Hosted | None = None

    def url(self, path: str, model: str = "", at: str = "") -> str:
        """Where a path below the base URL is; `model`: of a call to it; `at`: the base URL of one upstream of several."""
        if not self.api_version:
            return (at or self.base_url) + path
        base, named, _ = self.base_url.partition("/deployments/")
        if model:
            base = self.base_url if named else f"{base}/deployments/{quote(model, safe='')}"
        return f"{base}{path}?api-version={self.api_version}"

    def options_of(self, model: str) -> ModelOptions:
        """What is known of a model: its own entry, else the longest pattern that fits."""
        found = self.model_options.get(model)
        if found is None:
            fits = [name for name in self.model_options if name.endswith("*") and model.startswith(name[:-1])]
            found = self.model_options[max(fits, key=len)] if fits else _NOTHING_KNOWN
        return found


@dataclass(frozen=True, slots=True)
class Extract:
    """`extract:` where the answer stands in a text: exactly one of these, or the word `text` for all of it, or `fields` for
    each field of a structured answer by itself."""

    __pydantic_config__: ClassVar = STRICT
    json: str | None = None
    """A field of the JSON object that the text is or holds, in a code fence or broken as it may be; `a.b` lies within."""
    regex: str | None = None
    """The first group of the last match, or the match; RE2's syntax (no look-around)."""
    number: Literal["first", "last"] | None = None
    choice: tuple[str, ...] = ()
    """The last of these that the text names, or says to be the answer."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a tier answers; see `orchestrator.strategies`."""

    name: Literal["first", "fallback", "race", "hedge", "balance", "consensus", "cascade", "split", "spill"] = (
        "fallback"
    )
    commit: Literal["first_token", "complete"] = "first_token"
    """race: what decides, the first token or the whole answer."""
    after_s: float | None = None
    """hedge: how long the first may be silent before the next is asked."""
    after_share: float | None = None
    """hedge, instead: the share of its calls that have answered by then."""
    extra_calls: float = 0.05
    """hedge: share of added calls allowed."""
    by: Literal["latency", "cost", "in_flight", "weight"] = "latency"
    """balance: what decides who is asked first; the others are its fallbacks."""
    explore: float = 0.05
    """balance by latency: share of the calls that go to another than the best."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """balance by weight, consensus by weighted votes: by member; left out: 1."""
    max_wait_s: float = 2.0
    """spill: how long a call may wait for a place before the next member is asked."""
    unit: Literal["user", "request"] = "user"
    """split: what always comes to the same arm."""
    seed: str = ""
    """split: another seed sends other units to an arm."""
    arms: Mapping[str, float] = field(default_factory=dict)
    """split: the weight of each arm, in the order of the members."""
    resume: Literal["auto", "off"] = "auto"
    """Whether a stream that was cut is gone on with by another member."""
    content_filter: Literal["stop", "fallback"] = "stop"
    """Whether a refusal for its content is the answer, or the next member is asked."""
    params: Mapping[str, object] = field(default_factory=dict)
    """Parameters that the tier sets; a request's own value wins."""
    method: Literal["majority", "weighted", "judge", "synthesize"] = "majority"
    """consensus: how the answer comes out of the answers."""
    extract: Extract | Literal["text", "fields"] | None = None
    """consensus, cascade: what is compared; None: fields where the request wants JSON, else the text."""
    quorum: int | None = None
    """consensus: the votes (weighted: their weight) that an answer needs; a judge waits for so many answers."""
    samples: int = 1
    """consensus: answers asked of each model."""
    judge: str | None = None
    """consensus: the selector that judges or merges."""
    escalate: str | None = None
    """consensus, cascade: the selector that is asked where there is no agreement."""
    on_disagreement: Literal["escalate", "best", "error"] = "best"
    agree: int = 2
    """cascade: how many have to agree."""

    override: Mapping[str, object] = field(default_factory=dict)
    """Parameters that the tier sets whatever the request says."""
    cache_ttl_s: float | None = None
    """How long exact answers are kept; None: as the configuration says."""

    @property
    def helpers(self) -> tuple[str, ...]:
        """The members of a vote that have none themselves: the judge, then who is escalated to, as far as there are any."""
        return tuple(one for one in (self.judge, self.escalate) if one is not None)

    def calls(self, widths: Sequence[int]) -> int:
        """How many calls it may come to at the most, retries aside; `widths`: how many each member may, helpers last.

        Whoever votes is asked for each sample, a judge in both orders of the answers.
        """
        voters = len(widths) - len(self.helpers)
        again = widths[voters] if self.judge is not None and self.method == "judge" else 0
        return sum(widths[:voters]) * self.samples + sum(widths[voters:]) + again


@dataclass(frozen=True, slots=True)
class Tier:
    """`tiers: NAME:` or a user's `experiments: NAME:` a strategy over selectors; members may be tiers (no cycles)."""

    name: str
    strategy: Strategy
    models: tuple[str, ...]
    budget_usd: float | None = None
    """An experiment's: what all of its requests together may cost, by its researcher."""

    @property
    def members(self) -> tuple[str, ...]:
        """The members of its route: the models, then those that help to decide between their answers."""
        return (*self.models, *self.strategy.helpers)


@dataclass(frozen=True, slots=True)
class Server:
    """`server:` of the HTTP endpoint."""

    __pydantic_config__: ClassVar = STRICT
    max_body_mb: Annotated[float, Gt(0), Le(1024)] = 20.0
    keepalive_s: Seconds = 15.0
    """Silence after which a streamed answer gets a comment."""
    origins: tuple[str, ...] = ()
    """Web pages that may use the endpoint from a browser, beside those of this machine: `https://chat.example.com`, `*`.
    None named: with keys any page (it needs one as well), without keys no other."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """`rollout:` who is sent through the orchestrator, beside an existing system (docs/rollout.md); without it: everybody."""

    __pydantic_config__: ClassVar = STRICT
    percent: Annotated[float, Ge(0), Le(100)] = 100.0
    """Share of the users, by a stable hash: a larger one adds users and takes none away."""
    allow: tuple[str, ...] = ()
    """Users who are sent through it whatever the percentage."""
    deny: tuple[str, ...] = ()
    """Users who never are, also where `allow` names them."""
    seed: str = ""
    """Another seed chooses other users."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole validated configuration. `keys` is kept out of its repr, and out of everything that is shown, as
    are the password of the ledger's database and the address that alerts are sent to."""

    providers: Mapping[str, Provider]
    tiers: Mapping[str, Tier]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Bare name -> selector; a `*` in both stands for the same text."""
    server: Server = field(default_factory=Server)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """Provider name -> its API keys, one an account."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """What was left out, and why: optional providers, tiers and experiments that lost members, users whose file is wrong."""
    experiments: Mapping[str, Tier] = field(default_factory=dict)
    """Users' experiments, by `NAME:EXPERIMENT`."""
    users_folder: str | None = None
    """Where users' files are; None: the configuration names no folder."""
    rollout: Rollout = field(default_factory=Rollout)
    cache: Cache = field(default_factory=Cache)
    logs: Logs = field(default_factory=Logs)
    telemetry: Telemetry = field(default_factory=Telemetry)
    source: str = "<inline>"
    prices: Prices = field(default_factory=Prices)
    """What models cost."""
    budgets: Budgets = field(default_factory=Budgets)
    ledger: Ledger | None = None
    """None: nothing is recorded."""
    callers: tuple[CallerKey, ...] = field(default=(), repr=False)
    """The endpoint's own keys; none: no key is asked for."""
