"""Global generators that are seeded for a moment, and are afterwards as they were."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from tunekit.runtime.attempt.generators import seeded, seeded_between_attempts
from tunekit.runtime.attempt.isolation import isolated


def draw() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(1).item(), torch.randn(1).item()]  # noqa: NPY002


def drawn(chance: float) -> list[float]:
    with seeded(chance):
        return draw()


def test_the_same_chance_gives_the_same_numbers() -> None:
    first = drawn(0.25)
    draw()
    assert drawn(0.25) == first
    assert not set(drawn(0.75)) & set(first)


def test_generators_go_on_where_they_were() -> None:
    with isolated(1):
        expected = [draw(), draw()]
    with isolated(1):
        first = draw()
        drawn(0.5)
        assert [first, draw()] == expected


def test_also_after_an_error() -> None:
    with isolated(1):
        expected = draw()
    with isolated(1):
        with pytest.raises(ZeroDivisionError), seeded(0.5):
            _ = draw()[0] / 0
        assert draw() == expected


def test_nested() -> None:
    with seeded(0.5):
        first = draw()
        drawn(0.25)
        second = draw()
    with seeded(0.5):
        assert [draw(), draw()] == [first, second]


def test_another_thread_waits_for_an_attempt_in_this_process() -> None:
    """A callback's thread may make a configuration while a trial draws."""
    made: list[list[float]] = []

    def make() -> None:
        with seeded_between_attempts(0.5):
            made.append(draw())

    other = threading.Thread(target=make, daemon=True)
    with isolated(1):
        other.start()
        other.join(0.2)
        assert not made
    other.join(10)
    assert made == [drawn(0.5)]


PROGRAM = """
import sys
from tunekit.runtime.attempt.generators import seeded
def draw():
    import numpy as np
    return np.random.rand()
with seeded(0.5):
    first = draw()
with seeded(0.5):
    assert draw() == first
assert draw() != first
assert not any("tunekit" in type(finder).__module__ for finder in sys.meta_path)
"""


def test_a_library_that_the_function_imports_is_seeded_too() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
