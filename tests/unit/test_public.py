"""What may be imported from the package, and what its errors promise."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

import orchestrator
from orchestrator import (
    BadChoice,
    CallFailed,
    ConfigError,
    InvalidObject,
    NoApplication,
    NotAllowed,
    OrchestratorError,
    ToolError,
    UnknownSelector,
)
from orchestrator.types import Failure, FailureKind

LATER = Failure(FailureKind.SERVER_ERROR, "a/b: HTTP 503")
NEVER = Failure(FailureKind.MALFORMED, "a/b: HTTP 400")


def fallen(*causes: Failure) -> Failure:
    return Failure(FailureKind.ALL_FAILED, "all", causes=tuple(("a/b", cause) for cause in causes))


def test_the_public_names() -> None:
    """These, and no others; adding one is a decision."""
    expected = [
        "BadChoice",
        "CallFailed",
        "ConfigError",
        "Delta",
        "Denied",
        "InvalidObject",
        "Model",
        "ModelReply",
        "ModelStream",
        "Models",
        "NoApplication",
        "NotAllowed",
        "OrchestratorError",
        "Step",
        "ToolCall",
        "ToolError",
        "UnknownSelector",
        "__version__",
        "create_models",
    ]
    assert expected == sorted(orchestrator.__all__)
    assert expected == sorted(name for name in expected if hasattr(orchestrator, name))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        orchestrator.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("error", "text", "retryable"),
    [
        (ConfigError(("f:1: a: no", "f:2: b: no")), "f:1: a: no\nf:2: b: no", False),
        (UnknownSelector("x", ("a", "b"), "no KEY"), "unknown model 'x' (left out: no KEY); did you mean a, b?", False),
        (UnknownSelector("x/y"), "unknown model 'x/y'", False),
        (UnknownSelector("x"), "unknown model 'x'; 'aliases' in the configuration give bare names a meaning", False),
        (NotAllowed("user:john:x", "eve"), "'user:john:x' may not be used by the user 'eve'", False),
        (BadChoice("models", "has to be a list"), "models: has to be a list", False),
        (CallFailed(LATER), "server_error: a/b: HTTP 503", True),
        (CallFailed(NEVER), "invalid_request: a/b: HTTP 400", False),
        (CallFailed(fallen(NEVER, LATER)), "all_candidates_failed: all", True),
        (CallFailed(fallen(NEVER)), "all_candidates_failed: all", False),
        (InvalidObject("{", ("a: no", "b: no")), "the answer does not fit the schema: a: no; b: no", True),
        (NoApplication("nobody is there"), "nobody is there", True),
        (ToolError("not today"), "not today", False),
    ],
)  # fmt: skip
def test_errors_say_what_and_survive_pickling(error: OrchestratorError, text: str, retryable: bool) -> None:
    """Text, kin, and whether trying again may help: the same on the other side of a process."""
    for one in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(error), text, retryable) == (type(one), str(one), one.retryable)
        assert isinstance(one, OrchestratorError)


def test_what_trying_again_may_mend() -> None:
    """What passes with time; not the request's own faults, accounts, mistakes of ours, or what the caller did."""
    lasting = {
        "invalid_request", "context_length_exceeded", "content_policy_violation", "unsupported", "model_not_found",
        "request_too_large", "provider_unauthorized", "insufficient_quota", "cancelled", "internal_error",
        "all_candidates_failed",
    }  # fmt: skip
    assert lasting == {kind.value for kind in FailureKind if not CallFailed(Failure(kind, "x")).retryable}


def test_a_pool_loads_no_more_than_it_needs() -> None:
    """Each of these costs every pool actor memory: 12 MB for pydantic alone."""
    code = (
        "import sys, orchestrator.endpoint, orchestrator.config.settings, orchestrator.simulate.server\n"
        "print([name for name in ('pydantic', 'yaml', 'openai', 'ray', 'starlette') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "[]\n" == ran.stdout


def test_the_python_api_loads_what_it_uses() -> None:
    """Opening and asking needs neither pydantic's, OpenAI's nor Ray's modules until something of theirs is used."""
    code = (
        "import sys; from orchestrator import create_models; models = create_models(runtime='asyncio'); models.model('a')\n"
        "print([name for name in ('pydantic', 'yaml', 'openai', 'ray', 'starlette') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "[]\n" == ran.stdout
