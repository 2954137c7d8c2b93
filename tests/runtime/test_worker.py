"""The code of the worker's process, without Ray around it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
import ray

from tunekit.core.events import Event, LaunchFailed, Place, ResultReported, TrialRaised, TrialReturned, TrialStarted
from tunekit.errors import CheckpointError, StorageError
from tunekit.runtime import worker
from tunekit.runtime.line.hiring import Contract
from tunekit.runtime.line.link import Link
from tunekit.runtime.line.mailbox import Mailbox
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.line.wire import Assign, Hello, Leave, decode_said
from tunekit.runtime.worker import serve
from tunekit.store import CheckpointIO, open_store
from tunekit.types import LossCause


class Bench:
    """A worker's loop in this thread, and a driver that has said beforehand all that it will say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mailbox = Mailbox()
        self.mailbox.open(1)
        self.link = Link(
            worker=1, hello=Hello(pid=1, node="n"), call=lambda frame, _: self.mailbox.exchange(frame), lease_s=60.0
        )

    def assign(self, trial: int, spec: bytes | None = None, **config: Any) -> None:
        attempt = AttemptSpec(trial=trial, attempt=1, trial_name=f"t_{trial:05d}", config=config)
        self.mailbox.order(1, Assign(trial=trial, attempt=1, spec=spec or pickle.dumps(attempt)))

    def serve_contract(self, contract: Contract) -> list[Event]:
        """Serve what was assigned, loaded as the contract says."""
        load = worker.Loader(contract, self.link)
        return self.serve(lambda: load(Assign(trial=0, attempt=1, spec=b"")))

    def serve(self, load: Callable[[], Any], **sweep: Any) -> list[Event]:
        """Serve what was assigned, and return what was said, without the hello."""
        self.mailbox.order(1, Leave())
        self.mailbox.deliver()
        spec = SweepSpec(experiment="e", path=str(self.folder), seed=0, capture_output=False, **sweep)
        serve(self.link, spec, Place(pid=1), lambda assign: load())
        letters = self.mailbox.drain(0.0)
        letters += self.mailbox.give_up(1, *self.link.remaining())
        said = [said for letter in letters for said in decode_said(letter.message)]
        return said[1:]  # type: ignore[return-value]

    def load(self, trainable: Any) -> Callable[[], Any]:
        return lambda: (trainable, CheckpointIO(open_store(self.folder)))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def train(config: dict[str, Any]) -> None:
    if config.get("raises"):
        raise ValueError("no")


def test_one_attempt_after_another(bench: Bench) -> None:
    for trial in range(3):
        bench.assign(trial)
    said = bench.serve(bench.load(train))
    kinds = [type(event) for event in said]
    assert kinds == [TrialStarted, TrialReturned] * 3


def test_a_trainable_that_cannot_be_loaded_fails_each_attempt_and_not_the_worker(bench: Bench) -> None:
    def load() -> Any:
        raise ModuleNotFoundError("no module named elsewhere")

    bench.assign(0)
    bench.assign(1)
    said = bench.serve(load)
    assert [type(event) for event in said] == [LaunchFailed, LaunchFailed]
    assert "elsewhere" in said[0].error.message  # type: ignore[union-attr]


def test_what_only_this_machine_may_lack_does_not_end_the_run(bench: Bench) -> None:
    """The store, or a parameter that was lost: a worker elsewhere may find both."""
    answers = iter([StorageError("stale"), bench.load(train)()])

    def load() -> Any:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    bench.assign(0)
    bench.assign(1)
    failed, *rest = bench.serve(load)
    assert isinstance(failed, LaunchFailed)
    assert not failed.fatal
    assert [type(event) for event in rest] == [TrialStarted, TrialReturned]


@pytest.mark.parametrize("trouble", ["folder", "trainable", "parameter"])
def test_what_no_worker_could_load_ends_the_run(bench: Bench, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "of another folder" if trouble == "folder" else ""
    pickled = b"no pickle" if trouble == "trainable" else cloudpickle.dumps(train)
    monkeypatch.setattr(ray, "get", lambda references: 1 / 0)
    contract = Contract(
        worker=1,
        sweep=SweepSpec(experiment="e", path=str(bench.folder), seed=0, nonce=nonce),
        trainable=pickled,
        parameters={"data": "a reference"},
    )
    bench.assign(0)
    (failed,) = bench.serve_contract(contract)
    assert isinstance(failed, LaunchFailed)
    assert failed.fatal is (trouble != "parameter")
    expected = {"folder": "StorageError", "trainable": "UnpicklingError", "parameter": "ZeroDivisionError"}
    assert failed.error.type.endswith(expected[trouble])


def greedy(config: dict[str, Any], bag: list[int]) -> dict[str, int]:
    bag.append(0)
    return {"size": len(bag)}


def test_the_code_is_loaded_once_and_parameters_for_each_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a trial would see what another one of its process has changed. A fetch may fail between two others."""
    fetched = iter([[[1]], OSError("lost"), [[1]]])
    asked: list[Any] = []

    def get(references: list[Any]) -> Any:
        asked.append(references)
        if isinstance(answer := next(fetched), Exception):
            raise answer
        return answer

    monkeypatch.setattr(ray, "get", get)
    contract = contract_of(bench, greedy, bag="a reference")
    load = worker.Loader(contract, bench.link)
    trainables: list[Any] = []

    def noting() -> Any:
        trainable, io = load(Assign(trial=0, attempt=1, spec=b""))
        trainables.append(trainable)
        return trainable, io

    for trial in range(3):
        bench.assign(trial)
    said = bench.serve(noting)
    sizes = [event.metrics["size"] for event in said if isinstance(event, ResultReported)]
    failures = [(event.trial, event.fatal) for event in said if isinstance(event, LaunchFailed)]
    assert (sizes, failures) == ([2, 2], [(1, False)])
    assert asked == [["a reference"]] * 3
    assert trainables[0].target is trainables[1].target


def test_parameters_of_an_attempt_are_gone_before_the_next_one_gets_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a large object would need its room twice."""

    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1
            assert Large.alive == 1

        def __del__(self) -> None:
            Large.alive -= 1

    monkeypatch.setattr(ray, "get", lambda references: [Large()])
    for trial in range(3):
        bench.assign(trial)
    said = bench.serve_contract(contract_of(bench, lambda config, large: None, large="a reference"))
    assert [type(event) for event in said] == [TrialStarted, TrialReturned] * 3


def test_without_parameters_nothing_is_loaded_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda references: 1 / 0)
    load = worker.Loader(contract_of(bench, train), bench.link)
    first, second = (load(Assign(trial=trial, attempt=1, spec=b"")) for trial in range(2))
    assert first is second


