"""Settings are refused where they are written, all problems of an object at once.

Holds S003-11 (frequency), S003-12 (max_failures), S003-13 (configuration objects), S003-19 (num_to_keep),
S003-20 (score attribute), S003-21 (score order).
"""

from __future__ import annotations

import dataclasses
import math
import pickle
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from tunekit.config.problems import did_you_mean, shorten, why_no_folder_name
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.schedulers import ASHA, FIFO
from tunekit.search import RandomSearch

CONFIGS = [CheckpointConfig, FailureConfig, RunConfig, TuneConfig]


def problems_of(make: Any, **settings: Any) -> list[str]:
    """Return the names of the fields that are complained about."""
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    problems: list[str] = caught.value.problems  # type: ignore[attr-defined]  # a structured field
    return [problem.partition(":")[0] for problem in problems]


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_valid_frozen_and_keyword_only(config: Any) -> None:
    default = config()
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(default, field, None)
    with pytest.raises(TypeError):
        config(None)
    with pytest.raises(TypeError, match="unexpected keyword"):
        config(unknown_setting=1)
    assert default == config()
    assert pickle.loads(pickle.dumps(default)) == default


@pytest.mark.parametrize("config", CONFIGS)
def test_repr_says_every_field(config: Any) -> None:
    text = repr(config())
    assert all(f"{field.name}=" in text for field in dataclasses.fields(config))


NO_COUNT = [0, -1, 1.0, 1.5, True, "2", math.nan, [1]]
NO_FLAG = [0, 1, "yes", 1.0]
TOO_LARGE = 10**400
"""An integer that no float can hold."""
NO_SECONDS = [-1, math.nan, math.inf, True, "10", "soon", "-5s", None, TOO_LARGE, timedelta(-1), timedelta, [30]]
BAD: list[tuple[Any, str, list[Any]]] = [
    (CheckpointConfig, "num_to_keep", NO_COUNT),
    (CheckpointConfig, "checkpoint_score_attribute", ["", " ", 3, b"loss"]),
    (CheckpointConfig, "checkpoint_score_order", ["maximum", "MAX", "", None, 1]),
    (CheckpointConfig, "checkpoint_frequency", [-1, 1.0, True, False, "3", math.nan]),
    (CheckpointConfig, "checkpoint_at_end", NO_FLAG),
    (
        CheckpointConfig,
        "checkpoint_every_s",
        [0, -1, 0.0, math.nan, math.inf, TOO_LARGE, True, timedelta(0), timedelta(seconds=-1), timedelta, [30], b"30s"],
    ),
    (
        CheckpointConfig,
        "checkpoint_every_s",
        ["Auto", "auto ", "", "90", "min", "30 parsecs", "0s", "-5min", "1h30"],
    ),
    (CheckpointConfig, "checkpoint_on_failure", [*NO_FLAG, None]),
    (CheckpointConfig, "max_experiment_bytes", [*NO_COUNT, "10GB"]),
    (FailureConfig, "max_failures", [-2, -5, 1.0, True, None, "3"]),
    (FailureConfig, "max_preemption_failures", [-2, 1.0, True, None, "3"]),
    (FailureConfig, "backoff_s", NO_SECONDS),
    (FailureConfig, "max_identical_failures", NO_COUNT),
    (FailureConfig, "rules", ["CUDA", None, {"CUDA": "retry"}]),
    (FailureConfig, "silent_restart", ["", "off", True, None, ["warn"]]),
    (FailureConfig, "fail_fast", ["Raise", "", None, 0, 1, []]),
    (
        FailureConfig,
        "hang_timeout_s",
        [0, -1, math.nan, math.inf, True, timedelta(0), timedelta, [30], "auto", "90", 1e-9],
    ),
    (TuneConfig, "metric", ["", 3]),
    (TuneConfig, "num_samples", [0, -2, 1.0, -1.0, True, None, "10"]),
    (TuneConfig, "max_concurrent_trials", NO_COUNT),
    (
        TuneConfig,
        "time_budget_s",
        [0, -1, math.nan, math.inf, True, "10", timedelta(0), timedelta(seconds=-1), timedelta],
    ),
    (TuneConfig, "deadline", [datetime(2030, 1, 1), datetime, date(2030, 1, 1), 1e9, "tomorrow", True]),
    (TuneConfig, "max_cost", [0, -1, math.nan, math.inf, True, "10"]),
    (TuneConfig, "prices", [{}, {3: 1.0}, {"": 1.0}, {" ": 1.0}, [("GPU", 2)], 2.0]),
    (TuneConfig, "search_alg", [RandomSearch, "random", 3]),
    (TuneConfig, "deterministic", [*NO_FLAG, None]),
    (TuneConfig, "scheduler", [ASHA, FIFO, "asha", 3]),
    (TuneConfig, "reuse_actors", [*NO_FLAG, None]),
    (TuneConfig, "fresh_process", [*NO_FLAG, None]),
    (TuneConfig, "seed", [-1, 1.0, True, "7", 2**63]),
    (RunConfig, "callbacks", [None, "print", print, 3]),
    (RunConfig, "storage_path", ["", " ", "a\0b", 3, b"folder", Path("s3://bucket/sweeps"), Path]),
    (RunConfig, "stop", [3, "loss", [], RandomSearch, {3: 4.0}, {"": 1}]),
    (RunConfig, "checkpoint_config", [None, {}, CheckpointConfig, FailureConfig()]),
    (RunConfig, "failure_config", [None, {}, CheckpointConfig()]),
    (RunConfig, "verbose", [-1, 4, True, 1.0, None]),
    (RunConfig, "on_change", ["ask", "", True, None, 1]),
    (RunConfig, "time_limit_s", [0, -1, math.nan, math.inf, True, timedelta(0), timedelta, [30], "auto", "90"]),
    (RunConfig, "stop_grace_s", NO_SECONDS),
    (RunConfig, "lease_s", [*NO_SECONDS, 0, 1e-9]),
    (RunConfig, "preemption_grace_s", [0, -1.0, True, "soon", None]),
]


