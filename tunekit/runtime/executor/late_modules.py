"""Makes the import of Ray short: what it loads without need is put off.

``import ray`` loads requests, which it asks clouds and dashboards with, jsonschema, which checks plug-ins of runtime
environments, and yaml, which reads files of labels. That is a third of its time, and a driver that joins a cluster uses
none of them. So where a module of Ray says ``import requests``, it gets something that loads the module at its first
use. Nobody else does: who is not a part of Ray, asks for a part of such a module, or wants a name out of it, imports it
as ever.

A sixth of the time goes to the collector, which looks for garbage among new modules again and again. It rests.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from tunekit.collector import without_collector

UNUSED: Final = ("requests", "jsonschema", "yaml")
"""What the import of Ray loads, and nothing of Ray calls in a driver."""
_RAY: Final = "ray"

_turns = threading.RLock()


class Later(ModuleType):
    """Stands for a module, with one who has imported it, until something in it is used and after that."""

    def __getattr__(self, name: str) -> Any:
        """Answer as the module does."""
        return getattr(importlib.import_module(vars(self)["__name__"]), name)


@contextmanager
def put_off_modules(names: Iterable[str] = UNUSED, importer: str = _RAY) -> Iterator[None]:
    """Have imports inside the block not load modules that the importer does not need yet, and be undisturbed.

    Another thread waits before such a block of its own.

    Args:
        names: The modules. Those that are loaded, or not there, are imported as ever.
        importer: The package whose imports are meant.
    """
    with _turns, without_collector(), _stood_in_for(names, importer):
        yield


@contextmanager
def _stood_in_for(names: Iterable[str], importer: str) -> Iterator[None]:
    later = {name: Later(name) for name in names if name not in sys.modules and importlib.util.find_spec(name)}
    import_now = builtins.__import__

    def import_later(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - as it is called
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        stand_in = None if fromlist or level or name in sys.modules else later.get(name)
        if stand_in is not None and _is_part(globals, importer):
            return stand_in
        return import_now(name, globals, locals, fromlist, level)

    builtins.__import__ = import_later
    try:
        yield
    finally:
        if builtins.__import__ is import_later:
            builtins.__import__ = import_now
        later.clear()  # Whoever has put something in front of ours goes on through it.


def _is_part(module: Mapping[str, object] | None, package: str) -> bool:
    name = module.get("__name__") if module else None
    return isinstance(name, str) and name.partition(".")[0] == package
