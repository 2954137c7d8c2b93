"""Kill a worker, kill the driver, at any moment: the sweep goes on to the same table, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import sweeps

from tunekit.core.accounts import Accounts
from tunekit.core.books import Spent
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Place, ResultReported, TrialStarted, WorkerLost
from tunekit.schedulers import ASHA
from tunekit.types import LossCause

pytestmark = pytest.mark.ray

INTERVAL = 3
"""Iterations between two checkpoints of ``walk_sweep.py``. No more are lost if its saves are settled: else one that is
on its way behind the trial is lost as well, and on a slow disk there may be two."""
LAST = 9
"""The last one."""
HELD = 8
"""Rows that a trial makes while the gate is closed to it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sweep without Ray and without kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweeps.finish(sweeps.start("walk_sweep.py", str(folder), "--inline", "--step-s", "0"))
    return folder / "walks"


def kill_driver_until_done(folder: Path, address: str, kills: int, *options: str) -> None:
    """Run the script, kill it after a random number of results, and so on; then let it finish.

    Each time two trials more may end, so that there are results to come, and it is not done before the last kill.
    """
    experiment = folder / "walks"
    chance = random.Random(kills)
    gate = folder / "gate"
    options = (*options, "--gate", str(gate))
    for killed in range(kills):
        sweeps.open_gate(gate, below=2 * killed)
        before = sweeps.count_results(experiment)
        process = sweeps.start("walk_sweep.py", str(folder), *options, address=address)
        sweeps.wait_for(experiment, process, chance.randrange(12), beyond=before)
        sweeps.kill(process)
    sweeps.open_gate(gate)
    sweeps.finish(sweeps.start("walk_sweep.py", str(folder), *options, address=address))


def assert_each_once(experiment: Path, num_trials: int, iterations: int) -> None:
    rows = sweeps.table(experiment)
    assert Counter(trial for trial, _ in rows) == dict.fromkeys(range(num_trials), iterations)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_killed_driver_changes_nothing(tmp_path: Path, ray_address: str, undisturbed: Path, kills: int) -> None:
    """S003-2, S003-12, S004-12: exactly-once results and exact resume after SIGKILLs of the driver."""
    kills = kills if kills > 5 else min(kills, 3)  # Each takes seconds: few will do where nobody asks for many.
    samples = max(6, 2 * kills + 2)
    if samples > 6:
        undisturbed = tmp_path / "reference" / "walks"
        reference = ["--inline", "--step-s", "0", "--samples", str(samples)]
        sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path / "reference"), *reference))
    options = ["--samples", str(samples), "--step-s", "0.05", "--settled"]
    kill_driver_until_done(tmp_path, ray_address, kills, *options)
    assert sweeps.table(tmp_path / "walks") == sweeps.table(undisturbed)
    wasted = sum(sum(repeats(tmp_path / "walks", trial).values()) for trial in range(samples))
    assert wasted <= 2 * INTERVAL * kills, "more than an interval of each of two running trials"
    print(f"{kills} kills of the driver: {wasted} steps were computed again")


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_asha_replays_decision_by_decision(tmp_path: Path, ray_address: str, kills: int) -> None:
    """Promise 1: an asynchronous scheduler decides by arrival order, and the recorded order is replayed exactly."""
    scheduler = ASHA(max_t=9, reduction_factor=2)
    kills = max(2, kills // 2)
    samples = 8 * kills  # Most are stopped early, for which no gate holds them: a dozen results a kill must be left.
    options = ["--scheduler", "asha", "--samples", str(samples), "--step-s", "0.05"]
    kill_driver_until_done(tmp_path, ray_address, kills, *options)
    records = sweeps.journal(tmp_path / "walks")
    core = sweeps.replayed(tmp_path / "walks", scheduler)  # compares each recorded command with the one computed anew
    assert len(sweeps.decisions(records)) >= samples
    assert len(core.state.trials) == samples
    assert all(trial.status.is_ended for trial in core.state.trials)
    rows = sweeps.table(tmp_path / "walks", scheduler)
    assert {trial: max(i for t, i in rows if t == trial) for trial, _ in rows} == {
        trial.trial: trial.iteration for trial in core.state.trials
    }


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [0, 1])
def test_killed_workers_repeat_at_most_one_interval(
    tmp_path: Path, ray_address: str, undisturbed: Path, first: int
) -> None:
    """S003-12: four workers die by SIGKILL; nothing changes, and each death costs one checkpoint interval at most.

    If the first one dies with trial 0, that is brief when it is tried again, since the gate is open by then. So others
    wait at its worker, and lose their place with each worker that dies from there on, but nothing else.

    The first one dies when its trial has come to the gate, two rows beyond its checkpoint, and each of the others when
    the trial that started last has come to a row. However late anybody looks, there is such a worker.
    """
    experiment = tmp_path / "walks"
    gate = tmp_path / "gate"
    options = ["--step-s", "0.05", "--max-failures", "4", "--gate", str(gate), "--settled"]
    process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=ray_address)
    sweeps.open_gate(gate, below=0)
    sweeps.wait_until(process, lambda: len(sweeps.worker_pids(experiment)) == 2)
    sweeps.wait_until(process, lambda: num_rows(experiment, first, 1) == HELD)
    victims = [worker_of(experiment, first)]
    os.kill(victims[-1].pid, signal.SIGKILL)
    while len(victims) < 4:
        sweeps.open_gate(gate, below=len(victims))
        victims.append(next_victim(process, experiment, victims))
        os.kill(victims[-1].pid, signal.SIGKILL)
    sweeps.open_gate(gate)
    sweeps.finish(process)
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert_each_death_ends_one_attempt(experiment, deaths=4)
    for trial in range(6):
        repeated = repeats(experiment, trial)
        assert all(count <= INTERVAL for count in repeated.values()), repeated
    assert_crashes_have_cost_something(experiment)


