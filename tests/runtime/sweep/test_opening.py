"""A journal is read without Python looking for garbage in the meantime, and with no other trace."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tunekit.core.events import Event
from tunekit.errors import StorageError
from tunekit.runtime.sweep.opening import fold
from tunekit.schedulers import FIFO
from tunekit.testing.events import driver


@pytest.fixture
def plan() -> Any:
    """As much of a sweep as its journal is read with."""
    return SimpleNamespace(
        tune=SimpleNamespace(metric="loss", mode="min"),
        run=SimpleNamespace(stop=None),
        scheduler=FIFO(),
        searcher=SimpleNamespace(learns=False, begin=lambda space, **options: None),
        space=None,
    )


@pytest.fixture(params=[True, False])
def is_on(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the script lets Python look for garbage."""
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("raises", [True, False])
def test_the_collector_is_left_as_it_was_found(plan: Any, *, is_on: bool, raises: bool) -> None:
    during: list[bool] = []
    spaces: Any = SimpleNamespace(note=lambda event, num_trials: None)

    def records() -> Iterator[Event]:
        yield driver(1, num_trials=1)
        during.append(gc.isenabled())
        if raises:
            raise StorageError("the disk is gone")

    if raises:
        with pytest.raises(StorageError):
            fold(plan, 1, spaces, records())
    else:
        fold(plan, 1, spaces, records())
    assert during == [False]
    assert gc.isenabled() is is_on
