"""Opens an experiment: whatever there is to be said before the first trial of a run starts.

Opening is the same for the first run and for every later one: take the lock, compare the experiment's header with the
script (or write it), replay the journal through a fresh core. What follows cannot tell the difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tunekit.callbacks.telling import Telling
from tunekit.collector import without_collector
from tunekit.core.commands import Command, LaunchTrial, TellSearcher
from tunekit.core.events import DriverStarted, Event, ResultReported, TrialsSuggested
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.errors import JournalCorruptError
from tunekit.journal.folder import ExperimentFolder, OpenJournal, experiment_folder
from tunekit.journal.header import HEADER_NAME, ExperimentHeader
from tunekit.journal.replay import replay
from tunekit.journal.right import DriverRight
from tunekit.runtime.driver.driver import Witness
from tunekit.runtime.line.spec import AttemptSpec
from tunekit.runtime.sweep.audience import audience
from tunekit.runtime.sweep.comparing import (
    check_identity,
    check_space,
    has_begun,
    is_as_begun,
    new_header,
    recorded_spaces,
    seed_of,
    warn_of_changes,
)
from tunekit.runtime.sweep.plan import Plan
from tunekit.runtime.sweep.spaces import Spaces, ToldOfItsOwn
from tunekit.search.base import SearcherState
from tunekit.store import CheckpointIO, open_store
from tunekit.types import Mode, TrialId
from tunekit.upkeep.refusals import refuse_half_a_copy


@dataclass(frozen=True, kw_only=True)
class OpenSweep:
    """An experiment whose journal is open, replayed up to its end."""

    plan: Plan
    spaces: Spaces
    """In which the configurations of trials are found."""
    seed: int
    right: DriverRight
    """To write the experiment."""
    generation: int
    nonce: str
    """Told to workers, who look for it in the folder."""
    journal: OpenJournal
    experiment: Experiment
    searcher: SearcherState
    io: CheckpointIO
    rows: Callable[[Collection[TrialId] | None], RowTable]
    """Reads the table of results: that of these trials, or all of it."""
    telling: Telling | None
    """Tells the script's callbacks, if it has any."""

    def spec_of(self, launch: LaunchTrial) -> AttemptSpec:
        """Return what a worker is told about an attempt."""
        return self.plan.attempt_spec(
            self.spaces.resolve(launch.trial, self.experiment.state.trials[launch.trial].draw.values),
            trial=launch.trial,
            attempt=launch.attempt,
            resume_from=launch.resume_from,
            until=launch.until,
            time_total_s=launch.time_total_s,
            outlook=launch.outlook,
        )

    def judge(self, row: ResultReported) -> str:
        """Ask the script's stop function about a row; return why its trial ends here, or an empty string."""
        return self.plan.judge(row, self.spaces.resolve(row.trial, self.experiment.state.trials[row.trial].draw.values))


@contextmanager
def opened(plan: Plan, *, takeover: bool = False) -> Iterator[OpenSweep]:
    """Open an experiment for writing, and close it whatever happens.

    Args:
        plan: The sweep.
        takeover: Whether to take the place of a driver that is running it.

    Raises:
        ExperimentExistsError: Another driver holds it.
        ExperimentMismatchError: The folder holds another experiment.
        StorageError: The folder cannot be used.
    """
    store = open_store(plan.path)
    folder = experiment_folder(plan.path)
    if takeover:
        _check_before_takeover(plan, folder)
    with folder.taken(takeover=takeover) as right, contextlib.ExitStack() as stack:
        header = _settle(plan, folder)
        seed = seed_of(plan, header)
        spaces = Spaces(plan, header.space, seed)
        telling = stack.enter_context(audience(plan, header, spaces))
        witness = telling.witness if telling else None

        def read(records: Iterator[Event | Command]) -> tuple[Experiment, SearcherState]:
            experiment, searcher = fold(plan, seed, spaces, records, witness)
            check_space(plan, header, spaces, experiment.state.trials)
            return experiment, searcher

        journal, (experiment, searcher) = folder.replayed(read)
        warn_of_changes(plan, header, spaces, experiment.state.trials)
        try:
            yield OpenSweep(
                plan=plan,
                spaces=spaces,
                seed=seed,
                right=right,
                generation=max(right.generation, experiment.state.generation + 1),
                nonce=folder.nonce(),
                journal=journal,
                experiment=experiment,
                searcher=searcher,
                io=CheckpointIO(store),
                rows=lambda only: RowTable(folder.records(), only=only),
                telling=telling,
            )
        finally:
            journal.close()


