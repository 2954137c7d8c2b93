"""Which checkpoints a sweep leaves, by whole sweeps in this process."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Forgetful, Make, maker

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import TrialRaised
from tunekit.journal.log import read_records
from tunekit.types import Outcome, TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def saved(tmp_path: Path, trial: str) -> list[int]:
    """Return the iterations of a trial's checkpoints."""
    folders = (tmp_path / "exp" / trial).glob("checkpoint_*")
    return sorted(int(path.name.removeprefix("checkpoint_")) for path in folders)


def reasons(tmp_path: Path, trial: str) -> dict[int, str]:
    """Return why each checkpoint of a trial was saved."""
    folder = tmp_path / "exp" / trial
    steps = saved(tmp_path, trial)
    return {step: tk.Checkpoint(folder / f"checkpoint_{step:06d}").metadata["reason"] for step in steps}


class CountState:
    """The saver of ``count``; it writes what ``Counter`` writes."""

    def __init__(self) -> None:
        self.count = 0

    def save_checkpoint(self, path: str) -> None:
        (Path(path) / "count.json").write_text(json.dumps(self.count))

    def load_checkpoint(self, path: Any) -> None:
        self.count = json.loads((Path(path) / "count.json").read_text())


def count(config: dict[str, Any]) -> None:
    """Do what ``Counter`` does."""
    state = CountState()
    tk.restore(state)
    while True:
        state.count += 1
        flag = config.get("flags")
        if flag is not None and state.count == config["fail_at"] and not (flag / "count_00000").exists():
            (flag / "count_00000").touch()
            raise ValueError("once")
        demanded = state.count in config.get("demand", ())
        tk.report({"count": state.count, "should_checkpoint": demanded}, checkpoint=state)


BOTH = pytest.mark.parametrize(("trainable", "name"), [(Counter, "Counter_00000"), (count, "count_00000")])


def run_config(stop: int, **options: Any) -> dict[str, Any]:
    return {"stop": {"training_iteration": stop}, "checkpoint_config": tk.CheckpointConfig(**options)}


# -- by iteration, on demand, at the end -------------------------------------------------------------------------------


@BOTH
def test_all_three_triggers_together(make: Make, tmp_path: Path, trainable: Any, name: str) -> None:
    """S003-8: wanted at 2 and 4, every 4, at the end, stopped at 5."""
    run = run_config(5, checkpoint_frequency=4, checkpoint_at_end=True)
    tk.inline(make(trainable, {"demand": [2, 4]}, run=run))
    assert reasons(tmp_path, name) == {2: "demand", 4: "demand", 5: "at_end"}


@BOTH
@pytest.mark.parametrize(
    ("stop", "options", "steps"),
    [
        (7, {"checkpoint_frequency": 3, "checkpoint_at_end": False}, [3, 6]),
        (7, {"checkpoint_frequency": 0, "checkpoint_at_end": False}, []),
        (7, {"checkpoint_frequency": None, "checkpoint_at_end": False}, []),
        (25, {"checkpoint_frequency": 10, "checkpoint_at_end": True}, [10, 20, 25]),
        (6, {"checkpoint_frequency": 3, "checkpoint_at_end": True}, [3, 6]),
    ],
)
def test_by_iteration_and_at_the_end(
    make: Make, tmp_path: Path, trainable: Any, name: str, stop: int, options: dict[str, Any], steps: list[int]
) -> None:
    """S003-11, S003-14, S003-18, S003-22, S003-23: in a function with a saver as in a class."""
    tk.inline(make(trainable, {}, run=run_config(stop, **options)))
    assert saved(tmp_path, name) == steps


@BOTH
def test_failures_between_periodic_checkpoints(make: Make, tmp_path: Path, trainable: Any, name: str) -> None:
    """S003-15: every 10 of 35 and at the end, with crashes at 7, 13 and 29: 3 failures are used of 5."""
    crashes = tmp_path / "crashes"
    crashes.write_text("[7, 13, 29]")

    def crash(iteration: int) -> None:
        left = json.loads(crashes.read_text())
        if iteration in left:
            crashes.write_text(json.dumps([number for number in left if number != iteration]))
            raise RuntimeError(iteration)

    class Crashing(Counter):
        def step(self) -> dict[str, Any]:
            crash(self.iteration + 1)
            return super().step()

    Crashing.__name__ = "Counter"

    def crashing(config: dict[str, Any]) -> None:
        state = CountState()
        tk.restore(state)
        while True:
            state.count += 1
            crash(state.count)
            tk.report({"count": state.count}, checkpoint=state)

    crashing.__name__ = "count"
    run = run_config(35, checkpoint_frequency=10, checkpoint_at_end=True)
    run["failure_config"] = tk.FailureConfig(max_failures=5)
    result = tk.inline(make(Crashing if trainable is Counter else crashing, {}, run=run))[0]
    assert saved(tmp_path, name) == [10, 20, 30, 35]
    assert [row["count"] for row in result.rows] == list(range(1, 36))
    raised = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, TrialRaised)]
    assert [event.error.message for event in raised] == ["7", "13", "29"]
    assert result.status is TrialStatus.COMPLETED


