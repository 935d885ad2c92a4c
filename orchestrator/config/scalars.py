"""What sections of a configuration are made of."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

STRICT: dict[str, object] = {"extra": "forbid", "strict": False, "arbitrary_types_allowed": False}

Seconds = Annotated[float, Gt(0), Le(86_400)]
Count = Annotated[int, Gt(0), Le(1_000_000)]
Usd = Annotated[float, Ge(0), Le(1_000_000)]
