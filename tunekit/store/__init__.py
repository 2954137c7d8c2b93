"""Where an experiment lives, and how checkpoints are written there so that what is visible is whole."""

from __future__ import annotations

from tunekit.store.base import PutOutcome, Store, probe
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.store.memory import MemoryStore
from tunekit.store.opening import open_store, resolve

__all__ = ["CheckpointIO", "LocalStore", "MemoryStore", "PutOutcome", "Store", "open_store", "probe", "resolve"]
