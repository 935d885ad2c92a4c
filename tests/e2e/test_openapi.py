"""The document that the endpoint serves is true: what it allows and what it forbids is sent, and each answer is held
against it. (schemathesis makes the requests; under CI they are the same each time.)"""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from bench.serving import Served
from orchestrator.wire.openapi import METHODS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


ALLOWED, FORBIDDEN = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ASKED = [*((path, ALLOWED) for path in METHODS), ("/v1/chat/completions", FORBIDDEN), ("/v1/messages", FORBIDDEN)]


@pytest.mark.parametrize(("path", "mode"), ASKED, ids=lambda value: getattr(value, "value", value))
def test_what_the_document_says(served: Served, path: str, mode: GenerationMode) -> None:
    """No answer is one that the document does not have; what it forbids is refused."""
    operation = schemathesis.openapi.from_url(f"{served.root}/openapi.json")[path][METHODS[path]]

    statuses: list[int] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and mode.is_positive:
            # A name that there is: the rest of the request is what is tried.
            case.body["model"] = "sim/latency-0+tokens-2+rate-0"
        statuses.append(case.call_and_validate(checks=CHECKS).status_code)

    ask()
    assert statuses
    if path in ("/v1/chat/completions", "/v1/messages"):
        assert (200 in statuses) == mode.is_positive, statuses