def contract_of(bench: Bench, trainable: Any, **references: str) -> Contract:
    sweep = SweepSpec(experiment="e", path=str(bench.folder), seed=0)
    return Contract(worker=1, sweep=sweep, trainable=cloudpickle.dumps(trainable), parameters=references)


def test_a_process_for_one_trial_ends_if_that_cannot_be_loaded(bench: Bench) -> None:
    """The driver counts on its place."""
    bench.assign(0)
    bench.assign(1)
    (failed,) = bench.serve(lambda: 1 / 0, fresh_process=True)
    assert isinstance(failed, LaunchFailed)
    assert (failed.trial, failed.fatal) == (0, False)


def test_a_folder_that_cannot_be_read_for_a_moment_ends_nothing(bench: Bench) -> None:
    """As a file system over a network does now and then; a folder that is missing is something else."""
    (bench.folder / "experiment.json").mkdir(parents=True)
    sweep = SweepSpec(experiment="e", path=str(bench.folder), seed=0, nonce="of the driver's")
    contract = Contract(worker=1, sweep=sweep, trainable=cloudpickle.dumps(train), parameters={})
    bench.assign(0)
    (failed,) = bench.serve_contract(contract)
    assert isinstance(failed, LaunchFailed)
    assert (failed.fatal, failed.cause) == (False, LossCause.STORAGE)
    assert "cannot be read on" in failed.error.message
    assert failed.error.hint


def test_a_config_that_cannot_be_loaded_fails_its_own_attempt(bench: Bench) -> None:
    bench.assign(0, spec=b"no pickle")
    bench.assign(1)
    said = bench.serve(bench.load(train))
    assert [type(event) for event in said] == [LaunchFailed, TrialStarted, TrialReturned]


def test_what_was_not_begun_when_the_process_was_told_to_end_is_left_to_another(bench: Bench) -> None:
    """Loading the code may take a minute; nothing is said of the attempt, so the driver gives it away."""
    bench.assign(0)
    bench.assign(1)

    def load() -> Any:
        bench.link.terminate("SIGTERM")
        return bench.load(train)()

    assert bench.serve(load) == []


@pytest.mark.parametrize("trouble", ["storage", "import", "config", "checkpoint"])
def test_what_fails_to_begin_then_is_left_to_another_too(bench: Bench, trouble: str) -> None:
    """S003-10: its disk may be gone already. No failure is charged, no run ends, no checkpoint is put aside."""
    spec = AttemptSpec(trial=0, attempt=1, trial_name="t_00000", config={}, resume_from=1)
    bench.assign(0, spec=b"no pickle" if trouble == "config" else pickle.dumps(spec))
    trainable, io = bench.load(train)()

    def verify(*_: object) -> Path:
        bench.link.terminate("SIGTERM")
        raise CheckpointError("it is not there")

    def load() -> Any:
        if trouble == "checkpoint":
            return trainable, SimpleNamespace(verify=verify)
        bench.link.terminate("SIGTERM")
        if trouble == "config":
            return trainable, io
        raise OSError("gone") if trouble == "storage" else worker.EverywhereError(ImportError("killed"))

    assert bench.serve(load) == []


def test_after_an_exception_of_user_code_nothing_more_is_run(bench: Bench) -> None:
    bench.assign(0, raises=True)
    bench.assign(1)
    said = bench.serve(bench.load(train))
    assert [type(event) for event in said] == [TrialStarted, TrialRaised]


def test_a_process_for_each_trial(bench: Bench) -> None:
    bench.assign(0)
    bench.assign(1)
    said = bench.serve(bench.load(train), fresh_process=True)
    assert [type(event) for event in said] == [TrialStarted, TrialReturned]


_HANG = """
import ctypes, threading
from tunekit.runtime.worker import _watchdog
_watchdog(0.2)
ctypes.PyDLL(None).sleep(600)  # Holds the interpreter lock.
"""


def test_a_process_whose_lock_is_held_by_c_code_is_ended_too() -> None:
    done = subprocess.run([sys.executable, "-c", _HANG], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "sleep" in done.stderr or "File" in done.stderr
