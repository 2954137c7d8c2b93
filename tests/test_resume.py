"""Running again, restoring from a path, and what may not change in between."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter, Make, halve, maker, square

import tunekit as tk
from tunekit.core.codec import Record, decode
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import DriverStarted
from tunekit.errors import (
    ConfigError,
    ConfigTypeError,
    ExperimentError,
    ExperimentExistsError,
    ExperimentMismatchError,
    ExperimentNotFoundError,
)
from tunekit.journal.header import read_header
from tunekit.journal.lock import DriverLock
from tunekit.journal.log import read_records
from tunekit.types import TrialStatus


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def count_rows(tmp_path: Path) -> int:
    return sum(type(record).__name__ == "ResultReported" for record in read_records(tmp_path / "exp" / "journal"))


def test_running_again_does_nothing_and_more_samples_run_the_rest(make: Make, tmp_path: Path) -> None:
    """S004-11, R4."""
    first = tk.inline(make(num_samples=3))
    rows = count_rows(tmp_path)
    again = tk.inline(make(num_samples=3))
    assert count_rows(tmp_path) == rows
    assert [result.metrics for result in again] == [result.metrics for result in first]
    more = tk.inline(make(num_samples=5))
    assert count_rows(tmp_path) == rows + 2 * 3
    assert [result.metrics for result in more][:3] == [result.metrics for result in first]


def test_a_missing_seed_is_drawn_once(make: Make) -> None:
    first = tk.inline(make(num_samples=2, seed=None))
    more = tk.inline(make(num_samples=3, seed=None))
    assert [result.config for result in more][:2] == [result.config for result in first]
    other = tk.inline(make(num_samples=2, seed=None, run={"name": "other"}))
    assert [result.config for result in other] != [result.config for result in first]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "max"}, "mode"),
        ({"seed": 2}, "seed"),
        ({"metric": "other"}, "metric"),
        ({"scheduler": tk.ASHA(max_t=5)}, "scheduler"),
        ({"space": {"x": tk.uniform(0, 2)}}, "x"),
        ({"trainable": halve, "metric": "loss", "mode": "min"}, "trainable"),
    ],
)
def test_another_sweep_under_the_same_name_is_refused(make: Make, change: dict[str, Any], said: str) -> None:
    """R3: what makes an experiment what it is may not change; the message shows both sides."""
    tk.inline(make(num_samples=1))
    with pytest.raises(ExperimentMismatchError) as raised:
        tk.inline(make(**{"num_samples": 1, **change}))
    assert said in str(raised.value)
    assert "hint:" in str(raised.value)


class Broken(tk.RandomSearch):
    """A searcher that fails before any trial."""

    def begin(self, *_: Any, **__: Any) -> Any:
        return self

    def ask(self, first: int, count: int) -> Any:
        raise ValueError(f"asked for {count} from {first}")


def test_a_false_start_binds_nobody(make: Make, tmp_path: Path) -> None:
    """R3: what failed before the first trial started is corrected and run again, under the same name."""
    broken = make(num_samples=2, seed=None, mode="max", search_alg=Broken())
    with pytest.raises(ExperimentError, match="asked for"):
        tk.inline(broken)
    drawn = read_header(tmp_path / "exp")
    (tmp_path / "exp" / ".experiment.json.1.draft").write_bytes(b"of a driver that was killed")
    assert len(tk.inline(make(num_samples=2, seed=None))) == 2
    header = read_header(tmp_path / "exp")
    assert drawn is not None
    assert header is not None
    assert (header.identity["mode"], header.identity["seed"]) == ("min", drawn.identity["seed"])
    assert not list((tmp_path / "exp").glob(".*.draft"))
    with pytest.raises(ExperimentMismatchError, match="mode"):
        tk.inline(make(num_samples=2, seed=None, mode="max"))
    assert read_header(tmp_path / "exp") == header
    assert len(tk.inline(make(num_samples=3, seed=None))) == 3


def test_what_failed_as_it_was_goes_on_as_it_was(make: Make, tmp_path: Path) -> None:
    """The journal of a false start is dropped only if the script has changed."""
    for num_drivers in (1, 2):
        with pytest.raises(ExperimentError):
            tk.inline(make(search_alg=Broken()))
        records = read_records(tmp_path / "exp" / "journal")
        assert sum(isinstance(record, DriverStarted) for record in records) == num_drivers


def test_two_drivers_cannot_run_one_experiment(make: Make, tmp_path: Path) -> None:
    tk.inline(make(num_samples=1))
    with DriverLock(tmp_path / "exp"), pytest.raises(ExperimentExistsError, match="process"):
        tk.inline(make(num_samples=1))


def test_a_driver_whose_place_is_taken_ends_in_words(make: Make, tmp_path: Path) -> None:
    """It publishes nothing, tidies nothing up, and what it had recorded is where the next one goes on."""
    others: list[DriverLock] = []

    def train(config: dict[str, Any]) -> None:
        for step in range(1, 5):
            if step == 3 and not others:
                others.append(DriverLock(tmp_path / "exp"))
                others[0].acquire(takeover=True)
            tk.report({"loss": 1.0 / step})

    with pytest.raises(ExperimentExistsError, match=r"taken over .* nothing more.*\n\nhint: .*takeover=True"):
        tk.inline(make(train, metric="loss", mode="min"))
    before = count_rows(tmp_path)
    others[0].release()
    (result,) = tk.inline(make(train, metric="loss", mode="min"), takeover=True)
    assert [row["loss"] for row in result.rows] == [1.0, 0.5, 1 / 3, 0.25]
    assert before < 4
    generations = [record.generation for record in journal_of(tmp_path) if isinstance(record, DriverStarted)]
    assert generations == [1, 3], "the one in between recorded nothing"


def test_a_script_that_describes_something_else_takes_nobody_s_place(make: Make, tmp_path: Path) -> None:
    """The driver that is at work is left alone when its successor would be refused anyway."""
    tk.inline(make(num_samples=1))
    with DriverLock(tmp_path / "exp") as lock:
        lock.opened()
        for change in ({"seed": 9}, {"space": {"x": tk.uniform(0, 2)}}):
            with pytest.raises(ExperimentMismatchError):
                tk.inline(make(num_samples=1, **change), takeover=True)
            lock.check()
        assert len(tk.inline(make(num_samples=2), takeover=True)) == 2
        with pytest.raises(ExperimentExistsError, match="taken over"):
            lock.check()
    with pytest.raises(ConfigError, match="takeover: got 'yes', but must be True or False"):
        tk.inline(make(), takeover="yes")  # type: ignore[arg-type]


def journal_of(tmp_path: Path) -> list[Record]:
    return list(read_records(tmp_path / "exp" / "journal"))


def test_restore_needs_only_the_path_and_the_code(make: Make, tmp_path: Path) -> None:
    """S003-5, promise 5: also after the folder has been moved and renamed."""
    tk.inline(make(num_samples=2))
    shutil.move(tmp_path / "exp", tmp_path / "elsewhere")
    restored = tk.Tuner.restore(tmp_path / "elsewhere", square)
    assert len(tk.inline(restored)) == 2
    longer = tk.TuneConfig(metric="loss", mode="min", seed=1, num_samples=3)
    results = tk.inline(tk.Tuner.restore(tmp_path / "elsewhere", square, tune_config=longer))
    assert len(results) == 3
    assert not (tmp_path / "exp").exists()
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "elsewhere").rglob("*.json*") if path.is_file()
    )


def test_restore_saves_as_the_script_did(make: Make, tmp_path: Path) -> None:
    """S003-13, S003-18: each field of a CheckpointConfig comes back, and may be changed at each run."""
    config = tk.CheckpointConfig(
        num_to_keep=3,
        checkpoint_score_attribute="count",
        checkpoint_score_order="min",
        checkpoint_frequency=2,
        checkpoint_at_end=False,
        checkpoint_every_s="2h",
        checkpoint_on_failure=True,
        max_experiment_bytes=10**9,
    )
    run = {"stop": {"training_iteration": 1}}
    tk.inline(make(Counter, run={**run, "checkpoint_config": config}))
    plan = tk.Tuner.restore(tmp_path / "exp", Counter)._plan
    assert plan.run.checkpoint_config == dataclasses.replace(config, checkpoint_every_s=7200.0)
    assert plan.settings(1).max_experiment_bytes == 10**9
    for every in (5, "auto"):
        other = tk.CheckpointConfig(checkpoint_every_s=every)
        tk.inline(make(Counter, run={**run, "checkpoint_config": other}))
        assert tk.Tuner.restore(tmp_path / "exp", Counter)._plan.run.checkpoint_config == other


def test_restore_from_another_module(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 5: a script is __main__ when it runs, and has a name when it is imported."""
    monkeypatch.setattr(square, "__module__", "__main__")
    tk.inline(make(num_samples=1))
    monkeypatch.undo()
    assert len(tk.inline(tk.Tuner.restore(tmp_path / "exp", square))) == 1


