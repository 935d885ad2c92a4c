"""How servers end, by what they leave."""

from __future__ import annotations

import pytest

from orchestrator.hosting.endings import MOST, ending_of, oom_kills, reason_of

ENGINE = """\
(EngineCore_DP0 pid=77) ERROR 11-28 10:00:00 [core.py:845] ValueError: No available memory for the cache blocks.
(EngineCore_DP0 pid=77) Traceback (most recent call last):
(APIServer pid=70)   File "/opt/vllm/lib/vllm/v1/engine/utils.py", line 750, in wait_for_engine_startup
(APIServer pid=70) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
""".splitlines()


def test_of_vllm_the_engines_own_words_are_taken() -> None:
    """Not those of its front, which says that they stand above."""
    assert reason_of(ENGINE, "crashed").startswith("ValueError: No available memory for the cache blocks.")
    assert "out_of_memory" == ending_of(1, ENGINE, 0)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Traceback:", "  File x", "OSError: nothing is no local folder", ""], "OSError: nothing is no local folder"),
        (["usage: api_server.py", "api_server.py: error: unrecognized arguments: --x"], "error: unrecognized arguments: --x"),
        (["hub.errors.HFValidationError: Repo id must", "bye"], "hub.errors.HFValidationError: Repo id must"),
        (["ggml_cuda: failed to allocate CUDA0 buffer", "bye"], "ggml_cuda: failed to allocate CUDA0 buffer"),
        (["loading", "bye", "  "], "bye"),
        ([], ""),
        (["x" * 1000], "x" * (MOST - 1) + "…"),
    ],
)  # fmt: skip
def test_what_says_most(lines: list[str], reason: str) -> None:
    """An error before a remark; the last line where there is nothing else; nothing of one that was ended from outside."""
    assert reason == reason_of(lines, "crashed")
    assert "" == reason_of(lines, "killed")


@pytest.mark.parametrize(
    ("code", "lines", "kills", "ending"),
    [
        (0, [], 0, "crashed"),
        (1, ["ValueError: x"], 5, "crashed"),
        (137, [], 0, "killed"),
        (137, [], 1, "out_of_memory"),
        (139, [], 0, "killed"),
        (1, ["MemoryError"], 0, "out_of_memory"),
        (1, ["terminate called after throwing an instance of 'std::bad_alloc'"], 0, "out_of_memory"),
        (127, ["x cannot be run"], 0, "not_found"),
    ],
)
def test_ends_are_told_apart(code: int, lines: list[str], kills: int, ending: str) -> None:
    """By exit status, last lines, and what the kernel has killed meanwhile."""
    assert ending == ending_of(code, lines, kills)


def test_the_kernels_count_is_a_number() -> None:
    """On every system."""
    assert oom_kills() >= 0
