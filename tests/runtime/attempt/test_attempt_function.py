"""Function trainables: reports, returned and yielded values, savers and folders, stops, errors."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.config import CheckpointConfig
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import Event, TrialHalted, TrialRaised, TrialReturned
from tunekit.session import TrialStopped
from tunekit.testing.recording import RecordedTrial, RecordingChannel

Run = Callable[..., RecordedTrial]


class State:
    """A saver: counts, and saves its count."""

    def __init__(self) -> None:
        self.value = 0

    def save_checkpoint(self, path: str) -> None:
        Path(path, "value.txt").write_text(str(self.value))

    def load_checkpoint(self, path: str) -> None:
        self.value = int(Path(path, "value.txt").read_text())


def count(config: dict[str, Any]) -> None:
    """Count to ``config["stop"]``, from where the checkpoint left off."""
    state = State()
    tk.restore(state)
    while state.value < config["stop"]:
        state.value += 1
        tk.report({"value": state.value, **config.get("more", {})}, checkpoint=state)


@pytest.fixture
def trial(tmp_path: Path) -> Run:
    def make(function: Any, config: dict[str, Any] | None = None, **sweep: Any) -> RecordedTrial:
        checkpoint = {key: sweep.pop(key) for key in list(sweep) if key.startswith("checkpoint")}
        return RecordedTrial(
            tmp_path / "experiment", function, config, checkpoint=CheckpointConfig(**checkpoint), **sweep
        )

    return make


def raised(event: Event) -> TrialRaised:
    assert isinstance(event, TrialRaised)
    return event


def test_sequence_of_events(trial: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        for step in range(config["n"]):
            tk.report({"loss": 1 / (step + 1)})

    channel = trial(train, {"n": 2}).run()
    assert channel.kinds == ["TrialStarted", "ResultReported 1", "ResultReported 2", "TrialReturned"]
    assert [row.final for row in channel.rows] == [False, False]


@pytest.mark.parametrize(
    ("value", "metrics"),
    [({"x": 1}, {"x": 1}), (0.5, {"_metric": 0.5}), (3, {"_metric": 3}), (True, {"_metric": True})],
)
def test_returned_value_is_the_last_report(trial: Run, value: Any, metrics: dict[str, Any]) -> None:
    def train(config: dict[str, Any]) -> Any:
        tk.report({"x": 0})
        return value

    channel = trial(train).run(until=2)
    assert channel.rows[-1].metrics == metrics
    assert (channel.rows[-1].iteration, channel.rows[-1].final) == (2, True)
    assert channel.num_waits == 0, "a trial that has ended waits for nobody"
    assert channel.kinds[-1] == "TrialReturned"


@pytest.mark.parametrize("value", ["text", [1, 2], object()])
def test_returned_value_of_another_kind(trial: Run, value: Any) -> None:
    last = raised(trial(lambda config: value).run().events[-1])
    assert last.error.type == "tunekit.errors.ReportError"
    assert type(value).__name__ in last.error.message
    assert not last.retryable


def test_yielded_values_are_reports(trial: Run) -> None:
    def train(config: dict[str, Any]) -> Generator[Any, None, Any]:
        yield {"x": 1}
        yield 2
        return {"x": 3}

    assert [row.metrics for row in trial(train).run().rows] == [{"x": 1}, {"_metric": 2}, {"x": 3}]


def test_generator_is_closed_when_the_trial_stops(trial: Run) -> None:
    closed = []

    def train(config: dict[str, Any]) -> Iterator[Any]:
        try:
            while True:
                yield {"x": 1}
        finally:
            closed.append(1)

    channel = trial(train, stop={"training_iteration": 3}).run()
    assert len(channel.rows) == 3
    assert closed == [1]


def test_own_stop_ends_at_the_exact_iteration(trial: Run) -> None:
    channel = trial(count, {"stop": 9}, stop={"value": 3}).run()
    assert [row.iteration for row in channel.rows] == [1, 2, 3]
    assert channel.rows[-1].final
    last = channel.events[-1]
    assert isinstance(last, TrialReturned)
    assert last.reason.startswith("value 3")


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frequency", "at_end", "saved"),
    [(2, False, [2, 4]), (2, True, [2, 4, 5]), (5, True, [5]), (0, True, [5]), (0, False, []), (0, None, [5])],
)
def test_saver_saves_when_the_config_says_so(trial: Run, frequency: int, at_end: Any, saved: list[int]) -> None:
    made = trial(count, {"stop": 5}, checkpoint_frequency=frequency, checkpoint_at_end=at_end)
    channel = made.run()
    assert channel.saved == saved
    assert channel.kinds[-1] == "TrialReturned"


def test_should_checkpoint_with_a_saver(trial: Run) -> None:
    channel = trial(count, {"stop": 2, "more": {"should_checkpoint": True}}, checkpoint_at_end=False).run()
    assert channel.saved == [1, 2]
    assert channel.rows[0].metrics == {"value": 1}


def test_a_name_that_the_first_row_lacks_is_said_once(trial: Run, caplog: pytest.LogCaptureFixture) -> None:
    """S003-20. A trial that waits for a typo has no end; one that waits for a metric to come has."""

    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            tk.report({"loss": 1.0, "val": {"acc": 0.5}})

    stop = {"los": 0.5, "val/acc": 0.9, "training_iteration": 9, "time_total_s": 9.0}
    trial(train, stop=stop, checkpoint_score_attribute="val/ac", checkpoint_score_order="max").run()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("'loss', 'val/acc'" in line for line in lines)
    assert "'los'" in lines[0]
    assert "did you mean 'loss'?" in lines[0]
    assert "checkpoint_score_attribute" in lines[1]
    assert "did you mean 'val/acc'?" in lines[1]


def test_should_checkpoint_without_a_saver_warns_once(trial: Run, caplog: pytest.LogCaptureFixture) -> None:
    """S003-9."""

    def train(config: dict[str, Any]) -> None:
        for _ in range(3):
            tk.report({"should_checkpoint": True})

    assert trial(train).run().saved == []
    assert caplog.text.count("nothing to save") == 1


@pytest.mark.parametrize("option", [{"checkpoint_frequency": 2}, {"checkpoint_at_end": True}])
@pytest.mark.parametrize("given", ["nothing", "folder"])
def test_cadence_without_a_saver_is_fatal(trial: Run, option: dict[str, Any], given: str, tmp_path: Path) -> None:
    """S003-3, with the answer of the design: it is an error of the configuration, at the first report."""

    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1}, checkpoint=tk.Checkpoint.from_directory(tmp_path) if given == "folder" else None)

    channel = trial(train, **option).run()
    assert channel.rows == []
    last = raised(channel.events[-1])
    assert (last.fatal, last.retryable) == (True, False)
    assert "checkpoint=" in last.error.message
    assert "save_checkpoint" in last.error.hint


def test_a_users_own_config_error_is_not_fatal(trial: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        raise tk.ConfigError("mine")

    assert not raised(trial(train).run().events[-1]).fatal


def test_reported_folder_is_copied_and_stays(trial: Run, tmp_path: Path) -> None:
    """S003-2, S003-5: what is reported is kept, and what the user wrote stays the user's."""
    mine = tmp_path / "mine"

    def train(config: dict[str, Any]) -> None:
        checkpoint = tk.get_checkpoint()
        start = 0
        if checkpoint:
            with checkpoint.as_directory() as folder:
                start = int(Path(folder, "step").read_text())
        for step in range(start, 3):
            mine.mkdir(exist_ok=True)
            (mine / "step").write_text(str(step + 1))
            tk.report({"step": step}, checkpoint=tk.Checkpoint.from_directory(mine))

    made = trial(train)
    assert made.run(RecordingChannel(stop_at=2)).saved == [1, 2]
    assert (mine / "step").read_text() == "2"
    second = made.resume()
    assert [(row.iteration, row.metrics["step"]) for row in second.rows] == [(3, 2)]


