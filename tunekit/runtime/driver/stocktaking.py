"""What a driver that takes over finds in the storage, held against what the journal says should be there.

The two differ when somebody copied, moved or restored an experiment in parts, or deleted a checkpoint by hand; tunekit
itself makes no checkpoint visible before the journal knows of it. The storage is listed once, whatever the number of
trials, and only those manifests are read that the journal knows nothing of:

* Known and there: nothing to do. Its bytes are compared with its manifest when something is restored from it.
* Known and gone, or without its manifest: forgotten, so that its trial goes on from the one before.
* The same, and there is none before: left as it is, unless an unknown one is adopted. The trial fails when it is to go
  on from it, and says what to do.
* Unknown, and the journal holds every result up to it: adopted. Retention decides what becomes of it.
* Unknown otherwise: put aside. A trial must not go on from results that no table shows.

``compare``, ``judge`` and ``settled`` are pure; what they decide reaches the core as events, and so the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tunekit.core.checkpoints import start, valid
from tunekit.core.events import CheckpointAdopted, CheckpointMissing, Event, ResultReported
from tunekit.core.rows import RowTable, end_of
from tunekit.core.trial import CheckpointState, CheckpointStatus, TrialState
from tunekit.errors import CheckpointError
from tunekit.logs import logger_of
from tunekit.printable import one_line
from tunekit.runtime.saving.reasons import INTERIM
from tunekit.store import CheckpointIO, layout
from tunekit.store import manifest as manifests
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import Manifest
from tunekit.store.overview import Overview, overview
from tunekit.store.verify import size_problems
from tunekit.types import TrialId, TrialStatus

logger = logger_of(__name__)

_MAX_SHOWN = 5
_OVER = {TrialStatus.COMPLETED, TrialStatus.STOPPED}


class Unknown(NamedTuple):
    """A folder with a manifest of which the journal says nothing."""

    folder: str
    trial: TrialId
    key: CheckpointKey
    """Without the attempt, which is in the manifest."""


@dataclass(frozen=True)
class Differences:
    """Where journal and storage differ."""

    missing: list[CheckpointMissing] = field(default_factory=list)
    """What is to be forgotten."""
    bereft: set[TrialId] = field(default_factory=set)
    """Trials that are not over and have none left to go on from."""
    last: dict[TrialId, CheckpointMissing] = field(default_factory=dict)
    """Of those of them that are not to start over, the checkpoint that they are to go on from; one of the missing."""
    hopeless: set[TrialId] = field(default_factory=set)
    """Those of them for which nothing was found, so that this checkpoint is not among the missing any more."""
    remains: list[CheckpointMissing] = field(default_factory=list)
    """Those of the missing of which something is left."""
    unknown: list[Unknown] = field(default_factory=list)


def compare(trials: Sequence[TrialState], there: Overview, trial_name: Callable[[TrialId], str]) -> Differences:
    """Hold what the journal says against the names of the folders that are there.

    Args:
        trials: The trials, after the whole journal.
        there: The folders of checkpoints that there are.
        trial_name: Gives the folder name of a trial.
    """
    found = dict(there)
    differences = Differences()
    for trial in trials:
        places = found.pop(trial_name(trial.trial), {})
        known = {_name(entry) for entry in _entries(trial)}
        differences.unknown.extend(_unknown(trial_name(trial.trial), trial.trial, places, known))
        last = None
        if _is_bereft(trial, places):
            differences.bereft.add(trial.trial)
            last = _last(trial)
        for entry in _expected(trial):
            name = _name(entry)
            if not places.get(name, False):
                event = CheckpointMissing(
                    trial=trial.trial, attempt=entry.attempt, iteration=entry.iteration, exact=entry.exact
                )
                differences.missing.append(event)
                if name in places:
                    differences.remains.append(event)
                if entry is last:
                    differences.last[trial.trial] = event
    for name, places in found.items():
        parsed = layout.parse_trial_name(name)
        if parsed is not None and trial_name(parsed[1]) == name:
            differences.unknown.extend(_unknown(name, parsed[1], places, set()))
    return differences


def judge(shown: Manifest, trial: TrialState | None, rows: Sequence[ResultReported]) -> str:
    """Return why an unknown checkpoint cannot be adopted; empty: it can.

    Args:
        shown: Its manifest.
        trial: Its trial; None if the journal does not know it.
        rows: The rows of the trial that count.
    """
    if trial is None or not 0 < shown.attempt <= trial.attempt:
        return f"the journal knows nothing of attempt {shown.attempt} of this trial"
    end = end_of(trial)
    if shown.exact and end is not None and shown.iteration > end:
        return f"its trial ended at iteration {end}"
    by_iteration = {row.iteration: row for row in rows}
    lacking = next((at for at in range(1, shown.iteration + 1) if at not in by_iteration), None)
    if lacking is not None:
        return f"the journal lacks result {lacking} of this trial"
    if shown.exact and shown.iteration and by_iteration[shown.iteration].attempt != shown.attempt:
        return f"attempt {by_iteration[shown.iteration].attempt} has gone on without it"
    return ""


def settled(differences: Differences, adopted: Sequence[CheckpointAdopted]) -> Differences:
    """Return the differences once it is known what was adopted: to put something aside is no help to a trial.

    Of a trial for which nothing was found, the last checkpoint is not forgotten: it would start over without a word.
    Nor is it put aside, since somebody may put a copy in its place.
    """
    found = {event.trial for event in adopted if event.exact}
    kept = {trial: event for trial, event in differences.last.items() if trial not in found}
    return replace(
        differences,
        hopeless={*kept},
        missing=[event for event in differences.missing if kept.get(event.trial) != event],
        remains=[event for event in differences.remains if kept.get(event.trial) != event],
    )


def take_stock(
    trials: Sequence[TrialState], io: CheckpointIO, trial_name: Callable[[TrialId], str], rows: Callable[[], RowTable]
) -> list[Event]:
    """Look at the storage, put aside what must not stay, say what was found, and return what the core must know.

    Args:
        trials: The trials, after the whole journal.
        io: The checkpoints.
        trial_name: Gives the folder name of a trial.
        rows: Reads the table of results; called only if an unknown checkpoint was found.

    Raises:
        StorageError: The storage cannot be read.
    """
    differences = compare(trials, overview(io.store), trial_name)
    report = _Report()
    adopted: list[CheckpointAdopted] = []
    table = rows() if differences.unknown else RowTable()
    for unknown in differences.unknown:
        trial = trials[unknown.trial] if unknown.trial < len(trials) else None
        shown, why = _read(io, unknown)
        if shown is not None and not why:
            why = judge(shown, trial, table.rows(trial) if trial else [])
        if shown is not None and not why:
            report.note("nobody knew of are adopted, since the journal holds all their results", unknown.folder)
            adopted.append(_adopted(unknown.trial, shown))
            continue
        report.note(f"nobody knew of are put aside into {layout.QUARANTINE}, because {why}", unknown.folder)
        key = unknown.key._replace(attempt=shown.attempt if shown else 0)
        io.quarantine(*key[:3], exact=key.exact)
    differences = settled(differences, adopted)
    for event in differences.missing:
        key = CheckpointKey(trial_name(event.trial), event.iteration, event.attempt, event.exact)
        report.note(f"are gone or damaged, {_follows(trials[event.trial], differences, adopted)}", layout.place(key))
        if event in differences.remains:
            io.quarantine(*key[:3], exact=key.exact)
    report.write()
    return [*differences.missing, *adopted]


def _is_bereft(trial: TrialState, places: Mapping[str, bool]) -> bool:
    """Return whether a trial that is not over has lost all that it could go on from."""
    if trial.status in _OVER or start(trial.checkpoints) is None:
        return False
    found = {at: good for at, entry in trial.checkpoints.items() if (good := valid(entry)) and places.get(_name(good))}
    return start(found) is None


def _last(trial: TrialState) -> CheckpointState | None:
    """Return the checkpoint that a trial is to go on from although it is not there; None: it need not.

    One that may be gone by our own doing is nobody's loss.
    """
    entry = start(trial.checkpoints)
    return None if entry is None or entry.is_doubted else entry


def _follows(trial: TrialState, differences: Differences, adopted: Sequence[CheckpointAdopted]) -> str:
    """Return what follows for a trial of which a checkpoint is missing."""
    if trial.status in _OVER:
        return "of trials that have ended"
    if trial.trial in differences.hopeless:
        return "and their trials have no other to go on from"
    if trial.trial not in differences.bereft:
        return "so that their trials go on from the ones before"
    has_found = any(event.trial == trial.trial and event.exact for event in adopted)
    return f"so that their trials {'go on from what was found' if has_found else 'start over'}"


class _Report:
    """What the user is told: a line for each kind of difference."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def note(self, what: str, place: str) -> None:
        self._places.setdefault(what, []).append(place)

    def write(self) -> None:
        for what, places in self._places.items():
            more = f" and {len(places) - _MAX_SHOWN} more" if len(places) > _MAX_SHOWN else ""
            logger.warning("checkpoints that %s: %s%s", what, one_line(", ".join(places[:_MAX_SHOWN])), more)


