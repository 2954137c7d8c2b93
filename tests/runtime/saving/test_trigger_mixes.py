"""Any mix of triggers, against an oracle that knows only what is promised."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from timed_attempts import Saver, World, patched

import tunekit as tk
from tunekit.core.commands import StopTrial
from tunekit.runtime.saving.reasons import SaveReason
from tunekit.testing.recording import RecordedTrial, RecordingChannel


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one iteration does."""

    lasts: int
    save_lasts: int
    flag: Any = False
    pin: Any = False
    request: bool = False
    folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Story:
    """An attempt."""

    steps: list[Step]
    frequency: int | None
    every_s: int | None
    at_end: bool | None
    ending: str
    kind: str


def oracle(story: Story) -> list[int]:
    """Say which iterations are saved, from what the documentation promises."""
    saved = []
    elapsed = 0  # since the newest save
    asked = False
    for iteration, step in enumerate(story.steps, 1):
        elapsed += step.lasts
        asked = asked or step.request
        by_iteration = story.frequency is not None and story.frequency > 0 and iteration % story.frequency == 0
        by_time = story.every_s is not None and elapsed >= story.every_s
        given = step.folder and story.kind == "function"
        if given or asked or by_iteration or by_time or step.flag is True or step.pin is True:
            saved.append(iteration)
            elapsed, asked = 0, False
    last = len(story.steps)
    at_end = story.ending == "pause" or (story.at_end is not False and story.ending != "raises")
    return sorted({*saved, last} if at_end else saved)


FLAGS = st.sampled_from([False, False, False, True, 1, "yes", None])
STEPS = st.lists(
    st.builds(
        Step,
        lasts=st.integers(0, 9),
        save_lasts=st.integers(0, 30),
        flag=FLAGS,
        pin=FLAGS,
        request=st.integers(0, 5).map(lambda number: number == 0),
        folder=st.integers(0, 5).map(lambda number: number == 0),
    ),
    min_size=1,
    max_size=9,
)
STORIES = st.builds(
    Story,
    steps=STEPS,
    frequency=st.sampled_from([None, 0, 1, 2, 3, 5]),
    every_s=st.sampled_from([None, None, 1, 5, 12]),
    at_end=st.sampled_from([None, True, False]),
    ending=st.sampled_from(["own", "done", "returns", "stop", "pause", "raises"]),
    kind=st.sampled_from(["class", "function"]),
)


class BrokenError(Exception):
    """What the stories raise."""


def work(story: Story, world: World, iteration: int) -> dict[str, Any]:
    """Do the work of an iteration, and return its metrics."""
    world.settle()
    if iteration > len(story.steps):
        raise BrokenError
    step = story.steps[iteration - 1]
    world.now += step.lasts
    if step.request:
        world.runs[-1].request_save(SaveReason.PREEMPTION)
    is_done = story.ending == "done" and iteration == len(story.steps)
    return {"should_checkpoint": step.flag, "pin_checkpoint": step.pin, **({"done": True} if is_done else {})}


def trainable_of(story: Story, world: World) -> Any:
    class Told(Saver):
        def save_checkpoint(self, path: str) -> None:
            super().save_checkpoint(path)
            world.now += story.steps[world.runs[-1].iteration - 1].save_lasts

    class Stepper(tk.Trainable):
        def step(self) -> dict[str, Any]:
            return work(story, world, self.iteration + 1)

        def save_checkpoint(self, path: str) -> None:
            Told().save_checkpoint(path)

        def load_checkpoint(self, path: Any) -> None:
            """Not called."""

    def function(config: dict[str, Any]) -> None:
        iteration = 0
        while story.ending != "returns" or iteration < len(story.steps):
            iteration += 1
            metrics = work(story, world, iteration)
            if story.steps[iteration - 1].folder:
                folder = tk.get_context().checkpoint_dir()
                tk.report(metrics, checkpoint=tk.Checkpoint.from_directory(folder))
            else:
                tk.report(metrics, checkpoint=Told())

    return Stepper if story.kind == "class" else function


@given(STORIES)
def test_any_mix_of_triggers_saves_each_step_at_most_once(story: Story) -> None:
    """S003-8, S003-9, S003-11, S003-14."""
    assume(story.kind == "function" or story.ending != "returns")
    first = replace(story.steps[0], folder=False)  # The first report shows that there is something to save.
    story = replace(story, steps=[first, *story.steps[1:]])
    num_steps = len(story.steps)
    config = tk.CheckpointConfig(
        checkpoint_frequency=story.frequency, checkpoint_every_s=story.every_s, checkpoint_at_end=story.at_end
    )
    stop = StopTrial(trial=0, attempt=1, pause=story.ending == "pause")
    channel = RecordingChannel(stop_at=num_steps if story.ending in {"stop", "pause"} else None, stop=stop)
    limits = {"training_iteration": num_steps} if story.ending == "own" else {}
    with tempfile.TemporaryDirectory() as folder, patched() as world:
        RecordedTrial(Path(folder), trainable_of(story, world), stop=limits, checkpoint=config).run(channel)
    assert channel.saved == oracle(story)
    pinned = [iteration for iteration, step in enumerate(story.steps, 1) if step.pin is True]
    assert [event.iteration for event in channel.staged if event.pinned] == pinned
    if story.every_s is None:
        steps = [replace(step, request=False) for step in story.steps]
        calm = replace(story, steps=steps, ending="raises" if story.ending == "pause" else story.ending)
        is_last_regular = story.ending == "stop" and story.at_end is not False  # Retention sees to that one.
        extra = {event.iteration for event in channel.staged if event.interim} - {num_steps if is_last_regular else 0}
        assert extra == set(channel.saved) - set(oracle(calm))
    announced = {row.iteration for row in channel.rows if row.saves}
    unannounced = {num_steps} if story.ending in {"stop", "pause", "returns"} else set()
    assert set(channel.saved) - unannounced <= announced <= set(channel.saved)


def test_the_oracle_is_not_the_implementation() -> None:
    """S003-8, S003-11, S003-14: the figures of the requirements, so that the oracle is right about something."""

    def story(num: int, **fields: Any) -> Story:
        flags = fields.pop("flags", ())
        steps = [Step(lasts=1, save_lasts=0, flag=iteration in flags) for iteration in range(1, num + 1)]
        base: dict[str, Any] = {"frequency": 0, "every_s": None, "at_end": None, "ending": "own", "kind": "class"}
        return Story(steps=steps, **{**base, **fields})

    assert oracle(story(5, flags={2, 4}, frequency=4)) == [2, 4, 5]
    assert oracle(story(7, frequency=3, at_end=False)) == [3, 6]
    assert oracle(story(25, frequency=10, at_end=True)) == [10, 20, 25]
    assert oracle(story(6, frequency=3, at_end=True)) == [3, 6]
    assert oracle(story(6, every_s=2, at_end=False)) == [2, 4, 6]
