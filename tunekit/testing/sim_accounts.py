"""Holds the accounts of a sweep against its core: their seconds must be those in which trials were live.

The accounts are a fold over records; the witness reads none about a trial. It asks the core after each event how many
trials are live, and adds up until the next. Both count whole microseconds, so both come to the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast, get_args

from tunekit.core.accounts import Accounts
from tunekit.core.codec import Record
from tunekit.core.commands import Command
from tunekit.core.events import DriverStarted, Event
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.types import TrialStatus

_COMMANDS = frozenset(get_args(Command))


def check_accounts(records: Sequence[Record], fresh: Experiment) -> Iterator[str]:
    """Say what is wrong with the accounts of a journal.

    Args:
        records: The journal.
        fresh: A core that has seen nothing yet.
    """
    leased = live_us(records, fresh)
    trials, accounts, table = fresh.state.trials, Accounts(records), RowTable(records)
    total = accounts.total(trials)
    if total.leased != leased:
        yield f"the accounts come to {total.leased} µs, but trials were live for {leased} µs: {total}"
    for index, by_cause in accounts.spent(trials).items():
        for cause, spent in by_cause.items():
            if min(spent.by_kind().values()) < 0:
                yield f"trial {index} has spent less than nothing under {cause!r}: {spent}"
    for trial in trials:
        if trial.status in {TrialStatus.COMPLETED, TrialStatus.STOPPED}:
            shown, useful = {row.iteration for row in table.rows(trial)}, accounts.standing(trial.trial) - {0}
            if shown != useful:
                yield f"trial {trial.trial} has the rows {shown}, but useful are those of {useful}"


def live_us(records: Sequence[Record], fresh: Experiment) -> int:
    """Fold the journal, and return for how many microseconds its trials were live, all together.

    What lies between a driver's last event and the next driver belongs to nobody.
    """
    live = before = 0
    for record in records:
        if type(record) not in _COMMANDS:
            event = cast("Event", record)
            at = round(event.at * 1e6)
            if not isinstance(event, DriverStarted):
                live += (at - before) * len(fresh.state.live)
            before = at
            fresh.handle(event)
    return live
