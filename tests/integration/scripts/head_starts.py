"""Runs small sweeps that join a cluster with one CPU, and checks after each that Ray was left as it was found.

Prints the name of each case that held.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray._private import worker

import tunekit as tk
from tunekit.errors import ExperimentError, ExperimentExistsError, ExperimentMismatchError
from tunekit.journal.folder import experiment_folder
from tunekit.runtime.driver.signals import SweepInterrupted
from tunekit.runtime.executor import first_worker

ROOT = Path(sys.argv[1])
DEAD = "127.0.0.1:9"
CASES: list[Callable[[], object]] = []


def train(config: dict[str, Any]) -> None:
    if "fails" in config:
        raise ValueError(config["fails"])
    tk.report({"x": 1.0})


def tuner(name: str, space: dict[str, Any] | None = None, **run: Any) -> tk.Tuner:
    run_config = tk.RunConfig(name=name, storage_path=ROOT, verbose=0, **run)
    return tk.Tuner(train, param_space=space or {"a": 1}, run_config=run_config)


@contextlib.contextmanager
def asked() -> Iterator[mock.Mock]:
    """Count the first workers that are asked for."""
    with mock.patch.object(first_worker, "FirstWorker", wraps=first_worker.FirstWorker) as counted:
        yield counted


def case(run: Callable[[], object]) -> Callable[[], object]:
    CASES.append(run)
    return run


@case
def leaves_after_its_end() -> None:
    with asked() as first:
        assert tuner("end").fit()[0].metrics["x"] == 1.0
    assert first.call_count == 1


@case
def leaves_when_it_is_refused() -> None:
    with experiment_folder(str(ROOT / "locked")).taken(), asked() as first, raises(ExperimentExistsError):
        tuner("locked").fit()
    assert first.call_count == 1


@case
def leaves_when_it_is_interrupted_while_it_joins() -> None:
    join = ray.init

    def interrupted(*given: Any, **named: Any) -> None:
        join(*given, **named)
        os.environ["CHANGED_BY_RAY"] = "1"
        raise KeyboardInterrupt

    with mock.patch.object(ray, "init", interrupted), raises(KeyboardInterrupt):
        tuner("interrupted").fit()


@case
def goes_on_when_ctrl_c_comes_while_ray_connects() -> None:
    """Ray does not survive an exception there: the next attempt to connect would end the process."""
    connect = worker.connect

    def interrupted(*given: Any, **named: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        connect(*given, **named)

    with mock.patch.object(worker, "connect", interrupted), raises(SweepInterrupted):
        tuner("connecting").fit()
    assert not ray.is_initialized()
    assert tuner("connecting").fit()[0].metrics["x"] == 1.0


@case
def leaves_when_it_is_interrupted_once_it_has_joined() -> None:
    with (
        mock.patch.object(ray, "get_runtime_context", side_effect=KeyboardInterrupt),
        raises(KeyboardInterrupt),
    ):
        tuner("interrupted").fit()


@case
def goes_on_after_that() -> None:
    assert tuner("interrupted").fit()[0].metrics["x"] == 1.0


class UsesTheOnlyPlace(tk.Callback):
    def setup(self, *_: Any, **__: Any) -> None:
        self.answer = ray.get(ray.remote(num_cpus=1)(lambda: 42).remote()) if ray.is_initialized() else None


@case
def tries_once_to_join_and_says_why_it_cannot() -> None:
    with mock.patch.object(ray, "init", side_effect=RuntimeError("out of order")) as tried:
        with raises(ExperimentError) as raised:
            tuner("out of order").fit()
        assert "out of order" in str(raised[0])
        assert tried.call_count == 1


@case
def keeps_no_place_from_what_draws() -> None:
    with asked() as first:
        assert tuner("draws", {"a": {"b": tk.sample_from(lambda _: 1)}}).fit()[0].metrics["x"] == 1.0
    assert first.call_count == 0


@case
def keeps_no_place_from_callbacks() -> None:
    callback = UsesTheOnlyPlace()
    with mock.patch.dict(os.environ), asked() as first:  # Ray changes it, and it is the user who has started Ray.
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
        assert tuner("callback", callbacks=[callback]).fit()[0].metrics["x"] == 1.0
        ray.shutdown()
    assert callback.answer == 42
    assert first.call_count == 0


@case
def needs_no_cluster_when_it_is_over() -> None:
    """Although its end is a long line."""
    failure = tk.FailureConfig(max_identical_failures=1)
    failing = tuner("over", {"fails": "long " * 2_000}, failure_config=failure)
    with contextlib.suppress(tk.ExperimentError):
        tk.inline(failing)
    with mock.patch.dict(os.environ, RAY_ADDRESS=DEAD), contextlib.suppress(tk.ExperimentError):
        failing.fit()


@case
def says_what_is_wrong_with_a_script_where_no_cluster_answers() -> None:
    """Nobody is there, or somebody who takes connections and says nothing."""
    tk.inline(tuner("changed", {"a": 1}))
    newest = max((ROOT / "changed" / "journal").iterdir())
    newest.write_bytes(newest.read_bytes().rpartition(b'["')[0])  # Its driver died before the end.
    with socket.create_server(("127.0.0.1", 0)) as silent, mock.patch.object(ray, "init") as tried:
        for address in (DEAD, f"127.0.0.1:{silent.getsockname()[1]}"):
            with mock.patch.dict(os.environ, RAY_ADDRESS=address), raises(ExperimentMismatchError):
                tuner("changed", {"a": tk.uniform(0, 1)}).fit()
        assert tried.call_count == 0


@contextlib.contextmanager
def raises(kind: type[BaseException]) -> Iterator[list[BaseException]]:
    raised: list[BaseException] = []
    try:
        yield raised
    except kind as error:
        raised.append(error)
        return
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    os.environ.pop("CHANGED_BY_RAY", None)
    before = dict(os.environ)
    for run in CASES:
        run()
        assert not ray.is_initialized(), run.__name__
        assert gc.isenabled(), run.__name__
        assert dict(os.environ) == before, run.__name__
        sys.stdout.write(f"{run.__name__}\n")


if __name__ == "__main__":
    main()
