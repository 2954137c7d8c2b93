"""Class trainables: the order of events, the triggers of checkpoints, what each method may return and raise."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunekit.config import CheckpointConfig
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import RestoreFailed, SaveFailed, TrialHalted, TrialRaised, TrialReturned
from tunekit.session import get_checkpoint, get_context, report
from tunekit.store.dicts import DATA
from tunekit.testing.recording import RecordedTrial, RecordingChannel
from tunekit.trainable import Trainable, with_parameters

Run = Callable[..., RecordedTrial]


class Counter(Trainable):
    """Counts, and remembers what was called."""

    calls: list[str]
    flags: frozenset[int] = frozenset()

    def setup(self, config: dict[str, Any]) -> None:
        self.calls = ["setup"]
        self.value = 0

    def step(self) -> dict[str, Any]:
        self.value += 1
        return {"value": self.value, "should_checkpoint": self.value in self.flags}

    def save_checkpoint(self, path: str) -> Any:
        Path(path, "value.txt").write_text(str(self.value))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.calls.append("load")
        self.value = int(Path(checkpoint, "value.txt").read_text())


@pytest.fixture
def trial(tmp_path: Path) -> Run:
    def make(cls: Any, config: dict[str, Any] | None = None, *, stop: int | None = None, **sweep: Any) -> RecordedTrial:
        checkpoint = {key: sweep.pop(key) for key in list(sweep) if key.startswith(("checkpoint", "num"))}
        limits = {} if stop is None else {"training_iteration": stop}
        return RecordedTrial(tmp_path, cls, config, stop=limits, checkpoint=CheckpointConfig(**checkpoint), **sweep)

    return make


def test_sequence_of_events(trial: Run) -> None:
    channel = trial(Counter, stop=3, checkpoint_frequency=2).run()
    assert channel.kinds == [
        "TrialStarted",
        "ResultReported 1",
        "ResultReported 2",
        "CheckpointStaged 2",
        "ResultReported 3",
        "CheckpointStaged 3",
        "TrialReturned",
    ]
    assert [row.final for row in channel.rows] == [False, False, True]
    assert channel.last_words == TrialReturned(trial=0, attempt=1, reason="training_iteration 3 >= 3")


def test_three_triggers_save_at_most_once_per_step(trial: Run) -> None:
    """S003-8: should_checkpoint at 2 and 4, frequency 4, at the end, stop 5: steps 2, 4, 5."""

    class Flagged(Counter):
        flags = frozenset({2, 4})

    channel = trial(Flagged, stop=5, checkpoint_frequency=4, checkpoint_at_end=True).run()
    assert channel.saved == [2, 4, 5]
    assert [event.manifest["reason"] for event in channel.staged] == ["demand", "demand", "at_end"]


def test_should_checkpoint_is_removed_and_only_true_counts(trial: Run) -> None:
    """S003-9: flags at 2 and 5 of 6 give 2 checkpoints; what is merely truthy gives none."""

    class Flagged(Counter):
        def step(self) -> dict[str, Any]:
            self.value += 1
            return {"should_checkpoint": {2: True, 3: 1, 4: "yes", 5: True}.get(self.value, False)}

    channel = trial(Flagged, stop=6, checkpoint_at_end=False).run()
    assert channel.saved == [2, 5]
    assert all(row.metrics == {} for row in channel.rows)


@pytest.mark.parametrize(
    ("frequency", "at_end", "stop", "saved"),
    [
        (3, False, 7, [3, 6]),
        (0, False, 7, []),
        (10, True, 25, [10, 20, 25]),
        (3, True, 6, [3, 6]),
        (None, None, 4, [4]),
    ],
)
def test_frequency_and_end(trial: Run, frequency: int | None, at_end: Any, stop: int, saved: list[int]) -> None:
    """S003-11, S003-14."""
    made = trial(Counter, stop=stop, checkpoint_frequency=frequency, checkpoint_at_end=at_end)
    assert made.run().saved == saved


def test_class_that_cannot_save_is_never_asked(trial: Run) -> None:
    """S003-14: unset means at the end if it can."""

    class Plain(Trainable):
        def step(self) -> dict[str, Any]:
            return {"x": 1, "should_checkpoint": True}

    channel = trial(Plain, stop=2).run()
    assert channel.saved == []
    assert isinstance(channel.events[-1], TrialReturned)


def test_done_ends_the_trial(trial: Run) -> None:
    class Short(Counter):
        def step(self) -> dict[str, Any]:
            return {**super().step(), "done": self.value == 2}

    channel = trial(Short, stop=9).run()
    assert channel.kinds[-3:] == ["ResultReported 2", "CheckpointStaged 2", "TrialReturned"]


@pytest.mark.parametrize("style", ["none", "path", "Path", "dict"])
def test_return_styles_round_trip(trial: Run, style: str) -> None:
    """S003-7: None, the folder or a dict."""

    class Styled(Counter):
        def save_checkpoint(self, path: str) -> Any:
            if style == "dict":
                return {"value": self.value, "nested": {1: (2, 3)}}
            super().save_checkpoint(path)
            return {"none": None, "path": path, "Path": Path(path)}[style]

        def load_checkpoint(self, checkpoint: Any) -> None:
            if style == "dict":
                assert checkpoint["nested"] == {1: (2, 3)}
                self.value = checkpoint["value"]
            else:
                super().load_checkpoint(checkpoint)

    made = trial(Styled, checkpoint_frequency=2)
    made.run(RecordingChannel(stop_at=3), until=None)
    resumed = made.resume(RecordingChannel(stop_at=1))
    assert resumed.rows[0].iteration == 4
    assert resumed.rows[0].metrics == {"value": 4}


def test_dict_is_marked_in_the_folder(trial: Run, tmp_path: Path) -> None:
    class Dicts(Counter):
        def save_checkpoint(self, path: str) -> Any:
            return {"value": self.value}

    trial(Dicts, stop=1).run()
    names = {path.name for path in (tmp_path / "trial_00000/checkpoint_000001").iterdir()}
    assert names == {DATA, "MANIFEST.json"}


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda path: str(Path(path).parent), "it was given"),
        (lambda path: 3, "got 3 (int)"),
        (lambda path: {"ok": 1, "lock": threading.Lock()}, "lock: it cannot be pickled"),
    ],
)
def test_bad_return_of_save_checkpoint(trial: Run, tmp_path: Path, returned: Callable[[str], Any], words: str) -> None:
    """S003-7: another path, another type, an unpicklable dict; nothing is left behind."""

    class Wrong(Counter):
        def save_checkpoint(self, path: str) -> Any:
            return returned(path)

    channel = trial(Wrong, stop=1).run()
    raised = channel.events[-1]
    assert isinstance(raised, TrialRaised)
    assert raised.error.type == "tunekit.errors.SaveError"
    assert words in raised.error.message
    assert not raised.retryable
    assert list(tmp_path.glob(".staging/*")) == []


@pytest.mark.parametrize("method", ["setup", "step", "save_checkpoint", "load_checkpoint", "cleanup"])
def test_exception_in_each_method(trial: Run, method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A raising method is that trial's error, but a raising cleanup never undoes a result."""
    is_broken = method != "load_checkpoint"

    def raising(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if is_broken:
            raise ValueError(f"no {method}")
        return original(self, *arguments, **keywords)

    original = getattr(Counter, method)
    made = trial(type("Broken", (Counter,), {method: raising}), stop=2)
    channel = made.run()
    if method == "load_checkpoint":
        is_broken = True
        made.sweep.stop["training_iteration"] = 4  # type: ignore[index]
        channel = made.resume()
    last = channel.events[-1]
    if method == "cleanup":
        assert isinstance(last, TrialReturned)
        assert "no cleanup" in caplog.text
        return
    assert isinstance(last, TrialRaised)
    assert (last.error.type, last.error.message) == ("ValueError", f"no {method}")
    assert "raising" in last.error.traceback
    assert last.retryable
    assert not made.is_reusable
    assert list(tmp_path.glob(".staging/*")) == []


def test_cleanup_is_called_after_an_error(trial: Run) -> None:
    cleaned = []

    class Broken(Counter):
        def step(self) -> dict[str, Any]:
            raise RuntimeError("broken")

        def cleanup(self) -> None:
            cleaned.append(1)

    trial(Broken).run()
    assert cleaned == [1]


@pytest.mark.parametrize("result", [None, 3, [1], "x"])
def test_step_must_return_a_dict(trial: Run, result: Any) -> None:
    class Wrong(Counter):
        def step(self) -> Any:
            return result

    last = trial(Wrong).run().events[-1]
    assert isinstance(last, TrialRaised)
    assert "step() must return a dict" in last.error.message
    assert not last.retryable


def test_resumed_attempt_counts_on(trial: Run) -> None:
    made = trial(Counter, checkpoint_frequency=2)
    first = made.run(RecordingChannel(stop_at=4))
    made.sweep.stop["training_iteration"] = 6  # type: ignore[index]
    second = made.resume(time_total_s=100.0)
    assert [row.iteration for row in second.rows] == [5, 6]
    assert second.rows[0].time_total_s > 100
    assert second.events[0].restored_from == 4  # type: ignore[union-attr]
    assert first.kinds[-2:] == ["CheckpointStaged 4", "TrialHalted"]


def test_damaged_checkpoint_is_told_and_no_user_code_runs(trial: Run, tmp_path: Path) -> None:
    made = trial(Counter, stop=2, checkpoint_frequency=1)
    made.run()
    for iteration in (1, 2):
        (tmp_path / f"trial_00000/checkpoint_00000{iteration}/value.txt").write_text("3")
    channel = made.resume()
    assert channel.kinds == ["RestoreFailed 2"]
    assert isinstance(channel.events[0], RestoreFailed)
    assert "value.txt" in channel.events[0].error.message
    assert made.run(resume_from=9).kinds == ["RestoreFailed 9"]


def test_waits_at_its_horizon_after_the_checkpoint_is_staged(trial: Run) -> None:
    answers: list[ContinueTrial | StopTrial] = [
        ContinueTrial(trial=0, attempt=1, until=4),
        StopTrial(trial=0, attempt=1, reason="bad"),
    ]
    channel = RecordingChannel(answers)
    trial(Counter, stop=9, checkpoint_frequency=2).run(channel, until=2)
    assert channel.kinds == [
        "TrialStarted",
        "ResultReported 1",
        "ResultReported 2",
        "CheckpointStaged 2",
        "ResultReported 3",
        "ResultReported 4",
        "CheckpointStaged 4",
        "TrialHalted",
    ]
    assert channel.num_waits == 2


def test_own_stop_comes_before_the_horizon(trial: Run) -> None:
    channel = trial(Counter, stop=2).run(until=2)
    assert channel.num_waits == 0
    assert channel.kinds[-1] == "TrialReturned"


@pytest.mark.parametrize(
    ("at_end", "pause", "saved"), [(None, False, [3]), (False, False, []), (False, True, [3]), (True, True, [3])]
)
def test_order_to_stop(trial: Run, at_end: Any, pause: Any, saved: list[int]) -> None:
    """S003-14: at the end also when it is stopped from outside; a pause saves whatever at_end says."""
    stop = StopTrial(trial=0, attempt=1, pause=pause)
    made = trial(Counter, checkpoint_at_end=at_end)
    channel = made.run(RecordingChannel(stop_at=3, stop=stop))
    assert channel.saved == saved
    assert channel.last_words == TrialHalted(trial=0, attempt=1)
    assert made.is_reusable


def test_full_disk_costs_a_checkpoint_and_not_the_trial(trial: Run, tmp_path: Path) -> None:
    class Full(Counter):
        def save_checkpoint(self, path: str) -> Any:
            if self.value == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().save_checkpoint(path)

    channel = trial(Full, stop=2, checkpoint_frequency=1).run()
    assert channel.kinds[2:] == ["SaveFailed 1", "ResultReported 2", "CheckpointStaged 2", "TrialReturned"]
    assert isinstance(channel.events[2], SaveFailed)
    assert list(tmp_path.glob(".staging/*")) == []


def test_a_missing_file_in_save_checkpoint_is_the_users_error(trial: Run, tmp_path: Path) -> None:
    class Wrong(Counter):
        def save_checkpoint(self, path: str) -> Any:
            return Path(path, "nothing", "here").read_text()

    last = trial(Wrong, stop=1).run().events[-1]
    assert isinstance(last, TrialRaised)
    assert last.error.type == "FileNotFoundError"
    assert list(tmp_path.glob(".staging/*")) == []


def test_score_and_metrics_are_in_the_manifest(trial: Run) -> None:
    class Scored(Counter):
        def step(self) -> dict[str, Any]:
            self.value += 1
            return {"val": {"loss": float("nan") if self.value == 2 else 1.0 / self.value}}

    channel = trial(Scored, stop=3, checkpoint_frequency=1, checkpoint_score_attribute="val/loss").run()
    assert [event.score for event in channel.staged] == [1.0, None, 1 / 3]
    assert channel.staged[0].manifest["metrics"] == {"val": {"loss": 1.0}}


def test_knows_its_trial_in_setup(trial: Run, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Curious(Counter):
        def setup(self, config: dict[str, Any], data: Any = None) -> None:
            super().setup(config)
            seen.update(name=self.trial_name, dir=self.logdir, cpus=self.trial_resources, before=self.iteration)
            seen.update(data=data)
            assert get_context().trial_name == self.trial_id
            assert get_checkpoint() is None

        def step(self) -> dict[str, Any]:
            return {"iteration": self.training_iteration, **super().step()}

    channel = trial(with_parameters(Curious, data=[1, 2]), {"a": 1}, stop=2).run()
    assert seen == {
        "name": "trial_00000",
        "dir": str(tmp_path / "trial_00000"),
        "cpus": {"CPU": 1.0},
        "before": 0,
        "data": [1, 2],
    }
    assert [row.metrics["iteration"] for row in channel.rows] == [0, 1]


def test_report_is_refused(trial: Run) -> None:
    class Reports(Counter):
        def step(self) -> dict[str, Any]:
            report({"x": 1})
            return {}

    last = trial(Reports).run().events[-1]
    assert isinstance(last, TrialRaised)
    assert last.error.type == "tunekit.errors.SessionError"


def test_warning_without_save_methods(trial: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Plain(Trainable):
        def step(self) -> dict[str, Any]:
            return {"should_checkpoint": True}

    with caplog.at_level(logging.WARNING):
        trial(Plain, stop=3).run()
    assert caplog.text.count("should_checkpoint") == 1
