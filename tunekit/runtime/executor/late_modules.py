"""Makes the import of Ray short: what it loads without need is put off.

``import ray`` loads requests, which it asks clouds and dashboards with, and jsonschema, which checks plug-ins of
runtime environments. That is a third of its time, and a driver that joins a cluster uses neither. While Ray is
imported, something stands in their places that loads the module at its first use. Then the places are free again:
whoever imports the module gets the module, and parts of Ray that have kept what stood there reach it through that.

A sixth of the time goes to the collector, which looks for garbage among new modules again and again. It rests.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

UNUSED: Final = ("requests", "jsonschema")
"""What the import of Ray loads, and nothing of Ray calls in a driver."""

_lock = threading.Lock()


class Later(ModuleType):
    """Stands for a module that is loaded when something in it is used."""

    def __getattr__(self, name: str) -> Any:
        """Answer as the module does."""
        own = vars(self)["__name__"]
        _withdraw(self)
        return getattr(importlib.import_module(own), name)


def _withdraw(later: Later) -> None:
    """Leave its place to the module itself."""
    with _lock:
        if sys.modules.get(later.__name__) is later:
            del sys.modules[later.__name__]


@contextmanager
def put_off_modules(names: Iterable[str] = UNUSED) -> Iterator[None]:
    """Have imports inside the block not load these modules, unless they are loaded or needed, and be undisturbed."""
    later = [Later(name) for name in names if name not in sys.modules and importlib.util.find_spec(name)]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        sys.modules.update({module.__name__: module for module in later})
        yield
    finally:
        for module in later:
            _withdraw(module)
        if was_enabled:
            gc.enable()
