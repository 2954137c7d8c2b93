"""Asks whatever fsspec has a driver for: SFTP, WebDAV, HDFS and many more.

fsspec's drivers have no conditional writes in common. Conditions are checked before writing, which is not the same:
two who write at the same moment both believe that they were alone. So only one driver is safe there, and ``atomic``
says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tunekit.store.base import content_tag
from tunekit.store.object_client import ConflictError, Listed, RequestError


class FsspecClient:
    """A folder of a file system.

    Args:
        uri: Its URI, whose scheme fsspec knows.
    """

    atomic = False

    def __init__(self, uri: str) -> None:
        """Remember the place; nothing is asked yet."""
        self._uri = uri
        self._made: tuple[Any, str] | None = None

    def __repr__(self) -> str:
        """Return the class and the URI."""
        return f"FsspecClient({self._uri!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the URI: connections are made anew by each process."""
        return (FsspecClient, (self._uri,))

    @property
    def uri(self) -> str:
        """The URI of the folder."""
        return self._uri

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Walk through the folder."""
        with _translated():
            system, root = self._system
            folder = f"{root}/{prefix}".rstrip("/")
            system.invalidate_cache()
            found = system.find(folder, detail=True) if system.exists(folder) else {}
            for path, info in sorted(found.items()):
                key = path.removeprefix(root).lstrip("/")
                if key.startswith(prefix):
                    yield Listed(key, int(info["size"]), str(info.get("ETag", "")), _seconds(info))

    def get(self, key: str) -> tuple[bytes, str]:
        """Read a file; its tag is the digest of its content."""
        with _translated():
            system, path = self._at(key)
            if not system.isfile(path):
                raise FileNotFoundError(key)
            data = bytes(system.cat_file(path))
        return data, content_tag(data)

    def download(self, key: str, path: Path) -> None:
        """Copy a file here."""
        with _translated():
            system, source = self._at(key)
            if not system.isfile(source):
                raise FileNotFoundError(key)
            system.get_file(source, str(path))

    def put(self, key: str, source: bytes | Path) -> None:
        """Copy a file there. A torn one is found out by its size or digest, a torn manifest by its own."""
        with _translated():
            system, path = self._at(key)
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(source, bytes):
                system.pipe_file(path, source)
            else:
                system.put_file(str(source), path)

    def create(self, key: str, data: bytes) -> None:
        """Look whether something is there, then write."""
        with _translated():
            system, path = self._at(key)
            system.invalidate_cache()
            if system.exists(path):
                raise ConflictError(key)
        self.put(key, data)

    def swap(self, key: str, data: bytes, tag: str) -> None:
        """Look whether it is still the same, then write."""
        try:
            found = self.get(key)[1]
        except FileNotFoundError as error:
            raise ConflictError(key) from error
        if found != tag:
            raise ConflictError(key)
        self.put(key, data)

    def copy(self, source: str, target: str) -> None:
        """Let the driver copy, which may carry the bytes through here."""
        with _translated():
            system, path = self._at(target)
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.cp_file(self._at(source)[1], path)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete one after the other, and the folders that nothing is left in."""
        for key in keys:
            with _translated():
                system, path = self._at(key)
                if system.exists(path):
                    system.rm_file(path)
        for parent in sorted({part for key in keys for part in _parents(key)}, key=len, reverse=True):
            self._tidy(parent)

    def abort_uploads(self, older_than_s: float) -> list[str]:  # noqa: ARG002 - as of the protocol
        """Find none: there is no way to ask for them."""
        return []

    @property
    def _system(self) -> tuple[Any, str]:
        if self._made is None:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - loaded by those who use one

            try:
                system, root = url_to_fs(self._uri)
            except (ImportError, ValueError) as error:
                raise RequestError(str(error), may_pass=False) from error
            self._made = (system, root.rstrip("/"))
        return self._made

    def _at(self, key: str) -> tuple[Any, str]:
        system, root = self._system
        return system, f"{root}/{key}"

    def _tidy(self, folder: str) -> None:
        system, path = self._at(folder)
        try:
            system.invalidate_cache()
            if system.isdir(path) and not system.ls(path, detail=False):
                system.rmdir(path)
        except Exception:  # noqa: BLE001, S110 - an empty folder costs nothing, whatever a driver thinks of removing it
            pass


def _parents(key: str) -> list[str]:
    parts = key.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _seconds(info: dict[str, Any]) -> float:
    found = info.get("mtime", info.get("created", info.get("LastModified", 0.0)))
    return found.timestamp() if isinstance(found, datetime) else float(found or 0.0)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn whatever a driver raises into the exceptions of ``ObjectClient``."""
    try:
        yield
    except (FileNotFoundError, ConflictError, RequestError):
        raise
    except (PermissionError, NotImplementedError, ValueError) as error:
        raise RequestError(str(error) or type(error).__name__, may_pass=False) from error
    except Exception as error:
        raise RequestError(str(error) or type(error).__name__) from error
