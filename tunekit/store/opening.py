"""From a path or URI of the user to a store."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.store import object_uri
from tunekit.store.base import Store, probe, storage_error
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore
from tunekit.store.object_client import Patience
from tunekit.store.object_uri import ObjectUri
from tunekit.store.objects import ObjectStore

_logger = logging.getLogger("tunekit")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SUPPORTED = "a local path, file:///absolute/path, memory://name, s3://bucket/folder, gs://… or az://…"
_FIRST_ANSWER_S = 15.0
"""Seconds to wait for an object store that has not answered yet; later on, patience is greater."""


def open_store(path_or_uri: str | os.PathLike[str], *, create: bool = True) -> Store:
    """Return the store at a local path or URI.

    Args:
        path_or_uri: A local path (relative to the current folder now, ``~`` allowed) or a URI.
        create: Whether to create a local folder that is not there, and to ask for permission to write. Of an object
            store, whether to see that it can be reached.

    Raises:
        ConfigError: It is empty, or its scheme is not supported.
        ConfigTypeError: It is neither text nor a path.
        StorageError: It is a file, cannot be reached, created or written to.
    """
    uri = resolve(path_or_uri)
    if uri.startswith("memory://"):
        return MemoryStore(uri)
    if place := object_uri.parse(uri):
        return _open_objects(place, create=create)
    store = LocalStore(Path(uri), create=create)
    if create and not os.access(uri, os.R_OK | os.W_OK | os.X_OK):
        raise storage_error("write to", uri, PermissionError(13, ""))
    return store


def _open_objects(place: ObjectUri, *, create: bool) -> ObjectStore:
    from tunekit.store.obstore_client import ObstoreClient  # noqa: PLC0415 - loaded by those who use one

    client = ObstoreClient(place)
    if create:
        begin(ObjectStore(client, patience=Patience(_FIRST_ANSWER_S)))
    return ObjectStore(client)


def begin(store: ObjectStore) -> None:
    """See that an object store can be reached and written to, and tell the user what it cannot do.

    Raises:
        StorageError: It cannot.
    """
    store.check()
    if not probe(store):
        _logger.warning(
            "%s ignores the conditions of conditional writes. Only one driver is safe there: tunekit cannot notice a "
            "second one that runs the same experiment at the same time.",
            store.uri,
        )


def resolve(path_or_uri: str | os.PathLike[str], *, what: str = "storage_path") -> str:
    """Return an absolute local path, or a URI that does not depend on the current folder. Touches nothing.

    Args:
        path_or_uri: A local path (relative to the current folder now, ``~`` allowed) or a URI.
        what: Which setting it is, for messages.

    Raises:
        ConfigError: It is empty, or its scheme is not supported.
        ConfigTypeError: It is neither text nor a path.
    """
    if not isinstance(path_or_uri, str | os.PathLike):
        raise ConfigTypeError(f"{what}: got {path_or_uri!r}, but must be {_SUPPORTED}")
    text = os.fspath(path_or_uri)
    if not isinstance(text, str):
        raise ConfigTypeError(f"{what}: got {path_or_uri!r}, but must be text, not bytes")
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{what}: got {text!r}, but must be {_SUPPORTED}")
    match = _SCHEME.match(text)
    if match is None:
        return _absolute(Path(text).expanduser())
    scheme = match[1].lower()
    if scheme == "memory":
        return f"memory://{text[match.end() :].strip('/')}"
    if place := object_uri.parse(text, what):
        return str(place)
    parts = urlsplit(text)
    if scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return _absolute(Path(unquote(parts.path)))
    raise ConfigError(
        f"{what}: got {text!r}, but must be {_SUPPORTED}",
        hint="mount it as a folder, or run in a local folder and copy it afterwards",
        scheme=scheme,
    )


def _absolute(path: Path) -> str:
    """Return the path made absolute. Links are left as they are, unless the path turns back behind one."""
    return str(path.resolve() if ".." in path.parts else path.absolute())
