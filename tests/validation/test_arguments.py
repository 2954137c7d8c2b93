"""What is asked for wrongly is refused before anything runs."""

from __future__ import annotations

import sys
import threading
from typing import Any

import cloudpickle
import pytest

import tunekit as tk
from tunekit.errors import ConfigError, ConfigTypeError, TrainableError, ValidationError

cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Fine(tk.Trainable):
    def step(self) -> dict[str, Any]:
        return {"x": 1}

    def save_checkpoint(self, path: str) -> Any:
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("config", "steps", "error", "text"),
    [
        (None, 0, ConfigError, "steps: got 0, but must be an integer >= 1"),
        (None, -3, ConfigError, "steps: got -3"),
        (None, 1.5, ConfigTypeError, "steps: got 1.5"),
        (None, True, ConfigTypeError, "steps: got True"),
        ([1], 3, ConfigTypeError, "config: got [1]"),
    ],
)
def test_bad_settings(config: Any, steps: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        tk.validate_save_restore(Fine, config, steps=steps)
    assert text in str(caught.value)


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match="has 2 problems"):
        tk.validate_save_restore(Fine, [1], steps=0)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("trainable", [3, dict, Fine()], ids=str)
def test_no_trainable(trainable: Any) -> None:
    with pytest.raises(TrainableError) as caught:
        tk.validate_save_restore(trainable)
    assert not isinstance(caught.value, ValidationError)


def test_what_cannot_travel_to_another_process() -> None:
    lock = threading.Lock()

    class Locked(Fine):
        def step(self) -> dict[str, Any]:
            with lock:
                return {"x": 1}

    with pytest.raises(ValidationError, match="'lock'") as caught:
        tk.validate_save_restore(Locked)
    assert caught.value.fields["problem"] == "not picklable"
    with pytest.raises(ValidationError, match="the config cannot be sent"):
        tk.validate_save_restore(Fine, {"lock": lock})


def test_nothing_to_save_is_fine() -> None:
    """A trial without a state is restored by doing nothing."""
    assert tk.validate_save_restore(Fine, steps=1) is True
