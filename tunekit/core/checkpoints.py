"""Which checkpoints of a trial are worth keeping. Pure verdicts over the ledger.

An *interim* checkpoint is there only because the trial had to leave its place: its machine was to go, or it was paused.
The trial goes on from it, and with the next regular one it has served. So what is left in the end does not tell how
often a trial was disturbed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import isnan
from typing import Any

from tunekit.core.trial import CheckpointState, CheckpointStatus


def valid(entry: CheckpointState) -> CheckpointState | None:
    """Return what is visible and whole at the entry's iteration: the entry, or one beneath it."""
    found: CheckpointState | None = entry
    while found is not None and (found.damaged or found.status is not CheckpointStatus.PUBLISHED):
        found = found.replaces
    return found


def restorable(checkpoints: Mapping[int, CheckpointState]) -> list[CheckpointState]:
    """Return the checkpoints that an attempt can start from, oldest first."""
    found = (valid(checkpoints[iteration]) for iteration in sorted(checkpoints))
    return [entry for entry in found if entry is not None]


def newest(checkpoints: Mapping[int, CheckpointState]) -> CheckpointState | None:
    """Return the checkpoint of the highest iteration that an attempt can start from."""
    found = restorable(checkpoints)
    return found[-1] if found else None


def start(checkpoints: Mapping[int, CheckpointState]) -> CheckpointState | None:
    """Return the checkpoint that the next attempt starts from: the newest, or the newest that is not suspect.

    It is never one that holds another training than the trial's, whatever else is there.
    """
    found = own(checkpoints)
    trusted = [entry for entry in found if not entry.is_suspect]
    return (trusted or found)[-1] if found else None


def last_hope(checkpoints: Mapping[int, CheckpointState]) -> CheckpointState | None:
    """Return the only checkpoint that the next attempt can start from; None: there are others, or none.

    One that may be gone by our own doing is nobody's loss.
    """
    found = own(checkpoints)
    return found[0] if len(found) == 1 and not found[0].is_doubted else None


def mainstay(checkpoints: Mapping[int, CheckpointState]) -> CheckpointState | None:
    """Return the checkpoint that must never go: the one to start from or, if there is none, the newest."""
    return start(checkpoints) or newest(checkpoints)


def own(checkpoints: Mapping[int, CheckpointState]) -> list[CheckpointState]:
    """Return those that an attempt can start from and that hold the trial's own training, oldest first."""
    return [entry for entry in restorable(checkpoints) if not entry.began_anew]


def num_bytes(manifest: Mapping[str, Any]) -> int:
    """Return how many bytes the files of a manifest take."""
    files = manifest.get("files")
    sizes = [file.get("size") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return sum(size for size in sizes if isinstance(size, int) and size > 0)


def rank(entry: CheckpointState, order: str) -> tuple[bool, float, int]:
    """Return a key that sorts better checkpoints higher: by score, unscored ones last, ties to the newer one."""
    score = entry.score
    if score is None or isnan(score):
        return (False, 0.0, entry.iteration)
    return (True, score if order == "max" else -score, entry.iteration)


def superfluous(
    published: Iterable[CheckpointState],
    *,
    num_to_keep: int | None,
    by_score: bool,
    order: str,
    pinned: Collection[int] = (),
    is_over: bool = False,
) -> list[CheckpointState]:
    """Return the published checkpoints that retention gives up, oldest first.

    Kept are the ``num_to_keep`` best by score (without a score attribute: the newest), the newest, and the pinned ones.
    Interim ones take nobody's place: of them only the newest is kept, and that only while it is the newest of all.

    Args:
        published: The published, undamaged checkpoints of one trial.
        num_to_keep: How many; None keeps all.
        by_score: Whether a score attribute ranks them.
        order: ``"max"`` or ``"min"``: which score is better.
        pinned: Iterations that somebody still needs.
        is_over: Whether nothing goes on from the newest, so that it may go if it is interim and not the only one.
    """
    entries = sorted(published, key=lambda entry: entry.iteration)
    regular = [entry for entry in entries if not entry.interim]
    if len(regular) == len(entries) and (num_to_keep is None or len(entries) <= num_to_keep):
        return []
    ranked = sorted(regular, key=lambda entry: rank(entry, order)) if by_score else regular
    kept = {entry.iteration for entry in ranked[-(num_to_keep or len(ranked)) :]}
    kept.update(entry.iteration for entry in regular[-1:])
    if not (is_over and regular):
        kept.add(entries[-1].iteration)
    kept.update(pinned)
    return [entry for entry in entries if entry.iteration not in kept]