class One: ...


class Two: ...


def kind(config: dict[str, Any]) -> None:
    tk.report({"loss": 1.0 if config["kind"] is Two else 0.0})


def test_restore_has_points_as_they_were_or_asks_for_them(make: Make, tmp_path: Path) -> None:
    """S003-5: a fingerprint of a point is not the point."""
    shapes: dict[str, Any] = {"shape": tk.choice([(1, 2), (3, 4), "x" * 300]), "x": 0.5}
    points: list[dict[str, Any]] = [{"shape": (3, 4)}, {"shape": "x" * 300}]
    ran = tk.inline(make(square, shapes, num_samples=2, search_alg=tk.RandomSearch(points)))
    again = tk.inline(tk.Tuner.restore(tmp_path / "exp", square))
    assert [result.config for result in again] == [result.config for result in ran]

    space: dict[str, Any] = {"kind": tk.choice([One, Two])}
    search = tk.RandomSearch([{"kind": Two}])
    tk.inline(make(kind, space, search_alg=search, run={"name": "two"}))
    with pytest.raises(ConfigError, match=r"needs tune_config(.|\n)*hint: pass the same tune_config"):
        tk.Tuner.restore(tmp_path / "two", kind, param_space=space)
    tune = tk.TuneConfig(seed=1, search_alg=search)
    (result,) = tk.inline(tk.Tuner.restore(tmp_path / "two", kind, param_space=space, tune_config=tune))
    assert result.metrics is not None
    assert result.metrics["loss"] == 1.0


