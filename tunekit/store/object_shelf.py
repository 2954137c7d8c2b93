"""The files of a bucket, one by one: see ``shelf``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tunekit.errors import StorageError
from tunekit.store import folders, layout
from tunekit.store.base import PutOutcome, Store, storage_errors
from tunekit.store.object_client import Patience
from tunekit.store.object_places import place_of
from tunekit.store.object_requests import ObjectRequests
from tunekit.store.objects import ObjectStore
from tunekit.store.shelf import Found, OnBytes, copy_hashed, reading, temporary_folder


class ObjectShelf:
    """Objects below one folder of a bucket, those out of sight included."""

    stages_inside = True

    def __init__(self, store: ObjectStore, *, patience: Patience | None = None) -> None:
        """Note the store."""
        self._store = store
        self._client = store.client
        self._requests = ObjectRequests(store.client, patience or Patience())

    @property
    def store(self) -> Store:
        """The store that they are in."""
        return self._store

    def files(self, folder: str = "") -> dict[str, Found]:
        """List them."""
        prefix = f"{folder}/" if folder else ""
        listed = self._requests.ask("list", prefix, lambda: list(self._client.listed(prefix)))
        listed = [each for each in listed if not each.key.endswith("/")]  # what consoles make to show a folder
        if bad := [each.key for each in listed if layout.leads_outside(each.key)]:
            raise StorageError(
                f"{self._requests.where('')} holds {bad[0]!r}, which as a file would lie outside of its folder",
                hint="tunekit has not written it; look at it, and delete it or give it another name",
                path=self._requests.where(bad[0]),
            )
        return {each.key.removeprefix(prefix): Found(each.size, each.modified) for each in listed}

    @contextmanager
    def opened(self, key: str) -> Iterator[Path]:
        """Download it into a temporary file."""
        with temporary_folder() as folder:
            path = folder / "file"

            def fetch() -> None:
                path.unlink(missing_ok=True)
                self._client.download(key, path)

            self._requests.ask("download", key, fetch)
            yield path

    def put(self, key: str, source: Path, on_bytes: OnBytes, *, num_bytes: int | None = None) -> str:
        """Upload it."""
        with ExitStack() as stack:
            if num_bytes is not None and num_bytes < source.stat().st_size:
                cut = stack.enter_context(temporary_folder()) / "file"
                with reading(source) as reader, storage_errors("copy", source):
                    copy_hashed(reader, cut, lambda _: None, num_bytes=num_bytes)
                source = cut
            with storage_errors("read", source, absent_is_answer=True):
                size, digest = folders.digest(source)
            self._requests.ask("upload", key, lambda: self._client.put(key, source))
        on_bytes(size)
        return digest

    def place(self, folder: str) -> str:
        """Return the folder itself: without its manifest it is no checkpoint."""
        return folder

    def staged(self, staging: str) -> str:
        """Return the folder of the checkpoint that it is to be."""
        return place_of(staging).folder

    def show(self, folder: str, manifest: bytes, names: Sequence[str]) -> None:
        """Create the manifest."""
        del names
        key = f"{folder}/{layout.MANIFEST}" if folder else layout.MANIFEST
        outcome = self._store.put_if_absent(key, manifest)
        if outcome not in {PutOutcome.CREATED, PutOutcome.MINE}:
            raise StorageError(
                f"could not write {self._requests.where(key)} (outcome: {outcome})",
                hint="check that nobody else writes there, and copy again: it goes on where it stopped",
                path=self._requests.where(key),
            )

    def drop(self, key: str) -> None:
        """Delete it."""
        self._requests.ask("delete", key, lambda: self._client.delete([key]))

    def clear(self, place: str) -> None:
        """Delete what begins with it."""
        keys = [f"{place}/{name}" for name in self.files(place)] or [place]
        self._requests.ask("delete", place, lambda: self._client.delete(keys))

    def tidy(self) -> None:
        """Delete what was only written to see whether it can be."""
        if self.files(layout.STAGING):
            self.clear(layout.STAGING)
