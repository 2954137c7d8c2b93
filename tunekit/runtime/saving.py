"""The worker's half of a checkpoint: user code writes it, it is sealed, and the driver is told.

Trouble of the storage costs one checkpoint and is told as ``SaveFailed``; trouble of user code is user code's own and
passes through. Whatever happens, no half-written folder stays behind.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import cloudpickle
import msgspec
import xxhash

from tunekit.checkpoint import Checkpoint
from tunekit.config.problems import shorten
from tunekit.core.events import CheckpointStaged, SaveFailed
from tunekit.core.metrics import score
from tunekit.core.stopping import TIME_TOTAL_S, TRAINING_ITERATION
from tunekit.errors import CheckpointCorruptError, CheckpointError, SaveError
from tunekit.runtime.channel import Channel
from tunekit.runtime.failure import error_info
from tunekit.runtime.spec import AttemptSpec, SweepSpec
from tunekit.store.checkpoint_io import CheckpointIO

DICT_NAME: Final = "_tunekit_dict.pkl"
"""Holds what ``save_checkpoint`` returned, if that was a dict. Read only when the trial itself is restored."""

_MAX_METRICS_BYTES: Final = 16_384
"""A larger row is left out of the manifest, which is journalled and so would hold it twice."""
_DISK_TROUBLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}
"""What an OSError in the user's own ``save_checkpoint`` blames on the storage."""


class SaveReason(StrEnum):
    """Why a checkpoint is saved; kept in its manifest."""

    FREQUENCY = "frequency"
    TIME = "time"
    """``checkpoint_every_s``. The only kind that a newer save may replace while it waits."""
    DEMAND = "demand"
    """``should_checkpoint`` or ``pin_checkpoint`` in a result."""
    USER = "user"
    """A folder that user code reported."""
    AT_END = "at_end"
    PAUSE = "pause"
    PREEMPTION = "preemption"
    """The machine is about to be taken away."""
    FAILURE = "failure"
    """User code raised; the state is what it left behind, and nothing is resumed from it."""


class Row(NamedTuple):
    """The newest row of results."""

    iteration: int
    metrics: dict[str, Any]
    time_total_s: float


class Saving:
    """Saves the checkpoints of one attempt."""

    def __init__(self, sweep: SweepSpec, spec: AttemptSpec, channel: Channel, io: CheckpointIO) -> None:
        """Begin with nothing saved."""
        self._sweep = sweep
        self._spec = spec
        self._channel = channel
        self._io = io
        self._handed_out: tuple[int, Path] | None = None
        self._config_digest: str | None = None
        self.saved_at = 0
        """Iteration of the newest checkpoint that was asked for or restored."""

    def save(self, write: Callable[[str], Any], row: Row, reason: SaveReason, *, pin: bool = False) -> None:
        """Have user code write a checkpoint of ``row``.

        Args:
            write: ``save_checkpoint`` of the class or of the saver.
            row: The newest row.
            reason: Why.
            pin: Whether the user wants it kept for good.
        """
        with self._staging(row):
            folder = self._io.begin(*self._key(row.iteration))
            self._forget(row.iteration)
            try:
                returned = write(str(folder))
            except OSError as error:
                if error.errno in _DISK_TROUBLE:
                    raise
                raise _UserError(error) from error
            _keep_returned(returned, folder)
            self._seal(row, reason, pin=pin)

    def save_failed(self, write: Callable[[str], Any], row: Row) -> None:
        """Have user code write what it holds after it raised, beside the checkpoints. Never raises.

        Args:
            write: ``save_checkpoint`` of the class or of the saver.
            row: The newest row.
        """
        del write, row

    def settle(self) -> None:
        """Return when nothing of this attempt is in flight, and the driver has been told of all of it."""

    def check(self) -> None:
        """Raise what user code did wrong in a save that was finished behind its back, once.

        Raises:
            SaveError: What it saved cannot be a checkpoint.
        """

    def adopt(self, checkpoint: Checkpoint, row: Row, *, pin: bool = False) -> None:
        """Keep a folder that user code has written."""
        with self._staging(row), checkpoint.as_directory() as name:
            folder = Path(name)
            handed_out = self._handed_out
            if handed_out != (row.iteration, folder):
                move = checkpoint.move or (handed_out is not None and handed_out[1] == folder)
                self._io.adopt(folder, *self._key(row.iteration), move=move)
            self._handed_out = None
            self._seal(row, SaveReason.USER, pin=pin)

    def hand_out(self, iteration: int) -> Path:
        """Return a new staging folder for user code to fill before it reports ``iteration``."""
        self.drop_unused()
        folder = self._io.begin(*self._key(iteration))
        self._handed_out = (iteration, folder)
        return folder

    def drop_unused(self) -> None:
        """Remove the folder that was handed out, if it was never reported."""
        if self._handed_out is not None:
            iteration, _ = self._handed_out
            self._handed_out = None
            with contextlib.suppress(OSError):
                self._io.discard(*self._key(iteration))

    def _key(self, iteration: int) -> tuple[str, int, int]:
        return self._spec.trial_name, iteration, self._spec.attempt

    def _forget(self, iteration: int) -> None:
        if self._handed_out is not None and self._handed_out[0] == iteration:
            self._handed_out = None

    @contextmanager
    def _staging(self, row: Row) -> Iterator[None]:
        """Clean up after any trouble, and tell the driver of the storage's."""
        try:
            yield
        except _UserError as error:
            self._discard(row.iteration)
            raise error.cause from error.cause.__cause__
        except CheckpointError:
            self._discard(row.iteration)
            raise
        except OSError as error:
            self._discard(row.iteration)
            self._send_failed(row.iteration, error)
        except BaseException:
            self._discard(row.iteration)
            raise

    def _discard(self, iteration: int) -> None:
        with contextlib.suppress(OSError):
            self._io.discard(*self._key(iteration))

    def _send_failed(self, iteration: int, error: OSError) -> None:
        spec = self._spec
        info = error_info(error)
        self._channel.send(SaveFailed(trial=spec.trial, attempt=spec.attempt, iteration=iteration, error=info))

    def _seal(self, row: Row, reason: SaveReason, *, pin: bool) -> None:
        del pin
        value = self._score(row)
        if self._config_digest is None:
            self._config_digest = config_digest(self._spec.config)
        manifest = self._io.seal(
            *self._key(row.iteration),
            metadata={
                "metrics": row.metrics if len(msgspec.json.encode(row.metrics)) <= _MAX_METRICS_BYTES else {},
                "score": value,
                "time_total_s": row.time_total_s,
                "reason": reason.value,
                "config_digest": self._config_digest,
            },
        )
        self.saved_at = row.iteration
        self._channel.send(
            CheckpointStaged(
                trial=self._spec.trial,
                attempt=self._spec.attempt,
                iteration=row.iteration,
                manifest=manifest,
                score=value,
            )
        )

    def _score(self, row: Row) -> float | None:
        attribute = self._sweep.checkpoint.checkpoint_score_attribute
        if attribute is None:
            return None
        counted = {TRAINING_ITERATION: row.iteration, TIME_TOTAL_S: row.time_total_s}
        return score({**row.metrics, **counted}, attribute)


