"""Nothing of one trial reaches the next, and each attempt of a trial draws the same numbers, whatever ran before."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunekit.runtime.attempt.isolation import isolated, trial_seed

PROGRAM = """
import json, os, sys
from tunekit.runtime.attempt import blas_threads
from tunekit.runtime.attempt.isolation import isolated

def draw():
    import random
    import numpy as np
    import torch
    return [random.random(), np.random.rand(), np.random.randint(1 << 30), torch.rand(1).item(), torch.randn(1).item()]

def threads():
    return [torch.get_num_threads(), *{pool.get() for pool in blas_threads._pools()}]

if sys.argv[1] == "used before":
    draw()
    with isolated(1):
        draw()
if sys.argv[1] == "numpy before":
    import numpy
    numpy.random.rand(5)
with isolated(7, num_threads=3):
    first = draw()
    front = type(sys.meta_path[0]).__name__
    import torch
    inside = threads()
outside = [*threads(), os.environ.get("OMP_NUM_THREADS")]
with isolated(7):
    second = draw()
loaders = [type(torch.__spec__.loader).__name__, type(torch.__loader__).__name__]
print(json.dumps({"draws": [first, second], "inside": inside, "outside": outside, "imports": [front, *loaders]}))
"""


def draw() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(1).item(), torch.randn(1).item()]  # noqa: NPY002


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, str | None], dict[str, Any]]:
    """What fresh processes tell, by what was done before the trial and by their user's own number of threads."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    cases: list[tuple[str, str | None]] = [
        ("fresh", None),
        ("fresh", "5"),
        ("used before", None),
        ("numpy before", "5"),
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, order],
            stdout=subprocess.PIPE,
            text=True,
            env=environment | ({} if own is None else {"OMP_NUM_THREADS": own}),
        )
        for order, own in cases
    ]
    return {
        case: json.loads(process.communicate(timeout=240)[0]) for case, process in zip(cases, processes, strict=True)
    }


def test_draws_are_the_same_in_every_process(answers: dict[Any, dict[str, Any]]) -> None:
    """A fresh process, in which the trial itself imports numpy and torch, draws what a used one draws."""
    draws = [numbers for answer in answers.values() for numbers in answer["draws"]]
    assert all(numbers == draws[0] for numbers in draws)
    assert len(set(draws[0])) == 5
    for answer in answers.values():
        front, *loaders = answer["imports"]
        assert front != "_PreparingFinder", "nothing is left in the import system"
        assert set(loaders) == {"SourceFileLoader"}


def test_seed_decides_the_draws() -> None:
    draws = []
    for seed in (1, 1, 2):
        with isolated(seed):
            draws.append(draw())
        random.random()
        torch.rand(3)
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def test_generators_go_on_as_if_nothing_had_been() -> None:
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    expected = draw(), draw()
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    first = draw()
    with isolated(1):
        draw()
    assert (first, draw()) == expected


def test_a_process_of_trials_need_not_keep_generators() -> None:
    with isolated(1, keep_generators=False):
        inside = draw()
    with isolated(1, keep_generators=False):
        assert draw() == inside


def test_trial_seeds_differ_by_seed_and_trial_only() -> None:
    seeds = {trial_seed(seed, trial) for seed in range(20) for trial in range(20)}
    assert len(seeds) == 400
    assert trial_seed(1, 2) == trial_seed(1, 2)
    assert all(0 <= seed < 1 << 64 for seed in seeds)


def test_working_directory_comes_back(tmp_path: Path) -> None:
    before = Path.cwd()
    with isolated(1):
        os.chdir(tmp_path)
    assert Path.cwd() == before


def test_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TK_CHANGED", "before")
    monkeypatch.setenv("TK_REMOVED", "before")
    with isolated(1):
        os.environ["TK_CHANGED"] = "by the trial"
        os.environ["TK_ADDED"] = "by the trial"
        del os.environ["TK_REMOVED"]
    assert (os.environ["TK_CHANGED"], os.environ["TK_REMOVED"]) == ("before", "before")
    assert "TK_ADDED" not in os.environ