def test_folder_takes_the_place_of_a_save_that_is_due(trial: Run, tmp_path: Path) -> None:
    """S003-8: at most one checkpoint per step."""

    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1}, checkpoint=State())
        tk.report({"x": 2}, checkpoint=tk.Checkpoint.from_directory(tmp_path / "mine"))

    (tmp_path / "mine").mkdir()
    channel = trial(train, checkpoint_frequency=1).run()
    assert [(event.iteration, event.manifest["reason"]) for event in channel.staged] == [(1, "frequency"), (2, "user")]


@pytest.mark.parametrize("how", ["move", "checkpoint_dir"])
def test_folder_is_renamed_and_not_copied(trial: Run, tmp_path: Path, how: str) -> None:
    inodes = []

    def train(config: dict[str, Any]) -> None:
        folder = tmp_path / "mine" if how == "move" else tk.get_context().checkpoint_dir()
        folder.mkdir(exist_ok=True)
        (folder / "data").write_text("x")
        inodes.append((folder / "data").stat().st_ino)
        tk.report({"x": 1}, checkpoint=tk.Checkpoint.from_directory(folder, move=how == "move"))

    trial(train).run()
    published = tmp_path / "experiment/trial_00000/checkpoint_000001/data"
    assert published.stat().st_ino == inodes[0]
    assert not (tmp_path / "mine").exists()


