"""A Ray of our own is for this user on this machine: nobody else reaches its ports, or reads its token.

By itself, a local Ray listens on all interfaces of the machine, and writes its token to a file that every user can
read. Whoever holds the token runs code as this user. On macOS and Windows Ray listens on the loopback interface alone;
the switch for that is used here on every platform.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants, services

_ANSWER_S = 0.3
_FRAME_BYTES, _SETTINGS = 9, b"\x04"
"""Of the head of a frame of HTTP/2, and the type of the first one."""
_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether a node of Ray is to be reached from other machines."""
_MODE = "RAY_AUTH_MODE"
_OWN_TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def would_be_started(address: str | None) -> bool:
    """Return whether ``ray.init(address)`` starts a cluster instead of joining one."""
    if address is not None:
        return address == "local"
    try:
        return services.canonicalize_bootstrap_address(None) is None  # type: ignore[arg-type] # as it calls it itself
    except Exception:  # noqa: BLE001 - Ray's own function, which promises nothing; then all stays as Ray has it
        return False


def answers(address: str | None) -> bool:
    """Return whether a cluster answers at once where ``ray.init(address)`` would look for one.

    A server of gRPC says how it is set up before it is asked (RFC 9113, 3.4). One that is stopped, or behind something
    that takes any connection, does not, nor does one that speaks TLS; joining takes minutes in vain, or a moment more.
    """
    try:
        found = services.canonicalize_bootstrap_address(address)  # type: ignore[arg-type] # as above
        host, _, port = (found or "").rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection:
            return connection.recv(_FRAME_BYTES, socket.MSG_WAITALL)[3:4] == _SETTINGS
    except Exception:  # noqa: BLE001 - Ray's own function; whoever joins is told what is wrong
        return False


@contextmanager
def private() -> Iterator[None]:
    """Have a Ray that is started inside the block listen on the loopback interface alone.

    That it asks for a token is its own default, unless ``RAY_AUTH_MODE`` says otherwise.
    """
    _keep_token()
    is_ours = _SWITCH not in os.environ
    is_open = ray_constants.ENABLE_RAY_CLUSTER
    if is_ours:  # For its processes, and for this one, which has read it already.
        os.environ[_SWITCH] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_open
        if is_ours:
            del os.environ[_SWITCH]


def _keep_token() -> None:
    """Make the file of the token, or an old one that others can read, this user's alone."""
    if os.environ.get(_MODE, "token").lower() != "token" or any(name in os.environ for name in _OWN_TOKEN):
        return
    path = Path.home() / ".ray" / "auth_token"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
