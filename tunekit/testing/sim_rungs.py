"""What ASHA is defined to say of the trials of a simulated sweep, reckoned by the judge from the journal alone."""

from __future__ import annotations

import bisect

from tunekit.core.events import ResultReported
from tunekit.schedulers import ASHA
from tunekit.testing.sim_books import Books
from tunekit.testing.sim_options import METRIC, SimOptions


class Rungs:
    """All rungs of a sweep.

    Args:
        options: What the sweep is like; under another scheduler than ASHA nothing is known.
    """

    def __init__(self, options: SimOptions) -> None:
        """Begin with empty rungs."""
        self._asha = options.scheduler if isinstance(options.scheduler, ASHA) else None
        self._is_in_order = options.logical_slots is not None
        """Whether decisions wait for others, so that none is known when a row arrives."""
        self._values: dict[int, list[float]] = {}

    def enter(self, book: Books, event: ResultReported) -> None:
        """Enter a newcomer at its rung, once, and note what is to be said of it."""
        if self._asha is None or book.is_ending or event.final or event.stop:
            return
        if event.iteration not in book.decisions:
            self._decide(self._asha, book, event)
        if book.decisions.get(event.iteration) is False and not self._is_in_order:
            book.is_ending = True

    def _decide(self, asha: ASHA, book: Books, event: ResultReported) -> None:
        at = event.iteration
        if at >= asha.max_t:
            book.decisions[at] = False
        elif at in asha.rungs:
            values = self._values.setdefault(at, [])
            value = event.metrics[METRIC]
            bisect.insort(values, value)
            best = len(values) // asha.reduction_factor
            book.decisions[at] = best == 0 or value <= values[best - 1]
