"""Small trainables, and makers of tuners, that several test files share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import tunekit as tk

Make: TypeAlias = Callable[..., tk.Tuner]
"""Makes a tuner that writes into a test's own folder."""


def square(config: dict[str, Any]) -> None:
    for step in range(1, config.get("steps", 3) + 1):
        tk.report({"loss": (config["x"] - 0.5) ** 2 / step})


def halve(config: dict[str, Any]) -> None:
    tk.report({"loss": config["x"] / 2})


class Counter(tk.Trainable):
    """Counts, can save, and fails on request at the first attempt."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        flag = self.config.get("flags")
        if flag is not None and self.count == self.config["fail_at"] and not (flag / self.trial_name).exists():
            (flag / self.trial_name).touch()
            raise ValueError("once")
        return {"count": self.count, "should_checkpoint": self.count in self.config.get("demand", ())}

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "count.json").write_text(json.dumps(self.count))

    def load_checkpoint(self, path: Any) -> None:
        self.count = json.loads((Path(path) / "count.json").read_text())


class Forgetful(tk.Trainable):
    """Cannot save."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count = 0

    def step(self) -> dict[str, Any]:
        self.count += 1
        return {"count": self.count}


def maker(folder: Path) -> Make:
    """Return a maker of tuners for experiments below ``folder``, called ``exp`` if nothing else is said."""

    def make(trainable: Any = square, space: Any = None, run: Any = None, **tune: Any) -> tk.Tuner:
        tune = {"metric": "loss", "mode": "min", "seed": 1, **tune} if trainable is square else {"seed": 1, **tune}
        return tk.Tuner(
            trainable,
            param_space={"x": tk.uniform(0, 1)} if space is None else space,
            tune_config=tk.TuneConfig(**tune),
            run_config=tk.RunConfig(**{"name": "exp", "storage_path": folder, "verbose": 0, **(run or {})}),
        )

    return make