def test_signal_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with isolated(1):
        signal.signal(signal.SIGUSR2, lambda number, frame: None)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR2) is before
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN


def test_torch_settings_come_back() -> None:
    """The number of threads alone changes the bits of a matrix product."""
    before = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
    with isolated(1):
        torch.set_num_threads(before[0] + 1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)  # noqa: FBT003
        torch.backends.cudnn.benchmark = True
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_torch_settings_of_matrix_products_come_back() -> None:
    """Each of them decides the bits of a result; torch has two ways to set them, and mixing these fails."""

    def settings() -> list[Any]:
        backends = torch.backends
        newer = [place.fp32_precision for place in (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)]  # type: ignore[attr-defined]
        older = [torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32]
        return [torch.get_default_device(), torch.empty(1).device, *newer, *older]

    before = settings()
    with isolated(1):
        torch.set_float32_matmul_precision("medium")
        torch.set_default_device("meta")
        torch.backends.cudnn.allow_tf32 = not before[-2]
    assert settings() == before
    with isolated(1):
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]
    assert settings() == before


def test_a_trial_begins_with_as_many_threads_as_it_has_processors() -> None:
    """With Ray or without: they decide the bits."""
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    for number in (1, 3):
        with isolated(1, num_threads=number):
            assert torch.get_num_threads() == number
            assert os.environ["OMP_NUM_THREADS"] == str(number)
    assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == before


def test_numpy_has_as_many_threads_too() -> None:
    """It reads the environment when it is loaded, which may be long before the trial."""
    threadpoolctl = importlib.import_module("threadpoolctl")  # It has no types.

    def threads() -> list[int]:
        pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        return [pool["num_threads"] for pool in pools if "numpy" in pool["filepath"]]

    before = threads()
    assert before
    for number in (1, 2):
        with isolated(1, num_threads=number):
            assert set(threads()) == {number}
    assert threads() == before


@pytest.mark.parametrize("own", [None, "5"])
def test_threads_of_a_library_that_the_trial_imports(own: str | None, answers: dict[Any, dict[str, Any]]) -> None:
    answer = answers["fresh", own]
    after = len(os.sched_getaffinity(0)) if own is None else int(own)
    assert answer["inside"] == [3, 3]
    assert answer["outside"] == [after, after, own]


def test_a_timer_that_a_trial_leaves_behind_does_not_ring() -> None:
    """It would end the process in the middle of another trial."""
    with isolated(1):
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
        signal.setitimer(signal.ITIMER_PROF, 1000)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_an_alarm_that_a_trial_leaves_behind_does_not_ring() -> None:
    """In a process of its own, because whoever runs this test may wait for an alarm too."""
    program = """if True:
        import signal, time
        from tunekit.runtime.attempt.isolation import isolated
        with isolated(1):
            signal.signal(signal.SIGALRM, lambda *about: None)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(0.2)
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=240, check=False).returncode == 0


def test_a_timer_of_somebody_else_goes_on() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    try:
        with isolated(1):
            pass
        assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def test_umask_and_import_path_come_back() -> None:
    path, content = sys.path, list(sys.path)
    umask = os.umask(0o022)
    os.umask(umask)
    with isolated(1):
        os.umask(0o777)
        sys.path.insert(0, "/nowhere")
    with isolated(1):
        sys.path = ["/nowhere"]
    after = os.umask(umask)
    assert after == umask
    assert sys.path is path
    assert sys.path == content


def test_everything_comes_back_after_an_exception(tmp_path: Path) -> None:
    before = Path.cwd()

    def fail() -> Any:
        os.chdir(tmp_path)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), isolated(1):
        fail()
    assert Path.cwd() == before


def test_a_working_directory_that_is_gone_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    with isolated(1):
        os.chdir(tmp_path)
        gone.rmdir()
    assert Path.cwd() == tmp_path
