"""Copies a whole experiment, in an order in which no interruption leaves anything but an earlier state of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from tunekit.errors import ExperimentNotFoundError, JournalCorruptError, StorageError
from tunekit.store import folders, layout
from tunekit.store import manifest as manifests
from tunekit.store.contents import HEADER, Contents, Kind, take_apart
from tunekit.store.inspection import Problem
from tunekit.store.shelf import Found
from tunekit.store.verify import size_problems
from tunekit.upkeep.history import History, read_history
from tunekit.upkeep.journals import is_beginning, journal_name, local_journal
from tunekit.upkeep.refusals import MARKER, check_experiment, refused
from tunekit.upkeep.standstill import standing_still
from tunekit.upkeep.transfer import Transfer, Wanted

_PASSES = 10
"""How often a running experiment may delete what its journal spoke of when we read it."""
_DRIVEN = "end it first: a copy that is being run is an experiment of its own"


class _GoneError(Exception):
    """A running experiment has deleted something that the journal, as far as we have read it, speaks of."""


def copy_experiment(transfer: Transfer, *, while_running: bool) -> None:
    """Copy an experiment; of one that is running, the state at one moment.

    Raises:
        ExperimentExistsError: The target is something else, or is run by a driver.
        ExperimentNotFoundError: The source has no header.
        JournalCorruptError: Its journal is damaged.
        StorageError: The storage failed.
    """
    header = _header(transfer)
    _look_at_target(transfer, header)  # before anything is written there, the lock included
    with standing_still(transfer.target.store, alone=True, hint=_DRIVEN):
        is_complete = _look_at_target(transfer, header)
        if not is_complete:
            transfer.target.store.put_if_absent(MARKER, header)
        for left in reversed(range(_PASSES)):
            try:
                _pass(transfer, is_complete=is_complete, while_running=while_running)
            except (FileNotFoundError, _GoneError, JournalCorruptError) as error:
                if not while_running or not left:
                    if isinstance(error, JournalCorruptError):
                        raise
                    raise _vanished(transfer, error) from error
            else:
                break


def _header(transfer: Transfer) -> bytes:
    try:
        return transfer.source.store.read(HEADER)
    except FileNotFoundError as error:
        raise ExperimentNotFoundError(
            f"{transfer.report.path} has no {HEADER}, so it cannot be copied as an experiment",
            hint="bring that file back from a copy, or copy its trials one by one",
            path=transfer.report.path,
        ) from error


def _look_at_target(transfer: Transfer, header: bytes) -> bool:
    listing = transfer.target.files()
    return check_experiment(transfer, header, listing, take_apart(listing, Kind.EXPERIMENT))


def _vanished(transfer: Transfer, error: Exception) -> StorageError:
    return StorageError(
        f"files of {transfer.report.path} vanished while they were copied: {error}",
        hint="see that nothing else changes the folder, and copy again: it goes on where it stopped",
        path=transfer.report.path,
    )


def _pass(transfer: Transfer, *, is_complete: bool, while_running: bool) -> None:
    """Copy the state that the journal has now: first what it speaks of, then the journal, then the header."""
    source, target = transfer.source, transfer.target
    name = journal_name(source)
    with ExitStack() as stack:
        files = [key for key in sorted(source.files(name)) if not key.endswith("/")]
        folder = stack.enter_context(local_journal(source, name, [f"{name}/{key}" for key in files]))
        history = read_history(folder)
        parts = take_apart(source.files(), Kind.EXPERIMENT, journal=name)
        there = take_apart(target.files(), Kind.EXPERIMENT, journal=name)
        if not is_beginning(target, there.journal, history.segments, folder):
            raise refused(transfer, "it has gone on by itself since, or its journal is another one")
        readable = transfer.readable(parts)
        wanted = _known(history, parts, readable) if while_running else readable
        wanted = wanted | _waiting(transfer, history, readable, while_running=while_running)
        beyond = transfer.checkpoints(wanted, transfer.shown(there))
        others = {key: found for key, found in parts.others.items() if key != HEADER and not folders.is_dropping(key)}
        transfer.files({**others, **_quarantined(parts)}, {**there.others, **_quarantined(there)})
        _journal(transfer, name, history, folder, there.journal)
        transfer.files({HEADER: parts.others[HEADER]}, there.others)
    target.store.remove(MARKER.partition("/")[0])
    target.tidy()
    if is_complete:
        for surplus in beyond:
            target.store.remove(surplus)
        transfer.report.num_removed += len(beyond)
    transfer.report.num_records = history.num_records
    transfer.count(parts)


def _known(history: History, parts: Contents, wanted: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """Return those of the checkpoints that the journal knows, and make sure that none of its is gone."""
    known = {history.folder(key): (key, digest) for key, digest in history.published.items()}
    shown = {
        folder: found
        for folder, found in wanted.items()
        if folder in known and known[folder][1] in {"", found.manifest.digest}
    }
    damaged = parts.visible.keys() - wanted.keys()
    for folder, (key, _) in known.items():
        if folder not in shown and folder not in damaged and key.trial not in history.unsure:
            raise _GoneError(folder)
    return shown


def _waiting(
    transfer: Transfer, history: History, readable: Mapping[str, Wanted], *, while_running: bool
) -> dict[str, Wanted]:
    """Return what is staged and waits to be published. The copy shows it as the next driver would.

    Where it is staged depends on the store, and where it is shown does not. A command to publish may be carried out
    twice, and the copy's driver finds that it has been.
    """
    found = {}
    for known, manifest in history.staged.items():
        folder, staging = history.folder(known), history.staging(known)
        if folder in readable and readable[folder].manifest.digest == manifest.get("digest"):
            found[folder] = readable[folder]  # and only the word of it is missing
            continue
        at = transfer.source.staged(staging)
        checked = manifests.check(manifest, staging)
        sizes = {name: each.size for name, each in transfer.source.files(at).items()}
        if not size_problems(checked, sizes, complete=False):
            found[folder] = Wanted(at, manifests.encode(manifest), checked)
        elif while_running:
            raise _GoneError(staging)
        else:
            told = "it is not whole, though the journal waits for it: the trial goes on from its checkpoint before"
            transfer.report.notes.append(Problem(staging, told, "nothing is to be done"))
    return found


def _quarantined(parts: Contents) -> dict[str, Found]:
    """Return the files in quarantine; what is staged or in the trash stays where it is."""
    folders = {place: files for place, files in parts.aside.items() if place.startswith(f"{layout.QUARANTINE}/")}
    return {f"{place}/{file}": found for place, files in folders.items() for file, found in files.items() if file}


def _journal(transfer: Transfer, name: str, history: History, folder: Path, there: Mapping[str, Found]) -> None:
    """Bring the journal over, segment by segment, each up to its last whole batch."""
    for segment in history.segments:
        key = f"{name}/{segment.name}"
        if not segment.num_bytes or (key in there and there[key].size == segment.num_bytes):
            continue
        transfer.meter.expect(segment.num_bytes)
        transfer.target.put(key, folder / segment.name, transfer.meter.advance, num_bytes=segment.num_bytes)
        transfer.report.bytes_copied += segment.num_bytes
