"""How it is operated: prices, the ledger, budgets, callers' keys, the cache, logs and traces. Contract §2, as in
`orchestrator.config.settings`; pool actors need none of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len

from orchestrator.callers import Caller
from orchestrator.config.scalars import STRICT, Count, Usd


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverride:
    """`pricing: overrides: SELECTOR:` what a model costs, whatever else is known: US dollars per million tokens."""

    __pydantic_config__: ClassVar = STRICT
    input_per_mtok_usd: Usd
    output_per_mtok_usd: Usd
    cached_input_per_mtok_usd: Usd | None = None
    """Input that was read from a cache; left out: as any other."""
    cache_write_per_mtok_usd: Usd | None = None
    """Input that was written to a cache; left out: as any other."""
    reasoning_per_mtok_usd: Usd | None = None
    """Thoughts; left out: as any output."""
    image_usd: Usd | None = None
    """An image in the request, beside its tokens."""
    request_usd: Usd | None = None
    """A call by itself."""


@dataclass(frozen=True, slots=True)
class Pricing:
    """`pricing:` what tokens cost. Without this section the prices are those of the table that comes along, and of a
    `pricing-cache.json` beside the configuration if there is one; the network is never asked."""

    __pydantic_config__: ClassVar = STRICT
    cache: str = "pricing-cache.json"
    """Where fetched prices are kept; a path relative to the configuration's folder."""
    refresh_h: Annotated[float, Ge(0), Le(8760)] = 24.0
    """How often prices are fetched from OpenRouter meanwhile; 0: never, `orchestrator pricing fetch` does it."""
    overrides: Mapping[str, PriceOverride] = field(default_factory=dict)
    """By `provider/model`; one `*` at the end stands for any rest."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """`ledger: alerts:` when a budget is nearly spent."""

    __pydantic_config__: ClassVar = STRICT
    thresholds: tuple[Annotated[float, Gt(0), Le(1)], ...] = (0.5, 0.9)
    """Shares of a budget."""
    webhook: str | None = field(default=None, repr=False)
    """An address that is sent each alert."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """`ledger:` where requests and what they cost are recorded; without it, nowhere."""

    __pydantic_config__: ClassVar = STRICT
    url: str = field(default="sqlite:///ledger.db", repr=False)
    """`sqlite:///PATH`, a path relative to the configuration's folder, or `postgresql://USER:PASSWORD@HOST/DATABASE`."""
    retention_days: Annotated[int, Ge(1), Le(36_500)] = 90
    """How long requests are kept; what was spent of budgets is kept beyond."""
    required: bool = False
    """Whether requests are refused with 503 while they cannot be recorded; else they are answered, and counted as lost."""
    alerts: Alerts = field(default_factory=Alerts)
    store_text: bool = False
    """Whether questions and answers are kept as well."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """`budgets:` what may be spent, beside what `budget_usd` says of keys and experiments. They need a `ledger:`.

    The most that a request can cost is reserved before anybody is called, so that many at once cannot go beyond a budget.
    """

    __pydantic_config__: ClassVar = STRICT
    users: Mapping[str, Annotated[float, Ge(0), Le(100_000_000)]] = field(default_factory=dict)
    """US dollars by user; `*`: each of the others. Who asks is said by the key, or else by the request."""
    experiments: Annotated[float, Ge(0), Le(100_000_000)] | None = None
    """US dollars that each experiment may spend altogether; its own `budget_usd` may be less."""
    period: Literal["total", "month", "day"] = "total"
    """When the budgets of users and keys begin anew, in UTC; total: never."""
    unpriced: Literal["refuse", "allow"] = "refuse"
    """What becomes of a request to a model whose price is not known: 403, or it counts as nothing."""
    max_tokens: Count = 4096
    """How much a model is thought to write at the most where neither the request nor its options (`max_tokens`) say."""
    wait_s: Annotated[float, Ge(1), Le(300)] = 5.0
    """How long a request waits for what others have reserved and may not need."""


@dataclass(frozen=True, slots=True)
class Logs:
    """`logs:` of all processes. They go to standard error, which Ray keeps with its session's logs; warnings are printed by
    `orchestrator serve`, too."""

    __pydantic_config__: ClassVar = STRICT
    format: Literal["text", "json"] = "text"
    """json: one object a line, with the request's id."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = False
    """A line for each request, whatever the level: who asked what, who answered, how long it took, what it cost."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """`telemetry:` traces by OpenTelemetry, a span for each request and one for each attempt. Its own variables
    (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, …) count where nothing is said here. Needs `orchestrator[otel]`."""

    __pydantic_config__: ClassVar = STRICT
    otlp: str | None = None
    """Where they are sent over OTLP/HTTP: `http://collector:4318`; `/v1/traces` is added."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent along, such as the collector's credentials. Never shown."""
    sample: Annotated[float, Ge(0), Le(1)] = 1.0
    """The share of requests that is traced; a caller that sends a `traceparent` decides by itself."""


@dataclass(frozen=True, slots=True)
class Cache:
    """`cache:` exact answers, kept per key: to the same request at temperature 0, or one that asks for it."""

    __pydantic_config__: ClassVar = STRICT
    ttl_s: Annotated[float, Ge(0), Le(31_536_000)] = 0.0
    """How long; 0: not at all. A tier may set its own, and so may a request, up to a day."""
    max_mb: Annotated[float, Ge(0), Le(1_000_000)] = 256.0
    """Of all answers together; the least recently used go first, and one that takes over a tenth of it is not kept.
    0: nothing is kept, whoever asks."""


@dataclass(frozen=True, slots=True)
class CallerKey:
    """`server: keys:` one caller. With any, every request needs one (`orchestrator key new` makes them); without, only this
    machine may ask."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    """What limits, budget and spend go by: up to 100 characters, no space and no '/'. No other key has it."""
    key_sha256: Annotated[str, Len(64, 64)] = field(repr=False)
    """The SHA-256 of the key, in hexadecimal. The key itself stands nowhere."""
    models: tuple[str, ...] = ("*",)
    """Selectors that it may ask for; a `*` at the beginning or the end stands for anything. Members of a tier that it may ask
    for need not be named; an experiment (`user:NAME:*`) has to be."""
    user: str | None = None
    """Whose key it is: whose experiments it may use, and who its requests are counted for, whatever they say."""
    budget_usd: Annotated[float, Ge(0)] | None = None
    requests_per_minute: Annotated[float, Ge(1)] | None = None
    """In any 60 seconds, over all coordinators."""
    tokens_per_minute: Annotated[float, Ge(1)] | None = None
    """The same: reserved by estimate, corrected by what was used."""
    expires: date | None = None
    """The last day on which it is taken, in UTC."""
    admin: bool = False
    """Whether it may use /admin and /metrics, and everybody's experiments."""

    @property
    def caller(self) -> Caller:
        """Who bears it."""
        return Caller(
            self.name,
            self.user,
            self.models,
            self.admin,
            self.budget_usd,
            self.requests_per_minute,
            self.tokens_per_minute,
        )
