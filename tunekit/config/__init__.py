"""The settings of a sweep: frozen, keyword-only, and validated where they are written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.loading import on_demand

if TYPE_CHECKING:
    from tunekit.config.checkpoints import CheckpointConfig
    from tunekit.config.failures import FailureConfig
    from tunekit.config.rules import FailureRule
    from tunekit.config.run import DEFAULT_STORAGE_PATH, RunConfig, StopFunction
    from tunekit.config.tune import TuneConfig

__all__ = [
    "DEFAULT_STORAGE_PATH",
    "CheckpointConfig",
    "FailureConfig",
    "FailureRule",
    "RunConfig",
    "StopFunction",
    "TuneConfig",
]

_HOME = {
    "DEFAULT_STORAGE_PATH": "run",
    "CheckpointConfig": "checkpoints",
    "FailureConfig": "failures",
    "FailureRule": "rules",
    "RunConfig": "run",
    "StopFunction": "run",
    "TuneConfig": "tune",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = on_demand(__name__, _HOME)
