"""On real Ray: who stands still and who says nothing is killed, who computes and who is slow is left alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sweeps

from tunekit.core.commands import KillTrial, LaunchTrial
from tunekit.core.events import CheckpointStaged, ResultReported, TrialSaving, TrialStarted

pytestmark = pytest.mark.ray

TRIALS = FINE, STOPS, LOOPS, COMPUTES, CRAWLS = range(5)
HANG_S = 6.0
"""As in ``hanging_sweep.py``."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with sweeps.ray_head(num_cpus=5) as address:
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


def longest_pause(notes: Path) -> float:
    """Return for how long the slow trial did not move at most, by its own clock; in all it took longer than a hang."""
    moments = [float(line) for line in notes.read_text().splitlines()]
    assert moments[-1] - moments[0] > HANG_S
    return max(after - before for before, after in pairwise(moments))


def test_what_hangs_is_tried_again_and_the_table_is_that_of_an_undisturbed_sweep(tmp_path: Path, address: str) -> None:
    """S003-12: a hang costs one failure of the trial and at most one interval between checkpoints.

    On a machine that stands still for seconds, the others may be taken for hung as well: but only then. So the slow one
    must be left alone if it never paused for more than two thirds of the timeout: the rest is for its words to arrive.
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
    assert sweeps.attempts(experiment) == {trial: 1 + kills[trial] for trial in TRIALS}
    assert longest_pause(tmp_path / "hanging" / "crawled") > HANG_S * 2 / 3 or not kills[CRAWLS]
    again = [record.resume_from for record in records if isinstance(record, LaunchTrial) and record.attempt == 2]
    assert all(start in {2, 4} for start in again) or kills.total() > 2, again
    assert sweeps.table(experiment) == sweeps.table(tmp_path / "fine" / "walks")


def test_a_worker_that_hangs_while_it_loads_the_code_is_found_too(tmp_path: Path, address: str) -> None:
    """Before user code runs there is no report to wait for; the start of the worker itself does not count."""
    process = sweeps.start("late_sweep.py", str(tmp_path), address=address)
    found = json.loads(sweeps.finish(process).splitlines()[-1])
    assert set(found["losses"]) == {"hung"}, "once, or again where it takes seconds to load a few lines"
    assert (found["status"], found["late"]) == ("completed", "there")