@pytest.mark.parametrize(
    ("config", "field", "value"), [(config, field, value) for config, field, values in BAD for value in values]
)
def test_a_bad_value_is_refused_by_name_and_with_a_hint(config: Any, field: str, value: Any) -> None:
    assert field in problems_of(config, **{field: value})
    with pytest.raises(ConfigError) as caught:
        config(**{field: value})
    assert len(caught.value.hint) > 8


def test_every_field_has_a_bad_value_here() -> None:
    """A new field without validation is noticed."""
    covered = {(config, field) for config, field, _ in BAD} | {(TuneConfig, "mode"), (RunConfig, "name")}
    assert covered == {(config, field.name) for config in CONFIGS for field in dataclasses.fields(config)}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (CheckpointConfig, {"num_to_keep": 1, "checkpoint_frequency": 0, "checkpoint_at_end": False}),
        (CheckpointConfig, {"checkpoint_score_attribute": "val/loss", "checkpoint_score_order": "min"}),
        (CheckpointConfig, {"checkpoint_every_s": "30min", "checkpoint_on_failure": True}),
        (CheckpointConfig, {"checkpoint_every_s": "auto", "checkpoint_frequency": 5}),
        (CheckpointConfig, {"checkpoint_every_s": timedelta(minutes=2), "max_experiment_bytes": 1}),
        (FailureConfig, {"max_failures": -1, "max_preemption_failures": 3, "backoff_s": 0.5}),
        (FailureConfig, {"max_identical_failures": None, "backoff_s": 0}),
        (FailureConfig, {"fail_fast": "raise", "hang_timeout_s": "10min"}),
        (RunConfig, {"time_limit_s": timedelta(hours=2)}),
        (RunConfig, {"lease_s": "2min", "stop_grace_s": timedelta(0), "preemption_grace_s": "100s"}),
        (TuneConfig, {"time_budget_s": "1h30min"}),
        (FailureConfig, {"hang_timeout_s": 0.1, "backoff_s": "10s"}),
        (RunConfig, {"name": "fam\u200dily-1 \u0646\u200c\u0647"}),
        (FailureConfig, {"fail_fast": False, "max_failures": 3}),
        (TuneConfig, {"metric": "loss", "mode": "min", "num_samples": -1, "seed": 0, "time_budget_s": 0.5}),
        (TuneConfig, {"max_cost": 9.5, "prices": {"gpu": 2.1, "CPU": 0}, "deadline": datetime.now(UTC)}),
        (TuneConfig, {"metric": "acc", "mode": "max", "scheduler": ASHA(max_t=9), "search_alg": RandomSearch()}),
        (RunConfig, {"stop": {"training_iteration": 1, "loss": -0.5}, "stop_grace_s": 0, "verbose": 3}),
        (RunConfig, {"stop": lambda trial, result: False, "storage_path": Path("folder")}),
        (RunConfig, {"name": "digits v2_ä.b", "storage_path": "s3://bucket/sweeps"}),
    ],
)
def test_good_settings_are_kept_as_they_are(config: Any, settings: dict[str, Any]) -> None:
    made = config(**settings)
    assert {name: getattr(made, name) for name in settings} == settings


