"""Tells callbacks what has happened, each on a thread of its own: one that hangs or raises holds nobody up.

The driver hands over what is durable and goes on. A callback that falls far behind is told nothing more in this run,
since what it is still to be told would fill the memory; the journal keeps it for the next run.
"""

from __future__ import annotations

import copy
import math
import queue
import threading
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Final, NamedTuple

from tunekit.callbacks.base import Callback, TrialView
from tunekit.callbacks.narrator import Happening, Narrator, Snapshot, snapshot
from tunekit.checkpoint import Checkpoint
from tunekit.config.problems import shorten
from tunekit.core.events import Event
from tunekit.core.state import State
from tunekit.errors import ConfigError
from tunekit.logs import logger_of
from tunekit.results.columns import filled
from tunekit.store import layout
from tunekit.store.joining import joined
from tunekit.types import TrialId

logger: Final = logger_of("tunekit")

_MAX_BEHIND: Final = 200_000
"""Calls that may wait for a callback."""
_CHUNK: Final = 1_000
"""So many calls at most lie between two flushes."""
_SETUP_S: Final = 60.0
END_S: Final = 60.0
"""So long the end of a run waits for callbacks."""


class Facts(NamedTuple):
    """What callbacks are told of the experiment."""

    path: str
    trainable_name: str
    setup: dict[str, Any]
    """Arguments of ``Callback.setup``."""
    resolve: Callable[[TrialId, dict[str, Any]], dict[str, Any]]
    """Makes a trial's configuration out of the values that were drawn for it."""

    def view(self, state: State, index: TrialId, seen: Snapshot | None = None) -> TrialView:
        """Return a trial as it was when it was seen; None: as it is now."""
        name = layout.trial_name(self.trainable_name, index)
        trial = state.trials[index]
        seen = seen or snapshot(trial)
        return TrialView(
            index=index,
            trial_id=name,
            path=joined(self.path, name),
            status=seen.status,
            attempt=seen.attempt,
            iteration=seen.iteration,
            reason=seen.reason,
            make_config=lambda: self.resolve(index, trial.draw.values),
        )


class Trials(Sequence[TrialView]):
    """All trials, as they were seen or else as they are now; each is made when it is asked for."""

    def __init__(self, facts: Facts, state: State, seen: Sequence[Snapshot] | None = None) -> None:
        """Keep the parts."""
        self._facts = facts
        self._state = state
        self._seen = seen

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._state.trials if self._seen is None else self._seen)

    def __getitem__(self, index: Any) -> Any:
        """Return one of them, or several."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._facts.view(self._state, place, self._seen[place] if self._seen is not None else None)


class _Batch(NamedTuple):
    happenings: Sequence[Happening]
    number: int
    """The last record that they, and those that led to no call, come from."""


class _Listener:
    """One callback, and the thread on which it is called."""

    def __init__(self, callback: Callback, facts: Facts) -> None:
        self.callback = callback
        self.position: float = math.inf
        """Records up to this one are not told."""
        self.is_deaf = False
        """Whether it is told nothing more."""
        self._facts = facts
        self._inbox: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._num_put = self._num_taken = 0
        self._num_of_old = 0
        """Calls for what was in the journal before this driver, which are put first."""
        self._is_ready = threading.Event()
        self._state: State | None = None
        self._methods = {
            name
            for name in dir(Callback)
            if name.startswith("on_") and getattr(type(callback), name) is not getattr(Callback, name)
        }
        self._thread = threading.Thread(target=self._run, name=f"tunekit {type(callback).__name__}", daemon=True)

    @property
    def name(self) -> str:
        return type(self.callback).__qualname__

    def begin(self) -> None:
        """Set the callback up, and learn how far it has come."""
        self._thread.start()
        if not self._is_ready.wait(_SETUP_S):
            self._give_up(f"has not set itself up within {_SETUP_S:g} s")

    def tell(self, happenings: Sequence[Happening], number: int, state: State, *, live: bool = True) -> None:
        """Have the callback told, soon."""
        if self.is_deaf:
            return
        self._state = state
        wanted = [one for one in happenings if one.number > self.position and one.method in self._methods]
        if live and self._num_put - max(self._num_taken, self._num_of_old) > _MAX_BEHIND:
            self._give_up(f"is more than {_MAX_BEHIND:,} calls behind")
            return
        for at in range(0, len(wanted), _CHUNK):
            part = wanted[at : at + _CHUNK]
            self._num_put += len(part)
            self._num_of_old += 0 if live else len(part)
            is_last = at + _CHUNK >= len(wanted)
            # A record may lead to several calls: it is done when the next one begins.
            self._inbox.put(_Batch(part, number if is_last else part[-1].number - 1))

    def end(self) -> None:
        """Say that this was all."""
        self._inbox.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait until the callback has heard everything."""
        self._thread.join(timeout_s)
        if self._thread.is_alive() and not self.is_deaf:
            self._give_up(f"was not done {timeout_s:g} s after the end")

    def _give_up(self, why: str) -> None:
        self.is_deaf = True
        logger.warning(
            "the callback %s %s, and is told nothing more in this run; the sweep is not affected", self.name, why
        )

    def _run(self) -> None:
        try:
            self.callback.setup(**self._facts.setup)
            self.position = _checked(self.callback.position())
            self._is_ready.set()
            while not self.is_deaf and (batch := self._inbox.get()) is not None:
                self._take(batch)
            if not self.is_deaf and self._state is not None:
                self.callback.on_experiment_end(trials=Trials(self._facts, self._state))
        except BaseException:  # Nobody else hears of what ends this thread, be it an interrupt.
            self.is_deaf = True
            logger.exception(
                "the callback %s raised, and is told nothing more in this run; the sweep is not affected", self.name
            )
        finally:
            self._is_ready.set()

    def _take(self, batch: _Batch) -> None:
        for happening in batch.happenings:
            if self.is_deaf:
                return
            self._call(happening)
        self._num_taken += len(batch.happenings)
        self.callback.flush(batch.number)

    def _call(self, happening: Happening) -> None:
        assert self._state is not None  # noqa: S101 - it came with the batch
        trials = Trials(self._facts, self._state, happening.all_seen)
        info: dict[str, Any] = {"iteration": happening.number, "trials": trials, **happening.info}
        if happening.trial is not None:
            view = info["trial"] = self._facts.view(self._state, happening.trial, happening.seen)
            if happening.row is not None:
                result = filled(happening.row, trial_name=view.trial_id, place=happening.place)
                info["result"] = copy.deepcopy(result)
            elif happening.method == "on_checkpoint":
                folder = layout.checkpoint_name(happening.info["training_iteration"])
                info["checkpoint"] = Checkpoint(joined(view.path, folder))
        getattr(self.callback, happening.method)(**info)


