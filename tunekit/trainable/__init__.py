"""What runs as a trial: a function of the config, or a subclass of ``Trainable``."""

from __future__ import annotations

from tunekit.trainable.base import DONE, PIN_CHECKPOINT, SHOULD_CHECKPOINT, Trainable
from tunekit.trainable.bound import BoundTrainable, bind, parameters_of, with_parameters, with_resources
from tunekit.trainable.copies import OwnCopies
from tunekit.trainable.description import TrainableInfo, describe
from tunekit.trainable.pickling import check_picklable
from tunekit.trainable.source import code_digest, has_changed

__all__ = [
    "DONE",
    "PIN_CHECKPOINT",
    "SHOULD_CHECKPOINT",
    "BoundTrainable",
    "OwnCopies",
    "Trainable",
    "TrainableInfo",
    "bind",
    "check_picklable",
    "code_digest",
    "describe",
    "has_changed",
    "parameters_of",
    "with_parameters",
    "with_resources",
]
