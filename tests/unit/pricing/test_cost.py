"""What a call costs, and what it may cost at the most: arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.money import on_grid, units_of, usd_of
from orchestrator.pricing.cost import AROUND_TOKENS, IMAGE_TOKENS, TOOLS_TOKENS, cost_of, is_certain, worst_case_usd
from orchestrator.pricing.price import Price, Tier
from orchestrator.types import Request, Usage

PLAIN = Price(input_per_mtok_usd=2.0, output_per_mtok_usd=8.0)
CACHED = Price(
    input_per_mtok_usd=3.0,
    output_per_mtok_usd=15.0,
    cached_input_per_mtok_usd=0.3,
    cache_write_per_mtok_usd=3.75,
    cache_write_1h_per_mtok_usd=6.0,
)
TIERED = Price(
    input_per_mtok_usd=1.25,
    output_per_mtok_usd=10.0,
    cached_input_per_mtok_usd=0.125,
    tiers=(
        Tier(
            above_input_tokens=200_000,
            input_per_mtok_usd=2.5,
            output_per_mtok_usd=15.0,
            cached_input_per_mtok_usd=0.25,
        ),
    ),
)
BESIDE = Price(
    input_per_mtok_usd=1.0, output_per_mtok_usd=1.0, reasoning_per_mtok_usd=3.0, image_usd=0.01, request_usd=0.005
)
FREE = Price(input_per_mtok_usd=0.0, output_per_mtok_usd=0.0)
M = 1_000_000


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (PLAIN, Usage(), 0.0),
        (PLAIN, Usage(M, M), 10.0),
        (PLAIN, Usage(9, 2), (18 + 16) / M),
        (PLAIN, Usage(M, 0, cached_tokens=M), 2.0),
        (PLAIN, Usage(0, M, reasoning_tokens=M), 8.0),
        (PLAIN, Usage(M, 0, cache_write_tokens=M), 2.0),
        (CACHED, Usage(M, 0, cached_tokens=M), 0.3),
        (CACHED, Usage(M, 0, cached_tokens=M // 2), 1.65),
        (CACHED, Usage(M, 0, cache_write_tokens=M), 3.75),
        (CACHED, Usage(M, 0, cache_write_tokens=M, cache_write_1h_tokens=M), 6.0),
        (CACHED, Usage(3 * M, M, M, 0, None, M, M // 2), 3.0 + 0.3 + 3.75 / 2 + 6.0 / 2 + 15.0),
        (CACHED, Usage(10, 0, cached_tokens=99, cache_write_tokens=99), 3.0 / M),
        (TIERED, Usage(200_000, 1000), 0.25 + 0.01),
        (TIERED, Usage(200_001, 1000), 200_001 * 2.5 / M + 0.015),
        (TIERED, Usage(400_000, 0, cached_tokens=400_000), 0.1),
        (BESIDE, Usage(), 0.005),
        (BESIDE, Usage(M, M, reasoning_tokens=M // 2), 1.0 + 0.5 + 1.5 + 0.005),
        (FREE, Usage(M, M, M), 0.0),
    ],
)
def test_what_a_call_costs(price: Price, usage: Usage, usd: float) -> None:
    """Each part at its own price; a part without one as what it is counted in; tiers by the whole input."""
    assert pytest.approx(usd) == cost_of(price, usage)


@pytest.mark.parametrize(
    ("price", "usage", "certain"),
    [
        (PLAIN, Usage(9, 2, reasoning_tokens=1), True),
        (PLAIN, Usage(9, 2, cached_tokens=1), False),
        (PLAIN, Usage(9, 2, cache_write_tokens=1), False),
        (CACHED, Usage(9, 2, 1, 0, None, 2, 1), True),
        (TIERED, Usage(M, 2, cached_tokens=1), True),
        (Price(input_per_mtok_usd=1, output_per_mtok_usd=1, varies=True), Usage(9, 2), False),
        (
            Price(input_per_mtok_usd=1, output_per_mtok_usd=1, cached_input_per_mtok_usd=1, cache_write_per_mtok_usd=1),
            Usage(9, 2, 1, 0, None, 1, 1),
            False,
        ),
    ],
)
def test_what_is_certain(price: Price, usage: Usage, certain: bool) -> None:
    """A cost is an estimate where something was used that has no price of its own, or where the price varies."""
    assert certain is is_certain(price, usage)


rates = st.floats(0, 1_000).map(lambda rate: round(rate, 4))
maybe = st.none() | rates
prices = st.builds(
    Price,
    input_per_mtok_usd=rates,
    output_per_mtok_usd=rates,
    cached_input_per_mtok_usd=maybe,
    cache_write_per_mtok_usd=maybe,
    cache_write_1h_per_mtok_usd=maybe,
    reasoning_per_mtok_usd=maybe,
    request_usd=maybe,
    image_usd=maybe,
)
tokens = st.integers(0, 300_000)
usages = st.builds(
    Usage,
    tokens,
    tokens,
    tokens,
    tokens,
    st.none(),
    tokens,
    tokens,
)


@given(st.lists(st.tuples(prices, usages), max_size=20))
def test_sums_are_exact(calls: list[tuple[Price, Usage]]) -> None:
    """Costs that are on the grid add up to the same in whatever order, in floats and in whole numbers of its steps."""
    costs = [on_grid(cost_of(price, usage)) for price, usage in calls]
    assert usd_of(sum(map(units_of, costs))) == on_grid(sum(costs)) == on_grid(sum(reversed(costs)))


@given(prices, usages, st.sampled_from(("input_tokens", "output_tokens")), tokens)
def test_more_never_costs_less(price: Price, usage: Usage, part: str, more: int) -> None:
    """Neither more input nor more output."""
    longer = usage._replace(**{part: getattr(usage, part) + more})
    assert cost_of(price, longer) >= cost_of(price, usage) - 1e-9


@given(prices, usages)
def test_no_part_is_billed_twice(price: Price, usage: Usage) -> None:
    """What a call costs lies between all tokens at the lowest and all at the highest of the rates that count for them."""
    cost = cost_of(price, usage) - (price.request_usd or 0.0)
    inputs = [
        price.input_per_mtok_usd,
        *(
            rate
            for rate in (
                price.cached_input_per_mtok_usd,
                price.cache_write_per_mtok_usd,
                price.cache_write_1h_per_mtok_usd,
            )
            if rate is not None
        ),
    ]
    outputs = [rate for rate in (price.output_per_mtok_usd, price.reasoning_per_mtok_usd) if rate is not None]
    least = usage.input_tokens * min(inputs) + usage.output_tokens * min(outputs)
    most = usage.input_tokens * max(inputs) + usage.output_tokens * max(outputs)
    assert least / M - 1e-9 <= cost <= most / M + 1e-9


def request(text: str = "", needs: tuple[str, ...] = (), **fields: Any) -> Request:
    return Request(
        {"messages": [{"role": "user", "content": text}], **fields}, input_tokens=len(text) // 4, needs=needs
    )


@given(
    prices,
    st.text(max_size=300),
    st.integers(0, 5_000),
    st.integers(1, 4),
    st.floats(0, 1),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_nothing_costs_more_than_the_worst_case(
    price: Price, text: str, max_tokens: int, n: int, share: float, parts: tuple[float, float, float]
) -> None:
    """Whatever of the text is cached or written: a token is a byte of UTF-8 at the least."""
    asked = request(text, n=n, messages=[{"role": "user", "content": [{"type": "text", "text": text, "ttl": "1h"}]}])
    used = len(text.encode()) + AROUND_TOKENS
    output = int(max_tokens * n * share)
    usage = Usage(
        used,
        output,
        int(used * parts[0]),
        int(output * parts[1]),
        None,
        int(used * parts[1]),
        int(used * parts[2]),
    )
    assert cost_of(price, usage) <= worst_case_usd(price, asked, max_tokens=max_tokens) + 1e-12


def worst(asked: Request, price: Price = PLAIN, max_tokens: int = 0) -> float:
    return worst_case_usd(price, asked, max_tokens=max_tokens)


def test_each_choice_may_be_as_long() -> None:
    """`n` answers of `max_tokens`, at the output's price."""
    one, three = worst(request("hi"), max_tokens=1000), worst(request("hi", n=3), max_tokens=1000)
    assert pytest.approx(2 * 1000 * 8 / M, rel=0.01) == three - one


