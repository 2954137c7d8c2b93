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
from tunekit.core.commands import Command, LaunchTrial, TellSearcher
from tunekit.core.events import Event, ResultReported, TrialsSuggested, TrialStarted
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.errors import ExperimentMismatchError
from tunekit.journal.folder import ExperimentFolder, OpenJournal, experiment_folder
from tunekit.journal.header import ExperimentHeader, check_header
from tunekit.journal.replay import replay
from tunekit.journal.right import DriverRight
from tunekit.runtime.audience import audience
from tunekit.runtime.driver import Witness
from tunekit.runtime.plan import Plan
from tunekit.runtime.spec import AttemptSpec
from tunekit.search.base import SearcherState
from tunekit.store import CheckpointIO, open_store
from tunekit.types import Mode, TrialId
from tunekit.upkeep.refusals import refuse_half_a_copy


@dataclass(frozen=True, kw_only=True)
class OpenSweep:
    """An experiment whose journal is open, replayed up to its end."""

    plan: Plan
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
        config = self.plan.space.resolve(self.experiment.state.trials[launch.trial].draw.values)
        return self.plan.attempt_spec(
            config,
            trial=launch.trial,
            attempt=launch.attempt,
            resume_from=launch.resume_from,
            until=launch.until,
            time_total_s=launch.time_total_s,
        )

    def judge(self, row: ResultReported) -> str:
        """Ask the script's stop function about a row; return why its trial ends here, or an empty string."""
        return self.plan.judge(row, self.experiment.state.trials[row.trial].draw)


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
        seed = _settle(plan, folder)
        telling = stack.enter_context(audience(plan, folder.header()))
        witness = telling.witness if telling else None
        journal, (experiment, searcher) = folder.replayed(lambda records: fold(plan, seed, records, witness))
        try:
            yield OpenSweep(
                plan=plan,
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
    if header is not None and _has_begun(folder):
        check_script(plan, header)


def _has_begun(folder: ExperimentFolder) -> bool:
    return any(isinstance(record, TrialStarted) for record in folder.records(holding=b'"trial_started"'))


def _settle(plan: Plan, folder: ExperimentFolder) -> int:
    """Write down what the experiment is, or compare it with the script; return the seed that is in force.

    What was written down binds nobody before a trial has started: a script that was wrong and is corrected replaces it.
    """
    header = folder.header()
    if header is None:
        refuse_half_a_copy(open_store(plan.path))
        seed = plan.draw_seed()
        folder.begin(_header(plan, seed))
        return seed
    try:
        return check_script(plan, header)
    except ExperimentMismatchError:
        if _has_begun(folder):
            raise
        seed = _seed(plan, header)
        folder.begin_again(_header(plan, seed))
        return seed


def _header(plan: Plan, seed: int) -> ExperimentHeader:
    return ExperimentHeader(name=plan.name, identity=plan.identity(seed), space=plan.space.signature())


def _seed(plan: Plan, header: ExperimentHeader) -> int:
    """Return the script's seed, or else the recorded one."""
    return plan.tune.seed if plan.tune.seed is not None else int(header.identity.get("seed", 0))


def check_script(plan: Plan, header: ExperimentHeader) -> int:
    """Compare the script with the experiment, and return the seed that is in force."""
    seed = _seed(plan, header)
    check_header(header, identity=plan.identity(seed), space=plan.space.signature())
    return seed


def fold(
    plan: Plan, seed: int, records: Iterator[Event | Command], witness: Witness | None = None
) -> tuple[Experiment, SearcherState]:
    """Return core and searcher as they were after the last journalled event, each of which a witness is shown."""
    mode = Mode(plan.tune.mode or "min")
    experiment = Experiment(plan.scheduler, mode)
    searcher = plan.searcher.begin(plan.space, metric=plan.tune.metric, mode=mode, seed=seed)

    judges = callable(plan.run.stop)

    def handle(event: Event) -> list[Command]:
        if judges and isinstance(event, ResultReported):
            _judge_again(plan, experiment, event)
        if plan.searcher.learns and isinstance(event, TrialsSuggested):
            searcher.ask(len(experiment.state.trials), len(event.draws))
        commands = experiment.handle(event)
        if plan.searcher.learns:
            _retell(experiment, searcher, commands)
        if witness is not None:
            witness(event, experiment.state)
        return commands

    replay(records, handle if judges or plan.searcher.learns or witness is not None else experiment.handle)
    return experiment, searcher


def _judge_again(plan: Plan, experiment: Experiment, row: ResultReported) -> None:
    """Show a recorded row to the stop function, so that one with a memory has the one that it had.

    The recorded verdict stands; what it says or raises now is of no account.
    """
    if not row.final and row.attempt == experiment.state.trials[row.trial].attempt:
        with contextlib.suppress(Exception):
            plan.judge(row, experiment.state.trials[row.trial].draw)


def _retell(experiment: Experiment, searcher: SearcherState, commands: list[Command]) -> None:
    for command in commands:
        if isinstance(command, TellSearcher):
            draw = experiment.state.trials[command.trial].draw
            searcher.tell(command.trial, draw, command.metrics, command.failed)
