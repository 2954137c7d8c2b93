"""What may be copied over what: a copy is only ever brought up to date, and nothing else is overwritten."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from tunekit.errors import ExperimentExistsError
from tunekit.store import Store, folders, layout
from tunekit.store.contents import COPYING, HEADER, Contents
from tunekit.store.shelf import Found

if TYPE_CHECKING:
    from tunekit.upkeep.transfer import Transfer, Wanted

_OTHER_NAME = "name another target: nothing is ever overwritten that is not an earlier copy of the same"


def check_checkpoint(
    transfer: Transfer, wanted: Mapping[str, Wanted], listing: Mapping[str, Found], there: Contents
) -> None:
    """Refuse a target that is another checkpoint, or anything but the beginning of this one.

    Raises:
        ExperimentExistsError: It is.
    """
    if not wanted:
        return
    _, data, manifest = wanted[""]
    shown = transfer.shown(there).get("")
    if shown is not None and shown != data:
        raise refused(transfer, "it is another checkpoint")
    prefix = f"{manifest.data}/" if manifest.data else ""
    names = {layout.MANIFEST, *(prefix + entry.name for entry in manifest.files)}
    _refuse_files(transfer, listing, names)


def check_trial(transfer: Transfer, wanted: Mapping[str, Wanted], parts: Contents, there: Contents) -> None:
    """Refuse a target that holds another trial, other checkpoints, or other files.

    Raises:
        ExperimentExistsError: It does.
    """
    shown = transfer.shown(there)
    names = {each.manifest.trial_name for each in wanted.values()}
    for folder, data in shown.items():
        if folder in wanted and wanted[folder].data != data:
            raise refused(transfer, f"its {folder} is another one")
    for name in transfer.names(there) - names:
        raise refused(transfer, f"it holds checkpoints of {name}")
    _refuse_files(transfer, there.others, parts.others)


def check_experiment(transfer: Transfer, header: bytes, listing: Mapping[str, Found], there: Contents) -> bool:
    """Return whether the target is a complete copy of an earlier state; refuse what is not even the beginning of one.

    Raises:
        ExperimentExistsError: There is something else.
    """
    if HEADER in listing:
        if transfer.target.store.read(HEADER) != header:
            raise refused(transfer, "it holds another experiment")
        return True
    if MARKER in listing:
        if transfer.target.store.read(MARKER) != header:
            raise refused(transfer, "a copy of another experiment was begun there")
        return False
    _refuse_files(transfer, {**there.others, **there.journal}, {})
    for folder in there.checkpoints:
        raise refused(transfer, f"{folder} is there")
    return False


MARKER = f"{COPYING}/{HEADER}"
"""Says, until the copy is complete, of what it is one."""


def refuse_half_a_copy(store: Store) -> None:
    """Refuse to begin an experiment where a copy of one is not complete yet.

    Raises:
        ExperimentExistsError: It is so.
    """
    try:
        store.read(MARKER)
    except FileNotFoundError:
        return
    raise ExperimentExistsError(
        f"{store.uri} is a copy of an experiment that is not complete",
        hint="run the tunekit cp again that was interrupted: it goes on where it stopped",
        path=store.uri,
    )


def refused(transfer: Transfer, what: str) -> ExperimentExistsError:
    """Return the error for a target that may not be touched."""
    where = transfer.report.target
    return ExperimentExistsError(
        f"{where} is there and is not an earlier copy of {transfer.report.path}: {what}", hint=_OTHER_NAME, path=where
    )


def _refuse_files(transfer: Transfer, there: Iterable[str], expected: Collection[str]) -> None:
    for name in there:
        if name not in expected and not name.endswith("/") and not folders.is_dropping(name):
            raise refused(transfer, f"{name} is there")
