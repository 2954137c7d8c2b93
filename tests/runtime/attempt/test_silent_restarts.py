"""A restored trial that makes nothing of its checkpoint is seen, said, and, if that is wanted, stopped."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.config.problems import shorten
from tunekit.core.events import TrialRaised, TrialStartedOver
from tunekit.testing.recording import RecordedTrial, RecordingChannel
from tunekit.types import StartOver


class State:
    """A saver: counts, and saves its count."""

    def __init__(self) -> None:
        self.value = 0

    def save_checkpoint(self, path: str) -> None:
        Path(path, "value.txt").write_text(str(self.value))

    def load_checkpoint(self, path: str) -> None:
        self.value = int(Path(path, "value.txt").read_text())


def signs(channel: RecordingChannel) -> list[StartOver]:
    return [event.sign for event in channel.events if isinstance(event, TrialStartedOver)]


def restored(folder: Path, look: Callable[[tk.Checkpoint], Any], **sweep: Any) -> RecordingChannel:
    """Return what an attempt sends that was given a checkpoint and has looked at it in this way."""

    def train(config: dict[str, Any]) -> None:
        state = State()
        checkpoint = tk.get_checkpoint()
        if checkpoint:
            look(checkpoint)
        for _ in range(2):
            state.value += 1
            tk.report({"loss": 1 / state.value}, checkpoint=state)

    made = RecordedTrial(folder, train, **sweep)
    made.run(RecordingChannel(stop_at=2))
    return made.resume()


@pytest.mark.parametrize(
    "look",
    [
        lambda checkpoint: checkpoint.path,
        lambda checkpoint: checkpoint.uri,
        lambda checkpoint: checkpoint.as_directory().__enter__(),
        lambda checkpoint: checkpoint.to_directory(),
        pickle.dumps,
        lambda checkpoint: tk.restore(State()),
        lambda checkpoint: (tk.restore(State()), tk.get_checkpoint()),
    ],
    ids=["path", "uri", "as_directory", "to_directory", "pickle", "restore", "restore and get"],
)
def test_whoever_reads_the_checkpoint_is_not_suspected(tmp_path: Path, look: Callable[[tk.Checkpoint], Any]) -> None:
    assert signs(restored(tmp_path, look)) == []


@pytest.mark.parametrize("look", [repr, bool, hash, shorten, lambda checkpoint: checkpoint.iteration])
def test_to_ask_for_a_checkpoint_is_not_to_read_it(tmp_path: Path, look: Callable[[tk.Checkpoint], Any]) -> None:
    channel = restored(tmp_path, look)
    assert signs(channel) == [StartOver.UNREAD]
    assert [row.iteration for row in channel.rows] == [3, 4]


def test_under_fail_nothing_is_reported_by_who_begins_anew(tmp_path: Path) -> None:
    """S003-7: no row, no checkpoint, and the same would happen again, so no budget is spent on it."""
    channel = restored(tmp_path, repr, silent_restart="fail")
    assert channel.kinds == ["TrialStarted", "TrialStartedOver 2", "TrialRaised"]
    raised = channel.events[-1]
    assert isinstance(raised, TrialRaised)
    assert (raised.error.type, raised.retryable) == ("tunekit.errors.SilentRestartError", False)
    assert "attempt 2 was to go on from iteration 2 but read nothing" in raised.error.message
    assert "checkpoint.as_directory()" in raised.error.hint
    assert "tk.report(" in raised.error.traceback


# -- whole sweeps ------------------------------------------------------------------------------------------------------


class Forgetful(tk.Trainable):
    """Saves, and restores nothing."""

    failed: bool

    def setup(self, config: dict[str, Any]) -> None:
        self.x = 1.0

    def step(self) -> dict[str, float]:
        if self.iteration == 5 and not type(self).failed:
            type(self).failed = True
            raise RuntimeError("bad luck")
        self.x *= 0.9
        return {"loss": math.sin(self.x)}

    def save_checkpoint(self, path: str) -> dict[str, float]:
        return {"x": self.x}

    def load_checkpoint(self, state: dict[str, float]) -> None:
        pass


def sweep(folder: Path, trainable: Any, **failure: Any) -> tk.ResultGrid:
    return tk.inline(
        tk.Tuner(
            trainable,
            tune_config=tk.TuneConfig(metric="loss", mode="min"),
            run_config=tk.RunConfig(
                name="e",
                storage_path=folder,
                verbose=0,
                stop={"training_iteration": 10},
                checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2, num_to_keep=1),
                failure_config=tk.FailureConfig(max_failures=3, **failure),
            ),
        )
    )


def test_a_class_that_restores_nothing_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S003-7: load_checkpoint that does nothing shows in the rows."""
    Forgetful.failed = False
    (result,) = sweep(tmp_path, Forgetful)
    assert result.status == "completed"
    assert [(found.attempt, found.iteration, found.sign) for found in result.silent_restarts] == [(2, 4, "same rows")]
    (text,) = [record.getMessage() for record in caplog.records if "thrown away" in record.getMessage()]
    assert text.startswith("Forgetful_00000: attempt 2 was to go on from iteration 4 but its rows are those of")


def test_a_class_that_restores_nothing_can_be_made_to_fail(tmp_path: Path) -> None:
    """What it had learned is still there, and a mended class goes on from it."""
    Forgetful.failed = False
    (result,) = sweep(tmp_path, Forgetful, silent_restart="fail")
    assert result.status == "failed"
    assert result.error is not None
    assert "iteration 4 is thrown away" in str(result.error)
    assert "hint: have all of the state saved and loaded" in str(result.error)

    class Mended(Forgetful):
        def load_checkpoint(self, state: dict[str, float]) -> None:
            self.x = state["x"]

    Mended.__qualname__, Mended.__name__ = Forgetful.__qualname__, Forgetful.__name__
    (mended,) = tk.inline(tk.Tuner.restore(tmp_path / "e", Mended, resume_errored=True))
    assert mended.status == "completed"
    assert math.isclose(mended.rows[-1]["loss"], math.sin(0.9**10))
    assert [row["training_iteration"] for row in mended.rows] == list(range(1, 11))


def test_the_policy_is_recorded(tmp_path: Path) -> None:
    Forgetful.failed = True
    sweep(tmp_path, Forgetful, silent_restart="fail")
    again = tk.Tuner.restore(tmp_path / "e", Forgetful)
    assert again._plan.run.failure_config.silent_restart == "fail"


def test_other_policies_are_refused() -> None:
    with pytest.raises(tk.ConfigError, match="silent_restart: got 'off'"):
        tk.FailureConfig(silent_restart="off")