@BOTH
def test_at_the_end_means_any_end_but_a_failure(make: Make, tmp_path: Path, trainable: Any, name: str) -> None:
    """S003-14: a metric reaches its limit; a failed trial leaves what it had."""
    options = tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True)
    tk.inline(make(trainable, {}, run={"stop": {"count": 3}, "checkpoint_config": options}))
    assert saved(tmp_path, name) == [2, 3]
    run = {"name": "failed", "stop": {"count": 9}, "checkpoint_config": options}
    result = tk.inline(make(trainable, {"fail_at": 4, "flags": tmp_path}, run=run))[0]
    assert result.status is TrialStatus.FAILED
    assert [path.name for path in (tmp_path / "failed" / name).glob("checkpoint_*")] == ["checkpoint_000002"]


@pytest.mark.parametrize("at_end", [True, None, False])
def test_at_the_end_when_the_scheduler_says_so(make: Make, tmp_path: Path, at_end: bool | None) -> None:  # noqa: FBT001
    """S003-14: early stopping is an end too."""

    class Scored(Counter):
        def step(self) -> dict[str, Any]:
            return {**super().step(), "score": self.config["x"]}

    scheduler = tk.ASHA(max_t=9, grace_period=1, reduction_factor=3)
    tuner = make(
        Scored,
        {"x": tk.grid_search([5, 4, 3, 2, 1, 0])},
        run=run_config(9, checkpoint_at_end=at_end),
        metric="score",
        mode="max",
        scheduler=scheduler,
    )
    results = tk.inline(tuner)
    ends = {result.metrics["training_iteration"] for result in results if result.metrics}
    assert 1 in ends
    for index, result in enumerate(results):
        assert result.metrics is not None
        expected = [] if at_end is False else [result.metrics["training_iteration"]]
        assert saved(tmp_path, f"Scored_{index:05d}") == expected


# -- on failure --------------------------------------------------------------------------------------------------------


@BOTH
def test_what_a_failure_leaves_is_kept_apart(make: Make, tmp_path: Path, trainable: Any, name: str) -> None:
    """S003-8: under a name of its own, not exact; the trial goes on as if it were not there."""
    run = run_config(6, checkpoint_frequency=2, checkpoint_on_failure=True)
    run["failure_config"] = tk.FailureConfig(max_failures=1)
    result = tk.inline(make(trainable, {"fail_at": 4, "flags": tmp_path}, run=run))[0]
    assert result.status is TrialStatus.COMPLETED
    assert [row["count"] for row in result.rows] == [1, 2, 3, 4, 5, 6]
    assert saved(tmp_path, name) == [2, 4, 6]
    left = tk.Checkpoint(tmp_path / "exp" / name / "failure_000003_1")
    assert (left.metadata["exact"], left.metadata["reason"], left.iteration) == (False, "failure", 3)
    with left.as_directory() as folder:
        assert json.loads((Path(folder) / "count.json").read_text()) == 4, "what it held when it raised"
    launches = [record for record in read_records(tmp_path / "exp" / "journal") if isinstance(record, LaunchTrial)]
    assert [launch.resume_from for launch in launches] == [None, 2]


