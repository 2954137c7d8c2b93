"""Where an experiment lives, and how checkpoints are written there so that what is visible is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.loading import on_demand

if TYPE_CHECKING:
    from tunekit.store.base import PutOutcome, Store, probe
    from tunekit.store.checkpoint_io import CheckpointIO
    from tunekit.store.local import LocalStore
    from tunekit.store.memory import MemoryStore
    from tunekit.store.opening import open_store, resolve

__all__ = ["CheckpointIO", "LocalStore", "MemoryStore", "PutOutcome", "Store", "open_store", "probe", "resolve"]

_HOME = {
    "CheckpointIO": "checkpoint_io",
    "LocalStore": "local",
    "MemoryStore": "memory",
    "PutOutcome": "base",
    "Store": "base",
    "open_store": "opening",
    "probe": "base",
    "resolve": "opening",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = on_demand(__name__, _HOME)