def test_all_problems_come_together_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        CheckpointConfig(num_to_keep=0, checkpoint_score_order="maximum")
    assert str(caught.value) == (
        "CheckpointConfig has 2 problems\n"
        "  num_to_keep: got 0, but must be None (keep all) or an integer >= 1\n"
        "  checkpoint_score_order: got 'maximum', but must be 'max' or 'min'\n"
        "\n"
        "hint: set num_to_keep to None (keep all) or an integer >= 1; did you mean checkpoint_score_order='max'?"
    )


def test_wrong_types_only_are_a_type_error_and_a_mixture_is_not() -> None:
    with pytest.raises(TypeError) as caught:
        CheckpointConfig(checkpoint_frequency=2.0, num_to_keep=True)  # type: ignore[arg-type]  # on purpose
    assert isinstance(caught.value, ConfigTypeError)
    assert "did you mean checkpoint_frequency=2?" in str(caught.value)
    with pytest.raises(ConfigError) as mixed:
        CheckpointConfig(checkpoint_frequency=2.0, num_to_keep=0)  # type: ignore[arg-type]  # on purpose
    assert not isinstance(mixed.value, TypeError)


@pytest.mark.parametrize(
    ("meant", "mode"), [("min", "minimum"), ("min", "MIN"), ("max", "maximise"), ("max", " max"), ("min", "mni")]
)
def test_mode_is_guessed(meant: str, mode: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean mode='{meant}'"):
        TuneConfig(metric="loss", mode=mode)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"metric": "loss"}, "mode"),
        ({"mode": "min"}, "mode"),
        ({"scheduler": ASHA(max_t=9)}, "metric"),
        ({"reuse_actors": True, "fresh_process": True}, "fresh_process"),
        ({"deterministic": True}, "max_concurrent_trials"),
    ],
)
def test_contradictions_of_the_tune_config(settings: dict[str, Any], field: str) -> None:
    assert problems_of(TuneConfig, **settings) == [field]


def test_contradictions_of_the_others() -> None:
    assert problems_of(FailureConfig, max_failures=2, fail_fast=True) == ["fail_fast"]
    assert problems_of(FailureConfig, max_failures=-1, fail_fast="raise") == ["fail_fast"]
    assert problems_of(CheckpointConfig, checkpoint_score_order="min") == ["checkpoint_score_order"]


@pytest.mark.parametrize("price", [-1, math.nan, math.inf, "2", True, None])
def test_a_bad_price_is_refused_by_name(price: Any) -> None:
    assert problems_of(TuneConfig, prices={"CPU": 0.0, "GPU": price}) == ["prices['GPU']"]


def test_one_resource_has_one_price() -> None:
    with pytest.raises(ConfigError, match="prices: got 'cpu' and 'CPU', which are one resource"):
        TuneConfig(prices={"cpu": 1.0, "GPU": 3.0, "CPU": 2.0})


def test_a_cost_needs_prices() -> None:
    """And says what they look like."""
    assert problems_of(TuneConfig, max_cost=5.0) == ["prices"]
    with pytest.raises(ConfigError, match=r"(?s)prices: is missing, but max_cost=5.0 needs it.*hint: .*'GPU': 2.1"):
        TuneConfig(max_cost=5.0)
    assert TuneConfig(prices={"gpu": 2, "cpu": np.float32(0.5), "tpu": 3}).plain_prices == {  # type: ignore[dict-item]
        "GPU": 2.0,
        "CPU": 0.5,
        "tpu": 3.0,
    }


