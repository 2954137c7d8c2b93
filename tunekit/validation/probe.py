"""What is seen of user code at work: which method runs, what it returns and raises, which files it opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle

from tunekit.config.problems import shorten
from tunekit.runtime.line.failure import error_info
from tunekit.session import TrialStopped
from tunekit.validation import generators
from tunekit.validation.content import leaves
from tunekit.validation.jobs import Change, Look, Outcome, Run, State, Trouble

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OWN = frozenset({"config", "_iteration", "_trial_name", "_experiment_name", "_logdir", "_resources", "_parameters"})
"""Attributes that tunekit gives an instance."""


class Probe:
    """What is seen of one run.

    Args:
        run: What is to be done.
        outcome: Where it is written down.
        folder: The experiment's folder.
        roots: Folders of earlier runs, where nothing is left to be found.
    """

    def __init__(self, run: Run, outcome: Outcome, folder: str, roots: list[str]) -> None:
        """Begin with nothing seen."""
        self.run = run
        self.outcome = outcome
        self.iteration = run.resume_from or 0
        self._folder = folder
        self._roots = roots
        self._inside: list[str] = []
        self._raised: tuple[str, BaseException] | None = None
        self._holder: Any = None
        self._handed_in: tuple[int, dict[Any, Any], dict[Any, Any]] | None = None

    @contextmanager
    def inside(self, method: str) -> Iterator[None]:
        """Note that user code is in ``method``, and whether it raises."""
        self._inside.append(method)
        try:
            yield
        except TrialStopped:
            raise
        except BaseException as error:
            if self._raised is None or self._raised[1] is not error:
                self._raised = method, error
            if method == "cleanup":
                self.outcome.cleanup = self._trouble(error)
            raise
        finally:
            self._inside.pop()

    def method_of(self, error_type: str) -> str:
        """Return the method that an exception of this type came from; empty if from none."""
        if self._raised is None or error_info(self._raised[1]).type != error_type:
            return ""
        return self._raised[0]

    # -- what methods do -----------------------------------------------------------------------------------------------

    def called(self, method: str, holder: Any) -> None:
        """Note whose method is about to run."""
        self._holder = holder
        if method == "load_checkpoint" and self.run.watch is not None:
            self.outcome.looks["unloaded"] = self._look()

    def returned(self, method: str, value: Any) -> None:
        """Note what a method has returned."""
        if method == "step" and not isinstance(value, Mapping):
            self.outcome.not_a_dict = f"{shorten(value)} ({type(value).__qualname__})"
        elif method == "save_checkpoint":
            self._saved(value)
        elif method == "load_checkpoint":
            self.loaded()

    def loaded(self) -> None:
        """Look at what a checkpoint left behind, once it is loaded."""
        self.outcome.is_opened = True
        if self.run.put_back:
            generators.put_back(self.run.put_back)
        if self.run.watch is not None:
            self.outcome.looks["watched"] = self._look()

    def row(self, iteration: int) -> None:
        """Look around at the end of an iteration, before anything is saved."""
        self.iteration = iteration
        if self.run.watch is None:
            return
        if self.run.resume_from is None and iteration == self.run.watch:
            self.outcome.looks["watched"] = self._look()
        elif iteration == self.run.iterations:
            self.outcome.looks["last"] = Look(generators.read(), {})

    def hold(self, holder: Any) -> None:
        """Note which object has the state."""
        self._holder = holder

    def is_wanted(self) -> bool:
        """Return whether a function is to save at the row that it reports now."""
        return self.run.saves or self.iteration + 1 >= self.run.iterations

    def check_handed_in(self) -> None:
        """Compare the dict that was saved last with what it was then; only the dict itself, not what is in it.

        What is in it is copied while the trial waits, so that the arrays of a model's own state may be given.
        """
        if self._handed_in is None or self.outcome.mutated is not None:
            return
        iteration, data, before = self._handed_in
        for key in [*before, *(key for key in data if key not in before)]:
            old, new = before.get(key, _NOTHING), data.get(key, _NOTHING)
            if not _same(old, new):
                self.outcome.mutated = Change(iteration, str(key), _shown(old), _shown(new))
                return

    # -- what a process does -------------------------------------------------------------------------------------------

    def opened(self, arguments: tuple[Any, ...]) -> None:
        """Note that a file is opened: one beside the checkpoint, or one of an earlier run."""
        method = self._inside[-1] if self._inside else ""
        name, mode, flags = (*arguments, None, None, None)[:3]
        if method not in {"save_checkpoint", "load_checkpoint", "setup"} or not isinstance(name, str | bytes | Path):
            return
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100 - a hook that must not open anything itself
        if any(_is_in(path, root) for root in self._roots) and not _is_in(path, self._folder):
            self.outcome.read_before.append(path)
        elif method == "save_checkpoint" and _writes(mode, flags) and not _is_harmless(path, self._folder):
            self.outcome.written_outside.append(path)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _saved(self, value: Any) -> None:
        self.check_handed_in()
        self._handed_in = None
        outcome = self.outcome
        if isinstance(value, dict):
            outcome.returned = "dict"
            self._handed_in = self.iteration, value, dict(value)
            outcome.unpicklable = next((str(key) for key, item in value.items() if not _is_picklable(item)), None)
        elif value is None or isinstance(value, str | Path):
            outcome.returned = "None" if value is None else f"path {value}"
        else:
            outcome.returned = f"{shorten(value)} ({type(value).__qualname__})"

    def _look(self) -> Look:
        return Look(generators.read(), _attributes(self._holder))

    def _trouble(self, error: BaseException) -> Trouble:
        info = error_info(error)
        return Trouble("cleanup", self.iteration, info.type, info.message, info.traceback, info.hint)


_NOTHING = object()


# -- values ------------------------------------------------------------------------------------------------------------


def _attributes(holder: Any) -> State:
    found: State = {}
    for name, value in list(getattr(holder, "__dict__", {}).items()):
        if name not in _OWN:
            try:
                found |= leaves(value, name=name)
            except Exception:  # noqa: BLE001, S112 - it only serves to explain, and need not be complete
                continue
    return found


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    is_plain = type(old) is type(new) and isinstance(old, _PLAIN)
    return is_plain and (old == new or (old != old and new != new))  # noqa: PLR0124 - NaN


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else shorten(value)


def _is_picklable(value: Any) -> bool:
    if isinstance(value, _PLAIN):
        return True
    try:
        cloudpickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda _: None).dump(value)
    except Exception:  # noqa: BLE001 - reduce methods may raise anything
        return False
    return True


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _is_harmless(path: str, folder: str) -> bool:
    return _is_in(path, folder) or path.startswith(("/dev/", "/proc/")) or "__pycache__" in path


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
