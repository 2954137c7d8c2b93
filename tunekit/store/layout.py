"""Names and places inside an experiment folder, as pure functions on text.

::

    <trial>/checkpoint_<iteration, six digits>/     a published checkpoint
    <trial>/failure_<iteration>_<attempt>/          what was there when user code raised; nothing goes on from it
    .staging/<trial>.<iteration>.<attempt>/         files that a worker is writing or has written
    .staging/<trial>.<iteration>.<attempt>.failure/ the same, of a failure checkpoint
    .trash/<trial>.<iteration>.<attempt>/           on its way to deletion
    .quarantine/<trial>.<iteration>.<attempt>/      damaged, kept for a look

Places are relative and use ``/``, so that a folder can be moved, synchronised or put into a bucket. Numbers are parsed
as integers and never sorted as text. Every name that comes from outside is checked here before it becomes part of a
path.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tunekit.config.problems import MAX_NAME_BYTES, why_no_folder_name
from tunekit.errors import ConfigError, ConfigTypeError

STAGING = ".staging"
TRASH = ".trash"
QUARANTINE = ".quarantine"
MANIFEST = "MANIFEST.json"
"""The commit record of a checkpoint; no file of the user may have this name at the top of a checkpoint."""

MAX_TRAINABLE_CHARS = 100
MAX_PATH_BYTES = 1024
"""Of one file inside a checkpoint. Object stores allow 1024 bytes for a whole key."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_CHECKPOINT = re.compile(r"checkpoint_([0-9]{6,18})")
_FAILURE = re.compile(r"failure_([0-9]{6,18})_([0-9]{1,18})")
_TRIAL = re.compile(r"(.+)_([0-9]{5,18})", re.DOTALL)
_KEY = re.compile(r"(.+)\.([0-9]{1,18})\.([0-9]{1,18})(\.failure)?", re.DOTALL)


class CheckpointKey(NamedTuple):
    """What makes one save of one attempt unique."""

    trial_name: str
    iteration: int
    attempt: int
    exact: bool = True
    """False: a failure checkpoint."""


def check_name(name: str, what: str = "name") -> str:
    """Return ``name`` if it can be the name of a folder inside the storage path.

    Args:
        name: The name to check.
        what: What it names, for the message.

    Raises:
        ConfigError: It would leave the folder, hide in it, or is no name at all.
        ConfigTypeError: It is not a string.
    """
    if not isinstance(name, str):
        raise ConfigTypeError(f"{what}: got {name!r}, but must be a string")
    if problem := why_no_folder_name(name):
        raise ConfigError(
            f"{what}: got {name!r}, but {problem}",
            hint=f"use 1 to {MAX_NAME_BYTES} bytes without '/', '\\', control characters, a dot at the start, "
            "or white space at either end",
        )
    return name


def path_problem(path: str) -> str:
    """Return why ``path`` cannot name a file inside a checkpoint, or an empty string if it can."""
    size = _num_bytes(path)
    checks = (
        (not path, "it is empty"),
        ("\\" in path or _DRIVE.match(path), "it contains a backslash or a drive"),
        (path.startswith("/"), "it is absolute"),
        (_CONTROL.search(path), "it contains a control character"),
        (not {"", ".", ".."}.isdisjoint(path.split("/")), "it contains an empty, '.' or '..' part"),
        (size is None, "it is not valid Unicode"),
        ((size or 0) > MAX_PATH_BYTES, f"it is {size} bytes long (at most {MAX_PATH_BYTES})"),
    )
    return next((problem for bad, problem in checks if bad), "")


def leads_outside(key: str) -> bool:
    """Return whether a key, made a path, may lead out of the folder that it belongs into.

    In a bucket ``..`` is a name like any other, so a listing may hold what no file can be called.
    """
    return "\0" in key or not {"", ".", ".."}.isdisjoint(key.split("/"))


@functools.lru_cache
def safe_trainable_name(name: str) -> str:
    """Return ``name`` reduced to letters, digits, ``_``, ``-`` and ``.``, so that ``<lambda>`` becomes ``lambda``."""
    return _UNSAFE.sub("_", name)[:MAX_TRAINABLE_CHARS].strip("_.-") or "trainable"


def trial_name(trainable: str, index: int) -> str:
    """Return the name of a trial, such as ``train_00007``."""
    return f"{safe_trainable_name(trainable)}_{_count(index, 'trial index'):05d}"


def parse_trial_name(name: str) -> tuple[str, int] | None:
    """Return trainable and index of a trial's name, or None if it is not one."""
    match = _TRIAL.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def checkpoint_name(iteration: int) -> str:
    """Return the name of a checkpoint's folder, such as ``checkpoint_000050``."""
    return f"checkpoint_{_count(iteration, 'iteration'):06d}"


