"""A trainable that does everything right, for those that spoil one thing each."""

from __future__ import annotations

import sys
from typing import Any

import cloudpickle

import tunekit as tk

# Fresh processes cannot import modules of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Honest(tk.Trainable):
    """Everything that it needs is in its dict."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = 1.0
        self.speed = 0.5

    def step(self) -> dict[str, Any]:
        self.speed *= 0.9
        self.value += self.speed
        return {"value": self.value}

    def save_checkpoint(self, path: str) -> Any:
        return {"value": self.value, "speed": self.speed}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value, self.speed = checkpoint["value"], checkpoint["speed"]
