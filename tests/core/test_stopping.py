"""The stop condition given as a dict."""

from __future__ import annotations

import math

import pytest

from tunekit.core.stopping import met


@pytest.mark.parametrize(
    ("stop", "metrics", "reason"),
    [
        ({}, {"acc": 1.0}, ""),
        ({"training_iteration": 50}, {}, "training_iteration 50 >= 50"),
        ({"training_iteration": 51}, {}, ""),
        ({"training_iteration": 49.5}, {}, "training_iteration 50 >= 49.5"),
        ({"time_total_s": 12.5}, {}, "time_total_s 12.5 >= 12.5"),
        ({"time_total_s": 12.6}, {}, ""),
        ({"acc": 0.9}, {"acc": 0.9}, "acc 0.9 >= 0.9"),
        ({"acc": 0.9}, {"acc": 0.89}, ""),
        ({"val/acc": 0.9}, {"val": {"acc": 0.95}}, "val/acc 0.95 >= 0.9"),
        ({"acc": 0.9}, {"acc": math.nan}, ""),
        ({"acc": 0.9}, {"acc": math.inf}, "acc inf >= 0.9"),
        ({"acc": 0.9}, {"acc": "high"}, ""),
        ({"acc": 0.9}, {"acc": None}, ""),
        ({"acc": 0.9}, {}, ""),
        ({"solved": 1}, {"solved": True}, "solved 1.0 >= 1"),
        ({"tokens": 1e18}, {"tokens": 10**18}, "tokens 1e+18 >= 1e+18"),
        ({"missing": 1, "acc": 0.9}, {"acc": 0.95}, "acc 0.95 >= 0.9"),
        ({"acc": 0.9, "training_iteration": 50}, {"acc": 0.95}, "acc 0.95 >= 0.9"),
    ],
)
def test_a_trial_ends_when_a_key_reaches_its_value(
    stop: dict[str, float], metrics: dict[str, object], reason: str
) -> None:
    """The first key that is reached gives the reason."""
    assert met(stop, 50, 12.5, metrics) == reason


def test_the_counts_of_tunekit_are_not_taken_from_the_user() -> None:
    """A user's own column of the same name cannot end the trial."""
    assert met({"training_iteration": 10}, 3, 0.0, {"training_iteration": 100}) == ""
