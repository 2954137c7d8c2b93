"""What user code writes when it is asked to save, and what it is given when it is restored."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunekit.config.problems import shorten
from tunekit.errors import SaveError

if TYPE_CHECKING:
    from tunekit.store.dicts import Snapshot

"""Holds what ``save_checkpoint`` returned, if that was a dict."""

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
