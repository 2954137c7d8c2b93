"""Rules of the user: what fits a pattern is tried again for nothing, given up at once, or tried elsewhere."""

from __future__ import annotations

import pytest
from msgspec import structs

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Event, LaunchFailed, Place, Rule, WorkerLost
from tunekit.core.failures import ruling
from tunekit.testing.events import ERROR, Script, driver, lost, raised, row, started
from tunekit.types import LossCause, TrialStatus

RETRY = Rule("ValueError: bad", "retry", 2)
GIVE_UP = Rule("SIGSEGV", "give_up", 3)
AVOID = Rule("ValueError", "avoid_node", 2)


def crashed(attempt: int = 1, how: str = "SIGSEGV", node: str = "") -> WorkerLost:
    detail = f"its process was killed by {how}"
    return WorkerLost(trial=0, attempt=attempt, cause=LossCause.CRASHED, detail=detail, exit=how, node=node)


def placed(attempt: int, node: str) -> Event:
    return structs.replace(started(0, attempt), place=Place(node=node))


def test_a_retry_is_charged_to_the_rule_and_then_to_the_trial(play: Script) -> None:
    play.begin(max_failures=1, rules=[RETRY])
    for attempt in (1, 2, 3):
        assert play(raised(0, attempt)) == [LaunchTrial(trial=0, attempt=attempt + 1)]
    trial = play.trial(0)
    assert (trial.num_failures, trial.ruled) == (1, {RETRY.pattern: 2})
    play(raised(0, 4))
    assert (trial.status, trial.num_failures) == (TrialStatus.FAILED, 2)


def test_what_does_not_fit_is_charged_as_ever(play: Script) -> None:
    play.begin(max_failures=0, rules=[Rule("KeyError", "retry", -1), Rule("^bad", "retry", -1)])
    play(raised(0))
    assert play.trial(0).status is TrialStatus.FAILED


def test_a_rule_without_a_limit_never_ends(play: Script) -> None:
    play.begin(rules=[structs.replace(RETRY, max_times=-1)])
    for attempt in range(1, 40):
        assert play(raised(0, attempt)) == [LaunchTrial(trial=0, attempt=attempt + 1)]


def test_giving_up_takes_no_heed_of_what_is_left(play: Script) -> None:
    play.begin(max_failures=-1, rules=[GIVE_UP])
    play(started(0), row(0, 1), crashed(how="SIGKILL"), started(0, 2), crashed(2))
    trial = play.trial(0)
    assert (trial.status, trial.num_failures) == (TrialStatus.FAILED, 2)
    assert "SIGSEGV" in trial.reason


def test_the_first_rule_that_fits_holds(play: Script) -> None:
    play.begin(rules=[GIVE_UP, Rule("crashed", "retry", 1)])
    play(crashed(how="SIGKILL"))
    assert play.trial(0).status is TrialStatus.LAUNCHING
    play(crashed(2))
    assert play.trial(0).status is TrialStatus.FAILED


def test_a_rule_waits_as_any_failure_does(play: Script) -> None:
    play.begin(backoff_s=10.0, rules=[RETRY])
    assert play(raised(0)) == []
    assert play.experiment.next_deadline() is not None


def test_the_nodes_that_failed_are_avoided_from_there_on(play: Script) -> None:
    play.begin(max_failures=1, rules=[AVOID])
    play(placed(1, "a"), raised(0))
    assert play.history[-1][1] == [LaunchTrial(trial=0, attempt=2, avoid=["a"])]
    play(placed(2, "b"), raised(0, 2))
    assert play.history[-1][1] == [LaunchTrial(trial=0, attempt=3, avoid=["a", "b"])]
    play(placed(3, "a"), raised(0, 3))
    assert play.history[-1][1] == [LaunchTrial(trial=0, attempt=4, avoid=["a", "b"])], "used up, and avoided still"
    assert play.trial(0).num_failures == 1


def test_a_worker_that_was_lost_before_it_began_says_where_it_was(play: Script) -> None:
    play.begin(rules=[Rule("crashed|storage|ValueError", "avoid_node", 5)])
    play(crashed(node="a"))
    assert play.trial(0).avoided == ["a"]
    play(LaunchFailed(trial=0, attempt=2, error=ERROR, cause=LossCause.STORAGE, node="b"))
    assert play.trial(0).avoided == ["a", "b"], "a disk may be the fault of its node"
    play(lost(0, 3))
    assert play.trial(0).avoided == ["a", "b"], "nobody knows where it was"


@pytest.mark.parametrize("cause", [LossCause.PREEMPTED, LossCause.NODE_LOST, LossCause.DRIVER_LOST])
def test_what_was_done_to_a_trial_is_no_matter_of_rules(cause: LossCause, play: Script) -> None:
    play.begin(rules=[Rule(".", "give_up", 3)])
    play(WorkerLost(trial=0, attempt=1, cause=cause, detail="gone"))
    assert play.trial(0).status is not TrialStatus.FAILED


def test_an_error_that_is_certain_to_come_again_is_no_matter_of_rules(play: Script) -> None:
    play.begin(rules=[RETRY])
    play(raised(0, retryable=False))
    assert play.trial(0).status is TrialStatus.FAILED


def test_rules_may_change_between_runs(play: Script) -> None:
    play.begin(rules=[RETRY])
    play(raised(0), driver(2, num_trials=1, rules=[]))
    assert play.trial(0).ruled == {RETRY.pattern: 1}
    settings = play.experiment.state.settings
    assert ruling(settings, ERROR) is None


def test_a_second_chance_is_one_for_the_rules_too(play: Script) -> None:
    play.begin(rules=[RETRY])
    play(raised(0), raised(0, 2), raised(0, 3))
    assert play.trial(0).status is TrialStatus.FAILED
    play(driver(2, num_trials=1, rules=[RETRY], resume_errored=True))
    assert play.trial(0).ruled == {}


def test_only_the_beginning_of_an_error_is_looked_at(play: Script) -> None:
    """So that no pattern takes long about a message of a million characters."""
    play.begin(rules=[Rule("end$", "retry", -1)])
    settings = play.experiment.state.settings
    assert ruling(settings, structs.replace(ERROR, message="x" * 900 + "end")) is not None
    assert ruling(settings, structs.replace(ERROR, message="x" * 1_000_000 + "end")) is None
    assert ruling(settings, structs.replace(ERROR, type="T" * 1_000_000, message="end")) is None


def test_trials_that_rules_retry_still_count_as_alike(play: Script) -> None:
    """A sweep of which nothing works ends, whatever the rules say."""
    play.begin(num_trials=3, max_identical_failures=3, rules=[structs.replace(RETRY, max_times=-1)])
    play(raised(0), raised(1), raised(2))
    assert play.experiment.state.outcome is not None
