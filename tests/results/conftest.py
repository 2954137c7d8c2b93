"""A grid made by hand, which notices when the journal is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Draw, ErrorInfo, Place, ResultReported, TrialStarted
from tunekit.core.rows import RowTable
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.results import ResultGrid
from tunekit.types import Outcome, TrialStatus

PLACE = Place(pid=42, hostname="here", node_ip="127.0.0.1", worker="w1")


class Sweep:
    """Trials made by hand."""

    def __init__(self) -> None:
        self.trials: list[TrialState] = []
        self.configs: list[dict[str, Any]] = []
        self.table = RowTable()
        self.num_reads = 0

    def add(
        self,
        *rows: dict[str, Any],
        status: TrialStatus = TrialStatus.COMPLETED,
        config: dict[str, Any] | None = None,
        error: ErrorInfo | None = None,
        reason: str = "",
        saved: Sequence[int] = (),
    ) -> TrialState:
        """Add a trial that reported these rows and published a checkpoint at these iterations."""
        index = len(self.trials)
        self.table.apply(LaunchTrial(trial=index, attempt=1))
        self.table.apply(TrialStarted(trial=index, attempt=1, place=PLACE))
        last = None
        for at, metrics in enumerate(rows, start=1):
            moment = 1_700_000_000.0 + at
            last = ResultReported(
                trial=index,
                attempt=1,
                iteration=at,
                metrics=metrics,
                timestamp=moment,
                time_this_iter_s=0.5,
                time_total_s=at / 2,
            )
            self.table.apply(last)
        state = TrialState(
            trial=index, draw=Draw(), status=status, attempt=1, last=last, error=error, reason=reason, place=PLACE
        )
        for at in saved:
            state.checkpoints[at] = CheckpointState(iteration=at, attempt=1, status=CheckpointStatus.PUBLISHED)
        self.trials.append(state)
        self.configs.append(config or {"lr": index / 10})
        return state

    def read_rows(self) -> RowTable:
        self.num_reads += 1
        return self.table

    def grid(
        self, metric: str | None = "loss", mode: str | None = "min", outcome: Outcome | None = Outcome.FINISHED
    ) -> ResultGrid:
        return ResultGrid(
            trials=self.trials,
            configs=lambda trial: self.configs[trial],
            rows=self.read_rows,
            trainable_name="train",
            path="/data/digits",
            metric=metric,
            mode=mode,
            outcome=outcome,
        )


@pytest.fixture
def sweep() -> Sweep:
    """No trials yet."""
    return Sweep()
