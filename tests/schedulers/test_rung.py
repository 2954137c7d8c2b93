"""The two heaps of a rung against sorting everything each time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tunekit.schedulers.rung import Rung

_keys = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False), st.just(math.inf))


@given(st.lists(_keys, max_size=60), st.integers(2, 5))
def test_cutoff_is_the_last_of_the_best(keys: list[float], eta: int) -> None:
    rung = Rung(eta)
    for n, key in enumerate(keys, start=1):
        best = sorted(keys[:n])[: n // eta]
        assert rung.record(key) == (best[-1] if best else None)
        assert (rung.num_recorded, rung.num_best) == (n, n // eta)
