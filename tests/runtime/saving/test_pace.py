"""Saves that choose their interval: by what they cost, and by what the trial is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from timed_attempts import Saver, World, patched

import tunekit as tk
from tunekit.core.cadence import Outlook, bounded_s, is_better_now, optimum_s
from tunekit.core.events import SaveFailed
from tunekit.runtime.saving.pace import Pace
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.runtime.saving.triggers import Due, Triggers, Wishes
from tunekit.testing.recording import RecordedTrial, RecordingChannel

H = 3600.0
NOTHING = Wishes(save=False, pin=False)
AUTO = tk.CheckpointConfig(checkpoint_every_s="auto", checkpoint_at_end=False)
STEP_S = 10.0
COST_S = 2.0


@pytest.fixture
def world() -> Iterator[World]:
    with patched() as world:
        yield world


class Work:
    """A trial whose steps and saves take their time by the clock of the world."""

    def __init__(self, world: World, kind: str, cost_s: float = COST_S) -> None:
        self.world = world
        self.cost_s = cost_s
        self.trainable = self._function() if kind == "function" else self._class()

    def _function(self) -> Any:
        world, cost_s = self.world, self.cost_s

        class Slow(Saver):
            def save_checkpoint(self, path: str) -> None:
                world.now += cost_s
                super().save_checkpoint(path)

        def train(config: dict[str, Any]) -> None:
            saver = Slow()
            tk.restore(saver)
            while True:
                world.settle()
                world.now += STEP_S
                tk.report({}, checkpoint=saver)

        return train

    def _class(self) -> Any:
        world, cost_s = self.world, self.cost_s

        class Slow(tk.Trainable):
            def step(self) -> dict[str, Any]:
                world.settle()
                world.now += STEP_S
                return {}

            def save_checkpoint(self, path: str) -> dict[str, int]:
                world.now += cost_s
                return {}

            def load_checkpoint(self, state: Any) -> None:
                """Nothing is needed."""

        return Slow


def expected(interval_s: float, rows: int, *, first: int | None = None) -> list[int]:
    """Return which rows are saved: each time the one that is better than the next."""
    found, since = ([], 0) if first is None else ([first], first)
    for row in range(since + 1, rows + 1):
        if is_better_now(STEP_S * (row - since), STEP_S, interval_s):
            found.append(row)
            since = row
    return found


BOTH = pytest.mark.parametrize("kind", ["class", "function"])


@BOTH
def test_the_first_row_is_saved_to_find_out_what_that_costs(tmp_path: Path, world: World, kind: str) -> None:
    made = RecordedTrial(tmp_path, Work(world, kind).trainable, stop={"training_iteration": 100}, checkpoint=AUTO)
    channel = made.run(outlook=Outlook(uptime_s=6 * H))
    steps = expected(optimum_s(COST_S, 10 * H), 100, first=1)
    assert len(steps) == 3, "saves that are worth being looked at"
    assert channel.saved == steps
    assert {event.manifest["reason"] for event in channel.staged} == {"time"}
    assert [(event.blocked_s, event.took_s) for event in channel.staged] == [(COST_S, COST_S)] * 3


@BOTH
def test_who_knows_the_cost_from_others_need_not_find_out(tmp_path: Path, world: World, kind: str) -> None:
    work = Work(world, kind, cost_s=8.0)
    made = RecordedTrial(tmp_path, work.trainable, stop={"training_iteration": 200}, checkpoint=AUTO)
    channel = made.run(outlook=Outlook(uptime_s=6 * H, blocked_s=COST_S, durable_s=COST_S))
    (first,) = expected(optimum_s(COST_S, 10 * H), 50)
    rest = [first + row for row in expected(optimum_s(8.0, 10 * H), 200 - first)]
    assert channel.saved == [first, *rest], "until it has measured its own"
    assert len(rest) == 2
    resumed = made.resume(outlook=Outlook(losses=99.0, blocked_s=8.0, durable_s=8.0))
    assert resumed.saved[0] == rest[-1] + expected(bounded_s(8.0, 8.0, 4 * H / 100), 9)[0]


def test_what_it_is_told_on_the_way_counts_from_the_next_row(tmp_path: Path, world: World) -> None:
    channel = RecordingChannel()

    def train(config: dict[str, Any]) -> None:
        for row in range(1, 13):
            world.settle()
            world.now += STEP_S
            if row == 5:
                channel.told = Outlook(losses=49.0, blocked_s=COST_S, durable_s=COST_S)
            tk.report({}, checkpoint=Saver())

    rare = Outlook(uptime_s=1000 * H, blocked_s=COST_S, durable_s=COST_S)
    RecordedTrial(tmp_path, train, checkpoint=AUTO).run(channel, outlook=rare)
    assert expected(optimum_s(COST_S, 4 * H / 50), 3) == [3]
    assert channel.saved == [5, 8, 11]


def test_no_other_save_is_begun_while_one_is_on_its_way() -> None:
    now, busy = [0.0], [True]
    pace = Pace(Outlook(blocked_s=1.0, durable_s=1.0), lambda: busy[0])
    triggers = Triggers(AUTO, lambda: now[0], pace)
    now[0] = 10 * H
    assert triggers.due(1, NOTHING) is None
    busy[0] = False
    assert triggers.due(2, NOTHING) == Due(SaveReason.TIME, pin=False)


def test_a_slow_upload_makes_saves_rarer(tmp_path: Path) -> None:
    """P is a bound: what is asked for before the last one is durable only grows old."""
    pace = Pace(Outlook(blocked_s=1.0, durable_s=5.0))
    shorter = pace.interval_s
    pace.note_durable(900.0)
    assert (shorter, pace.interval_s) == (optimum_s(1.0, 4 * H), 900.0)


def test_behind_the_trial_a_save_takes_until_it_is_durable(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one is on its way there is no other, and then not before as long again."""
    gate, seconds = threading.Event(), [0.0]

    class Big(Saver):
        def save_checkpoint(self, path: str) -> None:
            seconds[0] += COST_S
            Path(path, "value").write_bytes(bytes(1 << 17))

    def train(config: dict[str, Any]) -> None:
        world.runs[-1].saving.clock = lambda: seconds[0]
        for row in range(1, 200):
            if row == 80:
                gate.set()
                world.settle()
            elif row > 80:
                world.settle()
            world.now += STEP_S
            tk.report({}, checkpoint=Big())

    made = RecordedTrial(tmp_path, train, checkpoint=AUTO)
    seal = made.io.seal

    def slow(*args: Any, **options: Any) -> Any:
        assert gate.wait(240)
        seconds[0] += 500.0
        return seal(*args, **options)

    monkeypatch.setattr(made.io, "seal", slow)
    channel = made.run()
    assert [(event.blocked_s, event.took_s) for event in channel.staged] == [(COST_S, 500.0 + COST_S)] * 4
    between = expected(500.0 + COST_S, 60)[0]
    assert channel.saved == [1, 80, 80 + between, 80 + 2 * between]