# -- classes that cannot save ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"checkpoint_frequency": 2},
        {"checkpoint_every_s": "5min"},
        {"checkpoint_every_s": "auto"},
        {"checkpoint_at_end": True},
        {"checkpoint_on_failure": True},
    ],
)
def test_a_class_that_cannot_save_is_refused_whatever_asks(make: Make, tmp_path: Path, option: dict[str, Any]) -> None:
    """S003-14: at construction, not after the work."""
    with pytest.raises(tk.ConfigError) as raised:
        make(Forgetful, {}, run={"checkpoint_config": tk.CheckpointConfig(**option)})
    (name, value), *_ = option.items()
    assert f"{name}: got {value!r}" in str(raised.value)
    assert "save_checkpoint" in raised.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_class_that_cannot_save_is_one_warning(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S003-14: unset, ``checkpoint_at_end`` means no checkpoint, and what that costs is said once for all trials."""
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        tuner = make(Forgetful, {}, num_samples=3, run={"stop": {"training_iteration": 2}})
        results = tk.inline(tuner)
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 3
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "Forgetful has no save_checkpoint and load_checkpoint"
    ]
    assert "start over after a failure" in caplog.text
    assert not list((tmp_path / "exp").glob("Forgetful_*/checkpoint_*"))


def test_no_warning_for_those_who_know(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="tunekit"):
        make(Forgetful, {}, run={"checkpoint_config": tk.CheckpointConfig(checkpoint_at_end=False)})
        make(Counter, {})
    assert caplog.text == ""


# -- functions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option", [{"checkpoint_frequency": 2}, {"checkpoint_every_s": "auto"}, {"checkpoint_at_end": True}]
)
@pytest.mark.parametrize("given", ["nothing", "folder"])
def test_a_function_without_a_saver_cannot_be_asked(
    make: Make, tmp_path: Path, option: dict[str, Any], given: str
) -> None:
    """S003-3, S003-18, S003-22, S003-23, R12: an error at the first report; ends the experiment, charges no budget."""
    calls = []

    def train(config: dict[str, Any]) -> None:
        calls.append(1)
        checkpoint = None if given == "nothing" else tk.Checkpoint.from_directory(tmp_path)
        tk.report({"loss": 1.0}, checkpoint=checkpoint)

    run = {"checkpoint_config": tk.CheckpointConfig(**option), "failure_config": tk.FailureConfig(max_failures=3)}
    tuner = make(train, {}, num_samples=4, run=run)
    with pytest.raises(tk.ConfigError) as raised:
        tk.inline(tuner)
    (name, value), *_ = option.items()
    assert f"{name}={value!r}" in str(raised.value)
    assert "save_checkpoint" in raised.value.hint
    assert calls == [1], "it would raise again, in every trial"
    results = tuner.get_results()
    assert results.outcome is Outcome.ERROR
    assert results[0].status is not TrialStatus.FAILED
    assert len(results[0].rows) == 0


def test_all_options_that_need_a_saver_are_told_together(make: Make) -> None:
    options = tk.CheckpointConfig(checkpoint_frequency=2, checkpoint_every_s="1h", checkpoint_at_end=True)
    with pytest.raises(tk.ConfigError) as raised:
        tk.inline(make(run={"checkpoint_config": options}))
    assert "checkpoint_frequency=2, checkpoint_every_s='1h', checkpoint_at_end=True" in str(raised.value)


def test_options_that_are_off_need_no_saver(make: Make) -> None:
    """S003-3."""
    options = tk.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False)
    assert tk.inline(make(run={"checkpoint_config": options}))[0].status is TrialStatus.COMPLETED


def test_a_class_and_a_function_leave_the_same(make: Make, tmp_path: Path) -> None:
    """S003-1: equal metrics, and checkpoints that either can go on from."""
    run = run_config(5, checkpoint_frequency=2)
    by_class, by_function = (tk.inline(make(trainable, {}, run=run | {"name": name}))[0] for trainable, name in
                             ((Counter, "class"), (count, "function")))  # fmt: skip
    assert [row["count"] for row in by_class.rows] == [row["count"] for row in by_function.rows] == [1, 2, 3, 4, 5]
    assert by_class.checkpoint is not None
    assert by_function.checkpoint is not None
    with by_class.checkpoint.as_directory() as left, by_function.checkpoint.as_directory() as right:
        assert (Path(left) / "count.json").read_bytes() == (Path(right) / "count.json").read_bytes()
        state = CountState()
        state.load_checkpoint(left)
        counter = Counter()
        counter.load_checkpoint(right)
    assert state.count == counter.count == 5


def test_a_function_saves_by_reporting_and_loads_by_asking(make: Make, tmp_path: Path) -> None:
    """S003-2: no option is needed for checkpoints that the function makes itself."""

    def train(config: dict[str, Any]) -> None:
        checkpoint = tk.get_checkpoint()
        start = 0
        if checkpoint:
            with checkpoint.as_directory() as saved_in:
                start = int(Path(saved_in, "step").read_text())
        for step in range(start + 1, 6):
            if step == 4 and not (tmp_path / "crashed").exists():
                (tmp_path / "crashed").touch()
                raise ValueError(step)
            folder = tk.get_context().checkpoint_dir()
            (folder / "step").write_text(str(step))
            tk.report({"step": step}, checkpoint=tk.Checkpoint.from_directory(folder) if step % 2 else None)

    result = tk.inline(make(train, {}, run={"failure_config": tk.FailureConfig(max_failures=1)}))[0]
    assert saved(tmp_path, "train_00000") == [1, 3, 5]
    assert [row["step"] for row in result.rows] == [1, 2, 3, 4, 5]
    assert list((tmp_path / "exp").glob(".staging/*")) == []


@pytest.mark.parametrize("how", ["checkpoint_dir", "move", "copy"])
def test_a_reported_folder_costs_a_rename_or_stays(make: Make, tmp_path: Path, how: str) -> None:
    """S003-5: the very files of the user are published if they were given away, and left alone if they were not."""
    inodes = []
    mine = tmp_path / "mine"

    def train(config: dict[str, Any]) -> None:
        folder = tk.get_context().checkpoint_dir() if how == "checkpoint_dir" else mine
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "data").write_text("x")
        inodes.append((folder / "deep" / "data").stat().st_ino)
        tk.report({"loss": 1.0}, checkpoint=tk.Checkpoint.from_directory(folder, move=how == "move"))

    tk.inline(make(train, {}))
    published = tmp_path / "exp" / "train_00000" / "checkpoint_000001" / "deep" / "data"
    assert published.read_text() == "x"
    assert ([published.stat().st_ino] == inodes) is (how != "copy")
    left = sorted(path.name for path in mine.rglob("*")) if mine.exists() else None
    assert left == (["data", "deep"] if how == "copy" else None)