def test_an_image_counts_for_what_is_documented_at_the_most() -> None:
    """Its data are not text; a price may say how many tokens it is, and what it costs beside them."""

    def shown(address: str) -> Request:
        parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": address}}]
        return Request({"messages": [{"role": "user", "content": parts}]}, needs=("images",))

    small, large = worst(shown("data:image/png;base64,")), worst(shown("data:image/png;base64," + "A" * 1_000_000))
    assert pytest.approx(small) == large
    assert IMAGE_TOKENS * 2 / M < small < (IMAGE_TOKENS + 300) * 2 / M
    named = Price(input_per_mtok_usd=2.0, output_per_mtok_usd=0.0, image_tokens=48_169, image_usd=0.5)
    assert pytest.approx(0.5 + (48_169 - IMAGE_TOKENS) * 2 / M) == worst(shown("data:,"), named) - worst(
        shown("data:,")
    )
    bare = Request({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, needs=("images",))
    assert IMAGE_TOKENS * 2 / M < worst(bare)


def test_tools_bring_text_of_the_providers_own() -> None:
    """Beside their definitions, which are in the request."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    more = worst(request("hi", ("tools",), tools=tools)) - worst(request("hi", tools=tools))
    assert pytest.approx(TOOLS_TOKENS * 2 / M) == more


def test_what_anthropic_would_be_sent_is_the_same_messages_again() -> None:
    """A request in Anthropic's shape holds both forms, of which a model gets either."""
    text = "x" * 10_000
    twice = request(text, anthropic={"messages": [{"role": "user", "content": text}]})
    assert pytest.approx(worst(request(text)), rel=0.02) == worst(twice)
    longer = request(text, anthropic={"messages": [{"role": "user", "content": 2 * text}]})
    assert worst(longer) > 1.9 * worst(request(text))


TEXT = "x" * 100_000
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}"}}
OWN_PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TEXT}}
SAID: Any = [{"role": "user", "content": TEXT}]


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        (request("hi", tools=[{"description": TEXT}], anthropic={"messages": SAID}), 200_000),
        (request("hi", tools=[{"description": TEXT}], anthropic={"messages": SAID, "tools": [1]}), 100_000),
        (request("hi", messages=[{"role": "system", "content": TEXT}], anthropic={"messages": SAID}), 200_000),
        (request("hi", system=TEXT, anthropic={"messages": SAID}), 200_000),
        (
            request(
                "hi",
                messages=[{"role": "system", "content": TEXT[:50_000]}],
                response_format={"json_schema": TEXT[:40_000]},
                anthropic={"messages": SAID, "system": "s", "output_config": {}},
            ),
            100_000,
        ),
        (
            request("hi", ("images",), messages=[{"role": "user", "content": [PICTURE]}], anthropic={"messages": SAID}),
            100_000,
        ),
        (
            request(
                "hi",
                ("images",),
                messages=[{"role": "user", "content": [PICTURE]}],
                anthropic={
                    "messages": [{"role": "user", "content": [{"type": "tool_result", "content": [OWN_PICTURE]}]}]
                },
            ),
            IMAGE_TOKENS,
        ),
    ],
    ids=[
        "tools beside",
        "its own tools",
        "a system prompt beside",
        "a field that is passed on",
        "all its own",
        "a picture that it does not get",
        "the same picture",
    ],
)
def test_what_anthropic_would_be_sent_beside_messages_of_its_own(asked: Request, tokens: int) -> None:
    """What the extension does not say itself is the rest's; a picture in the one is no text that is less in the other."""
    assert pytest.approx(tokens * 2 / M, rel=0.1) == worst(asked)


def test_the_worst_case_has_the_tier_that_may_be_reached() -> None:
    """And the price of writing to a cache, for an hour only where the request says so."""
    assert worst(request("x" * 199_000), TIERED) < 0.25
    assert worst(request("x" * 201_000), TIERED) > 0.5
    five = worst(request("x" * 1000), CACHED)
    assert pytest.approx(five * 6 / 3.75, rel=0.05) == worst(request("x" * 1000, cache={"ttl": "1h"}), CACHED)