class _UserError(Exception):
    """Carries an OSError of user code past those who take it for trouble of the storage."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause


def content_of(folder: Path) -> str | dict[Any, Any]:
    """Return what ``load_checkpoint`` is to be given: the folder, or the dict that was saved in it."""
    file = folder / DICT_NAME
    if not file.is_file():
        return str(folder)
    try:
        return cloudpickle.loads(file.read_bytes())  # type: ignore[no-any-return]
    except Exception as error:
        raise CheckpointCorruptError(
            f"the dict saved in {file} cannot be unpickled: {error}",
            hint="its classes must be importable under the same names as when it was saved",
            path=str(folder),
        ) from error


def config_digest(config: Any) -> str:
    """Return a digest that tells two configurations apart; objects count by their type's name.

    Empty if the configuration holds what has no JSON form at all, such as a dict with tuples as keys.
    """
    try:
        return xxhash.xxh3_64_hexdigest(msgspec.json.encode(config, enc_hook=_type_name, order="deterministic"))
    except (TypeError, ValueError, RecursionError):
        return ""


def _type_name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _keep_returned(returned: Any, folder: Path) -> None:
    """Store a dict that was returned by ``save_checkpoint``, and refuse what is no checkpoint."""
    if not folder.is_dir():
        raise SaveError(
            f"save_checkpoint removed the folder that it was given: {folder}", hint="write files into it, and leave it"
        )
    if returned is None:
        return
    if isinstance(returned, dict):
        (folder / DICT_NAME).write_bytes(_pickled(returned))
    elif not isinstance(returned, str | Path):
        raise SaveError(
            f"save_checkpoint must return None, the path that it was given or a dict, got {shorten(returned)} "
            f"({type(returned).__qualname__})",
            hint="write files into the given folder and return nothing",
        )
    elif Path(returned).resolve() != folder.resolve():
        raise SaveError(
            f"save_checkpoint returned {str(returned)!r}, but it was given {str(folder)!r}",
            hint="write the files into the given folder, and return that path or nothing",
        )


def _pickled(data: dict[Any, Any]) -> bytes:
    try:
        return cloudpickle.dumps(data)  # type: ignore[no-any-return]
    except Exception as error:
        key = next((key for key, value in data.items() if not _is_picklable(value)), None)
        raise SaveError(
            f"save_checkpoint returned a dict that cannot be pickled: its key {key!r}: {error}",
            hint="leave such objects out, and make them again in load_checkpoint",
            key=key,
        ) from error


def _is_picklable(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # noqa: BLE001 - reduce methods may raise anything
        return False
    return True