def test_unused_checkpoint_dir_leaves_nothing(trial: Run, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        first = tk.get_context().checkpoint_dir()
        (first / "data").write_text("x")
        tk.report({"x": 1})
        tk.report({"x": 2}, checkpoint=tk.Checkpoint.from_directory(first))
        tk.get_context().checkpoint_dir()

    assert trial(train).run().saved == [2]
    assert list((tmp_path / "experiment/.staging").iterdir()) == []


def test_folder_that_vanished_is_the_trials_error(trial: Run, tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        folder = tmp_path / "mine"
        folder.mkdir()
        checkpoint = tk.Checkpoint.from_directory(folder)
        shutil.rmtree(folder)
        tk.report({"x": 1}, checkpoint=checkpoint)

    channel = trial(train).run()
    assert channel.kinds == ["TrialStarted", "TrialRaised"]
    assert raised(channel.events[-1]).error.type == "tunekit.errors.CheckpointNotFoundError"
    assert not list((tmp_path / "experiment").glob(".staging/*"))


@pytest.mark.parametrize("wrong", [3, "path", State, object()])
def test_checkpoint_of_another_kind(trial: Run, wrong: Any) -> None:
    def train(config: dict[str, Any]) -> None:
        tk.report({"x": 1}, checkpoint=wrong)

    assert "checkpoint must be" in raised(trial(train).run().events[-1]).error.message


def test_dict_of_a_saver_comes_back(trial: Run) -> None:
    class Dicts(State):
        def save_checkpoint(self, path: str) -> dict[str, int]:  # type: ignore[override]
            return {"value": self.value}

        def load_checkpoint(self, state: dict[str, int]) -> None:  # type: ignore[override]
            self.value = state["value"]

    def train(config: dict[str, Any]) -> None:
        state = Dicts()
        tk.restore(state)
        while state.value < 4:
            state.value += 1
            tk.report({"value": state.value}, checkpoint=state)

    made = trial(train)
    made.run(RecordingChannel(stop_at=2))
    assert [row.metrics["value"] for row in made.resume().rows] == [3, 4]


def test_resume_counts_on_from_the_checkpoint(trial: Run) -> None:
    made = trial(count, {"stop": 6}, checkpoint_frequency=2)
    assert made.run(RecordingChannel(stop_at=5)).kinds[-2:] == ["CheckpointStaged 5", "TrialHalted"]
    second = made.resume(time_total_s=50.0)
    assert [(row.iteration, row.metrics["value"]) for row in second.rows] == [(6, 6)]
    assert second.rows[0].time_total_s > 50
    assert second.saved == [6]


def test_unopened_checkpoint_starts_again_and_is_flagged(trial: Run) -> None:
    def forgetful(config: dict[str, Any]) -> None:
        state = State()
        for _ in range(3):
            tk.report({"x": 1}, checkpoint=state)

    made = trial(forgetful)
    made.run(RecordingChannel(stop_at=2))
    second = made.resume(time_total_s=50.0)
    assert [row.iteration for row in second.rows] == [1, 2, 3]
    assert second.rows[0].time_total_s < 50
    assert second.kinds[:3] == ["TrialStarted", "TrialStartedOver 2", "ResultReported 1"]


def test_restore_without_a_checkpoint(trial: Run) -> None:
    answers: list[Any] = []

    def train(config: dict[str, Any]) -> None:
        answers.extend([tk.restore(State()), tk.get_checkpoint()])

    trial(train).run()
    assert answers == [False, None]


# -- stops -------------------------------------------------------------------------------------------------------------


def test_waits_at_its_horizon_after_saving(trial: Run) -> None:
    answers: list[ContinueTrial | StopTrial] = [
        ContinueTrial(trial=0, attempt=1, until=3),
        StopTrial(trial=0, attempt=1),
    ]
    channel = trial(count, {"stop": 9}, checkpoint_frequency=1).run(RecordingChannel(answers), until=1)
    assert channel.num_waits == 2
    assert channel.saved == [1, 2, 3]  # Where storage is slow, the second may come after the third row.
    assert channel.kinds[-2:] == ["CheckpointStaged 3", "TrialHalted"]


@pytest.mark.parametrize(("at_end", "pause", "saved"), [(False, False, []), (False, True, [2]), (True, False, [2])])
def test_order_to_stop(trial: Run, at_end: bool, pause: Any, saved: list[int]) -> None:  # noqa: FBT001
    stop = StopTrial(trial=0, attempt=1, pause=pause)
    made = trial(count, {"stop": 9}, checkpoint_at_end=at_end)
    channel = made.run(RecordingChannel(stop_at=2, stop=stop))
    assert channel.saved == saved
    assert channel.last_words == TrialHalted(trial=0, attempt=1)
    assert made.is_reusable


def test_swallowed_stop_is_raised_again(trial: Run) -> None:
    num_raised = []

    def stubborn(config: dict[str, Any]) -> dict[str, Any]:
        for step in range(4):
            try:
                tk.report({"x": step})
            except BaseException as error:  # noqa: BLE001 - what is tested
                num_raised.append(type(error))
        return {"x": "after its end"}

    channel = trial(stubborn).run(RecordingChannel(stop_at=2))
    assert num_raised == [TrialStopped] * 3
    assert channel.kinds == ["TrialStarted", "ResultReported 1", "ResultReported 2", "TrialHalted"]


def test_exception_on_the_way_out_undoes_nothing(trial: Run, caplog: pytest.LogCaptureFixture) -> None:
    def train(config: dict[str, Any]) -> None:
        try:
            tk.report({"x": 1})
        finally:
            raise ValueError("in finally")

    made = trial(train, stop={"x": 1})
    assert made.run().kinds[-1] == "TrialReturned"
    assert not made.is_reusable
    assert "in finally" in caplog.text


def test_warnings_name_the_trial(trial: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        trial(lambda config: None).run()
    assert "trial_00000" in caplog.text
