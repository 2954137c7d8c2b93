"""The life of a trial as a picture, made by asking the core, and held against ``docs/transitions.md``.

After a change of the core: ``python tests/core/test_transitions.py > docs/transitions.md``.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tunekit.core.commands import Command
from tunekit.core.events import Event
from tunekit.core.lifecycle import TRANSITIONS
from tunekit.testing.events import (
    Script,
    assigned,
    capacity,
    driver,
    halted,
    interrupted,
    launch_failed,
    lost,
    preempted,
    raised,
    restore_failed,
    returned,
    row,
    save_failed,
    saving,
    staged,
    started,
    started_over,
)
from tunekit.types import Intent, TrialStatus

PAGE = Path(__file__).parents[2] / "docs" / "transitions.md"

EVENTS: dict[str, Event] = {
    "given to a worker": assigned(0),
    "started": started(0),
    "started over": started_over(0, 1, 2),
    "row": row(0, 3),
    "row, stop function says so": row(0, 3, stop="enough"),
    "checkpoint staged": staged(0, 3),
    "save failed": save_failed(0, 3),
    "returned": returned(0),
    "waits for its saves": saving(0),
    "halted": halted(0),
    "preempted": preempted(0),
    "raised": raised(0),
    "raised, budget used up": raised(0, retryable=False),
    "worker lost": lost(0),
    "launch failed": launch_failed(0),
    "restore failed": restore_failed(0, 1),
    "driver started": driver(2, num_trials=1, max_failures=1),
    "stop requested": interrupted(),
}
STATES = ["launching", "running", "stopping (pause)", "stopping (stop)"]

HEAD = """# The life of a trial

Made by `python tests/core/test_transitions.py > docs/transitions.md`, and held to the core by that test.

A trial's **status** says where it is, its **intent** what the experiment wants of it: `RUN < PAUSE < STOP`, merged
upwards. Only a live trial (launching, running, stopping) can be spoken of by a worker, and only in its current attempt;
anything else is counted and ignored.
"""

NOTES = """A dot: the trial stays as it is. *Ignored*: counted as stale.

- *Completed* stands here for *stopped*, too: a trial is stopped if it was the scheduler that ended it.
- A pending trial is launched as soon as there is room and none of its checkpoints is still being published.
- A running trial that is silent for `hang_timeout_s`, or a launching one that a worker was given and has not begun, is
  killed, and stays as it is until its worker is lost. A running one that has run for `time_limit_s` is stopped, and
  ends completed.
- A new driver makes every paused trial pending; failed ones only with `resume_errored` or `restart_errored`.
"""


def in_state(name: str) -> Script:
    """Return a core whose only trial is in this state, and room for none, so that nothing is launched meanwhile."""
    play = Script()
    play.begin(max_failures=1)
    if name != "launching":
        play(row(0, 1))
    if name == "stopping (stop)":
        play(row(0, 2, stop="enough"))
    elif name == "stopping (pause)":
        play(interrupted())
    play(capacity(0))
    return play


def describe(play: Script) -> str:
    trial = play.trial(0)
    if trial.status is not TrialStatus.STOPPING:
        return str(trial.status)
    return f"{trial.status} ({trial.intent.name.lower()})"


def outcome(state: str, event: Event) -> tuple[str, list[Command]]:
    """Return the state after the event, ``ignored`` if nobody listened, and the commands."""
    play = in_state(state)
    stale = play.experiment.state.num_stale
    commands = play(event)
    ignored = play.experiment.state.num_stale > stale
    return "ignored" if ignored else describe(play), commands


def table() -> str:
    lines = ["| event | " + " | ".join(STATES) + " |", "|---|" + "---|" * len(STATES)]
    for name, event in EVENTS.items():
        cells = [outcome(state, event)[0] for state in STATES]
        shown = ["·" if cell == state else cell for cell, state in zip(cells, STATES, strict=True)]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def diagram() -> str:
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    edges["pending", "launching"].append("launch")
    edges["paused", "launching"].append("launch")
    for state in STATES:
        for name, event in EVENTS.items():
            after, _ = outcome(state, event)
            if after not in {state, "ignored"}:
                edges[state, after].append(name)
    ids = {name: name.replace(" (", "_").replace(")", "") for pair in edges for name in pair}
    lines = [
        "stateDiagram-v2",
        '    state "stopping (pause)" as stopping_pause',
        '    state "stopping (stop)" as stopping_stop',
    ]
    lines += ["    [*] --> pending: suggested"]
    lines += [f"    {ids[a]} --> {ids[b]}: {', '.join(names)}" for (a, b), names in edges.items()]
    lines += [f"    {status} --> [*]" for status in TrialStatus if status.is_ended]
    return "\n".join(lines)


def page() -> str:
    return f"{HEAD}\n```mermaid\n{diagram()}\n```\n\n{NOTES}\n{table()}\n"


def test_the_page_shows_what_the_core_does() -> None:
    assert PAGE.read_text() == page(), __doc__


def test_the_page_shows_every_event_that_the_table_knows() -> None:
    listed = {type(event) for event in EVENTS.values()}
    assert set().union(*TRANSITIONS.values()) <= listed


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", EVENTS)
def test_whatever_is_not_in_the_table_is_ignored(state: str, name: str) -> None:
    event = EVENTS[name]
    status = TrialStatus(state.split(maxsplit=1)[0])
    expected = type(event) in TRANSITIONS[status] or not hasattr(event, "trial")
    after, commands = outcome(state, event)
    if not expected:
        assert (after, commands) == ("ignored", [])


def test_an_intent_never_weakens_while_a_trial_stops() -> None:
    play = in_state("stopping (stop)")
    play(interrupted(), started(0), row(0, 4), staged(0, 4))
    assert play.trial(0).intent is Intent.STOP


def test_only_live_trials_can_be_spoken_of() -> None:
    assert {status for status in TrialStatus if status.is_live} == set(TRANSITIONS)


if __name__ == "__main__":
    print(page(), end="")
