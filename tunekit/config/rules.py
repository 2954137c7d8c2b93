"""What users know of their failures: a pattern of the error, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from tunekit.config.problems import Problems, make_plain

ACTIONS: Final = ("retry", "give_up", "avoid_node")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT")
_MANY: Final = 16
"""A repetition of at most so many times costs little even inside of another one."""


@dataclass(frozen=True, slots=True)
class FailureRule:
    r"""What to do about failures whose error fits a pattern.

    It is searched for (``re.search``) in ``type: message`` of the error, of which no more than the first thousand
    characters are looked at: ``torch.OutOfMemoryError: CUDA out of memory``, ``crashed: its process was killed by
    SIGSEGV``, ``out of memory: …``, ``hung: …``.

    Raises:
        ConfigError: If a field is out of range or of the wrong type; all fields are reported together.
    """

    pattern: str
    """A regular expression, such as ``"CUDA error"`` or ``r"(?i)connection (reset|refused)"``."""
    action: str
    """``retry``: try again, and do not charge it to ``max_failures``; ``give_up``: the trial has failed, whatever it
    has left; ``avoid_node``: as ``retry``, and the trial is not placed on that node of the cluster any more."""
    max_times: int = field(default=3, kw_only=True)
    """How often in a trial's life ``retry`` and ``avoid_node`` cost nothing. What fits beyond is charged as any other
    failure; -1: any number."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "max_times")
        problems = Problems("FailureRule")
        _check_pattern(problems, self.pattern)
        problems.one_of("action", self.action, ACTIONS)
        problems.integer("max_times", self.max_times, at_least=-1)
        problems.raise_if_any()


def check_rules(problems: Problems, rules: object) -> None:
    """Add what is wrong with a list of rules."""
    allowed = "a list of FailureRule"
    if not isinstance(rules, list | tuple):
        hint = "rules=[tk.FailureRule('CUDA error', 'avoid_node')]"
        problems.bad_type("rules", rules, allowed, hint=hint)
        return
    for at, rule in enumerate(rules):
        if not isinstance(rule, FailureRule):
            problems.bad_type(f"rules[{at}]", rule, "a FailureRule", hint="tk.FailureRule(pattern, action)")


def _check_pattern(problems: Problems, pattern: object) -> None:
    literally = "to search for a text as it stands, write re.escape(text)"
    if not isinstance(pattern, str):
        hint = "write flags into the pattern, such as (?i)" if isinstance(pattern, re.Pattern) else ""
        problems.bad_type("pattern", pattern, "a regular expression as text", hint=hint)
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        problems.bad_value("pattern", pattern, f"a regular expression ({error})", hint=literally)
        return
    if _may_run_away(pattern):
        problems.bad_value(
            "pattern",
            pattern,
            "a pattern in which nothing is repeated that repeats itself: to find that such a one does not fit can take "
            "for ever",
            hint="write (a|b)* for (a*|b)*, and a+ for (a+)+",
        )


def _may_run_away(pattern: str) -> bool:
    """Return whether something is repeated without end that may itself be repeated: time grows exponentially."""
    from re import _parser  # type: ignore[attr-defined] # noqa: PLC0415 - the only one that can read a pattern

    return _repeats(list(_parser.parse(pattern)), is_inside=False)


def _repeats(parsed: list[Any], *, is_inside: bool) -> bool:
    for operation, argument in parsed:
        is_repeat = str(operation) in _REPEATS and argument[1] > _MANY
        if is_repeat and is_inside:
            return True
        for part in _parts(argument):
            if _repeats(part, is_inside=is_inside or is_repeat):
                return True
    return False


def _parts(argument: Any) -> list[list[Any]]:
    """Return the patterns inside of an operation, in whatever way it holds them."""
    if isinstance(argument, tuple | list):
        return [part for item in argument for part in _parts(item)]
    return [list(argument)] if type(argument).__name__ == "SubPattern" else []