def test_a_deadline_without_a_time_zone_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"(?s)deadline: .*a datetime with a time zone.*hint: .*astimezone\(\)"):
        TuneConfig(deadline=datetime(2030, 1, 1))


def test_numbers_of_numpy_become_numbers() -> None:
    """What is recorded must have a JSON form."""
    tune = TuneConfig(num_samples=np.int64(3), seed=np.uint8(7), time_budget_s=np.float32(0.5))  # type: ignore[arg-type]
    given: Any = {"loss": np.float32(0.5), "training_iteration": np.int32(2)}
    run = RunConfig(stop=given, verbose=np.int8(0))  # type: ignore[arg-type]
    stop = run.stop
    assert isinstance(stop, dict)
    found = [tune.num_samples, tune.seed, tune.time_budget_s, *stop.values(), run.verbose]
    assert found == [3, 7, 0.5, 0.5, 2, 0]
    assert [type(value) for value in found] == [int, int, float, float, int, int]
    assert type(CheckpointConfig(num_to_keep=np.int64(2)).num_to_keep) is int  # type: ignore[arg-type]
    assert problems_of(TuneConfig, num_samples=np.int64(0), seed=np.float64(1.0)) == ["num_samples", "seed"]
    assert problems_of(FailureConfig, max_failures=np.bool_(True)) == ["max_failures"]  # noqa: FBT003 - a bad value


def test_none_and_zero_frequency_mean_never() -> None:
    assert [CheckpointConfig(checkpoint_frequency=given).frequency for given in (None, 0, 3)] == [0, 0, 3]
    assert CheckpointConfig(checkpoint_frequency=None).checkpoint_frequency is None


def test_storage_root() -> None:
    paths: list[Any] = [None, "s3://bucket/x", Path("folder")]
    assert [RunConfig(storage_path=path).storage_root for path in paths] == [
        "~/tunekit_results",
        "s3://bucket/x",
        "folder",
    ]


def test_stop_names_the_key_and_the_value() -> None:
    stop: Any = {"loss": math.nan, "done": True, "training_iteration": 0, "acc": 0.9, "f1": TOO_LARGE}
    named = ["stop['loss']", "stop['done']", "stop['training_iteration']", "stop['f1']"]
    assert problems_of(RunConfig, stop=stop) == named


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--force",
        "\u202etxt.exe",
        "\u200b",
        "a\u2028b",
        "a\x85b",
        "",
        " ",
        ".",
        "..",
        "../x",
        "/etc",
        "a/b",
        "a\\b",
        ".hidden",
        "a\0b",
        "a\nb",
        " a",
        "a ",
        "x" * 201,
        "ä" * 101,
        "\udc80",
    ],
)
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    assert problems_of(RunConfig, name=name) == ["name"]


@given(st.text())
def test_an_accepted_name_is_one_folder(name: str) -> None:
    if not why_no_folder_name(name):
        assert (Path("/root") / name).resolve().parent == Path("/root")
        assert len(name.encode()) <= 200


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_a_broken_or_long_repr_hides_no_problem() -> None:
    assert problems_of(TuneConfig, num_samples=_Broken()) == ["num_samples"]
    assert "_Broken whose repr raises" in shorten(_Broken())
    assert len(shorten("x" * 1000)) == 80


@pytest.mark.parametrize(
    ("config", "field", "given", "meant"),
    [
        (FailureConfig, "max_failures", "3", "max_failures=3, without quotes"),
        (TuneConfig, "max_cost", "9.5", "max_cost=9.5, without quotes"),
        (TuneConfig, "deterministic", "Yes", "deterministic=True"),
        (TuneConfig, "reuse_actors", 0, "reuse_actors=False"),
        (FailureConfig, "fail_fast", "Raise", "fail_fast='raise'"),
        (FailureConfig, "fail_fast", 1, "fail_fast=True"),
        (RunConfig, "lease_s", "60", "lease_s='60s'"),
    ],
)
def test_what_was_meant_is_guessed(config: Any, field: str, given: Any, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        config(**{field: given})


def test_did_you_mean_guesses_only_near_words() -> None:
    assert did_you_mean("learning", ["lr", "loss"]) == ""
    assert did_you_mean("lss", ["lr", "loss"]) == "loss"
    assert did_you_mean(3, ["lr"]) == ""