def starts(experiment: Path) -> list[TrialStarted]:
    return [record for record in sweeps.journal(experiment) if isinstance(record, TrialStarted)]


def num_rows(experiment: Path, trial: int, attempt: int) -> int:
    rows = [record for record in sweeps.journal(experiment) if isinstance(record, ResultReported)]
    return sum((row.trial, row.attempt) == (trial, attempt) for row in rows)


def worker_of(experiment: Path, trial: int) -> Place:
    """Return where a trial has started last."""
    return [start.place for start in starts(experiment) if start.trial == trial][-1]


def next_victim(process: subprocess.Popen[str], experiment: Path, victims: Sequence[Place]) -> Place:
    """Wait until the last trial to start is one of a worker that lives, and has come to a row; return that worker."""
    found: list[Place] = []

    def is_there() -> bool:
        start = starts(experiment)[-1]
        found[:] = [start.place]
        is_dead = start.place.worker in {victim.worker for victim in victims}
        return not is_dead and num_rows(experiment, start.trial, start.attempt) > 0

    sweeps.wait_until(process, is_there)
    return found[0]


def assert_each_death_ends_one_attempt(experiment: Path, deaths: int) -> None:
    """The one that ran; those that waited behind it had not begun, and are no failures.

    It is tried again, unless it had taken its last step: its worker may be killed before it has said so.
    """
    records = sweeps.journal(experiment)
    losses = {(record.trial, record.attempt): record.cause for record in records if isinstance(record, WorkerLost)}
    launches = [record for record in records if isinstance(record, LaunchTrial)]
    rows = [record for record in records if isinstance(record, ResultReported)]
    again = {(launch.trial, launch.attempt - 1) for launch in launches if launch.attempt > 1}
    done = {(row.trial, row.attempt) for row in rows if row.iteration == LAST}
    assert again <= losses.keys() <= again | done
    causes = Counter(losses.values())
    assert set(causes) <= {LossCause.CRASHED, LossCause.NOT_STARTED}
    assert 1 <= causes[LossCause.CRASHED] <= deaths
    waited = {key for key, cause in losses.items() if cause is LossCause.NOT_STARTED}
    started = {(record.trial, record.attempt) for record in records if isinstance(record, TrialStarted)}
    assert not waited & (started | {(row.trial, row.attempt) for row in rows})


def assert_crashes_have_cost_something(experiment: Path) -> None:
    """The accounts, which ``sweeps.table`` has seen to add up, say under which cause it was spent."""
    by_cause: dict[str, Spent] = {}
    for spent in Accounts(sweeps.journal(experiment)).spent().values():
        for cause, each in spent.items():
            by_cause.setdefault(cause, Spent()).add(each)
    crashed, calm = by_cause["crashed"], by_cause["no loss"]
    assert min(crashed.recomputed, crashed.restoring) > 0, crashed
    assert min(calm.useful, calm.checkpointing, calm.restoring) > 0, calm
    assert calm.recomputed == 0


def repeats(experiment: Path, trial: int) -> dict[int, int]:
    """Return how many iterations each attempt of a trial computed for the second time."""
    done = 0
    again: Counter[int] = Counter()
    for record in sweeps.journal(experiment):
        if isinstance(record, ResultReported) and record.trial == trial:
            again[record.attempt] += record.iteration <= done
            done = max(done, record.iteration)
    return again


def test_ctrl_c_saves_and_the_same_script_goes_on(tmp_path: Path, ray_address: str, undisturbed: Path) -> None:
    """S004-11: interrupted once, exit 130, nothing failed; the rest is done by the next run."""
    experiment = tmp_path / "walks"
    gate = tmp_path / "gate"
    options = ["--step-s", "0.05", "--gate", str(gate)]
    process = sweeps.start("walk_sweep.py", str(tmp_path), *options, address=ray_address)
    sweeps.wait_for(experiment, process, 8)
    process.send_signal(signal.SIGINT)
    sweeps.wait_until_stopping(experiment, process)
    sweeps.open_gate(gate)
    _, err = process.communicate(timeout=sweeps.PATIENCE_S)
    assert process.returncode == 130, err
    assert "Run the same script again" in err
    before = sweeps.count_results(experiment)
    sweeps.finish(sweeps.start("walk_sweep.py", str(tmp_path), *options, address=ray_address))
    assert sweeps.table(experiment) == sweeps.table(undisturbed)
    assert before <= sweeps.count_results(experiment) <= 6 * 9 + 1, "what was saved is not computed again"


def test_a_finished_sweep_is_not_run_again_and_a_longer_one_runs_the_rest(tmp_path: Path, ray_address: str) -> None:
    """S004-11, S003 promise: run again 0 work; more samples run just the rest."""
    options = [str(tmp_path), "--step-s", "0"]
    experiment = tmp_path / "walks"
    sweeps.finish(sweeps.start("walk_sweep.py", *options, "--samples", "3", address=ray_address))
    results, launches = sweeps.count_results(experiment), sweeps.attempts(experiment)
    sweeps.finish(sweeps.start("walk_sweep.py", *options, "--samples", "3", address="127.0.0.1:1"))  # needs no Ray
    assert (sweeps.count_results(experiment), sweeps.attempts(experiment)) == (results, launches)
    sweeps.finish(sweeps.start("walk_sweep.py", *options, "--samples", "5", address=ray_address))
    assert sweeps.attempts(experiment) == dict.fromkeys(range(5), 1)
    assert_each_once(experiment, 5, 9)