def parse_checkpoint_name(name: str) -> int | None:
    """Return the iteration of a checkpoint's folder, or None if it is not one that ``checkpoint_name`` makes."""
    match = _CHECKPOINT.fullmatch(name)
    if match is None or checkpoint_name(int(match[1])) != name:
        return None
    return int(match[1])


def failure_name(iteration: int, attempt: int) -> str:
    """Return the name of a failure checkpoint's folder, such as ``failure_000050_1``."""
    return f"failure_{_count(iteration, 'iteration'):06d}_{_count(attempt, 'attempt')}"


def parse_failure_name(name: str) -> tuple[int, int] | None:
    """Return iteration and attempt of a failure checkpoint's folder, or None if ``failure_name`` does not make it."""
    match = _FAILURE.fullmatch(name)
    if match is None or failure_name(int(match[1]), int(match[2])) != name:
        return None
    return int(match[1]), int(match[2])


def key_name(trial: str, iteration: int, attempt: int, exact: bool = True) -> str:  # noqa: FBT001, FBT002 - as in the key
    """Return the name of one attempt's save at one iteration, such as ``train_00007.50.1``."""
    check_name(trial, "trial name")
    kind = "" if exact else ".failure"
    return f"{trial}.{_count(iteration, 'iteration')}.{_count(attempt, 'attempt')}{kind}"


def parse_key_name(name: str) -> CheckpointKey | None:
    """Return the parts of a name made by ``key_name``, or None if it is not one."""
    match = _KEY.fullmatch(name)
    if match is None or why_no_folder_name(match[1]):
        return None
    key = CheckpointKey(match[1], int(match[2]), int(match[3]), exact=match[4] is None)
    return key if key_name(*key) == name else None


def later_saves(names: Iterable[str], attempts: Mapping[str, int] | None) -> set[str]:
    """Return which of these names, made by ``key_name``, are of later attempts than the newest one of their trials.

    Args:
        names: Names of saves.
        attempts: The newest attempt by the trial's name, at least 1 where there is one; None: it may be any.
    """
    keys = {name: parse_key_name(name) for name in names} if attempts is not None else {}
    return {name for name, key in keys.items() if key and key.attempt > (attempts or {}).get(key.trial_name, 0)}


def staging_name(trial: str, iteration: int, attempt: int, exact: bool = True) -> str:  # noqa: FBT001, FBT002 - as above
    """Return where an attempt stages its files: ``.staging/<trial>.<iteration>.<attempt>``."""
    return f"{STAGING}/{key_name(trial, iteration, attempt, exact)}"


def quarantine_name(trial: str, iteration: int, attempt: int, exact: bool = True) -> str:  # noqa: FBT001, FBT002 - as above
    """Return where a damaged checkpoint is kept."""
    return f"{QUARANTINE}/{key_name(trial, iteration, attempt, exact)}"


def trash_name(folder: str) -> str:
    """Return where a folder waits for its deletion. What waits there from before is deleted first."""
    return f"{TRASH}/{folder.replace('/', '~')}"


def checkpoint_path(trial: str, iteration: int) -> str:
    """Return where a published checkpoint lies."""
    return f"{check_name(trial, 'trial name')}/{checkpoint_name(iteration)}"


def failure_path(trial: str, iteration: int, attempt: int) -> str:
    """Return where a failure checkpoint lies. The attempt is in its name, so that nothing is ever in its way."""
    return f"{check_name(trial, 'trial name')}/{failure_name(iteration, attempt)}"


def place(key: CheckpointKey) -> str:
    """Return where the checkpoint of a save lies once it is published."""
    if key.exact:
        return checkpoint_path(key.trial_name, key.iteration)
    return failure_path(key.trial_name, key.iteration, key.attempt)


def parse_place(trial: str, name: str, attempt: int) -> CheckpointKey | None:
    """Return which save of ``attempt`` a folder of a trial is for, or None if it is not the place of a checkpoint."""
    failure = parse_failure_name(name)
    if failure is not None:
        return CheckpointKey(trial, failure[0], attempt, exact=False)
    iteration = parse_checkpoint_name(name)
    return None if iteration is None else CheckpointKey(trial, iteration, attempt)


def _num_bytes(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _count(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigTypeError(f"{what}: got {value!r}, but must be an integer")
    if not 0 <= value < 10**18:
        raise ConfigError(f"{what}: got {value}, but must be at least 0 and below 10**18")
    return value
