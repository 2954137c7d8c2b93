"""The settings of a sweep: frozen, keyword-only, and validated where they are written down."""

from __future__ import annotations

from tunekit.config.rules import FailureRule
from tunekit.config.run import (
    DEFAULT_STORAGE_PATH,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    StopFunction,
)
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
