"""What came out of one trial."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tunekit.checkpoint import Checkpoint
from tunekit.core.checkpoints import newest, own, restorable
from tunekit.core.metrics import MISSING, flatten, lookup, rank_key, score
from tunekit.core.restarts import SilentRestart
from tunekit.core.trial import CheckpointState, CheckpointStatus
from tunekit.errors import NoResultError, TrialError
from tunekit.results.columns import table, with_config
from tunekit.results.differences import RewrittenRow
from tunekit.results.history import History
from tunekit.results.questions import check_question, unknown_metric
from tunekit.store import layout
from tunekit.store.joining import joined
from tunekit.types import LossCause, TrialId, TrialStatus

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """What came out of one trial. Made by ``ResultGrid``.

    Args:
        history: The trial.
    """

    def __init__(self, history: History) -> None:
        """Keep the trial; nothing is read yet."""
        self._history = history

    def __repr__(self) -> str:
        """Return name, status and the last metrics."""
        last = self._history.last
        row = f"iteration={last.iteration}, metrics={dict(last.metrics)}" if last else "no results"
        return f"Result({self.trial_id!r}, {self.status}, {row})"

    @property
    def index(self) -> TrialId:
        """The trial's place in the order of creation, from 0."""
        return self._history.state.trial

    @property
    def trial_id(self) -> str:
        """The trial's name, such as ``train_00003``; also that of its folder."""
        return self._history.name

    @property
    def path(self) -> str:
        """The trial's folder, which exists if the trial has saved anything."""
        return self._history.path

    @property
    def status(self) -> TrialStatus:
        """Where the trial is in its life."""
        return self._history.state.status

    @property
    def reason(self) -> str:
        """Why the trial ended, such as the decision of the scheduler; empty if there is nothing to say."""
        return self._history.state.reason

    @property
    def config(self) -> dict[str, Any]:
        """The trial's configuration."""
        return self._history.config

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The trial's last row, with ``training_iteration``, ``time_total_s``, ``config`` and the like; {} if none."""
        row = self._history.shown_last()
        return {**row, "config": self._history.shown_config} if row else {}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Every row of the trial, by iteration, each iteration once. Reads the journal."""
        return [self._history.shown(row) for row in self._history.rows]

    @cached_property
    def metrics_dataframe(self) -> pd.DataFrame:
        """``rows`` as a table: nested metrics as columns ``a/b``, the configuration as columns ``config/…``.

        Raises:
            TunekitError: pandas is not installed.
        """
        return table(with_config(row, self._history.shown_config) for row in self.rows)

    @cached_property
    def error(self) -> TrialError | None:
        """What a failed trial died of; None for any other trial."""
        return _error(self._history) if self.status is TrialStatus.FAILED else None

    @property
    def losses(self) -> dict[str, int]:
        """How often an attempt of the trial was lost, by cause, such as ``{"crashed: SIGSEGV": 2, "preempted": 1}``.

        The causes are those of ``LossCause``; a crash says how the process ended, if that is known. Every loss is
        counted, whoever pays for it.
        """
        return dict(self._history.state.losses)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint of the trial's own training; None if there is none.

        What an attempt saved that had begun anew where that is not wanted is left out, unless there is no other.
        """
        checkpoints = self._history.state.checkpoints
        entry = next(reversed(own(checkpoints)), None) or newest(checkpoints)
        return None if entry is None else self._handle(entry)

    @property
    def best_checkpoints(self) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """Every checkpoint that was kept, trusted or not, oldest first, each with its row. Reads the journal."""
        entries = restorable(self._history.state.checkpoints)
        rows = {row["training_iteration"]: row for row in self.rows} if entries else {}
        return [(self._handle(entry), rows.get(entry.iteration, {})) for entry in entries]

    @property
    def rewritten(self) -> list[RewrittenRow]:
        """Rows that a later attempt computed again with another outcome. Reads the journal."""
        return self._history.rewritten

    @property
    def silent_restarts(self) -> list[SilentRestart]:
        """Attempts that were given a checkpoint and began anew all the same: which, from where, and how it shows."""
        return list(self._history.state.silent_restarts)

    @property
    def failure_checkpoints(self) -> list[Checkpoint]:
        """What ``checkpoint_on_failure`` saved, oldest first: one for each attempt that raised."""
        saved = self._history.state.failures_saved.values()
        return [
            Checkpoint(joined(self.path, layout.failure_name(entry.iteration, entry.attempt)))
            for entry in sorted(saved, key=lambda entry: entry.attempt)
            if entry.status is CheckpointStatus.PUBLISHED
        ]

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint:
        """Return the checkpoint whose row has the best value of the metric; the newer one of equals.

        Args:
            metric: Name of a metric, nested as ``val/loss``.
            mode: ``min`` or ``max``.

        Raises:
            ConfigError: ``mode`` is neither ``min`` nor ``max``.
            MetricNotFoundError: No row with a checkpoint has this metric.
            NoResultError: There is no checkpoint, or none with a finite value.
        """
        metric, which = check_question("get_best_checkpoint", metric, mode)
        kept = self.best_checkpoints
        if not kept:
            raise NoResultError(
                f"trial {self.trial_id} has no checkpoint", hint="CheckpointConfig says when to save one"
            )
        if all(lookup(row, metric) is MISSING for _, row in kept):
            known = {key for _, row in kept for key in flatten(row)}
            raise unknown_metric(metric, known, who=f"no row of {self.trial_id} with a checkpoint has")
        checkpoint, row = min(kept[::-1], key=lambda pair: rank_key(score(pair[1], metric), which))
        if score(row, metric) is None:
            raise NoResultError(
                f"no checkpoint of trial {self.trial_id} has a finite value of {metric!r}",
                hint="look at Result.best_checkpoints, or take Result.checkpoint, which the trial would go on from",
            )
        return checkpoint

    def _handle(self, entry: CheckpointState) -> Checkpoint:
        return Checkpoint(joined(self.path, layout.checkpoint_name(entry.iteration)))


def _error(history: History) -> TrialError:
    info = history.state.error
    kind, message = (info.type, info.message) if info else ("", "")
    cause = history.state.cause or LossCause.RAISED
    where = f"after iteration {history.last.iteration}" if history.last else "before its first result"
    what = ": ".join(filter(None, [f"trial {history.name} failed {where}", kind, message]))
    hint = "mend the cause; Tuner.restore(path, trainable, resume_errored=True) then goes on with the failed trials"
    return TrialError(
        what,
        hint=(info.hint if info else "") or hint,
        cause=cause,
        error_type="" if kind == cause else kind,
        traceback=info.traceback if info else "",
    )
