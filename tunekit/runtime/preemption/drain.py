"""What Ray knows of machines that are being drained: the one place that asks its private function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from tunekit.runtime.preemption.plan import NodeNotice

POLL_S: Final = 1.0
SOURCE: Final = "Ray"


def draining_nodes() -> dict[str, NodeNotice]:
    """Return the notice of each machine that is being drained, by its id; none if this Ray cannot be asked."""
    from ray._private.state import state  # noqa: PLC0415 - should it move one day, notices are all that is lost

    return {
        str(node): NodeNotice(SOURCE, deadline_ms / 1000 if deadline_ms else None)
        for node, deadline_ms in state.get_draining_nodes().items()
    }


class DrainWatch:
    """Asks again and again, on a thread of its own: Ray may take a minute to answer when its head is gone.

    Args:
        ask: Returns the notices.
    """

    def __init__(self, ask: Callable[[], Mapping[str, NodeNotice]] = draining_nodes) -> None:
        """Begin to ask."""
        self._ask = ask
        self._is_over = threading.Event()
        self.latest: Mapping[str, NodeNotice] = {}
        """What the last answer was."""
        threading.Thread(target=self._watch, name="tunekit-drains", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_S):
            try:
                self.latest = self._ask()
            except Exception:  # noqa: BLE001 - a private function promises nothing, and Ray may be on its way out
                self.latest = {}
