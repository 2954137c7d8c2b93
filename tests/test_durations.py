"""Every length of time in the settings is written in the same ways: seconds, a ``timedelta``, or a text."""

from __future__ import annotations

import dataclasses
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from tunekit.config.durations import seconds_of
from tunekit.errors import ConfigError

CONFIGS = [CheckpointConfig, FailureConfig, RunConfig, TuneConfig]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (90, 90.0),
        (0.5, 0.5),
        (timedelta(minutes=2), 120.0),
        ("90s", 90.0),
        ("30min", 1800.0),
        ("30 MIN", 1800.0),
        ("2h", 7200.0),
        ("1h30min", 5400.0),
        (" 1.5 h ", 5400.0),
        ("1d", 86400.0),
        (np.float32(0.5), 0.5),
    ],
)
def test_the_interval_between_saves_in_seconds(given: Any, seconds: float | None) -> None:
    assert CheckpointConfig(checkpoint_every_s=given).every_s == seconds


@given(st.text(max_size=12))
def test_any_text_is_an_interval_or_refused(text: str) -> None:
    try:
        config = CheckpointConfig(checkpoint_every_s=text)
    except ConfigError:
        return
    assert config.is_auto == (text == "auto")
    assert config.is_auto or 0 < (config.every_s or 0) < math.inf


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("Auto", r"be 'auto', None .*\n\nhint: did you mean checkpoint_every_s='auto'\?"),
        ("automatic", "did you mean checkpoint_every_s='auto'"),
        ("90", "did you mean checkpoint_every_s='90s'"),
        ("30 mins", "be 'auto', None "),
        (0, "None"),
    ],
)
def test_a_bad_interval_comes_with_what_to_do(given: Any, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        CheckpointConfig(checkpoint_every_s=given)


@pytest.mark.parametrize(("config", "field"), [(FailureConfig, "hang_timeout_s"), (RunConfig, "time_limit_s")])
def test_only_saves_set_their_interval_themselves(config: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=f"say how long yourself, such as {field}='(10min|2h)'") as caught:
        config(**{field: "auto"})
    assert "be 'auto'" not in str(caught.value)


DURATIONS: list[tuple[Any, str]] = [
    (CheckpointConfig, "checkpoint_every_s"),
    (FailureConfig, "backoff_s"),
    (FailureConfig, "hang_timeout_s"),
    (RunConfig, "lease_s"),
    (RunConfig, "preemption_grace_s"),
    (RunConfig, "stop_grace_s"),
    (RunConfig, "time_limit_s"),
    (TuneConfig, "time_budget_s"),
]


def test_whatever_is_a_length_of_time_is_here() -> None:
    fields = {(config, field.name) for config in CONFIGS for field in dataclasses.fields(config)}
    assert {field for field in fields if field[1].endswith("_s")} == set(DURATIONS)


@pytest.mark.parametrize(("config", "field"), DURATIONS)
def test_every_length_of_time_is_written_in_the_same_ways(config: Any, field: str) -> None:
    written: list[Any] = [90, 90.0, timedelta(minutes=1, seconds=30), "90s", "1.5min", "1min30s", np.float32(90)]
    assert {seconds_of(getattr(config(**{field: value}), field)) for value in written} == {90.0}
    with pytest.raises(ConfigError, match=f"did you mean {field}='90s'"):
        config(**{field: "90"})


def test_budget_in_seconds() -> None:
    budgets: list[Any] = [None, 90, 0.5, timedelta(minutes=2), "1h"]
    assert [TuneConfig(time_budget_s=budget).budget_s for budget in budgets] == [None, 90.0, 0.5, 120.0, 3600.0]
    assert TuneConfig(time_budget_s=timedelta(minutes=2)).time_budget_s == timedelta(minutes=2)
