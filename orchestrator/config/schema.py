"""Sections that only the reader of configurations knows: what a tier may hold, how a local model is written down.

What runs is in `orchestrator.config.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from orchestrator.config.scalars import STRICT, Seconds
from orchestrator.config.settings import Extract, Replicas


@dataclass(frozen=True, slots=True)
class Engine:
    """Beside `command:`, a server of OpenAI's shape that is run here: SGLang, llama.cpp, transformers."""

    __pydantic_config__: ClassVar = STRICT
    gpus: Annotated[float, Ge(0), Le(64)] = 0
    """GPUs a replica, all of one node; a part (0.5) shares one."""
    replicas: Annotated[int, Ge(1), Le(1000)] | Replicas = 1
    """How many, spread over the nodes; or between how many it scales."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of its node; `{key}` stands for its key here, too."""
    cold_start_s: Seconds = 600.0
    """How long it may take until it answers, and how long a call waits for it that has nobody else to ask."""
    hang_s: Seconds = 30.0
    """How long its health may stay unanswered before it is ended and started anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vllm(Engine):
    """`vllm:` a local model: vLLM's own server, run here."""

    __pydantic_config__: ClassVar = STRICT
    model: str
    """A name of Hugging Face's, or a path; one that begins with `./` starts at the configuration's folder."""
    served_name: str | None = None
    """What requests call it; left out: `model`."""
    gpus: Annotated[float, Ge(0), Le(64)] = 1
    """GPUs a replica, all of one node; 0 for a CPU build. Over 1: a tensor parallel model, unless `args` say otherwise."""
    python: str | None = None
    """The interpreter that has vLLM, on every node that may run it; left out: ours."""
    args: tuple[str, ...] = ()
    """More arguments for vLLM's server."""


@dataclass(frozen=True, slots=True)
class Arm:
    """`arms: NAME:` of a split."""

    __pydantic_config__: ClassVar = STRICT
    model: str
    """A selector."""
    weight: Annotated[float, Ge(0), Le(1_000_000)] = 1.0
    """Its share, of the sum of all weights; 0: nobody."""


@dataclass(frozen=True, slots=True)
class TierOptions:
    """`tiers: NAME:` everything that may stand there. A list alone is a fallback over its models."""

    __pydantic_config__: ClassVar = STRICT
    strategy: Literal["first", "fallback", "race", "hedge", "balance", "consensus", "cascade", "split", "spill"] = (
        "fallback"
    )
    models: tuple[str, ...] = ()
    """Selectors: `provider/model` or `tier:NAME`. A split has `arms` instead."""
    commit: Literal["first_token", "complete"] = "first_token"
    """race: what decides, the first token or the whole answer."""
    after: Annotated[float, Gt(0), Le(3600)] | str | None = None
    """hedge: the seconds, or the percentile (`p95`) of its latency, after which the next model is asked."""
    extra_calls: Annotated[float, Ge(0), Le(1)] = 0.05
    """hedge: share of added calls allowed."""
    by: Literal["latency", "cost", "in_flight", "weight"] = "latency"
    """balance: what is preferred."""
    explore: Annotated[float, Ge(0), Le(1)] = 0.05
    """balance: share of the calls that try another than the best."""
    method: Literal["majority", "weighted", "judge", "synthesize"] = "majority"
    """consensus: how the answer comes out of the answers."""
    extract: Extract | Literal["text", "fields"] | None = None
    """consensus, cascade: what is compared; left out: each field of the answer where a request wants JSON, else its text."""
    quorum: Annotated[int, Ge(1), Le(64)] | None = None
    """consensus: the votes (weighted: their weight) that an answer needs; left out: more than half. A judge, or a model that
    merges, waits for so many answers; left out: for all."""
    samples: Annotated[int, Ge(1), Le(64)] = 1
    """consensus: answers asked of each model."""
    weights: Mapping[str, Annotated[float, Ge(0), Le(1_000_000)]] = field(default_factory=dict)
    """consensus, balance: by selector; left out: 1."""
    judge: str | None = None
    """consensus: the selector that judges (asked twice, in both orders of the answers) or synthesizes."""
    escalate: str | None = None
    """consensus, cascade: the selector that is asked, once, when they do not agree."""
    on_disagreement: Literal["escalate", "best", "error"] | None = None
    """consensus, cascade: left out: escalate where there is somebody to escalate to, else best, the leading answer."""
    agree: Annotated[int, Ge(2), Le(64)] = 2
    """cascade: how many have to agree."""
    max_wait_s: Annotated[float, Ge(0), Le(3600)] = 2.0
    """spill: how long a call may wait for a place at a model before the next one is asked; the last one is waited for."""
    unit: Literal["user", "request"] = "user"
    """split: what is always sent to the same arm; where no user is said, that is the request."""
    seed: str | None = None
    """split: another seed sends other units to an arm; left out: the name (`NAME:EXPERIMENT`)."""
    arms: Mapping[str, Arm] = field(default_factory=dict)
    """split: by name. Only the arm that is chosen is asked."""
    resume: Literal["auto", "off"] = "auto"
    """Whether a stream that was cut is gone on with by another candidate: one marked `prefill` continues the text; any other
    answers afresh, and what follows is streamed if its answer begins with exactly the text already sent."""
    content_filter: Literal["stop", "fallback"] = "stop"
    """Whether a refusal for its content is the answer, or the next candidate is asked."""
    params: Mapping[str, object] = field(default_factory=dict)
    """Parameters of the request that the tier sets; a request's own value wins."""
    override: Mapping[str, object] = field(default_factory=dict)
    """Parameters that the tier sets whatever the request says. Of tiers within tiers, the inner one's count."""
    cache: Mapping[str, float] | None = None
    """`{ttl_s: 60}`: how long exact answers of its are kept; left out: as `cache:` says. Of tiers within tiers, the outer
    one's counts."""


@dataclass(frozen=True, slots=True)
class Experiment(TierOptions):
    """`experiments: NAME:` of a user's file: what a tier may have, and a budget. Members are models and tiers."""

    __pydantic_config__: ClassVar = STRICT
    budget_usd: Annotated[float, Ge(0), Le(100_000_000)] | None = None
    """US dollars that all of its requests together may cost. The platform may allow less (`budgets.experiments`)."""


@dataclass(frozen=True, slots=True)
class User:
    """`users: NAME:` or `users/NAME.yaml`. Chooses strategies, models and parameters; never providers, addresses or keys."""

    __pydantic_config__: ClassVar = STRICT
    user: str | None = None
    """The name of the file, or of the key within `users:`; may be left out."""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    """By name: requests ask for `user:NAME:EXPERIMENT`."""
