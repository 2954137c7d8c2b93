"""Sweeps whose journal, settings and checkpoints are in memory or in a bucket: the same as in a folder."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from trainables import Counter, square

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import DriverStarted
from tunekit.errors import (
    ConfigError,
    ExperimentExistsError,
    ExperimentMismatchError,
    ExperimentNotFoundError,
    StorageError,
)
from tunekit.journal.folder import experiment_folder
from tunekit.journal.lease import LEASE_NAME
from tunekit.store import Store, open_store
from tunekit.store.joining import joined
from tunekit.store.memory import MemoryStore
from tunekit.store.objects import ObjectStore
from tunekit.testing.faulty_store import Faults, FaultyStore, SimulatedCrash, When
from tunekit.types import TrialStatus

_NUMBER = itertools.count()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def root(request: pytest.FixtureRequest) -> str:
    """An empty storage path."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_uri"))
    return f"memory://sweeps/{next(_NUMBER)}"


def tuner(root: str, trainable: Any = Counter, *, num_samples: int = 2, **run: Any) -> tk.Tuner:
    fixed: dict[str, Any] = {"name": "exp", "verbose": 0, "stop": {"training_iteration": 3}}
    if trainable is Counter:
        fixed["checkpoint_config"] = tk.CheckpointConfig(checkpoint_frequency=2, num_to_keep=1)
    return tk.Tuner(
        trainable,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(seed=1, num_samples=num_samples),
        run_config=tk.RunConfig(**{**fixed, "storage_path": root, **run}),
    )


class Outcome(NamedTuple):
    """What must be the same, whatever happened on the way."""

    rows: list[list[dict[str, Any]]]
    status: list[TrialStatus]
    kept: list[list[int | None]]


VOLATILE = {"timestamp", "date", "pid", "hostname", "node_ip", "time_this_iter_s", "time_total_s"}


def outcome(results: tk.ResultGrid) -> Outcome:
    return Outcome(
        [[{key: row[key] for key in row.keys() - VOLATILE} for row in result.rows] for result in results],
        [result.status for result in results],
        [[kept.iteration for kept, _ in result.best_checkpoints] for result in results],
    )


def drivers(root: str) -> int:
    records = experiment_folder(joined(root, "exp")).records()
    return sum(isinstance(record, DriverStarted) for record in records)


# -- as in a folder ----------------------------------------------------------------------------------------------------


def test_a_sweep_ends_as_in_a_folder_and_goes_on_with_more_samples(root: str, tmp_path: Path) -> None:
    """S003-24, S004-11: the same rows, the same checkpoints."""
    expected = outcome(tk.inline(tuner(str(tmp_path), num_samples=3)))
    first = tk.inline(tuner(root))
    assert first[0].path == joined(root, "exp", "Counter_00000")
    checkpoint = first[0].checkpoint
    assert checkpoint is not None
    with checkpoint.as_directory() as folder:
        assert (Path(folder) / "count.json").read_text() == "3"
    assert outcome(tk.inline(tuner(root, num_samples=3))) == expected
    assert outcome(tuner(root).get_results()) == expected
    assert drivers(root) == 2


def test_it_is_restored_from_its_uri(root: str) -> None:
    """S003-5, S003-13."""
    uri = joined(root, "exp")
    assert not tk.Tuner.can_restore(uri)
    with pytest.raises(ExperimentNotFoundError, match="exp"):
        tk.Tuner.restore(uri, Counter)
    with pytest.raises(ExperimentNotFoundError, match="exp"):
        tuner(root).get_results()
    expected = outcome(tk.inline(tuner(root)))
    assert tk.Tuner.can_restore(uri)
    restored = tk.Tuner.restore(uri, Counter)
    assert outcome(restored.get_results()) == expected
    assert outcome(tk.inline(restored)) == expected


def test_who_only_looks_writes_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = outcome(tk.inline(tuner(root)))

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("somebody writes")

    for store in (MemoryStore, ObjectStore):
        for name in ("put_if_absent", "replace", "remove", "commit"):
            monkeypatch.setattr(store, name, refuse)
    uri = joined(root, "exp")
    assert tk.Tuner.can_restore(uri)
    assert outcome(tk.Tuner.restore(uri, Counter).get_results()) == expected


def test_another_sweep_of_the_name_is_refused_unless_nothing_has_started(root: str) -> None:
    """R3: a false start binds nobody, and its journal is forgotten with it."""

    class Broken(tk.RandomSearch):
        def begin(self, *_: Any, **__: Any) -> Any:
            return self

        def ask(self, first: int, count: int) -> Any:
            raise ValueError("no idea")

    plan = tuner(root, square)._plan
    broken = tk.Tuner(
        square,
        param_space=plan.param_space,
        tune_config=tk.TuneConfig(seed=2, search_alg=Broken()),
        run_config=plan.run,
    )
    with pytest.raises(tk.TunekitError, match="no idea"):
        tk.inline(broken)
    assert drivers(root) == 1
    assert len(tk.inline(tuner(root, square))) == 2
    assert drivers(root) == 1
    store = open_store(joined(root, "exp"))
    assert store.sizes("journal") == {}
    with pytest.raises(ExperimentMismatchError, match="trainable"):
        tk.inline(tuner(root))
    assert len(tk.inline(tuner(root, square, num_samples=3))) == 3


