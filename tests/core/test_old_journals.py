"""Journals that earlier versions wrote replay as they were played, and go on.

Each is of a simulated sweep that met every misfortune. The file beside it says what its core knew in the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunekit.core import invariants
from tunekit.core.accounts import Accounts
from tunekit.core.codec import Record, decode
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import CapacityChanged, DriverStarted, Event
from tunekit.core.experiment import Experiment
from tunekit.core.policies import Scheduler
from tunekit.core.state import State
from tunekit.journal.framing import read_batches
from tunekit.journal.replay import replay
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.sim_accounts import check_accounts
from tunekit.types import TrialStatus

FOLDER = Path(__file__).parents[1] / "data" / "journals"
NAMES = ["1_asha", "1_judged", "1_notices", "1_retention"]


def records_of(name: str) -> list[Record]:
    lines = (FOLDER / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
    return [decode(payload) for batch in read_batches(lines, 0, 0) for payload in batch.payloads]


def expected_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())  # type: ignore[no-any-return]


def begin(name: str) -> Experiment:
    arguments = expected_of(name)["scheduler"]
    scheduler: Scheduler = FIFO() if arguments is None else ASHA(**arguments)
    return Experiment(scheduler)


def shown(state: State) -> dict[str, Any]:
    return {
        "generation": state.generation,
        "outcome": state.outcome,
        "num_stale": state.num_stale,
        "trials": [
            {
                "status": trial.status,
                "attempt": trial.attempt,
                "iteration": trial.iteration,
                "num_failures": trial.num_failures,
                "checkpoints": {
                    str(iteration): [entry.attempt, entry.status, entry.score]
                    for iteration, entry in sorted(trial.checkpoints.items())
                },
            }
            for trial in state.trials
        ],
    }


def test_these_are_all() -> None:
    assert sorted(path.stem for path in FOLDER.glob("1_*.jsonl")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_replays_as_it_was_played(name: str) -> None:
    """Each command that it records comes again, and the end is what it was."""
    experiment = begin(name)
    found = replay(records_of(name), experiment.handle)
    invariants.check(experiment)
    expected = expected_of(name)
    del expected["scheduler"]
    assert shown(experiment.state) == expected
    assert found.num_commands > 30


@pytest.mark.parametrize("name", NAMES)
def test_every_beginning_of_it_can_be_taken_over(name: str) -> None:
    """With the settings of today, a limit of bytes among them: whoever can go on is launched, and nothing raises."""
    events = [record for record in records_of(name) if isinstance(record, Event)]
    for length in range(1, len(events), 7):
        experiment = begin(name)
        settings = experiment.state.settings
        for event in events[:length]:
            experiment.handle(event)
            settings = event.settings if isinstance(event, DriverStarted) else settings
        state = experiment.state
        later = DriverStarted(
            at=state.now, generation=state.generation + 1, settings=_limited(settings, max_experiment_bytes=1)
        )
        experiment.handle(later)
        invariants.check(experiment)
        waiting = [trial for trial in state.trials if trial.status is TrialStatus.PENDING and not trial.num_staged]
        commands = experiment.handle(CapacityChanged(at=state.now, max_live=100))
        invariants.check(experiment)
        launched = {command.trial for command in commands if isinstance(command, LaunchTrial)}
        assert launched == {trial.trial for trial in waiting}


def _limited(settings: Any, **changes: Any) -> Any:
    return type(settings)(**{**{name: getattr(settings, name) for name in settings.__struct_fields__}, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_its_seconds_add_up_although_nobody_measured_what_they_went_into(name: str) -> None:
    records = records_of(name)
    assert not list(check_accounts(records, begin(name)))
    total = Accounts(records).total()
    assert min(total.useful, total.recomputed, total.queued) > 0
    assert total.checkpointing == 0
