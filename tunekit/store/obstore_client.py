"""Asks S3, Google Cloud Storage and Azure through obstore, whose requests run outside of Python and its lock.

obstore repeats single requests for a short while, parts of a large upload among them, and renews credentials; what
takes longer than that is tried again by ``Patience``, around whole operations.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore import exceptions

from tunekit.store.object_client import PART_BYTES, ConflictError, Listed, RequestError
from tunekit.store.object_uri import ObjectUri
from tunekit.store.s3_uploads import S3Uploads

_MAX_PARTS = 9_000
"""S3 takes 10,000 of one upload."""
_PARTS_AT_ONCE = 12
_RETRY: Any = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}
# Plain HTTP is used where the user names such an endpoint, and nowhere else.
_CLIENT: Any = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=10), "allow_http": True}
_STATUS = re.compile(r"status code: (4[0-9][0-9])")
"""How obstore words an answer that it has no exception of its own for."""
_MAY_PASS = {"408", "409", "425", "429"}
_FOR_GOOD = (
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.UnknownConfigurationKeyError,
    ValueError,
)


class ObstoreClient:
    """One folder of a bucket.

    Args:
        uri: Where it is.
    """

    atomic = True

    def __init__(self, uri: ObjectUri) -> None:
        """Remember the place; nothing is asked yet."""
        self._uri = uri
        self._made: Any = None

    def __repr__(self) -> str:
        """Return the class and the URI."""
        return f"ObstoreClient({str(self._uri)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the URI: connections and credentials are made anew by each process."""
        return (ObstoreClient, (self._uri,))

    @property
    def uri(self) -> str:
        """The URI of the folder."""
        return str(self._uri)

    def listed(self, prefix: str) -> Iterator[Listed]:
        """List page by page."""
        with _translated():
            for page in obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=1000):
                for found in page:
                    tag = found["e_tag"] or found["version"] or ""
                    yield Listed(found["path"], found["size"], tag, found["last_modified"].timestamp())

    def get(self, key: str) -> tuple[bytes, str]:
        """Get all of it at once."""
        with _translated():
            answer = obstore.get(self._store, key)
            return bytes(answer.bytes()), _tag(answer.meta)

    def download(self, key: str, path: Path) -> None:
        """Get it in parts, several at a time if it is large."""
        with _translated():
            size = obstore.head(self._store, key)["size"]
            with path.open("xb", buffering=0) as file:
                if size <= PART_BYTES:
                    _write_at(file, memoryview(obstore.get(self._store, key).bytes()), 0)
                else:
                    self._download_parts(key, file, size)

    def put(self, key: str, source: bytes | Path) -> None:
        """Put it, in parts if it is large."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        part = max(PART_BYTES, -(-size // _MAX_PARTS))
        # When the reply to the end of an upload was lost, a second try finds no such upload: then from the beginning.
        with _translated(writing=True, may_pass=size > part):
            obstore.put(
                self._store,
                key,
                source,
                use_multipart=size > part,
                chunk_size=part,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def create(self, key: str, data: bytes) -> None:
        """Put it under the condition that nothing is there."""
        with _translated(writing=True):
            obstore.put(self._store, key, data, mode="create")

    def swap(self, key: str, data: bytes, tag: str) -> None:
        """Put it under the condition that the tag is the same."""
        e_tag, _, version = tag.partition("\n")
        known = {"e_tag": e_tag, "version": version}
        mode: Any = {name: value for name, value in known.items() if value}
        try:
            with _translated():
                obstore.put(self._store, key, data, mode=mode)
        except FileNotFoundError as error:  # Some services say so of a condition on what is gone.
            raise ConflictError(key) from error

    def copy(self, source: str, target: str) -> None:
        """Let the service copy; what it finds too large comes here and goes back."""
        try:
            with _translated():
                obstore.copy(self._store, source, target)
        except RequestError as error:
            if error.may_pass:
                raise
            with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
                self.download(source, Path(folder, "copy"))
                self.put(target, Path(folder, "copy"))

    def delete(self, keys: Sequence[str]) -> None:
        """Delete many with few requests."""
        if not keys:
            return
        with _translated():
            try:
                obstore.delete(self._store, list(keys))
            except FileNotFoundError:
                self._delete_each(keys)  # Some services stop at one that is gone.

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Find and drop them on S3, if its credentials are in the environment; elsewhere the service does it."""
        uploads = S3Uploads(self._uri)
        if self._uri.scheme != "s3" or not uploads.can_ask:
            return []
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        stale = [upload for upload in uploads.found() if upload.begun <= limit]
        for upload in stale:
            uploads.abort(upload)
        return [upload.key.removeprefix(f"{self._uri.folder}/") for upload in stale]

    @property
    def _store(self) -> Any:
        if self._made is None:
            try:
                self._made = self._uri.opened(client_options=_CLIENT, retry_config=_RETRY)
            except (exceptions.BaseError, ValueError) as error:
                raise RequestError(_brief(error), may_pass=False) from error
        return self._made

    def _download_parts(self, key: str, file: Any, size: int) -> None:
        def fetch(start: int) -> None:
            data = obstore.get_range(self._store, key, start=start, end=min(start + PART_BYTES, size))
            _write_at(file, memoryview(data), start)

        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="tunekit-download") as threads:
            for _ in threads.map(fetch, range(0, size, PART_BYTES)):
                pass

    def _delete_each(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                continue


def _write_at(file: Any, data: memoryview, start: int) -> None:
    while data:
        count = os.pwrite(file.fileno(), data, start)
        data, start = data[count:], start + count


def _tag(meta: Any) -> str:
    version = meta["version"]
    return f"{meta['e_tag'] or ''}\n{version}" if version else meta["e_tag"] or ""


@contextmanager
def _translated(*, writing: bool = False, may_pass: bool = False) -> Iterator[None]:
    """Turn obstore's exceptions into those of ``ObjectClient``.

    Args:
        writing: Whether something that is not there is no answer.
        may_pass: Whether it may be there at the next try.
    """
    try:
        yield
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.NotModifiedError) as error:
        raise ConflictError(_brief(error)) from error
    except FileNotFoundError as error:
        if writing:
            raise RequestError(f"there is no such bucket ({_brief(error)})", may_pass=may_pass) from error
        raise FileNotFoundError(_brief(error)) from error
    except _FOR_GOOD as error:
        raise RequestError(_brief(error), may_pass=False) from error
    except (exceptions.BaseError, OSError) as error:
        status = _STATUS.search(str(error))
        raise RequestError(_brief(error), may_pass=not status or status[1] in _MAY_PASS) from error


def _brief(error: Exception) -> str:
    """Return what an error says without the dump of its internals."""
    return str(error).partition("\n\nDebug source")[0].strip()
