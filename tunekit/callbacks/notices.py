"""Logs what the core has to say to the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tunekit.core.events import Event
from tunekit.core.state import State
from tunekit.logs import logger_of
from tunekit.printable import one_line

logger: Final = logger_of("tunekit")


class Notices:
    """Logs each notice of the experiment once, as a warning."""

    def __init__(self) -> None:
        """Log nothing yet."""
        self._num_seen = 0

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Log what is new."""
        del events
        for notice in state.notices[self._num_seen :]:
            logger.warning("%s", one_line(notice))
        self._num_seen = len(state.notices)
