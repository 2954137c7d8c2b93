"""The worker's half of a checkpoint: user code writes it, it is sealed, and the driver is told.

User code waits while it writes, or while the dict that it returned is copied (``staging_slots.py``). What
follows, hashing, syncing and uploading, is done behind it by a thread (``persisting.py``), except where
nobody would gain: the last save of an attempt, and one so small that it is done before a thread has begun.

Which checkpoints there are does not depend on how fast the storage is, with one exception: a save that is due by time
gives way to a newer one while it waits for the storage. All others wait.

Trouble of the storage costs one checkpoint and is told as ``SaveFailed``; trouble of user code is user code's own and
passes through, at its next report if it was found out behind its back. Whatever happens, no half-written folder, no
thread and no buffer stays behind.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from tunekit.checkpoint import Checkpoint
from tunekit.core.cadence import Outlook
from tunekit.core.events import CheckpointStaged, SaveFailed
from tunekit.core.metrics import score
from tunekit.core.stopping import TIME_TOTAL_S, TRAINING_ITERATION
from tunekit.errors import CheckpointError
from tunekit.logs import logger_of
from tunekit.runtime.line.channel import Channel
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.heartbeat import being_heard
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.pace import Pace
from tunekit.runtime.saving.pending_save import PendingSave
from tunekit.runtime.saving.persisting import Persister
from tunekit.runtime.saving.reasons import INTERIM, SaveReason
from tunekit.runtime.saving.user_saves import UserError, content_of, written
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import environment
from tunekit.types import Json

__all__ = ["Row", "Saving", "config_digest", "content_of"]

logger: Final = logger_of("tunekit")

_MAX_METRICS_BYTES: Final = 16_384
"""A larger row is left out of the manifest, which is journalled and so would hold it twice."""
_FAST_S: Final = 0.01
"""Storage that takes longer than this for a small checkpoint is not waited for."""
_LAST: Final = frozenset({SaveReason.AT_END, SaveReason.PAUSE, SaveReason.PREEMPTION})
"""What is waited for in any case, so that nothing is gained by copying the state first."""


class Row(NamedTuple):
    """The newest row of results."""

    iteration: int
    metrics: dict[str, Any]
    time_total_s: float


class Saving:
    """Saves the checkpoints of one attempt.

    Its methods are called by one thread at a time.

    Args:
        sweep: What is the same for every trial.
        spec: The attempt.
        channel: The way to the driver. Word of a save that was finished behind comes from another thread.
        io: Where the checkpoints go.
    """

    def __init__(self, sweep: SweepSpec, spec: AttemptSpec, channel: Channel, io: CheckpointIO) -> None:
        """Begin with nothing saved."""
        self._sweep = sweep
        self._spec = spec
        self._channel = channel
        self._io = io
        self._persister = Persister(f"tunekit-saving-{spec.trial_name}")
        self._handed_out: tuple[int, Path] | None = None
        self._config_digest: str | None = None
        self._errors: deque[BaseException] = deque()
        """What is still to be raised."""
        self._failed: set[int] = set()
        self._is_fast = True
        self.clock: Callable[[], float] = time.monotonic
        self.pace: Pace | None = None
        """How often to save by time, where that is not for the user to say."""
        if sweep.checkpoint.is_auto:
            self.pace = Pace(spec.outlook or Outlook(), lambda: not self.is_idle)
        self._staged_at = 0
        """Iteration of the newest checkpoint that is whole: staged, or restored."""
        self.saved_at = 0
        """Iteration of the newest checkpoint that was asked for or restored, and has not failed as far as we know."""

    @property
    def is_idle(self) -> bool:
        """Whether no save is under way behind the trial."""
        return self._persister.is_idle

    def go_on_from(self, iteration: int) -> None:
        """Regard the checkpoint of an iteration, which was restored, as the newest."""
        self.saved_at = self._staged_at = iteration

    # -- saving --------------------------------------------------------------------------------------------------------

    def save(self, write: Callable[[str], Any], row: Row, reason: SaveReason, *, pin: bool = False) -> None:
        """Have user code write a checkpoint of ``row``.

        Args:
            write: ``save_checkpoint`` of the class or of the saver.
            row: The newest row.
            reason: Why.
            pin: Whether the user wants it kept for good.
        """
        save = self._new(row, reason, pin=pin)
        with self._preparing(save):
            self._forget(row.iteration)
            save.snapshot = written(write, save.begin())
            self._hand_over(save, is_last=reason in _LAST)

    def adopt(self, checkpoint: Checkpoint, row: Row, *, pin: bool = False) -> None:
        """Keep a folder that user code has written."""
        save = self._new(row, SaveReason.USER, pin=pin)
        with self._preparing(save), checkpoint.as_directory() as name:
            with self._being_heard():
                save.folder = self._adopted(Path(name), row.iteration, move=checkpoint.move)
            self._hand_over(save, is_last=False)

    def save_failed(self, write: Callable[[str], Any], row: Row) -> None:
        """Have user code write what it holds after it raised, beside the checkpoints. Raises nothing but Ctrl-C.

        Args:
            write: ``save_checkpoint`` of the class or of the saver.
            row: The newest row.
        """
        save = self._new(row, SaveReason.FAILURE, pin=False)
        try:
            self.settle()
            save.snapshot = written(write, save.begin())
            self._channel.send(save.staged(save, save.seal()))
        except BaseException as error:
            save.abandon()
            if isinstance(error, KeyboardInterrupt):
                raise
            cause = error.cause if isinstance(error, UserError) else error
            logger.warning("%s: no checkpoint of its failure could be saved", self._spec.trial_name, exc_info=cause)

    def settle(self) -> None:
        """Return when nothing of this attempt is in flight, and the driver has been told of all of it."""
        with self._being_heard():
            self._persister.settle()
        if self.saved_at in self._failed:
            self.saved_at = 0

    def check(self) -> None:
        """Raise what went wrong behind the back of user code and is its own business, once.

        Raises:
            SaveError: What it saved cannot be a checkpoint.
        """
        if self._errors:
            raise self._errors.popleft()

    def close(self) -> None:
        """Drop what is in flight, and leave nothing behind. After ``settle`` there is nothing."""
        self._persister.close()
        self.drop_unused()
        while self._errors:
            logger.warning("%s: a save failed", self._spec.trial_name, exc_info=self._errors.popleft())

    # -- folders that user code fills ----------------------------------------------------------------------------------

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

    def _adopted(self, folder: Path, iteration: int, *, move: bool) -> Path:
        handed_out, self._handed_out = self._handed_out, None
        if handed_out == (iteration, folder):
            return folder
        is_ours = handed_out is not None and handed_out[1] == folder
        return self._io.adopt(folder, *self._key(iteration), move=move or is_ours)

    def _forget(self, iteration: int) -> None:
        if self._handed_out is not None and self._handed_out[0] == iteration:
            self._handed_out = None

    def _key(self, iteration: int) -> tuple[str, int, int]:
        return self._spec.trial_name, iteration, self._spec.attempt

    # -- on the way ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _preparing(self, save: PendingSave) -> Iterator[None]:
        """Clean up after any trouble, and tell the driver of the storage's."""
        try:
            yield
        except BaseException as error:
            save.abandon()
            if isinstance(error, UserError):
                raise error.cause from error.cause.__cause__
            if not isinstance(error, OSError) or isinstance(error, CheckpointError):
                raise
            self._channel.send(self._failure(save.key.iteration, error))

    def _hand_over(self, save: PendingSave, *, is_last: bool) -> None:
        """Finish a save, or leave it to the thread."""
        with self._being_heard():
            self._finish_or_leave(save, is_last=is_last)
        self.saved_at = save.key.iteration

    def _finish_or_leave(self, save: PendingSave, *, is_last: bool) -> None:
        is_small = self._is_fast and self._persister.is_idle and save.is_cheap()
        if is_last or is_small or not self._sweep.saves_behind or not self._leave_behind(save):
            self._persister.make_room()
            self._persister.settle()
            self._finish(save, is_small=is_small, is_last=is_last)
        if self.pace is not None and save.blocked_s:
            self.pace.note_blocked(save.blocked_s)

    def _being_heard(self) -> contextlib.AbstractContextManager[None]:
        """Tell the driver now and then that the trial waits for its storage, so that it is not taken for hung."""
        return being_heard(self._sweep, self._channel, self._spec.trial, self._spec.attempt)

    def _leave_behind(self, save: PendingSave) -> bool:
        """Leave a save to the thread. Return False if there is no memory for it, or no thread."""
        self._persister.make_room()
        if not save.freeze():
            self._persister.settle()  # The save before this one has such a buffer.
            if not save.freeze():
                return False
        save.blocked_s = self.clock() - save.began_at  # Before it is told by the thread.
        return self._persister.submit(save)

    def _finish(self, save: PendingSave, *, is_small: bool, is_last: bool) -> None:
        began_at = time.monotonic()
        manifest = save.seal()
        if is_small:
            self._is_fast = time.monotonic() - began_at < _FAST_S
        save.blocked_s = 0.0 if is_last else self.clock() - save.began_at
        self._tell(save, manifest)

    def _new(self, row: Row, reason: SaveReason, *, pin: bool) -> PendingSave:
        spec, is_exact = self._spec, reason is not SaveReason.FAILURE
        began_at = self.clock()
        value = self._score(row)
        if self._config_digest is None:
            self._config_digest = config_digest(spec.config)
        metadata: dict[str, Json] = {
            "metrics": row.metrics if len(msgspec.json.encode(row.metrics)) <= _MAX_METRICS_BYTES else {},
            "score": value,
            "time_total_s": row.time_total_s,
            "reason": reason.value,
            "config_digest": self._config_digest,
            "environment": environment(),
        }
        event = CheckpointStaged(
            trial=spec.trial,
            attempt=spec.attempt,
            iteration=row.iteration,
            manifest={},
            score=value,
            pinned=pin,
            exact=is_exact,
            interim=reason in INTERIM,
        )
        return PendingSave(
            io=self._io,
            began_at=began_at,
            key=CheckpointKey(*self._key(row.iteration), exact=is_exact),
            metadata=metadata,
            parent=lambda: self._staged_at or None,
            staged=lambda save, manifest: msgspec.structs.replace(
                event,
                manifest=manifest,
                took_s=round(self.clock() - save.began_at, 6),
                blocked_s=round(save.blocked_s, 6),
            ),
            is_replaceable=reason is SaveReason.TIME and not pin,
            tell=self._end,
        )

    def _end(self, save: PendingSave, result: dict[str, Json] | BaseException) -> None:
        """Take note of how a save has ended behind the trial. On the thread, which nothing may end."""
        try:
            self._take_note(save, result)
        except Exception as error:  # noqa: BLE001 - raised at the next report instead
            self._errors.append(error)

    def _take_note(self, save: PendingSave, result: dict[str, Json] | BaseException) -> None:
        if isinstance(result, OSError) and not isinstance(result, CheckpointError):
            self._failed.add(save.key.iteration)
            self._channel.send(self._failure(save.key.iteration, result))
        elif isinstance(result, BaseException):
            self._failed.add(save.key.iteration)
            self._errors.append(result)
        else:
            self._tell(save, result)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self, save: PendingSave, manifest: dict[str, Json]) -> None:
        self._staged_at = save.key.iteration
        event = save.staged(save, manifest)
        if self.pace is not None and save.blocked_s:
            self.pace.note_durable(event.took_s)
        self._channel.send(event)

    def _failure(self, iteration: int, error: OSError) -> SaveFailed:
        spec = self._spec
        info = error_info(error, spec.config)
        return SaveFailed(trial=spec.trial, attempt=spec.attempt, iteration=iteration, error=info)

    def _score(self, row: Row) -> float | None:
        attribute = self._sweep.checkpoint.checkpoint_score_attribute
        if attribute is None:
            return None
        counted = {TRAINING_ITERATION: row.iteration, TIME_TOTAL_S: row.time_total_s}
        return score({**row.metrics, **counted}, attribute)


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