def _checked(position: Any) -> float:
    """Return what a callback says of its position as a number.

    Raises:
        ConfigError: It says nothing of the kind.
    """
    if position is None:
        return math.inf
    is_number = isinstance(position, Real)
    if is_number and position >= 0:  # NaN is not.
        return position  # type: ignore[no-any-return]  # A number of a library, perhaps: it can be compared.
    raise ConfigError(
        f"position() must return None or the number of a record, 0 or more, got {shorten(position)} "
        f"({type(position).__qualname__})",
        hint="return the number that flush(number) was last given, 0 to be told everything, or None",
    )


class Telling:
    """Tells all callbacks of one run.

    Args:
        callbacks: Those of the script.
        facts: What they are told of the experiment.
    """

    def __init__(self, callbacks: Sequence[Callback], facts: Facts) -> None:
        """Set the callbacks up."""
        self._narrator = Narrator()
        self._pending: list[Happening] = []
        self._listeners = [_Listener(callback, facts) for callback in callbacks]
        for listener in self._listeners:
            listener.begin()
        self._wanted_from = min((listener.position for listener in self._listeners), default=math.inf)
        self._is_live = False
        self._is_lost = False

    def witness(self, event: Event, state: State) -> None:
        """Note what there is to tell of an event that the core has just handled. It is told when it is durable."""
        if self._is_lost:
            return
        try:
            happenings = self._narrator.tell(event, state)
        except Exception:
            self._is_lost = True
            logger.exception("a bug in tunekit, please report it: callbacks are told nothing more in this run")
            return
        if self._is_live or self._narrator.number > self._wanted_from:
            self._pending += happenings

    def catch_up(self, state: State) -> None:
        """Tell what the journal held before this driver, to those who have not been told; then go on from there."""
        number = self._narrator.number
        for listener in self._listeners:
            if math.inf > listener.position > number:
                listener.is_deaf = True
                logger.warning(
                    "the callback %s says that it has come to record %s, but the journal ends at %s: it is told "
                    "nothing. It may belong to another experiment",
                    listener.name,
                    listener.position,
                    number,
                )
            listener.tell(self._pending, number, state, live=False)
            listener.position = number if listener.position == math.inf else listener.position
        self._pending = []
        self._is_live = True

    def observe(self, events: Sequence[Event], state: State) -> None:
        """Tell what was witnessed, which is durable now."""
        del events
        happenings, self._pending = self._pending, []
        if happenings:
            for listener in self._listeners:
                listener.tell(happenings, self._narrator.number, state)

    def abandon(self) -> None:
        """Tell nothing more, not even what waits."""
        for listener in self._listeners:
            listener.is_deaf = True

    def close(self, timeout_s: float = END_S) -> None:
        """Have callbacks hear the rest, and wait for them."""
        for listener in self._listeners:
            listener.end()
        for listener in self._listeners:
            listener.wait(timeout_s)
