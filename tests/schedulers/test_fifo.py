"""FIFO."""

from __future__ import annotations

from tunekit.core.policies import Scheduler
from tunekit.schedulers import FIFO
from tunekit.testing.scheduler_contract import SchedulerContract
from tunekit.types import Mode


class TestFIFO(SchedulerContract):
    def scheduler(self) -> Scheduler:
        return FIFO()


def test_no_trial_ever_asks() -> None:
    state = FIFO().begin(Mode.MIN)
    assert [state.horizon(0, 0), state.horizon(7, 100)] == [None, None]
    assert FIFO() == FIFO()
    assert FIFO().identity() == {"class": "FIFO"}
