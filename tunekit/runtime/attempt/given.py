"""The handle that a restored function is given: one that knows whether anybody has looked into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tunekit.checkpoint import Checkpoint


class GivenCheckpoint(Checkpoint):
    """A checkpoint that notes whether its files, or the way to them, were asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember the path; nothing is read yet."""
        super().__init__(path)
        self.is_read = False
        """Whether its files were read, or may be without our knowledge."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as an ordinary handle: another process may read it."""
        self.is_read = True
        return super().__reduce__()

    @property
    def path(self) -> str:
        """The folder's absolute local path or URI."""
        self.is_read = True
        return super().path

    @property
    def uri(self) -> str:
        """The same as a URI."""
        self.is_read = True
        return super().uri

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give a local folder with the files."""
        self.is_read = True
        with super().as_directory() as folder:
            yield folder

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy the files into a folder of your own and return its path."""
        self.is_read = True
        return super().to_directory(path)
