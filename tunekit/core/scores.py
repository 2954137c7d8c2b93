"""What checkpoints may be ranked by: the numbers of their rows, kept because the attribute may be another one tomorrow.

A score is computed once, by the worker that saves. When a script is run again with another
``checkpoint_score_attribute``, the scores from before say nothing any more, and are computed anew from what is kept
here. The numbers are kept packed, because there is one such record for each checkpoint of an experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tunekit.core.metrics import flatten, score
from tunekit.core.stopping import TIME_TOTAL_S, TRAINING_ITERATION
from tunekit.core.trial import CheckpointState, TrialState


def figures(manifest: Mapping[str, Any]) -> bytes:
    """Return the numbers of the row that a manifest remembers, packed; empty if there are none."""
    metrics = manifest.get("metrics")
    if not isinstance(metrics, Mapping):
        return b""
    found = {key: value for key in flatten(metrics) if (value := score(metrics, key)) is not None}
    return msgspec.msgpack.encode(found) if found else b""


def rank_anew(trials: Iterable[TrialState], attribute: str | None) -> None:
    """Give every checkpoint the score that it has by another attribute; none if nobody knows it."""
    for trial in trials:
        for place in (*trial.checkpoints.values(), *trial.failures_saved.values()):
            entry: CheckpointState | None = place
            while entry is not None:
                entry.score = None if attribute is None else _score(entry, attribute)
                entry = entry.replaces


def _score(entry: CheckpointState, attribute: str) -> float | None:
    kept = msgspec.msgpack.decode(entry.figures, type=dict[str, float]) if entry.figures else {}
    return {**kept, TRAINING_ITERATION: float(entry.iteration), TIME_TOTAL_S: entry.time_total_s}.get(attribute)