def test_restore_guesses_nothing_that_was_never_recorded(make: Make, tmp_path: Path) -> None:
    """A driver that was killed between header and journal recorded who it is, but not how many samples it wants."""
    tk.inline(make(num_samples=4))
    for segment in (tmp_path / "exp" / "journal").iterdir():
        segment.unlink()
    with pytest.raises(ConfigError, match="needs param_space and tune_config and run_config: its first driver"):
        tk.Tuner.restore(tmp_path / "exp", square)
    space = {"x": tk.uniform(0, 1)}
    run = tk.RunConfig(verbose=0)
    with pytest.raises(ConfigError, match="needs tune_config"):
        tk.Tuner.restore(tmp_path / "exp", square, param_space=space, run_config=run)
    tune = tk.TuneConfig(metric="loss", mode="min", seed=1, num_samples=4)
    tuner = tk.Tuner.restore(tmp_path / "exp", square, param_space=space, run_config=run, tune_config=tune)
    assert len(tk.inline(tuner)) == 4


def test_restore_resumes_or_restarts_failed_trials(make: Make, tmp_path: Path) -> None:
    config = tk.CheckpointConfig(checkpoint_frequency=1)
    run = {"stop": {"training_iteration": 3}, "checkpoint_config": config}
    space = {"fail_at": 3, "flags": tmp_path}
    tk.inline(make(Counter, space, run=run))
    shutil.copytree(tmp_path / "exp", tmp_path / "copy")
    kept = tk.inline(tk.Tuner.restore(tmp_path / "exp", Counter, param_space=space))
    assert kept[0].status is TrialStatus.FAILED
    resumed = tk.inline(tk.Tuner.restore(tmp_path / "exp", Counter, param_space=space, resume_errored=True))
    assert resumed[0].status is TrialStatus.COMPLETED
    restarted = tk.inline(tk.Tuner.restore(tmp_path / "copy", Counter, param_space=space, restart_errored=True))
    assert restarted[0].status is TrialStatus.COMPLETED
    starts = {
        name: [r.resume_from for r in read_records(tmp_path / name / "journal") if isinstance(r, LaunchTrial)]
        for name in ("exp", "copy")
    }
    assert starts == {"exp": [None, 2], "copy": [None, None]}


