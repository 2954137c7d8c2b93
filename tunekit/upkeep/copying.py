"""Copies an experiment, a trial or a checkpoint to another place, where it can be used like the one it came from.

Whatever stops a copy, what can be seen at the target is whole: each checkpoint appears when all of it is there, the
journal is a beginning of the source's and ends with a whole record, and ``experiment.json``, without which there is no
experiment, comes last. To copy again is to go on. A copy that exists already is brought up to date, after its journal
has shown that it is an earlier state of the same experiment and nothing else.

What means something at its own place only stays there: locks, leases, drafts, the trash, and what attempts have staged.
What the journal waits for, to be published by the next driver, is published in the copy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

from tunekit.errors import ConfigError
from tunekit.store import open_store, resolve
from tunekit.store.contents import Kind, take_apart
from tunekit.store.joining import parent_of
from tunekit.store.layout import STAGING
from tunekit.store.shelves import shelf_of
from tunekit.upkeep.copying_experiment import copy_experiment
from tunekit.upkeep.places import Place, find
from tunekit.upkeep.refusals import check_checkpoint, check_trial
from tunekit.upkeep.report import Meter, NoMeter
from tunekit.upkeep.standstill import standing_still
from tunekit.upkeep.transfer import CopyReport, Transfer, Wanted
from tunekit.upkeep.verifying import verify_place

_RUNNING = "wait until it ends, or copy what is safe by now: tunekit cp --while-running"


def copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    verify: bool = False,
    while_running: bool = False,
    meter: Meter | None = None,
) -> CopyReport:
    """Copy an experiment, a trial or a checkpoint.

    Args:
        source: Its folder, as a local path or URI.
        target: The folder that the copy shall be; a name for the copy itself, not a folder to put it into.
        verify: Whether to read the copy back and compare every byte with its hash, the journal included.
        while_running: Whether to copy an experiment that is running: as it was at one moment, while it goes on.
        meter: Told how far it has come.

    Raises:
        NothingHereError: The source is neither an experiment nor a trial nor a checkpoint.
        ConfigError: A path cannot be used, or one of the two lies in the other.
        ExperimentExistsError: There is something else at the target; or a driver is running the one or the other.
        JournalCorruptError: The journal of the source is damaged.
        StorageError: A disk or a store failed. To copy again goes on from there.
    """
    place = find(source)
    to = resolve(target, what="target")
    _refuse_overlap(place.uri, to)
    with ExitStack() as stack:
        experiment = place.experiment
        if experiment is not None and not while_running:
            stack.enter_context(standing_still(experiment, alone=False, hint=_RUNNING))
        around, name = _around(to) if place.kind is Kind.CHECKPOINT else (to, "")
        transfer = Transfer(
            source=place.shelf,
            target=shelf_of(open_store(around)),
            report=CopyReport(place.uri, place.kind, target=to),
            meter=meter or NoMeter(),
            name=name,
        )
        _run(place, transfer, while_running=while_running)
        if verify:
            _verify(place, transfer, while_running=while_running)
    return transfer.report


def _around(target: str) -> tuple[str, str]:
    """Return the folder around a checkpoint that is to be, and its name there."""
    around, name = parent_of(target)
    if not (around or target.startswith("memory://")) or not name:
        raise ConfigError(f"target: got {target!r}, but a checkpoint is a folder in another one", hint="add a name")
    return around or "memory://", name


def _refuse_overlap(source: str, target: str) -> None:
    """Refuse to copy something into itself."""
    ends = [os.path.realpath(uri) if "://" not in uri else uri.partition("?")[0] for uri in (source, target)]
    if f"{ends[1]}/".startswith(f"{ends[0]}/") or f"{ends[0]}/".startswith(f"{ends[1]}/"):
        raise ConfigError(
            f"target: got {target!r}, but must not be, hold or lie in the source {source!r}",
            hint="name another folder",
        )


def _run(place: Place, transfer: Transfer, *, while_running: bool) -> None:
    if place.kind is Kind.EXPERIMENT:
        copy_experiment(transfer, while_running=while_running)
        return
    parts = take_apart(transfer.source.files(), place.kind)
    wanted = transfer.readable(parts)
    if place.kind is Kind.TRIAL:
        there = take_apart(transfer.target.files(), place.kind)
        check_trial(transfer, wanted, parts, there)
        transfer.checkpoints(wanted, transfer.shown(there))
        transfer.files(parts.others, there.others)
        transfer.target.tidy()
    else:
        listing = transfer.target.files(transfer.name)
        there = take_apart(listing, place.kind)
        check_checkpoint(transfer, wanted, listing, there)
        _copy_checkpoint(transfer, wanted, transfer.shown(there))
    transfer.count(parts)


def _copy_checkpoint(transfer: Transfer, wanted: Mapping[str, Wanted], present: Mapping[str, bytes]) -> None:
    """Copy the one checkpoint, and leave nothing beside it but what another try can go on with."""
    aside = transfer.target.place(transfer.name)
    try:
        transfer.checkpoints(wanted, present)
        if aside != transfer.name:
            transfer.target.clear(aside)  # It is there if the source was found damaged on the way.
    finally:
        transfer.target.store.remove(f"{STAGING}/.none")  # and the folder around it, if nothing is left in that


def _verify(place: Place, transfer: Transfer, *, while_running: bool) -> None:
    """Read the target back; what was there already and is damaged is copied once more."""
    report = transfer.report
    for is_last in (False, True):
        found = verify_place(find(report.target), transfer.meter).problems
        damaged = frozenset(folder for folder in transfer.kept for wrong in found if _lies_in(wrong.file, folder))
        if is_last or not damaged:
            report.problems += [wrong for wrong in found if wrong not in report.problems]
            report.verified = not report.problems
            return
        transfer.forced = damaged
        _run(place, transfer, while_running=while_running)


def _lies_in(file: str, folder: str) -> bool:
    return not folder or file.startswith(f"{folder}/")
