"""Hyperparameter sweeps on Ray that lose nothing and compute nothing twice.

``import tunekit as tk`` is all that a script needs. Names are loaded when they are first used (PEP 562), so that the
import itself takes no time and starts nothing: neither Ray nor torch, pandas or optuna is imported by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.loading import on_demand

if TYPE_CHECKING:
    from tunekit.callbacks.base import Callback
    from tunekit.callbacks.jsonl import JsonlLogger
    from tunekit.checkpoint import Checkpoint
    from tunekit.config import CheckpointConfig, FailureConfig, FailureRule, RunConfig, TuneConfig
    from tunekit.errors import (
        CheckpointCorruptError,
        CheckpointError,
        CheckpointNotFoundError,
        CheckpointVersionError,
        ConfigError,
        ConfigTypeError,
        ExperimentError,
        ExperimentExistsError,
        ExperimentMismatchError,
        ExperimentNotFoundError,
        JournalError,
        MetricNotFoundError,
        NoResultError,
        ReportError,
        ResourcesError,
        SaveError,
        SessionError,
        SilentRestartError,
        StorageError,
        TrainableError,
        TrialError,
        TunekitError,
        ValidationError,
    )
    from tunekit.results import Result, ResultGrid
    from tunekit.schedulers import ASHA, FIFO
    from tunekit.search import RandomSearch
    from tunekit.session import (
        PreemptionInfo,
        get_checkpoint,
        get_context,
        get_preemption_info,
        preempted,
        report,
        restore,
    )
    from tunekit.space import (
        choice,
        grid_search,
        lograndint,
        loguniform,
        qlograndint,
        qloguniform,
        qrandint,
        qrandn,
        quniform,
        randint,
        randn,
        sample_from,
        uniform,
    )
    from tunekit.trainable import PIN_CHECKPOINT, SHOULD_CHECKPOINT, Trainable, with_parameters, with_resources
    from tunekit.tuner import Tuner, inline
    from tunekit.validation.validate import validate_save_restore

__version__ = "0.1.0"

__all__ = [
    "ASHA",
    "FIFO",
    "PIN_CHECKPOINT",
    "SHOULD_CHECKPOINT",
    "Callback",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointCorruptError",
    "CheckpointError",
    "CheckpointNotFoundError",
    "CheckpointVersionError",
    "ConfigError",
    "ConfigTypeError",
    "ExperimentError",
    "ExperimentExistsError",
    "ExperimentMismatchError",
    "ExperimentNotFoundError",
    "FailureConfig",
    "FailureRule",
    "JournalError",
    "JsonlLogger",
    "MetricNotFoundError",
    "NoResultError",
    "PreemptionInfo",
    "RandomSearch",
    "ReportError",
    "ResourcesError",
    "Result",
    "ResultGrid",
    "RunConfig",
    "SaveError",
    "SessionError",
    "SilentRestartError",
    "StorageError",
    "Trainable",
    "TrainableError",
    "TrialError",
    "TuneConfig",
    "TunekitError",
    "Tuner",
    "ValidationError",
    "__version__",
    "choice",
    "get_checkpoint",
    "get_context",
    "get_preemption_info",
    "grid_search",
    "inline",
    "lograndint",
    "loguniform",
    "preempted",
    "qlograndint",
    "qloguniform",
    "qrandint",
    "qrandn",
    "quniform",
    "randint",
    "randn",
    "report",
    "restore",
    "sample_from",
    "uniform",
    "validate_save_restore",
    "with_parameters",
    "with_resources",
]

_NAMES_OF = {
    "callbacks.base": "Callback",
    "callbacks.jsonl": "JsonlLogger",
    "checkpoint": "Checkpoint",
    "config": "CheckpointConfig FailureConfig FailureRule RunConfig TuneConfig",
    "results": "Result ResultGrid",
    "schedulers": "ASHA FIFO",
    "search": "RandomSearch",
    "session": "PreemptionInfo get_checkpoint get_context get_preemption_info preempted report restore",
    "space": "choice grid_search lograndint loguniform qlograndint qloguniform qrandint qrandn quniform randint randn"
    " sample_from uniform",
    "trainable": "PIN_CHECKPOINT SHOULD_CHECKPOINT Trainable with_parameters with_resources",
    "tuner": "Tuner inline",
    "validation.validate": "validate_save_restore",
}
"""Public names by the module that defines them. Every public name that ends in ``Error`` lives in ``errors``."""

_HOME = {name: module for module, names in _NAMES_OF.items() for name in names.split()} | {
    name: "errors" for name in __all__ if name.endswith("Error")
}

if not TYPE_CHECKING:  # A type checker knows the names above, and no others.
    __getattr__, __dir__ = on_demand(__name__, _HOME)
