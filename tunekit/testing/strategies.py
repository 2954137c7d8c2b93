"""Hypothesis strategies for what goes into the core: settings, schedulers, and events that make sense or none at all.

Needs ``hypothesis``, which tunekit itself does not install.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tunekit.core.events import (
    CapacityChanged,
    CheckpointAdopted,
    CheckpointDeleted,
    CheckpointMissing,
    CheckpointPublished,
    CheckpointStaged,
    DeleteFailed,
    Draw,
    ErrorInfo,
    Event,
    LaunchFailed,
    PublishFailed,
    RestoreFailed,
    ResultReported,
    Rule,
    SaveFailed,
    SearcherFailed,
    Settings,
    StopRequested,
    TimerFired,
    TrialAssigned,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
    TrialSaving,
    TrialsSuggested,
    TrialStarted,
    TrialStartedOver,
    WorkerLost,
)
from tunekit.core.policies import Scheduler
from tunekit.schedulers import ASHA, FIFO
from tunekit.types import LossCause, StartOver, TrialId

METRIC = "loss"
"""The metric of all events made here."""

ERROR = ErrorInfo(type="ValueError", message="bad")

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 5)
"""What a metric can be."""

metrics = st.dictionaries(st.just(METRIC), numbers) | st.dictionaries(
    st.text(max_size=3), st.none() | st.text(max_size=3)
)
"""What a row can hold; not always the metric."""

loss_causes = st.sampled_from(LossCause)


def schedulers() -> st.SearchStrategy[Scheduler]:
    """Return schedulers small enough to decide often."""
    halving = st.builds(
        ASHA, max_t=st.integers(2, 6), grace_period=st.integers(1, 2), reduction_factor=st.integers(2, 3)
    )
    return st.one_of(st.just(FIFO()), halving)


def _rules() -> st.SearchStrategy[Rule]:
    patterns = st.sampled_from(["crashed", "ValueError", "storage|hung", "."])
    actions = st.sampled_from(["retry", "give_up", "avoid_node"])
    return st.builds(Rule, pattern=patterns, action=actions, max_times=st.sampled_from([-1, 0, 1]))


def settings(**fixed: Any) -> st.SearchStrategy[Settings]:
    """Return settings of small sweeps.

    Args:
        fixed: Fields that are given.
    """
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "metric": st.just(METRIC),
        "num_trials": st.none() | st.integers(1, 5),
        "ask_batch": st.integers(1, 4),
        "searcher_learns": st.booleans(),
        "time_budget_s": st.none() | st.floats(1.0, 50.0),
        "deadline_s": st.none() | st.floats(1.0, 50.0),
        "max_cost": st.none() | st.floats(0.001, 0.02),
        "prices": st.just({"CPU": 1.0}) | st.just({"GPU": 2.0}),
        "max_failures": st.sampled_from([-1, 0, 1, 2]),
        "max_preemption_failures": st.sampled_from([-1, -1, 0, 1]),
        "backoff_s": st.sampled_from([0.0, 0.0, 1.0]),
        "max_identical_failures": st.sampled_from([None, None, 1, 2]),
        "rules": st.just([]) | st.lists(_rules(), max_size=2),
        "fail_fast": st.booleans(),
        "hang_timeout_s": st.none() | st.floats(0.5, 20.0),
        "time_limit_s": st.none() | st.floats(1.0, 30.0),
        "num_to_keep": st.none() | st.integers(1, 2),
        "max_experiment_bytes": st.none() | st.integers(1, 30),
        "score_attribute": st.none() | st.just(METRIC),
        "score_order": st.sampled_from(["min", "max"]),
        "saves_at_end": st.booleans(),
        "asks_every_result": st.booleans(),
        "stop_grace_s": st.floats(0.1, 5.0),
        "resume_errored": st.booleans(),
    }
    return st.builds(Settings, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def trial_events(trial: TrialId, attempt: int) -> st.SearchStrategy[Event]:
    """Return anything that can be said about one attempt, whether it makes sense now or not."""
    about = {"trial": st.just(trial), "attempt": st.just(attempt)}
    iteration = st.integers(1, 6)
    error = st.just(ERROR)
    scores = st.none() | st.floats(0, 1)
    exact = st.sampled_from([True, True, False])
    manifest = st.integers(0, 9).map(lambda size: {"files": [{"name": "state", "size": size}]})
    return st.one_of(
        st.builds(TrialAssigned, **about),
        st.builds(
            TrialStarted,
            **about,
            resources=st.none() | st.just({"GPU": 0.5, "CPU": 0.1}),
            took_s=st.sampled_from([0.0, 3.0]),
        ),
        st.builds(TrialStartedOver, **about, iteration=iteration, sign=st.sampled_from(list(StartOver))),
        st.builds(LaunchFailed, **about, error=error),
        st.builds(RestoreFailed, **about, error=error, iteration=iteration),
        st.builds(
            ResultReported,
            **about,
            iteration=iteration,
            metrics=metrics,
            final=st.booleans(),
            saves=st.booleans(),
            stop=st.sampled_from(["", "", "enough"]),
        ),
        st.builds(TrialReturned, **about),
        st.builds(TrialRaised, **about, error=error, retryable=st.booleans(), fatal=st.booleans()),
        st.builds(TrialHalted, **about),
        st.builds(TrialPreempted, **about),
        st.builds(TrialSaving, **about, final=st.booleans()),
        st.builds(WorkerLost, **about, cause=loss_causes),
        st.builds(
            CheckpointStaged,
            **about,
            iteration=iteration,
            manifest=manifest,
            score=scores,
            pinned=st.booleans(),
            exact=exact,
        ),
        st.builds(SaveFailed, **about, iteration=iteration, error=error),
        st.builds(CheckpointPublished, **about, iteration=iteration, exact=exact),
        st.builds(PublishFailed, **about, iteration=iteration, error=error, exact=exact),
        st.builds(CheckpointDeleted, **about, iteration=iteration, exact=exact),
        st.builds(DeleteFailed, **about, iteration=iteration, error=error, exact=exact),
    )


def found_events(trial: TrialId, attempt: int) -> st.SearchStrategy[Event]:
    """Return what a driver that takes over can say of a checkpoint, whether it makes sense now or not."""
    about = {"trial": st.just(trial), "attempt": st.just(attempt), "iteration": st.integers(1, 6)}
    return st.one_of(
        st.builds(
            CheckpointAdopted,
            **about,
            exact=st.booleans(),
            score=st.none() | st.floats(0, 1),
            num_bytes=st.integers(0, 9),
            pinned=st.booleans(),
        ),
        st.builds(CheckpointMissing, **about, exact=st.booleans()),
    )


def experiment_events() -> st.SearchStrategy[Event]:
    """Return anything that can be said about the experiment, but for the start of a driver."""
    draws = st.lists(st.just(Draw(values={"x": 0}, shown={"x": 0})), max_size=3)
    return st.one_of(
        st.builds(CapacityChanged, max_live=st.integers(0, 4)),
        st.builds(StopRequested),
        st.builds(TimerFired),
        st.builds(TrialsSuggested, draws=draws, exhausted=st.booleans()),
        st.builds(SearcherFailed, error=st.just(ERROR)),
    )
