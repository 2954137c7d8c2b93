"""Brings a journal into a local folder, where it can be read, and tells whether one is the beginning of another."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tunekit.config.problems import why_no_folder_name
from tunekit.store import LocalStore
from tunekit.store.contents import HEADER, JOURNAL
from tunekit.store.shelf import Found, Shelf
from tunekit.upkeep.history import Segment
from tunekit.upkeep.threads import each

_BLOCK_BYTES = 1 << 20


def journal_name(shelf: Shelf) -> str:
    """Return the folder of an experiment's journal: the header names it. What cannot be a folder's name is no name."""
    name = JOURNAL
    with contextlib.suppress(
        FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, AttributeError, RecursionError
    ):
        name = str(msgspec.json.decode(shelf.store.read(HEADER)).get("journal", JOURNAL))
    return JOURNAL if why_no_folder_name(name) else name


@contextmanager
def local_journal(shelf: Shelf, name: str, files: Iterable[str]) -> Iterator[Path]:
    """Give a local folder with the journal: the one itself where that is local, else a temporary copy.

    Args:
        shelf: The experiment.
        name: Folder of the journal.
        files: Its files, relative to the experiment.

    Raises:
        FileNotFoundError: One is gone.
        StorageError: The storage failed.
    """
    if isinstance(shelf.store, LocalStore):
        yield Path(shelf.store.uri) / name
        return
    with tempfile.TemporaryDirectory(prefix="tunekit-") as temporary:
        folder = Path(temporary)

        def fetch(key: str) -> None:
            with shelf.opened(key) as path:
                shutil.copyfile(path, folder / key.rpartition("/")[2])

        for _ in each(fetch, files, shelf):
            pass
        yield folder


def is_beginning(target: Shelf, listed: Mapping[str, Found], segments: Iterable[Segment], journal: Path) -> bool:
    """Return whether what the target has of a journal is the beginning of the journal in a local folder.

    Args:
        target: Where the beginning is.
        listed: The files of its journal, in order.
        segments: The longer journal, as far as it counts.
        journal: Its folder.
    """
    expected = {segment.name: segment.num_bytes for segment in segments}
    names = [name.rpartition("/")[2] for name in listed]
    if names != sorted(expected)[: len(names)]:
        return False
    sizes = [found.size for found in listed.values()]
    full = [expected[name] for name in names]
    if sizes[:-1] != full[:-1] or sizes[-1:] > full[-1:]:
        return False

    def is_same(key: str) -> bool:
        return _begins_with(target, key, journal / key.rpartition("/")[2])

    return all(each(is_same, listed, target))


def _begins_with(target: Shelf, key: str, longer: Path) -> bool:
    with target.opened(key) as path, path.open("rb") as ours, longer.open("rb") as theirs:
        while block := ours.read(_BLOCK_BYTES):
            if theirs.read(len(block)) != block:
                return False
    return True
