"""An object service in memory, and one that loses requests and replies when it is told to.

``MemoryObjects`` behaves as S3 does: objects appear whole, conditions are honoured, nothing can be renamed.
``FaultyObjects`` stands between a store and any such client, and counts the requests that change something::

    client = FaultyObjects(MemoryObjects("test"), Faults(fail_at=3), reply_lost=True)
    store = ObjectStore(client, patience=no_waiting())
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from tunekit.store.object_client import ConflictError, Listed, ObjectClient, Patience, RequestError
from tunekit.testing.faulty_store import Faults

_TICKS = itertools.count(1)


class _Held(NamedTuple):
    data: bytes
    tag: str


class MemoryObjects:
    """A bucket in this process' memory.

    Args:
        name: Those of the same name are the same.
        honours_conditions: Whether conditional writes are conditional; some services ignore it.
    """

    atomic = True
    _buckets: ClassVar[dict[str, dict[str, _Held]]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, name: str, *, honours_conditions: bool = True) -> None:
        """Make the bucket unless it is there."""
        self._name = name
        self._honours_conditions = honours_conditions
        self.held = self._buckets.setdefault(name, {})
        """Content and tag by key."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the name."""
        return (MemoryObjects, (self._name,))

    @property
    def uri(self) -> str:
        """A URI for messages."""
        return f"objects://{self._name}"

    def listed(self, prefix: str) -> Iterable[Listed]:
        """List them."""
        with self._lock:
            return [
                Listed(key, len(held.data), held.tag, 0.0) for key, held in self.held.items() if key.startswith(prefix)
            ]

    def get(self, key: str) -> tuple[bytes, str]:
        """Return content and tag."""
        with self._lock:
            if key not in self.held:
                raise FileNotFoundError(key)
            return self.held[key]

    def download(self, key: str, path: Path) -> None:
        """Write a file."""
        path.write_bytes(self.get(key)[0])

    def put(self, key: str, source: bytes | Path) -> None:
        """Take the bytes."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        with self._lock:
            self._set(key, data)

    def create(self, key: str, data: bytes) -> None:
        """Take the bytes unless there are some."""
        with self._lock:
            if key in self.held and self._honours_conditions:
                raise ConflictError(key)
            self._set(key, data)

    def swap(self, key: str, data: bytes, tag: str) -> None:
        """Take the bytes in place of those with the tag."""
        with self._lock:
            if self._honours_conditions and (key not in self.held or self.held[key].tag != tag):
                raise ConflictError(key)
            self._set(key, data)

    def copy(self, source: str, target: str) -> None:
        """Give the bytes a second key."""
        with self._lock:
            if source not in self.held:
                raise FileNotFoundError(source)
            self._set(target, self.held[source].data)

    def delete(self, keys: Sequence[str]) -> None:
        """Forget them."""
        with self._lock:
            for key in keys:
                self.held.pop(key, None)

    def abort_uploads(self, older_than_s: float) -> list[str]:  # noqa: ARG002 - as of the protocol
        """Nothing is ever half uploaded here."""
        return []

    def _set(self, key: str, data: bytes) -> None:
        self.held[key] = _Held(data, f"tag {next(_TICKS)}")


class FaultyObjects:
    """A client around another one, with each request that changes something counted.

    Args:
        client: Does the work.
        faults: Decides what goes wrong; nothing by default.
        reply_lost: Whether a request that fails was carried out all the same.
    """

    def __init__(self, client: ObjectClient, faults: Faults | None = None, *, reply_lost: bool = False) -> None:
        """Put the faults around the client."""
        self._client = client
        self.faults = faults or Faults()
        self.reply_lost = reply_lost

    @property
    def atomic(self) -> bool:
        """As the client inside."""
        return self._client.atomic

    @property
    def uri(self) -> str:
        """The URI of the client inside."""
        return self._client.uri

    def listed(self, prefix: str) -> Iterable[Listed]:
        """Pass it on."""
        return self._client.listed(prefix)

    def get(self, key: str) -> tuple[bytes, str]:
        """Pass it on."""
        return self._client.get(key)

    def download(self, key: str, path: Path) -> None:
        """Pass it on."""
        self._client.download(key, path)

    def put(self, key: str, source: bytes | Path) -> None:
        """Count it, then do it."""
        self._run(f"put {key}", lambda: self._client.put(key, source))

    def create(self, key: str, data: bytes) -> None:
        """Count it, then do it."""
        self._run(f"create {key}", lambda: self._client.create(key, data))

    def swap(self, key: str, data: bytes, tag: str) -> None:
        """Count it, then do it."""
        self._run(f"swap {key}", lambda: self._client.swap(key, data, tag))

    def copy(self, source: str, target: str) -> None:
        """Count it, then do it."""
        self._run(f"copy {source} {target}", lambda: self._client.copy(source, target))

    def delete(self, keys: Sequence[str]) -> None:
        """Count it, then do it; every second key when the process dies in the middle."""
        self._run(f"delete {keys}", lambda: self._client.delete(keys), lambda: self._client.delete(keys[::2]))

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Pass it on."""
        return self._client.abort_uploads(older_than_s)

    def _run(self, name: str, call: Callable[[], None], part: Callable[[], None] | None = None) -> None:
        try:
            self.faults.run(name, call, part)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.reply_lost:
                call()
            raise RequestError(f"no reply to {name}") from error


def no_waiting(tries: int = 4) -> Patience:
    """Return a patience that waits no time and gives up after so many tries."""
    ticks = itertools.count()
    return Patience(deadline_s=tries - 1, pause=lambda _: 0.0, clock=lambda: float(next(ticks)), sleep=lambda _: None)
