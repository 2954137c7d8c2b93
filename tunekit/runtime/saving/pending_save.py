"""One save on its way: a folder that is being staged, what is to be written into it, and who is told of the end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunekit.core.events import CheckpointStaged
from tunekit.runtime.saving.staging_slots import SLOTS
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import FileEntry
from tunekit.store.ops import Ops
from tunekit.types import Json

if TYPE_CHECKING:
    from tunekit.store.dicts import Snapshot

_CHEAP_BYTES: Final = 1 << 16
_CHEAP_FILES: Final = 4


class AbandonedError(Exception):
    """Nobody wants the save any more."""


@dataclass(eq=False, kw_only=True)
class PendingSave:
    """A save.

    From ``begin`` to ``finish`` or ``abandon``, one of which must be called, it holds a folder, and perhaps a buffer.
    """

    io: CheckpointIO
    key: CheckpointKey
    began_at: float = 0.0
    """When it was asked for, by the clock of who saves."""
    metadata: dict[str, Json]
    parent: Callable[[], int | None]
    """Iteration of the checkpoint before it, asked for when all saves before it have come to their ends."""
    staged: Callable[[PendingSave, dict[str, Json]], CheckpointStaged]
    """Makes the event of the save and its manifest."""
    is_replaceable: bool
    tell: Callable[[PendingSave, dict[str, Json] | BaseException], None]
    """Told of the end by the thread that came to it: the manifest, or what went wrong."""
    snapshot: Snapshot | None = None
    """The dict that user code returned."""
    folder: Path = field(default_factory=Path)
    blocked_s: float = 0.0
    """Seconds for which it has held the trial up; 0: the trial is at its end, and is not held up."""
    _claim: threading.Lock = field(default_factory=threading.Lock)
    """Held for ever by who brings the save to its end."""
    _is_abandoned: bool = False

    def begin(self) -> Path:
        """Return the empty folder for user code to write into."""
        self.folder = self.io.begin(*self.key[:3], exact=self.key.exact)
        return self.folder

    def is_cheap(self) -> bool:
        """Return whether it is so small that giving it to a thread costs about as much as finishing it."""
        num_bytes, num_files = 0, 0
        if self.snapshot is not None:
            num_bytes, num_files = self.snapshot.total_bytes, 1
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                num_bytes += path.lstat().st_size
                num_files += 1
        return num_bytes <= _CHEAP_BYTES and num_files <= _CHEAP_FILES

    def freeze(self) -> bool:
        """Copy the arrays of the user, who may change them from now on. Return False if there is no room for them."""
        snapshot = self.snapshot
        if snapshot is None or not snapshot.num_bytes:
            return True
        buffer = SLOTS.take(self, snapshot.num_bytes, pinned=snapshot.is_on_device)
        if buffer is None:
            return False
        snapshot.freeze(buffer)
        return True

    def seal(self) -> dict[str, Json]:
        """Write what is to be written, hash it, make it durable, and return the manifest. Once only.

        Raises:
            SaveError: User code left what cannot be a checkpoint.
            StorageError: Storage failed.
            AbandonedError: Nobody wants it any more.
        """
        if not self._claim.acquire(blocking=False):
            raise AbandonedError
        try:
            return self._seal()
        except BaseException:
            self._clean_up()
            raise
        finally:
            self._let_go()

    def finish(self) -> None:
        """Seal it, and tell of it."""
        result: dict[str, Json] | BaseException
        try:
            result = self.seal()
        except AbandonedError:
            return
        except BaseException as error:  # noqa: BLE001 - it is told instead
            result = error
        self.tell(self, result)

    def abandon(self) -> None:
        """Drop it, if nobody has begun to seal it; otherwise have that end soon."""
        self._is_abandoned = True
        if self._claim.acquire(blocking=False):
            self._let_go()
            self._clean_up()

    def _seal(self) -> dict[str, Json]:
        known: list[FileEntry] = []
        if self.snapshot is not None:
            known = self.snapshot.write(self.folder, _Checking(self))
        self.check()
        metadata = {**self.metadata, "parent": self.parent()}
        document = self.io.seal(*self.key[:3], metadata=metadata, exact=self.key.exact, known=known)
        self.check()
        return document

    def check(self) -> None:
        """Raise if nobody wants it any more."""
        if self._is_abandoned:
            raise AbandonedError

    def _let_go(self) -> None:
        """Forget the state, and give the buffer back."""
        self.snapshot = None
        SLOTS.give_back(self)

    def _clean_up(self) -> None:
        with contextlib.suppress(OSError):
            self.io.discard(*self.key[:3], exact=self.key.exact)


class _Checking(Ops):
    """Writes files with the store's own calls, and looks before each part whether it is still worth it."""

    def __init__(self, save: PendingSave) -> None:
        self._save = save

    def write_parts(self, path: Path, parts: Any) -> None:
        """Write a file, part after part."""
        self._save.io.ops.write_parts(path, self._watched(parts))

    def _watched(self, parts: Iterator[memoryview]) -> Iterator[memoryview]:
        for part in parts:
            self._save.check()
            yield part
