"""How long a search for a regular expression can take at most, whatever the text.

Python tries one way to fit a pattern after the other, so a careless one takes for ever to find that it does not fit.
Reckoned here is how many steps all ways can take together, for the longest text that is searched. A *way* is one place
to be at, reached in one manner; what comes next is tried from each. Two things keep the number of ways down:

* Where a text of several characters must follow what may end anywhere, it fits at few places: ``port`` at a quarter of
  them, since two of it cannot overlap. A text like ``aaaa`` can.
* A repetition that does not take what must follow it, as in ``[0-9]+:``, ends at one place.
* Nothing is tried again behind the last repetition of a pattern: when it has fitted once, the search is over.

It is an upper bound, so that some harmless patterns are above the limit; none that is below it is harmful.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

MAX_TEXT: Final = 1000
"""Characters that are searched."""
MAX_PATTERN: Final = 2000
"""Characters of a pattern: to understand one takes time as well, of a single set regardless of case milliseconds."""
MAX_STEPS: Final = 1.5e9
"""Some seconds, if everything is as bad as it can be."""
_SLOW: Final = 10
"""As many steps of a repeated single character take as long as one of whatever else is repeated."""
_SATURATED: Final = 1e30
_ONE_CHARACTER: Final = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "RANGE", "CATEGORY"})
_REPEATS: Final = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


class _Effort(NamedTuple):
    ways: float
    steps: float
    """To go through all of them."""


def is_searchable(pattern: str) -> bool:
    """Return whether something is a regular expression, and any search for it comes to an end in good time."""
    try:
        if len(pattern) > MAX_PATTERN or max_steps(pattern) > MAX_STEPS:
            return False
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def max_steps(pattern: str) -> float:
    """Return how many steps a search in a text of ``MAX_TEXT`` characters can take at most."""
    from re import _parser  # type: ignore[attr-defined] # noqa: PLC0415 - the only one that can read a pattern

    return _of_row(list(_flat(_parser.parse(pattern))), starts=MAX_TEXT + 1.0, is_last=True).steps


def _of_row(row: list[tuple[str, Any]], *, starts: float = 1.0, is_last: bool = False) -> _Effort:
    """Reckon for what follows one another.

    Args:
        row: The parts.
        starts: At how many places it is begun.
        is_last: Whether the search is over when it has fitted.
    """
    before, spread, steps, at = 1.0, starts, starts, 0
    while at < len(row):
        name, argument = row[at]
        text = _text_at(row, at)
        if text:  # What may end anywhere has reached each place once.
            steps += before * spread * len(text)
            places = 1.0 if at and _ends_before(row[at - 1], text[0]) else MAX_TEXT / _period(text) + 1
            before, spread, at = before * min(spread, places), 1.0, at + len(text)
            continue
        at += 1
        if name == "AT":
            continue
        before, spread = before * spread, 1.0
        is_end = is_last and at == len(row)
        if _is_run(name, argument):
            least, most = argument[0], min(argument[1], MAX_TEXT)
            steps += before * (least + 1) + most if is_end else before * (most + 1)
            spread = max(1.0, most - least + 1.0)
        else:
            effort = _of_part(name, argument, is_last=is_end)
            steps += before * effort.steps
            before *= effort.ways
        before = min(before, _SATURATED)
    return _Effort(min(before * spread, _SATURATED), min(steps, _SATURATED))


def _of_part(name: str, argument: Any, *, is_last: bool) -> _Effort:
    """Reckon for one part that is begun at one place."""
    if name in _REPEATS:
        return _of_repeat(*argument)
    inside = [_of_row(list(_flat(part)), is_last=is_last and name == "BRANCH") for part in _parts(argument)]
    steps = 1.0 + sum(effort.steps for effort in inside)
    if name.startswith("ASSERT"):  # Whether it holds, and not how, matters to what follows.
        return _Effort(1.0, steps)
    if name.startswith("GROUPREF"):
        steps += MAX_TEXT
    return _Effort(max(1.0, sum(effort.ways for effort in inside)), steps)


def _of_repeat(least: int, most: int, part: Any) -> _Effort:
    body = _of_row(list(_flat(part)))
    most = min(most, MAX_TEXT // max(1, part.getwidth()[0]))
    ways, steps, total = 1.0, 1.0, 0.0
    for count in range(most + 1):
        total += ways if count >= least else 0.0
        steps += ways * body.steps * _SLOW
        ways *= body.ways
        if steps > _SATURATED:
            return _Effort(_SATURATED, _SATURATED)
    return _Effort(max(1.0, total), steps)


def _is_run(name: str, argument: Any) -> bool:
    """Return whether something is a repetition of single characters, each length of which ends at another place."""
    if name not in _REPEATS:
        return False
    body = list(_flat(argument[2]))
    return len(body) == 1 and body[0][0] in _ONE_CHARACTER


def _ends_before(part: tuple[str, Any], character: str) -> bool:
    """Return whether a repetition can be followed by this character at its very end only, since it takes no such one.

    Letters have relatives that are equal to them if case is ignored, so nothing is said of them.
    """
    from re import _compiler  # type: ignore[attr-defined] # noqa: PLC0415 - as the parser

    name, argument = part
    if not character or character.isalpha() or not _is_run(name, argument):
        return False
    ((inside, _),) = _flat(argument[2])
    return inside != "ANY" and _compiler.compile(argument[2]).match(character) is None


def _text_at(row: list[tuple[str, Any]], at: int) -> list[str]:
    """Return the characters that must follow one another from here on, each as its own text."""
    text = []
    for name, argument in row[at:]:
        if name not in _ONE_CHARACTER:
            break
        text.append(chr(argument).lower() if name == "LITERAL" and argument < 128 else "")  # noqa: PLR2004 - ASCII
    return text


def _period(text: list[str]) -> int:
    """Return how far apart two places at least are at which a text can fit. An empty character may be any."""
    for step in range(1, len(text)):
        if all(not one or not other or one == other for one, other in zip(text, text[step:], strict=False)):
            return step
    return len(text)


def _flat(parsed: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a pattern consists of, without its groups."""
    for operation, argument in parsed:
        if str(operation) == "SUBPATTERN":
            yield from _flat(argument[-1])
        else:
            yield str(operation), argument


def _parts(argument: Any) -> list[Any]:
    """Return the patterns inside of an operation, in whatever way it holds them."""
    if isinstance(argument, tuple | list):
        return [part for item in argument for part in _parts(item)]
    return [argument] if type(argument).__name__ == "SubPattern" else []
