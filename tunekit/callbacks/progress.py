"""One line per trial on the terminal, and what else a user wants to see while a sweep runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TextIO

from tunekit.core.checkpoints import start
from tunekit.core.events import (
    DeleteFailed,
    DriverStarted,
    Event,
    LaunchFailed,
    PublishFailed,
    ResultReported,
    SaveFailed,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    WorkerLost,
)
from tunekit.core.failures import account, tally
from tunekit.core.metrics import score
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.printable import printable
from tunekit.types import LossCause, Outcome, TrialId, TrialStatus

_ENDINGS = (TrialReturned, TrialRaised, TrialHalted, TrialPreempted, WorkerLost, LaunchFailed)
_WARNINGS = (SaveFailed, PublishFailed, DeleteFailed)
_MARKS = {TrialStatus.COMPLETED: "✓", TrialStatus.STOPPED: "■", TrialStatus.FAILED: "✗", TrialStatus.PAUSED: "‖"}
_HINTS = {
    Outcome.TIME_BUDGET: "a larger time_budget_s",
    Outcome.DEADLINE: "a later deadline",
    Outcome.MAX_COST: "a larger max_cost",
}
"""With what a run that came to a limit goes on."""
_MAX_SHOWN = 60


class Progress:
    """Writes what happens to trials, one line each.

    Args:
        trial_name: Gives the name of a trial.
        verbose: 1: a line per trial; 2 and more: also a line per result.
        stream: Where the lines go; None: standard error, as logs do.
    """

    def __init__(self, trial_name: Callable[[TrialId], str], *, verbose: int = 1, stream: TextIO | None = None) -> None:
        """Write nothing yet."""
        self._trial_name = trial_name
        self._verbose = verbose
        self._stream = stream

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Write the lines that these events are worth."""
        lines = [line for event in events if (line := self._line(event, state))]
        if state.ended:
            lines.append(_summary(state))
            if state.outcome in _HINTS:
                lines.append(f"! {state.error} (hint: run the script again with {_HINTS[state.outcome]})")
        if lines:
            stream = self._stream or sys.stderr
            stream.write("\n".join(map(printable, lines)) + "\n")
            stream.flush()

    def _line(self, event: Event, state: State) -> str:
        if isinstance(event, ResultReported):
            return self._result_line(event, state) if self._verbose > 1 else ""
        if isinstance(event, _ENDINGS):
            return self._ending_line(event, state)
        if isinstance(event, _WARNINGS):
            what = _split_name(type(event).__name__)
            name = self._trial_name(event.trial)
            return f"! {name}  {what} at iteration {event.iteration}: {_short(event.error.message)}"
        if isinstance(event, DriverStarted) and state.trials:
            ended = len(state.trials) - state.num_open
            return f"· resumed: {len(state.trials)} trials so far, {ended} of them ended"
        return ""

    def _result_line(self, event: ResultReported, state: State) -> str:
        value = _metric(state, event)
        return f"  {self._trial_name(event.trial)}  iteration {event.iteration}{value}"

    def _ending_line(
        self,
        event: TrialReturned | TrialRaised | TrialHalted | TrialPreempted | WorkerLost | LaunchFailed,
        state: State,
    ) -> str:
        trial = state.trials[event.trial]
        if isinstance(event, TrialRaised | LaunchFailed) and event.fatal:
            return ""  # It is about the sweep, which ends by raising it.
        if isinstance(event, WorkerLost) and event.cause in {LossCause.NOT_STARTED, LossCause.DRIVER_LOST}:
            return ""
        name = self._trial_name(trial.trial)
        row = f"{trial.iteration} it{_metric(state, trial.last)}" if trial.last else "no result"
        mark = _MARKS.get(trial.status)
        if mark is None and isinstance(event, TrialHalted):
            if trial.cut_off != event.attempt:
                return ""  # Nothing is lost: it makes room, and goes on from where it is.
            return f"↻ {name}  was cut off from the driver after {row}, goes on from {_start(trial, event.attempt)}"
        if mark is None:
            return f"↻ {name}  lost, tries again: {_why(trial)}{_account(state, trial)}"
        reason = f"  {_short(trial.reason)}" if trial.reason else ""
        used = _account(state, trial) if trial.status is TrialStatus.FAILED else ""
        return f"{mark} {name}  {trial.status}  {row}{reason}{used}"


def _summary(state: State) -> str:
    counts = Counter(str(trial.status) for trial in state.trials)
    parts = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    losses = ", ".join(f"{count} {cause}" for cause, count in tally(state.trials).items())
    return f"= {len(state.trials)} trials: {parts}" + (f"; attempts lost: {losses}" if losses else "")


def _metric(state: State, row: ResultReported | None) -> str:
    metric = state.settings.metric
    if metric is None or row is None:
        return ""
    value = score(row.metrics, metric)
    return f"  {metric}={value:.6g}" if value is not None else f"  {metric}=?"


def _why(trial: TrialState) -> str:
    return _short(f"{trial.error.type}: {trial.error.message}") if trial.error else "unknown"


def _start(trial: TrialState, ended: int) -> str:
    """Return where the attempt after one that has ended starts, or will."""
    if trial.attempt > ended:
        iteration = trial.resume_from
    elif trial.num_staged:
        return "what it has just saved"
    else:
        entry = start(trial.checkpoints)
        iteration = entry.iteration if entry else None
    return f"iteration {iteration}" if iteration else "the beginning"


def _account(state: State, trial: TrialState) -> str:
    used = account(state.settings, trial)
    return f" ({used})" if used else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else line[: _MAX_SHOWN - 1] + "…"


def _split_name(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
