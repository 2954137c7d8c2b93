"""What users know of their failures: a pattern of the error, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tunekit.config.problems import Problems, make_plain

ACTIONS: Final = ("retry", "give_up", "avoid_node")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT")
_MANY: Final = 16
"""A repetition of at most so many times costs little even inside of another one."""
_MANY_IN_A_ROW: Final = 2
"""So many repetitions may follow one another."""


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
            "a pattern in which what is repeated has one length and no alternatives, and no three repetitions follow "
            "one another: to find that another one does not fit can take for ever",
            hint="write (a|b)* for (a*|b)*, a+ for (a+)+, and .*x for .*.*.*x",
        )


def _may_run_away(pattern: str) -> bool:
    """Return whether a text of a thousand characters may hold up whoever searches it.

    Two shapes do: a repetition of what can be cut up in several ways, whose time grows exponentially, and several
    repetitions in a row, whose time grows with a high power. The search is a part of every replay, so one that does not
    end would shut its experiment for good.
    """
    from re import _parser  # type: ignore[attr-defined] # noqa: PLC0415 - the only one that can read a pattern

    parsed = _parser.parse(pattern)
    return _is_cut_up(parsed) or _longest_row(parsed) > _MANY_IN_A_ROW


def _is_repeat(operation: object, argument: Any) -> bool:
    return str(operation) in _REPEATS and argument[1] > _MANY


def _is_cut_up(parsed: Any) -> bool:
    """Return whether something is repeated without end that may be cut up in more than one way."""
    for operation, argument in parsed:
        if _is_repeat(operation, argument):
            shortest, longest = argument[2].getwidth()
            if shortest != longest or _has_branches(argument[2]):
                return True
        if any(map(_is_cut_up, _parts(argument))):
            return True
    return False


def _has_branches(parsed: Any) -> bool:
    return any(
        str(operation) == "BRANCH" or any(map(_has_branches, _parts(argument))) for operation, argument in parsed
    )


def _longest_row(parsed: Any) -> int:
    """Return how many repetitions follow one another with nothing else between them, at most."""
    longest = length = 0
    for operation, argument in _flat(parsed):
        length = length + 1 if _is_repeat(operation, argument) else 0
        inside = max(map(_longest_row, _parts(argument)), default=0)
        longest = max(longest, length, inside)
    return longest


def _flat(parsed: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what a pattern consists of, without groups and without places that have no length."""
    for operation, argument in parsed:
        if str(operation) == "SUBPATTERN":
            yield from _flat(argument[-1])
        elif str(operation) != "AT":
            yield operation, argument


def _parts(argument: Any) -> list[Any]:
    """Return the patterns inside of an operation, in whatever way it holds them."""
    if isinstance(argument, tuple | list):
        return [part for item in argument for part in _parts(item)]
    return [argument] if type(argument).__name__ == "SubPattern" else []