def test_nothing_is_left_of_the_place_in_what_is_stored(root: str) -> None:
    """S003-5, promise 5: no file of the experiment says where it is."""
    tk.inline(tuner(root))
    store = open_store(joined(root, "exp"))
    names = store.sizes("")
    assert {name.partition("/")[0] for name in names} == {
        "Counter_00000",
        "Counter_00001",
        "driver.lease",
        "experiment.json",
        "journal",
    }
    unique = root.partition("?")[0].rpartition("/")[0].encode(), root.rpartition("/")[2].encode()
    for name in names:
        content = store.read(name)
        assert not any(part in content for part in (root.encode(), unique[0] + b"/")), name


@pytest.mark.s3
def test_what_follows_the_question_mark_stays_with_the_uri(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S003-24: the way to the storage is given with the path, and is stored nowhere."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    root = f"{s3_uri}?endpoint={endpoint}"
    results = tk.inline(tuner(root))
    assert results[0].path == f"{s3_uri}/exp/Counter_00000?endpoint={endpoint}"
    checkpoint = results[0].checkpoint
    assert checkpoint is not None
    assert checkpoint.iteration == 3
    restored = tk.Tuner.restore(f"{s3_uri}/exp?endpoint={endpoint}", Counter)
    assert outcome(tk.inline(restored)) == outcome(results)
    store = open_store(joined(root, "exp"))
    assert not [name for name in store.sizes("") if endpoint.encode() in store.read(name)]


def test_no_file_in_a_folder_says_where_it_is(tmp_path: Path) -> None:
    """S003-5, promise 5: nor do logs, locks, traces of failures, or what a crash left behind."""

    def train(config: dict[str, Any]) -> None:
        folder = tk.get_context().checkpoint_dir()
        (folder / "weights").write_bytes(b"1")
        print("a line of the log")
        tk.report({"loss": 1.0}, checkpoint=tk.Checkpoint.from_directory(folder))
        tk.report({"loss": 2.0})
        raise ValueError("after two")

    root = tmp_path / "place-of-all-results"
    assert [result.status for result in tk.inline(tuner(str(root), train))] == [TrialStatus.FAILED] * 2
    assert len(tk.inline(tuner(str(root), name="class"))) == 2
    shutil.move(root / "exp", root / "renamed")
    restored = tk.Tuner.restore(root / "renamed", train, resume_errored=True)
    assert len(tk.inline(restored)) == 2
    files = [path for path in root.rglob("*") if path.is_file()]
    assert {"trial.log", "weights", "MANIFEST.json", "driver.lock"} <= {path.name for path in files}
    assert not [path for path in files if os.fsencode(root.name) in path.read_bytes()]


def test_what_a_trial_prints_is_stored_when_its_attempt_ends(root: str) -> None:
    """Nothing can be appended to there, so each attempt has a log of its own."""
    failed: list[int] = []

    def train(config: dict[str, Any]) -> None:
        attempt = tk.get_context().attempt
        print(f"ä line of attempt {attempt}")
        if attempt == 1:
            failed.append(attempt)
            raise ValueError("once")
        tk.report({"loss": 1.0})

    tk.inline(tuner(root, square, name="quiet"))
    assert not [name for name in open_store(joined(root, "quiet")).sizes("") if name.endswith(".log")]
    tk.inline(tuner(root, train, num_samples=1, failure_config=tk.FailureConfig(max_failures=1)))
    store = open_store(joined(root, "exp"))
    first, second = (store.read(f"train_00000/trial-{attempt}.log").decode() for attempt in (1, 2))
    assert first.startswith("ä line of attempt 1\n")
    assert "ValueError: once" in first
    assert second == "ä line of attempt 2\n"


# -- two drivers -------------------------------------------------------------------------------------------------------


def test_a_second_driver_is_refused_while_the_first_lives(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.journal.lease._RENEWALS", 300)  # Soon seen, and not missed where all stand still.
    refused: list[BaseException] = []

    def train(config: dict[str, Any]) -> None:
        if not refused:
            with pytest.raises(ExperimentExistsError, match="another driver is running") as raised:
                tk.inline(tuner(root, train))
            refused.append(raised.value)
        tk.report({"loss": 1.0})

    assert len(tk.inline(tuner(root, train))) == 2
    assert "process" in str(refused[0])
    assert drivers(root) == 1


def test_a_driver_that_was_taken_for_dead_stops_and_writes_nothing_more(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps until the other one has finished; then its next commit finds its place taken."""
    results: list[tk.ResultGrid] = []
    after: list[dict[str, bytes]] = []
    store = open_store(joined(root, "exp"))

    def contents() -> dict[str, bytes]:
        return {name: store.read(name) for name in store.sizes("")}

    def train(config: dict[str, Any]) -> None:
        if not results:
            results.append(None)  # type: ignore[arg-type] # the inner sweep does not come here
            with monkeypatch.context() as patch:
                patch.setattr("tunekit.journal.lease.is_gone", lambda holder: True)
                results[0] = tk.inline(tuner(root, train))
            after.append(contents())
        tk.report({"loss": 1.0})
        tk.report({"loss": 2.0})

    with pytest.raises(ExperimentExistsError, match="has taken over"):
        tk.inline(tuner(root, train))
    assert contents() == after[0]
    assert outcome(tuner(root, train).get_results()) == outcome(results[0])
    assert drivers(root) == 2


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Faults], None]]:
    """Puts faults around the store of every driver from here on, whose lease nobody renews and soon runs out."""
    monkeypatch.setattr("tunekit.journal.folder.LEASE_S", 0.02)
    monkeypatch.setattr("tunekit.journal.lease.DriverLease._keep", lambda lease, done: None)
    logging.getLogger("tunekit").setLevel(logging.ERROR)

    def use(faults: Faults) -> None:
        def open_faulty(uri: str, **_: Any) -> Store:
            return FaultyStore(MemoryStore(uri), faults)

        monkeypatch.setattr("tunekit.journal.folder.open_store", open_faulty)
        monkeypatch.setattr("tunekit.runtime.sweep.opening.open_store", open_faulty)

    yield use
    logging.getLogger("tunekit").setLevel(logging.NOTSET)


def small(root: str) -> tk.Tuner:
    return tuner(root, num_samples=1, stop={"training_iteration": 3})


class Calm(NamedTuple):
    """How a small sweep ends that nothing disturbs, and how many writes it takes."""

    outcome: Outcome
    num_writes: int


@pytest.fixture(scope="module")
def calm() -> Calm:
    faults = Faults()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("tunekit.journal.folder", "tunekit.runtime.sweep.opening"):
            patch.setattr(f"{module}.open_store", lambda uri, **_: FaultyStore(MemoryStore(uri), faults))
        found = outcome(tk.inline(small(f"memory://sweeps/{next(_NUMBER)}")))
    assert faults.count > 10
    return Calm(found, faults.count)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_changes_nothing(stored: Callable[[Faults], None], when: When, calm: Calm) -> None:
    """Promises 1 and 2: whatever write the driver dies at, the same script goes on to the same end."""
    for number in range(1, calm.num_writes + 1):
        root = f"memory://sweeps/{next(_NUMBER)}"
        stored(Faults(crash_at=number, when=when))
        with pytest.raises(SimulatedCrash):
            tk.inline(small(root))
        stored(Faults())
        assert outcome(tk.inline(small(root))) == calm.outcome, f"after a crash at write {number}"
        launches = [
            record
            for record in experiment_folder(joined(root, "exp")).records()
            if isinstance(record, LaunchTrial) and record.attempt > 1
        ]
        assert all(launch.resume_from in {None, 2, 3} for launch in launches), f"after a crash at write {number}"


def test_a_lost_reply_at_any_write_is_made_good_or_said(
    stored: Callable[[Faults], None], monkeypatch: pytest.MonkeyPatch, calm: Calm
) -> None:
    monkeypatch.setattr("tunekit.journal.remote._RETRIES_S", (0.0,))
    for number in range(1, calm.num_writes + 1):
        root = f"memory://sweeps/{next(_NUMBER)}"
        stored(Faults(fail_at=number))
        try:
            tk.inline(small(root))
        except StorageError as error:
            assert error.hint  # noqa: PT017 - most writes are made good, some end the run
        stored(Faults())
        assert outcome(tk.inline(small(root))).rows == calm.outcome.rows, f"after the reply to write {number} was lost"


def test_memory_is_for_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory://(.|\n)*hint: (.|\n)*tunekit.inline"):
        tuner("memory://sweeps/ray").fit()
    assert not open_store("memory://sweeps/ray/exp").sizes("")


def test_a_name_may_follow_the_scheme_at_once_in_memory() -> None:
    name = f"alone{next(_NUMBER)}"
    tk.inline(tuner("memory://", square, name=name))
    assert len(tk.inline(tk.Tuner.restore(f"memory://{name}", square))) == 2


def test_the_lease_is_given_back(root: str) -> None:
    tk.inline(tuner(root, square))
    assert b'"released":true' in open_store(joined(root, "exp")).read(LEASE_NAME)
