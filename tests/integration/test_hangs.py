"""On real Ray: a worker that stands still and one that says nothing are killed, one that computes is left alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sweeps

from tunekit.core.commands import KillTrial, LaunchTrial
from tunekit.core.events import CheckpointStaged, ResultReported, TrialSaving, TrialStarted

pytestmark = pytest.mark.ray

FINE, STOPS, LOOPS, COMPUTES = range(4)
HANG_S = 6.0
"""As in ``hanging_sweep.py``."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sweeps.ray_head(num_cpus=4) as address:
        yield address


def silences(records: list[Any]) -> list[tuple[int, float]]:
    """Return for each kill its trial, and how long that had not been heard of."""
    now, heard, found = 0.0, dict[int, float](), []
    for record in records:
        now = getattr(record, "at", now)
        if isinstance(record, KillTrial):
            found.append((record.trial, now - heard[record.trial]))
        elif isinstance(record, TrialStarted | ResultReported | CheckpointStaged | TrialSaving):
            heard[record.trial] = now
    return found


def test_what_hangs_is_tried_again_and_the_table_is_that_of_an_undisturbed_sweep(tmp_path: Path, address: str) -> None:
    """S003-12: a hang costs one failure of the trial and at most one interval between checkpoints.

    On a machine that stands still for seconds, the others may be taken for hung as well: but only then.
    """
    (tmp_path / "fine").mkdir()
    (tmp_path / "hanging").mkdir()
    fine = sweeps.start("hanging_sweep.py", str(tmp_path / "fine"), "--fine")
    sweeps.finish(sweeps.start("hanging_sweep.py", str(tmp_path / "hanging"), address=address))
    sweeps.finish(fine)
    experiment = tmp_path / "hanging" / "walks"
    records = sweeps.journal(experiment)
    kills = Counter(trial for trial, _ in silences(records))
    assert {STOPS, LOOPS} <= set(kills)
    assert all(silence_s >= HANG_S for _, silence_s in silences(records))
    assert sweeps.attempts(experiment) == {trial: 1 + kills[trial] for trial in (FINE, STOPS, LOOPS, COMPUTES)}
    again = [record.resume_from for record in records if isinstance(record, LaunchTrial) and record.attempt == 2]
    assert all(start in {2, 4} for start in again) or kills.total() > 2, again
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "fine" / "walks")


def test_a_worker_that_hangs_while_it_loads_the_code_is_found_too(tmp_path: Path, address: str) -> None:
    """Before user code runs there is no report to wait for; the start of the worker itself does not count."""
    process = sweeps.start("late_sweep.py", str(tmp_path), address=address)
    found = json.loads(sweeps.finish(process).splitlines()[-1])
    assert set(found["losses"]) == {"hung"}, "once, or again where it takes seconds to load a few lines"
    assert (found["status"], found["late"]) == ("completed", "there")