def _check_before_takeover(plan: Plan, folder: ExperimentFolder) -> None:
    """Refuse a script that does not describe the experiment while its driver is still at work."""
    header = folder.header()
    if header is not None and has_begun(folder):
        check_identity(plan, header)
        check_space(plan, header, recorded_spaces(plan, header, folder))


def _settle(plan: Plan, folder: ExperimentFolder) -> ExperimentHeader:
    """Write down what the experiment is, or compare it with the script; return what is in force.

    What was written down binds nobody before a trial has started: a script that was wrong and is corrected replaces it.
    """
    header = folder.header()
    if header is None:
        refuse_half_a_copy(open_store(plan.path))
        _refuse_headless(plan, folder)
        header = new_header(plan, plan.draw_seed())
        folder.begin(header)
    elif not is_as_begun(plan, header) and not has_begun(folder):
        header = new_header(plan, seed_of(plan, header))
        folder.begin_again(header)
    check_identity(plan, header)
    return header


def _refuse_headless(plan: Plan, folder: ExperimentFolder) -> None:
    """Refuse to take trials over of which nothing says what experiment they are of."""
    if has_begun(folder):
        raise JournalCorruptError(
            f"{plan.path} holds trials, but not the file {HEADER_NAME} that says of which experiment",
            hint="Bring the file back from a copy; it does not change. Or give this sweep another name.",
            path=plan.path,
        )


def fold(
    plan: Plan, seed: int, spaces: Spaces, records: Iterator[Event | Command], witness: Witness | None = None
) -> tuple[Experiment, SearcherState]:
    """Return core and searcher as they were after the last journalled event.

    Args:
        plan: The script.
        seed: The one that is in force.
        spaces: Take note of the search spaces that drivers had.
        records: The journal.
        witness: Is shown each event.
    """
    mode = Mode(plan.tune.mode or "min")
    experiment = Experiment(plan.scheduler, mode)
    begun = plan.searcher.begin(plan.space, metric=plan.tune.metric, mode=mode, seed=seed)
    searcher = ToldOfItsOwn(begun, spaces) if plan.searcher.learns else begun
    judges = callable(plan.run.stop)

    def handle(event: Event) -> list[Command]:
        if type(event) is DriverStarted:
            spaces.note(event, len(experiment.state.trials))
        if judges and isinstance(event, ResultReported):
            _judge_again(plan, experiment, spaces, event)
        if plan.searcher.learns and isinstance(event, TrialsSuggested):
            searcher.ask(len(experiment.state.trials), len(event.draws))
        commands = experiment.handle(event)
        if plan.searcher.learns:
            _retell(experiment, searcher, commands)
        if witness is not None:
            witness(event, experiment.state)
        return commands

    def handle_quickly(event: Event) -> list[Command]:
        if type(event) is DriverStarted:
            spaces.note(event, len(experiment.state.trials))
        return experiment.handle(event)

    if judges or plan.searcher.learns or witness is not None:
        replay(records, handle)
    else:
        with without_collector():  # A fifth of the time of a large replay.
            replay(records, handle_quickly)
    return experiment, searcher


def _judge_again(plan: Plan, experiment: Experiment, spaces: Spaces, row: ResultReported) -> None:
    """Show a recorded row to the stop function, so that one with a memory has the one that it had.

    The recorded verdict stands; what it says or raises now is of no account.
    """
    if not row.final and row.attempt == experiment.state.trials[row.trial].attempt:
        with contextlib.suppress(Exception):
            plan.judge(row, spaces.resolve(row.trial, experiment.state.trials[row.trial].draw.values))


def _retell(experiment: Experiment, searcher: SearcherState, commands: list[Command]) -> None:
    for command in commands:
        if isinstance(command, TellSearcher):
            draw = experiment.state.trials[command.trial].draw
            searcher.tell(command.trial, draw, command.metrics, command.failed)
