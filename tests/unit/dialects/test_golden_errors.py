"""The shapes in which providers say no, each with its source, and what they are taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.dialects import DIALECTS
from orchestrator.types import Failure, Request

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "errors"
ROWS = [
    pytest.param({"dialect": dialect, **row}, id=f"{file.stem} by {dialect}: {row['what']}")
    for file in sorted(GOLDEN.glob("*.json"))
    for row in orjson.loads(file.read_bytes())["rows"]
    for dialect in (["anthropic", "openai"] if file.stem == "anthropic" else ["openai"])
]


@pytest.mark.parametrize("row", ROWS)
def test_a_refusal_is_taken_for_what_it_is(row: Any) -> None:
    """By status, code, type and message; as a status, within a 200, or within a stream."""
    dialect, content, request = DIALECTS[row["dialect"]], orjson.dumps(row["body"]), Request({})
    if row.get("stream"):
        (failure,) = dialect.decoder(request, "m").feed(b"data: " + content + b"\n\n")
    else:
        failure = dialect.decode(request, "m", row["status"], row.get("headers", {}), content)  # type: ignore[assignment]
    assert isinstance(failure, Failure)
    found: dict[str, object] = {"kind": failure.kind.value, "code": failure.code, "param": failure.param}
    found["retry_after_s"] = failure.retry_after_s
    expected = {name: row[name] for name in found if name in row}
    assert expected == {name: found[name] for name in expected}
    assert row.get("hidden", "\0") not in failure.message