@pytest.mark.parametrize("path", [None, 5, b"results/exp", ["results/exp"]])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    """It is a mistake of the script, and no answer to the question whether there is an experiment."""
    for ask in (tk.Tuner.can_restore, lambda path: tk.Tuner.restore(path, square)):
        with pytest.raises(ConfigTypeError, match=r"path: got .*, but must be") as caught:
            ask(path)
        assert caught.value.hint


def test_can_restore_says_whether_there_is_an_experiment(make: Make, tmp_path: Path) -> None:
    assert not tk.Tuner.can_restore(tmp_path / "exp")
    tk.inline(make(num_samples=1))
    assert tk.Tuner.can_restore(tmp_path / "exp")
    assert not tk.Tuner.can_restore(tmp_path)
    shutil.copytree(tmp_path / "exp", tmp_path / "bare", ignore=shutil.ignore_patterns("journal"))
    assert not tk.Tuner.can_restore(tmp_path / "bare"), "no driver ever ran it"
    (tmp_path / "exp" / "experiment.json").write_bytes(b"")
    assert not tk.Tuner.can_restore(tmp_path / "exp")
    with pytest.raises(ExperimentNotFoundError, match="hint"):
        tk.Tuner.restore(tmp_path / "nothing", square)


def test_rows_of_a_folder_that_was_moved_away_are_not_called_empty(make: Make, tmp_path: Path) -> None:
    results = tk.inline(make(num_samples=1))
    shutil.move(tmp_path / "exp", tmp_path / "elsewhere")
    with pytest.raises(ExperimentNotFoundError, match="no longer at"):
        _ = results[0].rows
    assert results[0].metrics["training_iteration"] == 3, "known without the journal"
    shutil.move(tmp_path / "elsewhere", tmp_path / "exp")
    assert len(results[0].rows) == 3


def test_a_checkpoint_beyond_the_end_of_a_trial_is_deleted(make: Make, tmp_path: Path) -> None:
    """A function that begins anew without a look at its checkpoint, and ends before it."""

    def train(config: dict[str, Any]) -> None:
        first = not (tmp_path / "flag").exists()
        (tmp_path / "flag").touch()
        for step in range(1, 4):
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = tk.Checkpoint.from_directory(folder) if step in ({2, 3} if first else {1}) else None
                tk.report({"loss": step / 2}, checkpoint=checkpoint)
            if step == (3 if first else 2):
                break
        if first:
            raise ValueError("once")

    config = tk.CheckpointConfig(num_to_keep=1)
    run = {"checkpoint_config": config, "failure_config": tk.FailureConfig(max_failures=1)}
    results = tk.inline(make(train, {}, run=run))
    assert [row["training_iteration"] for row in results[0].rows] == [1, 2]
    assert results[0].checkpoint is not None
    assert results[0].checkpoint.path.endswith("checkpoint_000001")
    assert [row["loss"] for _, row in results[0].best_checkpoints] == [0.5]
    assert [path.name for path in (tmp_path / "exp").glob("*/checkpoint_*")] == ["checkpoint_000001"]


def test_can_restore_reads_the_beginning_only(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tk.inline(make(num_samples=3))
    kinds: list[bytes] = []

    def noted(line: bytes) -> Record:
        kinds.append(line[: line.index(b",")])
        return decode(line)

    monkeypatch.setattr("tunekit.journal.segments.decode", noted)
    assert tk.Tuner.can_restore(tmp_path / "exp")
    assert kinds == [b'{"kind":"driver_started"']
    tk.Tuner.restore(tmp_path / "exp", square)
    assert kinds == 2 * [b'{"kind":"driver_started"'], "restore decodes nothing else either"


def test_results_can_be_had_without_running(make: Make) -> None:
    tuner = make(num_samples=2)
    with pytest.raises(ExperimentNotFoundError):
        tuner.get_results()
    ran = tk.inline(tuner)
    assert [result.metrics for result in tuner.get_results()] == [result.metrics for result in ran]