@BOTH
def test_a_disk_that_fails_is_not_tried_at_every_row(tmp_path: Path, world: World, kind: str) -> None:
    class Full(Saver):
        def save_checkpoint(self, path: str) -> None:
            raise OSError(28, "no space left")

    class FullClass(tk.Trainable):
        def step(self) -> dict[str, Any]:
            world.now += STEP_S
            return {}

        def save_checkpoint(self, path: str) -> None:
            Full().save_checkpoint(path)

        def load_checkpoint(self, state: Any) -> None:
            """Nothing is needed."""

    def train(config: dict[str, Any]) -> None:
        while True:
            world.now += STEP_S
            tk.report({}, checkpoint=Full())

    trainable = FullClass if kind == "class" else train
    channel = RecordedTrial(tmp_path, trainable, stop={"training_iteration": 30}, checkpoint=AUTO).run()
    failed = [event.iteration for event in channel.events if isinstance(event, SaveFailed)]
    assert failed == [1, *(1 + row for row in expected(optimum_s(1.0, 4 * H), 29))]


def test_other_saves_start_the_interval_anew_and_tell_what_a_save_costs(tmp_path: Path, world: World) -> None:
    """S003-8."""
    config = tk.CheckpointConfig(checkpoint_every_s="auto", checkpoint_frequency=20, checkpoint_at_end=False)
    made = RecordedTrial(tmp_path, Work(world, "class").trainable, stop={"training_iteration": 60}, checkpoint=config)
    channel = made.run(outlook=Outlook(blocked_s=1.0, durable_s=1.0))
    (first, *_) = expected(optimum_s(1.0, 4 * H), 20)
    second = 20 + expected(optimum_s(COST_S, 4 * H), 40)[0]
    assert (first, second) == (17, 44), "by the guess of others, and by what it has measured itself"
    assert channel.saved == [17, 20, 40, 60]


def test_the_last_save_is_no_measurement(tmp_path: Path, world: World) -> None:
    """It is waited for as none before it was."""
    config = tk.CheckpointConfig(checkpoint_every_s="auto", checkpoint_at_end=True)
    made = RecordedTrial(tmp_path, Work(world, "class").trainable, stop={"training_iteration": 2}, checkpoint=config)
    channel = made.run()
    assert [(event.iteration, event.blocked_s > 0) for event in channel.staged] == [(1, True), (2, False)]


def test_a_save_left_to_the_thread_says_for_how_long_the_trial_stood_still(tmp_path: Path) -> None:
    """By the real clock: it stands still while its state is copied, and goes on while the copy is written."""
    import numpy as np

    state = np.zeros(1 << 18)

    class Big(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return {}

        def save_checkpoint(self, path: str) -> dict[str, Any]:
            return {"state": state}

        def load_checkpoint(self, given: Any) -> None:
            """Nothing is needed."""

    config = tk.CheckpointConfig(checkpoint_every_s="auto", checkpoint_frequency=1, checkpoint_at_end=False)
    channel = RecordedTrial(tmp_path, Big, stop={"training_iteration": 3}, checkpoint=config).run()
    assert len(channel.staged) >= 1
    assert all(0.0 < event.blocked_s <= event.took_s + 1e-4 for event in channel.staged if event.iteration < 3)


@BOTH
def test_rows_are_the_same_with_and_without(tmp_path: Path, world: World, kind: str) -> None:
    """Promise 1: when a checkpoint is saved changes nothing else."""
    rows = []
    for every in (None, "auto", 20):
        config = tk.CheckpointConfig(checkpoint_every_s=every, checkpoint_at_end=False)
        trial = RecordedTrial(
            tmp_path / str(every), Work(world, kind).trainable, stop={"training_iteration": 9}, checkpoint=config
        )
        rows.append([(row.iteration, row.metrics, row.final) for row in trial.run().rows])
    assert rows[0] == rows[1] == rows[2]
