"""The executable specification notices what it must."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunekit.core import invariants
from tunekit.core.commands import LaunchTrial
from tunekit.core.state import State
from tunekit.errors import InvariantViolationError
from tunekit.testing.events import Script, interrupted, row, saved, staged
from tunekit.types import Intent, TrialStatus


def in_full_swing() -> Script:
    """Return a sweep with a trial in each of many states."""
    play = Script()
    play.begin(num_trials=4, max_live=3)
    play(*saved(0, 1), row(1, 1), staged(1, 1))
    return play


def break_paused(state: State) -> None:
    state.paused.append(0)


def break_live(state: State) -> None:
    del state.live[0]


def break_queue(state: State) -> None:
    state.queue.clear()


def break_count(state: State) -> None:
    state.num_open -= 1


def break_status(state: State) -> None:
    state.trials[0].status = TrialStatus.COMPLETED


def break_intent(state: State) -> None:
    state.trials[0].intent = Intent.PAUSE


def break_stop(state: State) -> None:
    state.move(state.trials[0], TrialStatus.STOPPING)


def break_stop_deadline(state: State) -> None:
    state.trials[0].intent = Intent.STOP
    state.move(state.trials[0], TrialStatus.STOPPING)


def break_deadline(state: State) -> None:
    state.trials[0].deadline = 1.0


def break_failure(state: State) -> None:
    state.move(state.trials[0], TrialStatus.FAILED)


def break_publication(state: State) -> None:
    state.io.clear()


def break_manifest(state: State) -> None:
    state.trials[1].checkpoints[1].manifest = None


def break_attempt(state: State) -> None:
    state.trials[0].attempt = 0


def break_asking(state: State) -> None:
    state.asking = True


def break_end(state: State) -> None:
    state.ended = True


BREAKS = [value for name, value in list(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__[6:])
def test_each_contradiction_is_noticed(damage: Callable[[State], None]) -> None:
    play = in_full_swing()
    invariants.check(play.experiment)
    damage(play.experiment.state)
    with pytest.raises(InvariantViolationError):
        invariants.check(play.experiment)


def test_all_contradictions_are_reported_with_the_story_of_the_trial() -> None:
    play = in_full_swing()
    break_live(play.experiment.state)
    break_intent(play.experiment.state)
    with pytest.raises(InvariantViolationError) as caught:
        invariants.check(play.experiment)
    assert "live is" in str(caught.value)
    assert "trial 0: runs although it is to stop: TrialState(trial=0" in str(caught.value)


def test_a_script_notices_a_replay_that_differs() -> None:
    play = in_full_swing()
    event, commands = play.history[-1]
    play.history[-1] = (event, [*commands, LaunchTrial(trial=9, attempt=1)])
    with pytest.raises(Exception, match="a replay gives"):
        play.replay()


def test_an_interrupted_sweep_is_in_order() -> None:
    play = in_full_swing()
    play(interrupted())
    play.replay()
