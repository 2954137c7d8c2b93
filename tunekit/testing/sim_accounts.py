"""Holds the accounts of a sweep against its core: their seconds must be those in which trials were live.

The accounts are a fold over records; the witness reads none about a trial. It asks the core after each event how many
trials are live, and adds up until the next. Both count whole microseconds, so both come to the same number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast, get_args

from tunekit.core.accounts import Accounts
from tunekit.core.codec import Record
from tunekit.core.commands import Command, LaunchTrial
from tunekit.core.events import DriverStarted, Event, ResultReported, TrialStarted
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.core.trial import TrialState
from tunekit.testing.sim_books import ENDINGS
from tunekit.types import LossCause, TrialId, TrialStatus

_COMMANDS = frozenset(get_args(Command))


def check_accounts(records: Sequence[Record], fresh: Experiment) -> Iterator[str]:
    """Say what is wrong with the accounts of a journal.

    Args:
        records: The journal.
        fresh: A core that has seen nothing yet.
    """
    leased = live_us(records, fresh)
    trials, accounts, table = fresh.state.trials, Accounts(records, fresh.state.trials), RowTable(records)
    total, returned = accounts.total(trials), _returned(records)
    if total.leased != leased:
        yield f"the accounts come to {total.leased} µs, but trials were live for {leased} µs: {total}"
    yield from _check_meter(records, fresh.state, accounts)
    for index, by_cause in accounts.spent(trials).items():
        for cause, spent in by_cause.items():
            if min(spent.by_kind().values()) < 0:
                yield f"trial {index} has spent less than nothing under {cause!r}: {spent}"
    yield from _compare_losses(trials, accounts, "its accounts")
    if not _is_second_chance(records):
        yield from _compare_losses(trials, Accounts(records), "accounts that nobody has helped")
    for trial in trials:
        if trial.status in {TrialStatus.COMPLETED, TrialStatus.STOPPED}:
            shown, useful = {row.iteration for row in table.rows(trial)}, accounts.standing(trial.trial) - {0}
            if shown != useful and not (trial.trial in returned and useful < shown):
                yield f"trial {trial.trial} has the rows {shown}, but useful are those of {useful}"


def _compare_losses(trials: Sequence[TrialState], accounts: Accounts, whose: str) -> Iterator[str]:
    """Say of which trials the accounts have other losses than the core."""
    for trial in trials:
        said, known = _by_cause(accounts.losses(trial.trial)), _by_cause(trial.losses)
        if said != known:
            yield f"trial {trial.trial} was lost by {known}, but in {whose} by {said}"


def _check_meter(records: Sequence[Record], state: State, accounts: Accounts) -> Iterator[str]:
    """Yield it where the core has not counted what was occupied, resource by resource, for as long as accounts say."""
    if not _is_meterable(records):
        return
    held, unknown_s = Counter[str](), Counter[str]()
    spent = accounts.spent(state.trials)
    for trial in state.trials:
        held_us = sum(each.held for each in spent.get(trial.trial, {}).values())
        prepares_s = state.now - trial.assigned_at if trial.assigned_at is not None else 0.0
        for name, amount in (trial.resources or {"CPU": 1.0}).items():
            held[name] += amount * held_us  # type: ignore[assignment]
            unknown_s[name] += amount * (trial.unmetered_s + prepares_s)  # type: ignore[assignment]
    for name, held_us in held.items():
        metered = state.meter.cost(state.now, {name: 3600.0 * 1e6}) + 1e6 * unknown_s[name]
        if abs(held_us - metered) > len(records) + 1e-6 * held_us:  # Accounts are in whole microseconds.
            yield f"{name} was occupied for {held_us} µs by the accounts, and for {metered} µs by the meter"


def _is_meterable(records: Sequence[Record]) -> bool:
    """Return whether each trial occupied the same in all attempts, and said that it began before it said aught else."""
    launched: set[tuple[TrialId, int]] = set()
    begun: set[tuple[TrialId, int]] = set()
    occupied: dict[TrialId, dict[str, float] | None] = {}
    for record in records:
        if isinstance(record, LaunchTrial):
            launched.add((record.trial, record.attempt))
        elif isinstance(record, TrialStarted):
            begun.update({(record.trial, record.attempt)} & launched)
            if occupied.setdefault(record.trial, record.resources) != record.resources:
                return False
        elif isinstance(record, ResultReported) and (record.trial, record.attempt) not in begun:
            return False
    return True


def _is_second_chance(records: Sequence[Record]) -> bool:
    """Return whether failed trials were tried again, which only the core knows."""
    drivers = (record.settings for record in records if isinstance(record, DriverStarted))
    return any(settings.resume_errored or settings.restart_errored for settings in drivers)


def _by_cause(losses: Mapping[str, int]) -> dict[str, int]:
    """Return losses without the ways in which a process can crash.

    Those by the driver are left out: one may have died before its journal held that the attempt was launched.
    """
    found: Counter[str] = Counter()
    for entry, count in losses.items():
        found[entry.partition(":")[0]] += count
    del found[LossCause.DRIVER_LOST]
    return dict(found)


def _returned(records: Sequence[Record]) -> set[TrialId]:
    """Return the trials of which an attempt went on from beyond where the one before had come to.

    That one had been sent back to an earlier checkpoint, since the newest was suspect, or had counted from 1 again.
    What was given up for lost then, and accounted for as such, was of use after all.
    """
    attempts: dict[TrialId, int] = {}
    starts: dict[TrialId, int] = {}
    newest: dict[TrialId, int] = {}
    found = set()
    for record in records:
        if isinstance(record, LaunchTrial):
            start, trial = record.resume_from or 0, record.trial
            if start > newest.pop(trial, starts.get(trial, start)):
                found.add(trial)
            attempts[trial], starts[trial] = record.attempt, start
        elif isinstance(record, ResultReported) and record.attempt == attempts.get(record.trial):
            newest[record.trial] = max(record.iteration, newest.get(record.trial, 0))
        elif isinstance(record, DriverStarted):
            attempts.clear()
        elif isinstance(record, ENDINGS) and record.attempt == attempts.get(record.trial):
            del attempts[record.trial]  # What it says from now on does not count.
    return found


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
