"""Folding a journal through the core again, and holding the commands against those it records.

A driver appends and commits the events of a turn, hands them to the core, and appends the commands that come back, all
at once; these become durable with the next commit. So in a journal the commands of a turn stand, in order, behind its
events. A driver that dies leaves out all commands of its last turn and nothing else. The next driver begins with
``DriverStarted``, first in its turn. Where one turn ends and the next begins is not recorded and need not be: an event
behind a command begins a turn, and then every command before it must have been met.

A journal may be anybody's, and the core searches errors for the patterns that are in it. So what could be searched for
for ever is refused before the core is given it, once for each driver that recorded it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast, get_args

from tunekit.config.patterns import is_searchable
from tunekit.config.problems import shorten
from tunekit.core.codec import Record, encode
from tunekit.core.commands import Command
from tunekit.core.events import DriverStarted, Event, Rule
from tunekit.errors import JournalCorruptError, ReplayMismatchError

_COMMANDS = frozenset(get_args(Command))  # isinstance with a union of ten costs a microsecond a record


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay went through."""

    num_events: int
    num_commands: int
    """Recorded ones, each equal to the one computed again."""
    unrecorded: tuple[Command, ...]
    """Commands of the last turn that the journal does not hold."""


def replay(records: Iterable[Record], handle: Callable[[Event], list[Command]]) -> Replay:
    """Fold every event through ``handle`` and compare its commands with the recorded ones.

    Args:
        records: The journal, oldest first.
        handle: The core, which has seen nothing yet.

    Raises:
        JournalCorruptError: It holds a pattern that nobody should search for.
        ReplayMismatchError: The core decides otherwise than the journal says that it did.
    """
    expected: deque[tuple[Command, Event]] = deque()
    num_events = num_commands = 0
    event: Event | None = None
    after_command = False
    for record in records:
        if type(record) in _COMMANDS:
            if not expected or not _same(expected[0][0], record):
                _mismatch(num_events + num_commands, record, expected, event)
            expected.popleft()
            num_commands += 1
            after_command = True
            continue
        if after_command and expected:
            _mismatch(num_events + num_commands, record, expected, event)
        event = cast("Event", record)
        if type(event) is DriverStarted:
            expected.clear()  # they died with the driver before
            _check_rules(event.settings.rules)
        if commands := handle(event):
            expected.extend([(command, event) for command in commands])
        num_events += 1
        after_command = False
    if after_command and expected:
        _mismatch(num_events + num_commands, None, expected, event)
    return Replay(
        num_events=num_events, num_commands=num_commands, unrecorded=tuple(command for command, _ in expected)
    )


def _check_rules(rules: Sequence[Rule]) -> None:
    """Refuse rules that could keep whoever looks at the sweep busy for ever."""
    bad = next((rule.pattern for rule in rules if not is_searchable(rule.pattern)), None)
    if bad is not None:
        raise JournalCorruptError(
            f"the journal holds a rule about failures with the pattern {shorten(bad)}. To find that it does not fit "
            "could take for ever, or it is no regular expression, so it is not searched for",
            hint="If you trust whoever wrote this folder, open it with the version of tunekit that wrote it, which may "
            "have taken such patterns. `tunekit ls` shows its trials all the same.",
            pattern=bad,
        )


def _same(computed: Command, recorded: Record) -> bool:
    """Whether two commands say the same. NaN in their values is equal to NaN."""
    return computed == recorded or encode(computed) == encode(recorded)


def _mismatch(
    number: int, recorded: Record | None, expected: Sequence[tuple[Command, Event]], last: Event | None
) -> NoReturn:
    computed, event = expected[0] if expected else (None, last)
    raise ReplayMismatchError(
        f"record {number} of the journal is not what the events before it lead to now\n"
        f"  recorded: {_show(recorded)}\n"
        f"  computed: {_show(computed)}\n"
        f"  event:    {_show(event)}",
        hint="Go on with the version of tunekit, and of your own scheduler if you have one, that began the experiment.",
        number=number,
        recorded=recorded,
        computed=computed,
        event=event,
    )


def _show(record: Record | None) -> str:
    return "nothing" if record is None else repr(record)
