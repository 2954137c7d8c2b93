"""How a worker learns what it is hired for: it asks at the driver's door.

It could be told by the arguments of its call. But to read an argument, Ray loads pydantic, numpy and pyarrow, which
takes a quarter of a second before the first line of a trial that needs none of them. So the call has none, the class of
the actor carries the names of door and relay, and the rest is fetched. Only references into Ray's object store go as
arguments, in those sweeps that have such large objects.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import ray

from tunekit import __version__
from tunekit.errors import ConfigError
from tunekit.printable import one_line
from tunekit.runtime.line.door import Errand, Visitor
from tunekit.runtime.line.spec import SweepSpec

TIMEOUT_S = 60.0
"""So long a worker asks; the relay, or the driver itself, may be slow to start or be stopped."""
_CALL_TIMEOUT_S = 10.0
_RETRY_S = 0.05
_MAX_VERSION = 50
"""Characters of another version that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a worker is told when it is hired."""

    worker: int
    sweep: SweepSpec
    trainable: bytes = b""
    """The trainable, pickled; empty if it is large, and lies in Ray's object store."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """References to the large objects of ``with_parameters``, in Ray's object store."""

    def to_bytes(self) -> bytes:
        """Return it for the way, behind the version of the tunekit that can read it."""
        pickled: bytes = cloudpickle.dumps(self)
        return self.sweep.version.encode() + b"\n" + pickled

    @classmethod
    def from_bytes(cls, data: bytes) -> Contract:
        """Read it.

        Raises:
            ConfigError: Another tunekit has written it, which this one may misunderstand in any way.
        """
        version, _, pickled = data.partition(b"\n")
        if version not in {b"", __version__.encode()}:
            raise ConfigError(
                f"tunekit {__version__} is installed on {socket.gethostname()}, but the driver runs "
                f"{one_line(version.decode(errors='replace'))[:_MAX_VERSION]}",
                hint="install the same version on every node, or give one with ray.init(runtime_env=…)",
            )
        contract: Contract = cloudpickle.loads(pickled)
        return contract


class Detour:
    """The way to the driver through Ray.

    Args:
        relay: Name of the actor that passes frames on.
        method: Which of its methods.
    """

    def __init__(self, relay: str, method: str) -> None:
        """Look for the actor when it is needed."""
        self._name, self._method_name = relay, method
        self._method: Any = None

    def __call__(self, frame: bytes, timeout_s: float) -> bytes:
        """Have the driver answer a frame.

        Raises:
            ValueError: There is no such actor; perhaps not yet.
            RayError: It cannot be reached.
        """
        self._method = self._method or getattr(ray.get_actor(self._name), self._method_name)
        return ray.get(self._method.remote(frame, timeout_s), timeout=timeout_s)  # type: ignore[no-any-return]


def fetch_contract(ask: Callable[[bytes, float], bytes], actor: str, timeout_s: float = TIMEOUT_S) -> Contract | None:
    """Return what an actor is hired for; None if the driver knows nothing of it any more.

    Args:
        ask: Has the driver answer a frame, within so many seconds.
        actor: Id of the actor.
        timeout_s: For how long it is asked again.

    Raises:
        Exception: Why it could not be asked, the last time; or why the answer cannot be read.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = ask(actor.encode(), _CALL_TIMEOUT_S)
        except Exception:  # whatever Ray raises, the driver is out of reach for now
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
            continue
        return Contract.from_bytes(answer) if answer else None


def contract_of_this_actor(door: str, relay: str) -> Contract | None:
    """Return what this process is hired for; None: nothing any more."""
    ask = Visitor(door, Errand.CONTRACT, Detour(relay, "contract"))
    try:
        return fetch_contract(ask, ray.get_runtime_context().get_actor_id() or "")
    finally:
        ask.close()
