"""From a path or URI of the user to a store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.logs import logger_of
from tunekit.printable import without_login
from tunekit.store import object_uri
from tunekit.store.base import Store, probe, storage_error
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore

if TYPE_CHECKING:
    from tunekit.store.object_client import ObjectClient
    from tunekit.store.objects import ObjectStore

_logger = logger_of("tunekit")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PATH_HINT = "give a folder such as 'results', or a URI such as 's3://bucket/sweeps'"
_SUPPORTED = (
    "a local path, file:///absolute/path, memory://name, s3://bucket/folder, gs://…, az://… "
    "or a URI that fsspec has a driver for"
)
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
    if client := _client_for(uri):
        return _open_objects(client, create=create)
    store = LocalStore(Path(uri), create=create)
    if create and not os.access(uri, os.R_OK | os.W_OK | os.X_OK):
        raise storage_error("write to", uri, PermissionError(13, ""))
    return store


def _open_objects(client: ObjectClient, *, create: bool) -> ObjectStore:
    from tunekit.store.object_client import Patience  # noqa: PLC0415 - loaded by those who use one
    from tunekit.store.objects import ObjectStore  # noqa: PLC0415 - likewise

    if create:
        begin(ObjectStore(client, patience=Patience(_FIRST_ANSWER_S)))
    return ObjectStore(client)


def _client_for(uri: str) -> ObjectClient | None:
    """Return who asks for what is at a URI, or None if it is a local path."""
    if place := object_uri.parse(uri):
        from tunekit.store.obstore_client import ObstoreClient  # noqa: PLC0415 - loaded by those who use one

        return ObstoreClient(place)
    if not _SCHEME.match(uri):
        return None
    from tunekit.store.fsspec_client import FsspecClient  # noqa: PLC0415 - loaded by those who use one

    return FsspecClient(uri)


def begin(store: ObjectStore) -> None:
    """See that an object store can be reached and written to, and tell the user what it cannot do.

    Raises:
        StorageError: It cannot.
    """
    store.check()
    if not probe(store) or not store.client.atomic:
        _logger.warning(
            "%s has no conditional writes that are honoured. Only one driver is safe there: tunekit cannot be sure to "
            "notice a second one that runs the same experiment at the same time.",
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
        raise ConfigTypeError(f"{what}: got {path_or_uri!r}, but must be {_SUPPORTED}", hint=_PATH_HINT)
    text = os.fspath(path_or_uri)
    if not isinstance(text, str):
        raise ConfigTypeError(
            f"{what}: got {path_or_uri!r}, but must be text, not bytes", hint="os.fsdecode(path) makes text of it"
        )
    if not text.strip() or "\0" in text:
        raise ConfigError(f"{what}: got {text!r}, but must be {_SUPPORTED}", hint=_PATH_HINT)
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
    if scheme != "file" and _is_known(scheme):
        return f"{scheme}://{text[match.end() :].rstrip('/')}"
    raise ConfigError(
        f"{what}: got {without_login(text)!r}, but must be {_SUPPORTED}",
        hint="mount it as a folder, or run in a local folder and copy it afterwards",
        scheme=scheme,
    )


def _is_known(scheme: str) -> bool:
    """Return whether fsspec has a driver for a scheme, installed or not."""
    from fsspec import available_protocols  # noqa: PLC0415 - loaded by those who use one

    return scheme in available_protocols()


def _absolute(path: Path) -> str:
    """Return the path made absolute. Links are left as they are, unless the path turns back behind one."""
    return str(path.resolve() if ".." in path.parts else path.absolute())
