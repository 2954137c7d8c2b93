"""Who pays for a lost attempt, how long the trial waits for its next one, and when failures are alike: pure verdicts.

A trial has two budgets. What it may have brought about itself (an exception, a crash, a lack of memory, a hang) is
charged to ``max_failures``; what was done to it (a machine that was taken away or lost) to ``max_preemption_failures``.
What is neither its own fault nor bad luck of its place (the driver died, another trial was the reason, a checkpoint was
damaged) is charged to nobody. A storage that cannot be read is nobody's fault either, but not for ever.

A machine that is taken away does not come back. So when a trial's process is told to end again and again on the same
node, and the trial comes no further, then either it does that itself or somebody wants it gone: that is a crash.

Before that, rules of the user are asked about what the trial may have brought about, and about the storage: to try
again for nothing, to give up at once, to keep away from the node. A rule that has been used up has no say, except that
the trial keeps away from the node all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunekit.core.events import ErrorInfo, Rule, Settings
from tunekit.core.rng import uniform
from tunekit.core.trial import Eviction, Likeness, TrialState
from tunekit.types import LossCause, TrialStatus

MAX_STORAGE_FAULTS = 8
"""So many times in a row a trial waits for a storage that cannot be read; then it fails."""
STORAGE_BACKOFF_S = 0.5
MAX_FUTILE_PREEMPTIONS = 3
"""Of the settings of a new sweep."""
_SIGNAL = re.compile(r"SIG[A-Z]+[0-9]*\b")
_MAX_TEXT = 1000
"""Characters of an error that rules are asked about."""
MAX_BACKOFF_S = 600.0
_JITTER = 0.25
"""A wait is longer than it would have to be by up to this share, so that not all trials come back at once."""

_PREEMPTIONS = frozenset({LossCause.PREEMPTED, LossCause.NODE_LOST})
_FREE = frozenset({LossCause.DRIVER_LOST, LossCause.NOT_STARTED, LossCause.RESTORE_FAILED})
_SPARED = _PREEMPTIONS | _FREE | {LossCause.STORAGE}


def is_charged(cause: LossCause) -> bool:
    """Return whether a loss of this cause consumes ``max_failures``: what the trial may have brought about itself."""
    return cause not in _SPARED


def is_free(cause: LossCause) -> bool:
    """Return whether no budget pays for a loss of this cause, however many there are."""
    return cause in _FREE


def is_preemption(cause: LossCause) -> bool:
    """Return whether a loss of this cause consumes ``max_preemption_failures``: the trial's machine is gone."""
    return cause in _PREEMPTIONS


def is_own_doing(settings: Settings, trial: TrialState) -> bool:
    """Return whether a trial that was preempted has probably brought that about itself, and count it."""
    trial.evicted = evicted_from(trial.node, trial.iteration, trial.evicted)
    return is_futile(settings.max_futile_preemptions, trial.evicted)


def evicted_from(node: str, iteration: int, before: Eviction | None) -> Eviction:
    """Count a preemption of a trial.

    Args:
        node: Where it was; empty if nobody knows.
        iteration: Of its newest row.
        before: What was counted up to now.
    """
    is_another = before is None or before.node != node or node == "" or iteration > before.iteration
    return Eviction(node, iteration, 1 if before is None or is_another else before.times + 1)


def is_futile(limit: int | None, evicted: Eviction) -> bool:
    """Return whether a trial was preempted so often in one place that this is its own doing. None: it never is."""
    return limit is not None and evicted.times > limit


def signal_in(reason: str) -> str:
    """Return the signal that a preemption is said to have come by; empty if it came otherwise."""
    found = _SIGNAL.match(reason)
    return found.group() if found else ""


def is_exhausted(num_failures: int, max_failures: int) -> bool:
    """Return whether a trial with so many charged failures is to be given up. A budget of -1 never is."""
    return 0 <= max_failures < num_failures


def backoff_s(settings: Settings, trial: TrialState, first_s: float, count: int) -> float:
    """Return how long a trial waits after the ``count``-th failure: ``first_s``, twice that, and so on, and a bit.

    The bit is chance by trial and attempt, so that it is the same whenever the sweep is replayed.
    """
    wait_s = min(MAX_BACKOFF_S, first_s * 2.0 ** min(count - 1, 60))
    return wait_s * (1.0 + _JITTER * uniform(settings.seed, "backoff", trial.trial, trial.attempt))


def likeness(error: ErrorInfo) -> Likeness:
    """Return what tells an error from others: its type, and the innermost line of its traceback."""
    lines = [line.strip() for line in error.traceback.splitlines() if line.lstrip().startswith('File "')]
    return Likeness(error.type, lines[-1] if lines else "")


def ruling(settings: Settings, error: ErrorInfo | None) -> Rule | None:
    """Return the first rule of the user that fits an error; None: none does.

    What is searched is short, so that no pattern takes long about it.
    """
    if error is None or not settings.rules:
        return None
    text = f"{error.type[:_MAX_TEXT]}: {error.message[:_MAX_TEXT]}"[:_MAX_TEXT]
    return next((rule for rule in settings.rules if re.search(rule.pattern, text)), None)


def is_paid(rule: Rule, trial: TrialState) -> bool:
    """Return whether a rule answers for one failure more of a trial, and count it."""
    count = trial.ruled.get(rule.pattern, 0) + 1
    if is_exhausted(count, rule.max_times):
        return False
    trial.ruled[rule.pattern] = count
    return True


def note_loss(trial: TrialState, cause: LossCause, how: str = "") -> None:
    """Enter into a trial's account that it has lost an attempt.

    Args:
        trial: The trial.
        cause: Why.
        how: In which way, if the cause has several: a signal or an exit code.
    """
    trial.cause = cause
    entry = f"{cause}: {how}" if how and cause is LossCause.CRASHED else str(cause)
    trial.losses[entry] = trial.losses.get(entry, 0) + 1


def tally(trials: Iterable[TrialState]) -> dict[str, int]:
    """Return how often attempts of these trials were lost, by cause, the most frequent cause first."""
    total: dict[str, int] = {}
    for trial in trials:
        for entry, count in trial.losses.items():
            total[entry] = total.get(entry, 0) + count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def account(settings: Settings, trial: TrialState) -> str:
    """Return in words what a trial has used of its budgets, and what is left unless it has failed for good.

    Empty if it has used nothing.
    """
    goes_on = trial.status is not TrialStatus.FAILED
    parts = [(trial.num_failures, "failure", settings.max_failures)]
    parts.append((trial.num_preemptions, "preemption", settings.max_preemption_failures))
    return "; ".join(_used(count, word, budget if goes_on else None) for count, word, budget in parts if count)


def _used(count: int, word: str, budget: int | None) -> str:
    left = f", {budget - count} more allowed" if budget is not None and count <= budget else ""
    return f"{count} {word}{'s' * (count != 1)}{left}"
