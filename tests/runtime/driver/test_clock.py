"""Experiment time goes on where the journal ended, to the last bit, and never runs backwards."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.runtime.driver.clock import Clock

SECONDS = st.floats(min_value=0, max_value=1e9)


@given(start=SECONDS, began=SECONDS, steps=st.lists(SECONDS, max_size=5))
def test_time_never_runs_backwards(start: float, began: float, steps: list[float]) -> None:
    reading = began
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: reading)
        clock = Clock(start)
        before = clock.now()
        assert before >= start
        for step in steps:
            reading += step
            assert clock.now() >= before
            before = clock.now()
