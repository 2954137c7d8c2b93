"""What user code writes when it is asked to save, and what it is given when it is restored."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunekit.config.problems import shorten
from tunekit.errors import SaveError, TunekitError
from tunekit.logs import logger_of
from tunekit.store.finding import find

if TYPE_CHECKING:
    from tunekit.store.dicts import Snapshot

logger: Final = logger_of("tunekit")

_DISK_TROUBLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE}
"""What an OSError in the user's own ``save_checkpoint`` blames on the storage."""
_PROBE: Final = ".tunekit-probe"
_PROBE_BYTES: Final = 1 << 20


class UserError(Exception):
    """Carries an OSError of user code past those who take it for trouble of the storage."""

    def __init__(self, cause: OSError) -> None:
        """Keep the error."""
        super().__init__(str(cause))
        self.cause = cause


def written(write: Callable[[str], Any], folder: Path) -> Snapshot | None:
    """Have user code write into a folder, and return the dict that it returned, taken apart.

    Raises:
        UserError: An OSError that is no trouble of the storage.
        SaveError: It returned something that is no checkpoint.
        BaseException: Whatever else user code raised.
    """
    try:
        returned = write(str(folder))
    except OSError as error:
        if error.errno in _DISK_TROUBLE:
            raise
        _blame_the_disk(folder, error)
        raise UserError(error) from error
    except Exception as error:
        _blame_the_disk(folder, error)
        raise
    return _kept(returned, folder)


def _blame_the_disk(folder: Path, error: Exception) -> None:
    """Raise what the storage says if it takes no more.

    Libraries have their own words for a full disk: torch a RuntimeError, NumPy an OSError without a number.
    """
    probe = folder / _PROBE
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError as trouble:
        if trouble.errno in _DISK_TROUBLE:
            raise trouble from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def content_of(folder: Path) -> str | dict[Any, Any]:
    """Return what ``load_checkpoint`` is to be given: the folder, or the dict that was saved in it."""
    from tunekit.store import dicts  # noqa: PLC0415 - loaded by those who use one

    return dicts.read(folder, use_pickle=True) if dicts.is_dict(folder) else str(folder)


def tell_change(folder: Path, content: object, experiment: str, trial_name: str) -> None:
    """Warn if user code has changed the checkpoint that it was to load, which is then damaged.

    Told at once: when it is found out by itself, by the next restore, the state may be lost.

    Args:
        folder: Where its files are: in the experiment, or a download that nobody minds.
        content: What user code was given of it.
        experiment: The experiment's folder or URI.
        trial_name: The trial.
    """
    if not isinstance(content, str) or not folder.is_relative_to(Path(experiment).resolve()):
        return
    try:
        problem = find(content).change()
    except TunekitError as error:
        problem = error.message
    if problem:
        logger.warning(
            "%s: load_checkpoint has changed the checkpoint %s: %s; nothing can go on from it any more. "
            "Leave the folder as it is, and write into a copy of it or elsewhere",
            trial_name,
            content,
            problem,
        )


def _kept(returned: Any, folder: Path) -> Snapshot | None:
    """Take a dict apart that was returned by ``save_checkpoint``, and refuse what is no checkpoint."""
    if not folder.is_dir():
        raise SaveError(
            f"save_checkpoint removed the folder that it was given: {folder}", hint="write files into it, and leave it"
        )
    if returned is None:
        return None
    if isinstance(returned, dict):
        from tunekit.store import dicts  # noqa: PLC0415 - loaded by those who use one

        return dicts.capture(returned, "save_checkpoint")
    if not isinstance(returned, str | Path):
        raise SaveError(
            f"save_checkpoint must return None, the path that it was given or a dict, got {shorten(returned)} "
            f"({type(returned).__qualname__})",
            hint="write files into the given folder and return nothing",
        )
    if Path(returned).resolve() != folder.resolve():
        raise SaveError(
            f"save_checkpoint returned {str(returned)!r}, but it was given {str(folder)!r}",
            hint="write the files into the given folder, and return that path or nothing",
        )
    return None
