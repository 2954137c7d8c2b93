"""Who waits for the storage is heard, and who runs user code is not made up to be alive."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import CheckpointStaged, Event, TrialSaving
from tunekit.runtime.line.heartbeat import beating
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.saving import Row, Saving
from tunekit.store import CheckpointIO, open_store

ROW = Row(iteration=1, metrics={}, time_total_s=1.0)


class Ears:
    """A channel that notes what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.has_heard = threading.Event()
        self.is_saving = False

    def send(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TrialSaving):
            self.has_heard.set()

    def wait(self) -> ContinueTrial | StopTrial:
        raise NotImplementedError

    def pending_stop(self) -> StopTrial | None:
        return None

    def outlook(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        pass


def saving_of(folder: Path, ears: Ears, hang_timeout_s: float | None) -> Saving:
    sweep = SweepSpec(experiment="e", path=str(folder), seed=0, hang_timeout_s=hang_timeout_s)
    spec = AttemptSpec(trial=0, attempt=1, trial_name="t_00000", config={})
    return Saving(sweep, spec, ears, CheckpointIO(open_store(str(folder))))


def test_it_beats_until_the_block_is_left() -> None:
    beats = threading.Semaphore(0)
    with beating(beats.release, 0.001):
        for _ in range(3):
            assert beats.acquire(timeout=120)
    before = threading.active_count()
    assert not any(thread.name == "tunekit-heartbeat" for thread in threading.enumerate()), before


def test_without_a_timeout_there_is_no_thread() -> None:
    with beating(lambda: None, None):
        assert not any(thread.name == "tunekit-heartbeat" for thread in threading.enumerate())


def test_it_ends_with_whatever_the_block_raises() -> None:
    with pytest.raises(KeyError), beating(lambda: None, 0.001):
        raise KeyError
    assert not any(thread.name == "tunekit-heartbeat" for thread in threading.enumerate())


def test_a_trial_that_waits_for_slow_storage_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ears = Ears()
    saving = saving_of(tmp_path, ears, 0.03)
    seal = CheckpointIO.seal

    def slowly(self: CheckpointIO, *args: Any, **options: Any) -> Any:
        assert ears.has_heard.wait(timeout=120)
        return seal(self, *args, **options)

    monkeypatch.setattr(CheckpointIO, "seal", slowly)
    saving.save(lambda path: {"x": 1}, ROW, SaveReason.AT_END)
    saving.settle()
    assert isinstance(ears.events[0], TrialSaving)
    assert isinstance(ears.events[-1], CheckpointStaged)
    saving.close()


def test_user_code_that_saves_is_not_covered(tmp_path: Path) -> None:
    ears = Ears()
    saving = saving_of(tmp_path, ears, 0.03)

    def write(path: str) -> dict[str, int]:
        ears.has_heard.clear()  # Of what was done before.
        assert not ears.has_heard.wait(timeout=0.3)
        return {"x": 1}

    saving.save(write, ROW, SaveReason.DEMAND)
    saving.settle()
    assert any(isinstance(event, CheckpointStaged) for event in ears.events)
    saving.close()
