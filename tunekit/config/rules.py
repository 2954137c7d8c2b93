"""What users know of their failures: a pattern of the error, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from tunekit.config.patterns import MAX_PATTERN, is_searchable
from tunekit.config.problems import Problems, make_plain, shorten

ACTIONS: Final = ("retry", "give_up", "avoid_node")
_MAX_TIMES: Final = 3
"""Unless the rule says so itself."""


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
    max_times: int = field(default=_MAX_TIMES, kw_only=True)
    """How often in a trial's life ``retry`` and ``avoid_node`` cost nothing. What fits beyond is charged as any other
    failure; -1: any number."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "max_times")
        problems = Problems("FailureRule")
        _check_pattern(problems, self.pattern)
        problems.one_of("action", self.action, ACTIONS)
        hint = "max_times=3 costs nothing three times, max_times=-1 any number of times"
        problems.integer("max_times", self.max_times, at_least=-1, hint=hint)
        if self.action == "give_up" and self.max_times != _MAX_TIMES:
            hint = "leave it out: the first failure that fits ends the trial"
            problems.add(
                "max_times", f"got {self.max_times!r} with action='give_up', which has no use for it", hint=hint
            )
        problems.raise_if_any()


def recalled(pattern: str, action: str, max_times: int) -> FailureRule:
    """Return a rule as a journal has it: what an earlier version of tunekit took is not refused now.

    Whoever reads the journal has seen to it that its pattern can be searched for.
    """
    rule = object.__new__(FailureRule)
    for name, value in (("pattern", pattern), ("action", action), ("max_times", max_times)):
        object.__setattr__(rule, name, value)
    return rule


def check_rules(problems: Problems, rules: object) -> None:
    """Add what is wrong with a list of rules."""
    allowed = "a list of FailureRule"
    if not isinstance(rules, list | tuple):
        hint = "rules=[tk.FailureRule('CUDA error', 'avoid_node')]"
        problems.bad_type("rules", rules, allowed, hint=hint)
        return
    patterns: dict[str, int] = {}
    for at, rule in enumerate(rules):
        if not isinstance(rule, FailureRule):
            problems.bad_type(f"rules[{at}]", rule, "a FailureRule", hint="tk.FailureRule(pattern, action)")
        elif (first := patterns.setdefault(rule.pattern, at)) != at:
            text = f"got the pattern of rules[{first}] ({shorten(rule.pattern)}), which is asked first"
            problems.add(f"rules[{at}]", text, hint="leave out one of two rules with the same pattern")


def _check_pattern(problems: Problems, pattern: object) -> None:
    literally = "to search for a text as it stands, write re.escape(text)"
    if not isinstance(pattern, str):
        flags = "write flags into the pattern, such as (?i)"
        hint = flags if isinstance(pattern, re.Pattern) else "write what the error says, such as 'CUDA error'"
        problems.bad_type("pattern", pattern, "a regular expression as text", hint=hint)
        return
    if not pattern.strip():
        hint = "for every error, write pattern='.'"
        problems.bad_value("pattern", pattern, "a regular expression that tells errors apart", hint=hint)
        return
    if len(pattern) > MAX_PATTERN:
        text = f"got {len(pattern)} characters, but must have at most {MAX_PATTERN}"
        problems.add("pattern", text, hint="write several patterns as several rules")
        return
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        problems.bad_value("pattern", pattern, f"a regular expression ({error})", hint=literally)
        return
    if not is_searchable(pattern):
        problems.bad_value(
            "pattern",
            pattern,
            "a pattern that cannot be tried in too many ways: to find that this one does not fit could take for ever",
            hint="leave .* out at the beginning, write several patterns as several rules, a+ for (a+)+, and one .* "
            "rather than three",
        )
