"""``experiment.json``: what an experiment is, compared with the script at every later run.

It binds from the moment at which the first trial starts, and is never changed from there. Before that there is nothing
that could contradict it, so a script that was corrected after a false start may replace it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec
from xxhash import xxh3_64_hexdigest

from tunekit.config.problems import why_no_folder_name
from tunekit.core.codec import FORMAT_VERSION, decode_value, encode_value
from tunekit.errors import (
    ExperimentExistsError,
    ExperimentMismatchError,
    ExperimentNotFoundError,
    JournalCorruptError,
    JournalVersionError,
    StorageError,
)
from tunekit.journal.durable import create_file, cut, make_folder, replace_file
from tunekit.journal.segments import segments
from tunekit.printable import HIDDEN, is_secret, masked

HEADER_NAME = "experiment.json"
_HINT = "Check that the disk is there, has room and lets this user in, then run the script again."

_ABSENT = object()


class ExperimentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What makes an experiment this one and no other."""

    format: int = FORMAT_VERSION
    name: str
    identity: dict[str, Any]
    """Metric, mode, seed, trainable, searcher and scheduler: whatever may not change between runs."""
    space: dict[str, Any]
    """Signature of the search space."""
    created: float = msgspec.field(default_factory=time.time)
    """Unix seconds."""
    journal: str = "journal"
    """The folder of the journal. One whose false start could not be emptied in one step has another name after it."""


def create_header(folder: Path, header: ExperimentHeader) -> None:
    """Write ``experiment.json``, as a whole or not at all, and never over another one.

    Raises:
        ExperimentExistsError: There is one already.
        StorageError: The folder cannot be used.
    """
    content = header_content(header)
    path = folder / HEADER_NAME
    try:
        make_folder(folder)
        create_file(path, content)
    except FileExistsError as error:
        raise holds_one_already(str(folder)) from error
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error}", hint=_HINT) from error


def replace_header(folder: Path, header: ExperimentHeader, *, journal: Path) -> None:
    """Write ``experiment.json`` over one that binds nobody yet, and empty the journal, which spoke of that one.

    The journal goes first, its newest segment before the others: whatever a crash leaves in between is still an
    experiment of the old header in which no trial has started.

    Args:
        folder: The experiment's folder, whose lock the caller holds.
        header: The new one.
        journal: Folder of the journal.

    Raises:
        StorageError: The folder cannot be used.
    """
    content = header_content(header)
    path = folder / HEADER_NAME
    try:
        for segment in reversed(segments(journal)):
            cut(segment, 0)
        replace_file(path, content)
    except OSError as error:
        raise StorageError(f"{path} could not be replaced: {error}", hint=_HINT) from error


def holds_one_already(where: str) -> ExperimentExistsError:
    """Return the error for a folder in which an experiment was not expected."""
    return ExperimentExistsError(
        f"{where} holds an experiment already", hint="Give this sweep another name.", path=where
    )


def header_content(header: ExperimentHeader) -> bytes:
    """Return what ``experiment.json`` is to hold."""
    fields = msgspec.json.decode(encode_value(msgspec.structs.asdict(header)))
    return msgspec.json.format(msgspec.json.encode({"checksum": _checksum(fields), **fields})) + b"\n"


def read_header(folder: Path) -> ExperimentHeader | None:
    """Return what ``experiment.json`` holds, or None if there is none.

    Raises:
        JournalCorruptError: It is damaged.
        JournalVersionError: A newer tunekit wrote it.
        ExperimentNotFoundError: There can be none, since a part of the folder's path is a file.
        StorageError: It cannot be read.
    """
    path = folder / HEADER_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise _no_folder(folder) from error
    except OSError as error:
        raise StorageError(f"{path} could not be read: {error}", hint=_HINT) from error
    return parse_header(str(path), content)


def _no_folder(folder: Path) -> ExperimentNotFoundError:
    """Return the error for a place of an experiment at which a file is, or above which one is."""
    file = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), folder)
    if file.name == HEADER_NAME:
        hint = f"give the experiment's folder: {file.parent}"
    else:
        hint = "give the experiment's own folder, <storage_path>/<name>; for a new one, a name that no file has"
    what = "it" if file == folder else str(file)
    return ExperimentNotFoundError(f"there is no experiment at {folder}: {what} is a file", hint=hint, path=str(folder))


def mismatch(name: str, found: Sequence[str], *, hint: str = "") -> ExperimentMismatchError:
    """Return the error of a script that does not describe an experiment.

    Args:
        name: Of the experiment.
        found: A line for each difference.
        hint: What to do next, if there is something better than usual.
    """
    lines = "\n".join(f"  {difference}" for difference in found)
    return ExperimentMismatchError(
        f"the script does not describe the experiment {name!r}\n{lines}",
        hint=hint
        or "Put the settings back to go on with it, or give the sweep another name to begin a new experiment "
        "(on_change='fork' does).",
        differences=list(found),
    )


def differences(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Yield a line for each leaf in which experiment and script differ.

    Args:
        path: Where they are.
        ours: Of the experiment.
        theirs: Of the script.
    """
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in dict.fromkeys([*ours, *theirs]):
            inner = f"{path}/{key}" if path else str(key)
            yield from differences(inner, ours.get(key, _ABSENT), theirs.get(key, _ABSENT))
    elif not _same(ours, theirs):
        if is_secret(path, ours) or is_secret(path, theirs):
            yield f"{path}: not the same in the experiment as in the script {HIDDEN}"
        else:
            yield f"{path}: {_show(ours)} in the experiment, {_show(theirs)} in the script"


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same, where NaN is NaN and True is not 1."""
    if ours is _ABSENT or theirs is _ABSENT:
        return False
    if isinstance(ours, bool) is not isinstance(theirs, bool):
        return False
    return bool(ours == theirs) or encode_value(ours) == encode_value(theirs)


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(masked(value))


def _checksum(fields: Mapping[str, Any]) -> str:
    """Return the checksum over what the file says, however it is laid out."""
    return xxh3_64_hexdigest(msgspec.json.encode(fields, order="sorted"))


def parse_header(path: str, content: bytes) -> ExperimentHeader:
    """Return what ``experiment.json`` holds.

    Args:
        path: What it is called in errors.
        content: Its bytes.

    Raises:
        JournalCorruptError: It is damaged.
        JournalVersionError: A newer tunekit wrote it.
    """
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _corrupt(path, f"it is not JSON ({error})")
    if not isinstance(fields, dict) or fields.pop("checksum", None) != _checksum(fields):
        _corrupt(path, "its checksum does not match")
    if fields.get("format", 0) > FORMAT_VERSION:
        raise JournalVersionError(
            f"{path} has format {fields['format']}, but this tunekit reads formats up to {FORMAT_VERSION}",
            hint="Open it with the version of tunekit that wrote it, or a newer one: pip install -U tunekit.",
        )
    try:
        header = msgspec.convert(decode_value(content), ExperimentHeader)
    except msgspec.ValidationError as error:
        _corrupt(path, str(error))
    if problem := why_no_folder_name(header.journal):
        _corrupt(path, f"its journal is {header.journal!r}, but {problem}")
    return header


def _corrupt(path: str, what: str) -> NoReturn:
    raise JournalCorruptError(
        f"{path} is damaged: {what}",
        hint="Bring the file back from a copy. It does not change once a trial has started.",
        path=path,
    )