def _unknown(name: str, trial: TrialId, places: Mapping[str, bool], known: set[str]) -> list[Unknown]:
    keys = {
        place: layout.parse_place(name, place, 0) for place, whole in places.items() if whole and place not in known
    }
    return [Unknown(f"{name}/{place}", trial, key) for place, key in sorted(keys.items()) if key is not None]


def _entries(trial: TrialState) -> list[CheckpointState]:
    """Return everything that the journal knows of the trial's checkpoints, what lies beneath others included."""
    entries: list[CheckpointState] = []
    for top in [*trial.checkpoints.values(), *trial.failures_saved.values()]:
        entry: CheckpointState | None = top
        while entry is not None:
            entries.append(entry)
            entry = entry.replaces
    return entries


def _expected(trial: TrialState) -> list[CheckpointState]:
    return [entry for entry in _entries(trial) if entry.status is CheckpointStatus.PUBLISHED]


def _name(entry: CheckpointState) -> str:
    if entry.exact:
        return layout.checkpoint_name(entry.iteration)
    return layout.failure_name(entry.iteration, entry.attempt)


def _read(io: CheckpointIO, unknown: Unknown) -> tuple[Manifest | None, str]:
    """Return the manifest of an unknown checkpoint, if it can be read, and what is wrong with it, if anything is."""
    try:
        data = io.store.read(f"{unknown.folder}/{layout.MANIFEST}")
        shown = manifests.decode(data, unknown.folder)
    except CheckpointError as error:
        return None, error.message
    except FileNotFoundError:
        return None, "its manifest cannot be read"
    if layout.place(shown.key) != unknown.folder:
        return None, f"its manifest is that of {layout.place(shown.key)}"
    problems = size_problems(shown, io.store.sizes(unknown.folder), complete=False)
    return shown, ": ".join(problems[0]) if problems else ""


def _adopted(trial: TrialId, shown: Manifest) -> CheckpointAdopted:
    return CheckpointAdopted(
        trial=trial,
        attempt=shown.attempt,
        iteration=shown.iteration,
        exact=shown.exact,
        score=shown.score,
        time_total_s=shown.time_total_s,
        num_bytes=sum(entry.size for entry in shown.files),
        interim=shown.reason in INTERIM,
    )
