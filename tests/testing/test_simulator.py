"""Simulated sweeps: nothing that was acknowledged is lost, and every sweep ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from tunekit.core.commands import Command
from tunekit.core.events import CheckpointStaged, Event, ResultReported, TrialHalted, TrialReturned, WorkerLost
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.errors import InvariantViolationError
from tunekit.journal.replay import replay
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing import simulator
from tunekit.testing.sim_options import RATES, Faults, SimOptions
from tunekit.testing.simulator import Simulation
from tunekit.types import Mode

NUM_SEEDS = 500
SMALL: dict[str, SimOptions] = {
    "fifo": SimOptions(num_trials=2, iterations=4, num_to_keep=1, max_failures=0),
    "asha": SimOptions(num_trials=4, iterations=4, scheduler=ASHA(max_t=4, grace_period=1, reduction_factor=2)),
    "judged": SimOptions(num_trials=2, iterations=4, judged=True, learns=True, counts=False),
    "behind": SimOptions(
        num_trials=2,
        iterations=4,
        save_every=1,
        num_to_keep=2,
        by_score=True,
        pin_every=3,
        max_bytes=12,
        saves_failures=True,
        persist_s=3.0,
        faults=Faults(raises=0.1),
    ),
    "in order": SimOptions(
        num_trials=3, iterations=4, scheduler=ASHA(max_t=4, grace_period=1, reduction_factor=2), logical_slots=2
    ),
}


@pytest.mark.parametrize("block", range(10))
def test_five_hundred_seeds(block: int) -> None:
    """The sweep ends, and every check of the simulator holds; a failure names the command that repeats it.

    In many of them more than half of all attempts are lost.
    """
    seeds = range(block * NUM_SEEDS // 10, (block + 1) * NUM_SEEDS // 10)
    reports = [Simulation(seed).run() for seed in seeds]
    assert sum(report.attempts >= 10 and report.lost >= report.attempts / 2 for report in reports) > 5


def test_who_leaves_its_machine_has_time_for_its_last_save() -> None:
    """It leaves while the order to stop is on its way to it, and saves for longer than a stop is given."""
    assert Simulation(7301245).run().attempts > 1


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("fate", ["before", "torn", "after"])
def test_the_driver_dies_at_every_commit(name: str, fate: str) -> None:
    """And with it, most of the time, its workers."""
    commit = 0
    while Simulation(0, replace(SMALL[name], crash_at=((commit, fate),))).run().deaths:
        commit += 1
    assert commit > 20


@pytest.mark.parametrize("name", SMALL)
def test_the_next_driver_dies_as_well(name: str) -> None:
    """At each of its first commits, which are those that take over what the first one has left."""
    for distance, fate in [(1, "torn"), (2, "before"), (3, "after")]:
        commit = 0
        crash_at = ((commit, "torn"), (commit + distance, fate))
        while Simulation(1, replace(SMALL[name], crash_at=crash_at)).run().deaths == 2:
            commit += 1
            crash_at = ((commit, "torn"), (commit + distance, fate))
        assert commit > 15


@pytest.mark.parametrize("name", SMALL)
def test_the_driver_dies_before_every_command(name: str) -> None:
    """What is durable and was not carried out, a publication or a deletion too, is carried out by the next one."""
    command = 0
    while Simulation(0, replace(SMALL[name], crash_before=command)).run().deaths:
        command += 1
    assert command > 5


def test_nothing_that_a_hundred_zombies_say_counts() -> None:
    """They were declared lost, and compute, save and speak on: each of their words is counted as stale, and no more."""
    zombies: set[tuple[int, int, int]] = set()
    words = 0
    for seed in range(400):
        faults = Faults(zombie=0.3, delay=1.0, duplicate=0.2, split=0.3)
        simulation = Simulation(seed, SimOptions(save_every=1, max_failures=-1, persist_s=1.0, faults=faults))
        simulation.run()
        core, dead = Experiment(simulation.options.scheduler, Mode.MIN), set[tuple[int, int]]()

        def handle(event: Event, core: Experiment = core, dead: set[tuple[int, int]] = dead) -> list[Command]:
            nonlocal words
            stale = core.state.num_stale
            commands = core.handle(event)
            key = (getattr(event, "trial", -1), getattr(event, "attempt", -1))
            if key in dead and isinstance(event, ResultReported | CheckpointStaged | TrialReturned | TrialHalted):
                assert (core.state.num_stale, commands) == (stale + 1, []), event
                zombies.add((seed, *key))  # noqa: B023 - of this very round
                words += 1
            if isinstance(event, WorkerLost):
                dead.add(key)
            return commands

        replay(simulation._journal.read_again(), handle)
        if len(zombies) >= 100:
            break
    assert len(zombies) >= 100
    assert words > 200


def test_an_undisturbed_sweep_repeats_itself() -> None:
    """The second driver runs it again in vain, the third looks at the results."""
    report = Simulation(3, SimOptions()).run()
    assert (report.boots, report.deaths) == (3, 0)
    assert report == Simulation(3, SimOptions()).run()
    assert report.digest != Simulation(4, SimOptions()).run().digest


def test_twenty_seeds_repeat_themselves_in_another_process() -> None:
    """No order of a set, no hash of a string, no clock has a say in what happens."""
    here = [Simulation(seed).run().digest for seed in range(20)]
    code = (
        "from tunekit.testing.simulator import Simulation\n"
        "print(*[Simulation(seed).run().digest for seed in range(20)])"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.split() == here


def test_every_misfortune_has_its_seeds_and_some_seeds_have_none() -> None:
    count = Counter[str]()
    for seed in range(NUM_SEEDS):
        faults = Simulation(seed).options.faults
        count.update([name for name in RATES if getattr(faults, name)] or ["none"])
    assert set(count) == {"none", *RATES}
    assert min(count.values()) > NUM_SEEDS // 20


def test_a_large_sweep_takes_seconds() -> None:
    faults = Faults(crash=0.02, driver=0.0005, duplicate=0.05, delay=0.5, split=0.1)
    options = SimOptions(
        num_trials=1000, iterations=4, max_live=32, num_to_keep=1, ask_batch=256, faults=faults, calm_after=10**6
    )
    assert Simulation(0, options).run().deaths > 0


def test_a_failing_seed_says_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Experiment, "handle", lambda self, event: [])
    with pytest.raises(InvariantViolationError) as caught:
        Simulation(17).run()
    assert caught.value.__notes__ == ["repeat it with: python -m tunekit.testing.simulator --seed 17"]


def test_a_sweep_that_never_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulation, "_deliver", lambda self, delivery: False)
    with pytest.raises(InvariantViolationError, match="has stalled"):
        Simulation(17, SimOptions()).run()


def test_a_table_with_a_missing_row_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RowTable, "rows", lambda self, trial: [])
    with pytest.raises(InvariantViolationError, match="complete with 0 rows of 6"):
        Simulation(17, SimOptions(scheduler=FIFO())).run()


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    simulator.main(["--seed", "5", "--count", "3"])
    assert capsys.readouterr().out == "3 seeds: no violations\n"
    simulator.main(["--seed", "5"])
    assert "Report(seed=5" in capsys.readouterr().out
