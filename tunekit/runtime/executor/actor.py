"""The actor that a worker is: little more than a name, so that the driver need not load what only a worker runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunekit.collector import without_collector


class Worker:
    """The actor."""

    door = ""
    """Name of the driver's door."""
    relay = ""
    """Name of the relay, an actor that there may be."""

    def run(self, trainable: bytes = b"", parameters: Mapping[str, Any] | None = None) -> tuple[int, list[bytes]]:
        """Serve until told to leave, or until this process should not serve another trial.

        Args:
            trainable: The trainable, pickled, if it is not in the contract.
            parameters: References to its large objects.

        Returns:
            Number of the first message that the driver has not acknowledged, and all of these.
        """
        with without_collector():
            from tunekit.runtime.worker import work  # noqa: PLC0415 - not in the driver

        return work(self.door, self.relay, trainable, parameters or {})
