"""Rules about failures are refused where they are written, and hold in a sweep."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import tunekit as tk
from tunekit.config.rules import recalled
from tunekit.types import TrialStatus


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing ), unterminated subpattern"),
        ("*", "nothing to repeat"),
        (re.compile("a"), "write flags into the pattern, such as (?i)"),
        (b"a", "a regular expression as text"),
        (None, "a regular expression as text"),
        ("", "hint: for every error, write pattern='.'"),
        (" ", "hint: for every error, write pattern='.'"),
    ],
    ids=str,
)
def test_a_pattern_of_no_use_is_refused_with_what_is_wrong(pattern: Any, said: str) -> None:
    with pytest.raises(tk.ConfigError, match=re.escape(said)):
        tk.FailureRule(pattern, "retry")


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+$", r"(?:x\w*|y)*z", r"(a|aa)+$", r"(?:ab|ab)+$", r"x(?=(b?a)*$)", "(?:a?)*c", "(?:a{1,16}){1,16}c"),
        *(
            "(?:(?:a{0,16}){0,16}){0,16}c",
            "(a?){16}(a?){16}c",
            "(?:(?:aa.?){1,16})c",
            r".*.*.*=x",
            r"((.*)(.+?))\b(?P<rest>\w*)!",
        ),
        *(".*a.*a.*a.*a.*y", "a*b?a*b?a*b?a*c", "(?=.*a.*a.*a.*z)", "(?i)x.*X.*x.*y", r"(a*)\1c.*a*b", "a*a*aaaac"),
    ],
)
def test_a_pattern_that_may_be_searched_for_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(tk.ConfigError, match="cannot be tried in too many ways") as caught:
        tk.FailureRule(pattern, "retry")
    assert "leave .* out at the beginning" in str(caught.value)
    assert recalled(pattern, "retry", 3).pattern == pattern, "a journal of an earlier version may have it"


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            ".",
            ".*",
            "CUDA out of memory",
            r"(?i)connection (reset|refused)",
            "(?i)nan|inf",
            r"(\w+) .* (\w+)",
            "x{2,}",
        ),
        *(r".*ConnectionError.*port \d+", ".*CUDA.*", r"(?:\d{1,3}\.){3}\d{1,3}", r"(\d+,){1,3}x", "(?=a+)b+"),
        *(r"Errno \d+.*refused", r"(?s)^.*timed? ?out.*$", "a{7}|b{3,}", "(?>a+)b", "(a)?(?(1)b|c)"),
    ],
)
def test_a_pattern_of_use_is_taken(pattern: str) -> None:
    rule = tk.FailureRule(pattern, "avoid_node", max_times=7)
    assert (rule.pattern, rule.action, rule.max_times) == (pattern, "avoid_node", 7)
    assert pickle.loads(pickle.dumps(rule)) == rule
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.action = "retry"  # type: ignore[misc]


def test_a_pattern_that_takes_long_to_be_understood_is_refused() -> None:
    assert tk.FailureRule("a" * 1999 + "b", "retry").pattern.endswith("b")
    with pytest.raises(tk.ConfigError, match="got 2001 characters, but must have at most 2000") as caught:
        tk.FailureRule("a" * 2000 + "b", "retry")
    assert "several rules" in str(caught.value)
    with pytest.raises(tk.ConfigError, match="pattern"):
        tk.FailureRule("(?=" * 490 + ")" * 490, "retry")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(tk.ConfigError) as caught:
        tk.FailureRule("(", "avoid", max_times=-2)
    text = str(caught.value)
    assert [name in text for name in ("pattern", "action", "max_times")] == [True] * 3
    assert "avoid_node" in text


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(tk.ConfigError, match="max_times: got 7 with action='give_up', which has no use for it"):
        tk.FailureRule("a", "give_up", max_times=7)
    assert tk.FailureRule("a", "retry", max_times=0).max_times == 0  # it keeps those after it from being asked
    rules = [tk.FailureRule("a", "retry"), tk.FailureRule("b", "retry"), tk.FailureRule("a", "give_up")]
    with pytest.raises(tk.ConfigError, match=r"rules\[2\]: got the pattern of rules\[0\] \('a'\)"):
        tk.FailureConfig(rules=rules)


@pytest.mark.parametrize("rules", ["CUDA", {"CUDA": "retry"}, [("CUDA", "retry")], None], ids=str)
def test_rules_are_a_list_of_rules(rules: Any) -> None:
    with pytest.raises(tk.ConfigError, match="FailureRule"):
        tk.FailureConfig(rules=rules)


def flaky(config: dict[str, Any]) -> None:
    marks = Path(config["folder"])
    count = len(list(marks.iterdir()))
    (marks / str(count)).touch()
    if count < 2:
        raise ConnectionResetError("the license server hung up")
    if config["is_wrong"]:
        raise RuntimeError("device-side assert triggered")
    tk.report({"loss": 1.0})


@pytest.mark.parametrize("is_wrong", [False, True])
def test_rules_hold_in_a_sweep(tmp_path: Path, *, is_wrong: bool) -> None:
    (tmp_path / "marks").mkdir()
    rules = [tk.FailureRule("license server", "retry"), tk.FailureRule("device-side assert", "give_up")]
    config = tk.FailureConfig(rules=rules, max_failures=0 if not is_wrong else 5)
    run = tk.RunConfig(name="e", storage_path=str(tmp_path), verbose=0, failure_config=config)
    space = {"folder": str(tmp_path / "marks"), "is_wrong": is_wrong}
    (result,) = tk.inline(tk.Tuner(flaky, param_space=space, run_config=run))
    assert result.status is (TrialStatus.FAILED if is_wrong else TrialStatus.COMPLETED)
    assert result.losses == {"user exception": 3 if is_wrong else 2}
