"""Which replica answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from orchestrator.hosting.affinity import Load, affinity_of, busyness, nearest
from orchestrator.hosting.gauges import load_of
from orchestrator.resilience.admission import Upstream
from orchestrator.types import Json, Request


@dataclass
class One:
    """A replica."""

    number: int
    in_flight: int = 0
    calls: int = 0
    load: Load = field(default_factory=Load)

    @property
    def upstream(self) -> Upstream:
        return Upstream("key", "http://x", self.number)


def conversations(count: int) -> list[bytes]:
    return [affinity_of(Request({"messages": [{"role": "user", "content": f"{i}"}]}), "m") for i in range(count)]


def test_without_a_conversation_the_least_busy_answers() -> None:
    """Of equals the one with the fewest calls."""
    three = [One(0, in_flight=2), One(1, in_flight=1, calls=9), One(2, in_flight=1, calls=3)]
    assert 2 == nearest(three, b"").number


@pytest.mark.parametrize(
    ("load", "calls"), [(Load(running=3), 3), (Load(waiting=3), 3), (Load(cache=0.5), 4), (Load(1, 2, 1.0), 11)]
)
def test_what_replicas_say_of_themselves_counts(load: Load, calls: int) -> None:
    """Calls of others, their queue, their cache."""
    assert calls == busyness(One(0, load=load))
    assert 1 == nearest([One(0, load=load), One(1, in_flight=2)], b"").number


def test_ones_own_calls_are_counted_once() -> None:
    """What a replica says is running holds the calls that it was sent."""
    assert Load(0, 1, 0.2) == Load(4, 1, 0.2).without(5)
    assert Load(3, 0, 0) == Load(8, 0, 0).without(5)


def test_conversations_are_spread_and_stay() -> None:
    """Each has a home; a replica more takes its share of each of the others' and moves nobody else."""
    three = [One(i) for i in range(3)]
    homes = {one: nearest(three, one).number for one in conversations(600)}
    shares = [list(homes.values()).count(i) for i in range(3)]
    assert all(150 < share < 250 for share in shares), shares
    four = {one: nearest([*three, One(3)], one).number for one in homes}
    moved = {four[one] for one in homes if four[one] != homes[one]}
    assert {3} == moved
    assert 100 < list(four.values()).count(3) < 200


def test_a_home_that_is_busier_than_others_is_left() -> None:
    """By four calls and a quarter of the least busy one's, and not before."""
    (one,) = conversations(1)
    two = [One(0), One(1)]
    home = nearest(two, one)
    other = two[1 - home.number]
    home.in_flight = 4
    assert home is nearest(two, one)
    home.in_flight = 5
    assert other is nearest(two, one)
    home.in_flight, other.in_flight = 29, 20
    assert home is nearest(two, one)
    home.in_flight = 30
    assert other is nearest(two, one)


def body(*messages: tuple[str, object]) -> Request:
    said: Json = {"messages": [{"role": role, "content": content} for role, content in messages]}
    return Request(said)


def test_a_conversation_is_known_by_its_beginning() -> None:
    """Later turns belong to it, another question does not; nor does another model."""
    first = body(("system", "be brief"), ("user", "hello"))
    later = body(("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "and?"))
    other = body(("system", "be brief"), ("user", "good day"))
    assert affinity_of(first, "m") == affinity_of(later, "m") != b""
    assert affinity_of(first, "m") != affinity_of(other, "m")
    assert affinity_of(first, "m") != affinity_of(first, "n")


@pytest.mark.parametrize(
    "request_", [Request({"input": "x"}, operation="embeddings"), body(("system", "x")), body(("user", 2**70))]
)
def test_what_has_no_beginning(request_: Request) -> None:
    """Embeddings; nobody's question; what cannot be written down."""
    assert b"" == affinity_of(request_, "m")


VLLM = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="my model} {1"} 3.0
vllm:num_requests_running{engine="1",model_name="my model"} 2.0
vllm:num_requests_running_total{engine="0"} 900.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0 1700000000000
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
"""


@pytest.mark.parametrize(
    ("text", "load"),
    [
        (VLLM, Load(5, 4, 0.5)),
        ("vllm:gpu_cache_usage_perc 0.75\n", Load(0, 0, 0.75)),
        ("sglang:num_running_reqs{tp=\"0\"} 1\nsglang:num_queue_reqs 2\nsglang:token_usage 0.1\n", Load(1, 2, 0.1)),
        ("llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\nllamacpp:kv_cache_usage_ratio 1.5\n", Load(1, 2, 1)),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting\nvllm:kv_cache_usage_perc x\n", Load()),
        ("", Load()),
    ],
)  # fmt: skip
def test_engines_say_it_by_their_own_names(text: str, load: Load) -> None:
    """vLLM's of all versions, SGLang's, llama.cpp's; several engines of one server add up; nonsense counts nothing."""
    assert load == load_of(text)
