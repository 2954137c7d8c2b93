"""Opens an experiment, runs it, and hands the results over: the order of things from a script to its results.

Opening is the same for the first run and for every later one: take the lock, compare the experiment's header with the
script (or write it), replay the journal through a fresh core. What follows cannot tell the difference.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tunekit import errors
from tunekit.callbacks.alarm import Alarm
from tunekit.callbacks.notices import Notices
from tunekit.callbacks.progress import Progress
from tunekit.core.commands import Command, LaunchTrial, TellSearcher
from tunekit.core.events import DriverStarted, Event, ResultReported, StopRequested, TrialsSuggested, TrialStarted
from tunekit.core.experiment import Experiment
from tunekit.core.rows import RowTable
from tunekit.core.trial import CheckpointStatus
from tunekit.errors import (
    ConfigError,
    ConfigTypeError,
    ExperimentError,
    ExperimentMismatchError,
    ExperimentNotFoundError,
    TrialError,
)
from tunekit.journal.folder import ExperimentFolder, OpenJournal, experiment_folder
from tunekit.journal.header import ExperimentHeader, check_header
from tunekit.journal.replay import replay
from tunekit.journal.right import DriverRight
from tunekit.printable import one_line
from tunekit.results import ResultGrid
from tunekit.results.differences import as_shown, summary
from tunekit.runtime.clock import Clock
from tunekit.runtime.driver import Driver, Observer
from tunekit.runtime.plan import PREFETCH, Plan
from tunekit.runtime.publisher import LANES_ACROSS_A_NETWORK, DirectPublisher, Publisher, ThreadedPublisher
from tunekit.runtime.signals import SweepInterrupted, interruptible
from tunekit.runtime.spec import AttemptSpec, Delivery
from tunekit.runtime.stocktaking import take_stock
from tunekit.search.base import SearcherState
from tunekit.store import CheckpointIO, open_store
from tunekit.store.layout import staging_name
from tunekit.trainable import check_picklable
from tunekit.types import Mode, Outcome, TrialId
from tunekit.upkeep.refusals import refuse_half_a_copy

logger = logging.getLogger("tunekit")


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


def fit(plan: Plan, *, inline: bool, takeover: bool = False) -> ResultGrid:
    """Run a sweep to its end, or go on with it.

    Args:
        plan: The sweep.
        inline: Whether to run in this process instead of on Ray.
        takeover: Whether to take the place of a driver that is running it.
    """
    if not isinstance(takeover, bool):
        raise ConfigTypeError(f"takeover: got {takeover!r}, but must be True or False")
    if not inline and plan.path.startswith("memory://"):
        raise ConfigError(
            f"storage_path: got {plan.run.storage_root!r}, but workers are other processes and cannot see it",
            hint="run it in this process with tunekit.inline(tuner), or give a folder or a bucket",
        )
    pickled = None if inline else check_picklable(plan.trainable)
    with opened(plan, takeover=takeover) as sweep:
        _run(sweep, pickled)
        return _results(plan, sweep.experiment)


def load(plan: Plan) -> ResultGrid:
    """Return an experiment's results so far, without a lock and without writing anything."""
    folder = experiment_folder(plan.path)
    header = folder.header()
    if header is None:
        raise _not_found(plan.path)
    seed = _check(plan, header)
    experiment, _ = _replayed(plan, seed, folder.records())
    return _results(plan, experiment)


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
    with folder.taken(takeover=takeover) as right:
        seed = _settle(plan, folder)
        journal, (experiment, searcher) = folder.replayed(lambda records: _replayed(plan, seed, records))
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
            )
        finally:
            journal.close()


def _check_before_takeover(plan: Plan, folder: ExperimentFolder) -> None:
    """Refuse a script that does not describe the experiment while its driver is still at work."""
    header = folder.header()
    if header is not None and _has_begun(folder):
        _check(plan, header)


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
        return _check(plan, header)
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


def _check(plan: Plan, header: ExperimentHeader) -> int:
    """Compare the script with the experiment, and return the seed that is in force."""
    seed = _seed(plan, header)
    check_header(header, identity=plan.identity(seed), space=plan.space.signature())
    return seed


def _replayed(plan: Plan, seed: int, records: Iterator[Event | Command]) -> tuple[Experiment, SearcherState]:
    """Return core and searcher as they were after the last journalled event."""
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
        return commands

    replay(records, handle if judges or plan.searcher.learns else experiment.handle)
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


def _run(sweep: OpenSweep, pickled: bytes | None) -> None:
    """Run trials until the experiment ends, on workers that are sent this trainable; None: in this process."""
    inline = pickled is None
    plan = sweep.plan
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    direct = DirectPublisher(sweep.io, plan.trial_name, allowed=sweep.right.check)
    progress = [Progress(plan.trial_name, verbose=plan.run.verbose)] if plan.run.verbose else []
    observers: list[Observer] = [Alarm(plan.trial_name), Notices(), *progress]
    _sweep_garbage(sweep)
    found = take_stock(sweep.experiment.state.trials, sweep.io, plan.trial_name, lambda: sweep.rows(None))
    lanes = LANES_ACROSS_A_NETWORK if sweep.journal.patience_s else 1
    publisher: Publisher = direct if inline else ThreadedPublisher(direct, inbox, num_threads=lanes)
    driver = Driver(
        experiment=sweep.experiment,
        journal=sweep.journal,
        searcher=sweep.searcher,
        publisher=publisher,
        inbox=inbox,
        clock=Clock(sweep.experiment.state.now),
        stop=sweep.judge if callable(plan.run.stop) else None,
        observers=observers,
    )
    driver.look_out(sweep.right.check)
    attempts = [trial.attempt for trial in sweep.experiment.state.trials]
    with interruptible(lambda name: inbox.put(Delivery([StopRequested(reason=name)]))) as interruption:
        try:
            start = DriverStarted(generation=sweep.generation, settings=plan.settings(sweep.seed), run=plan.record())
            driver.turn([start, *found])
            sweep.right.opened()
            if not driver.state.ended:
                if pickled is None:
                    _run_inline(sweep, driver, inbox)
                else:
                    _run_on_ray(sweep, driver, inbox, pickled)
        except BaseException:
            publisher.close(finish=False)
            raise
        publisher.close()
    sweep.right.check()
    _sweep_garbage(sweep)
    _warn_of_other_outcomes(sweep, attempts)
    _conclude(sweep, interruption.exit_code)


def _run_inline(sweep: OpenSweep, driver: Driver, inbox: queue.SimpleQueue[Delivery]) -> None:
    from tunekit.runtime.inline import run_inline  # noqa: PLC0415

    run_inline(
        driver,
        inbox,
        sweep=sweep.plan.sweep_spec(sweep.seed, nonce=sweep.nonce),
        spec_of=sweep.spec_of,
        trainable=sweep.plan.trainable,
        io=sweep.io,
    )


def _run_on_ray(sweep: OpenSweep, driver: Driver, inbox: queue.SimpleQueue[Delivery], pickled: bytes) -> None:
    from tunekit.runtime.ray_executor import LEAVE_S, RayExecutor  # noqa: PLC0415 - Ray is loaded when there is work for it

    executor = RayExecutor(
        sweep=sweep.plan.sweep_spec(sweep.seed, nonce=sweep.nonce),
        trainable=sweep.plan.trainable,
        spec_of=sweep.spec_of,
        inbox=inbox,
        max_concurrent_trials=sweep.plan.tune.max_concurrent_trials,
        prefetch=0 if sweep.plan.searcher.learns or sweep.plan.tune.deterministic else PREFETCH,
        pickled=pickled,
        leave_s=sweep.plan.run.stop_grace_s if sweep.plan.tune.reuse_actors else LEAVE_S,
    )
    try:
        driver.attach(executor)
        driver.run()
    finally:
        executor.close()


def _sweep_garbage(sweep: OpenSweep) -> None:
    """Remove what attempts of earlier drivers left half done."""
    wanted = [
        staging_name(sweep.plan.trial_name(trial.trial), entry.iteration, entry.attempt, entry.exact)
        for trial in sweep.experiment.state.trials
        for entry in [*trial.checkpoints.values(), *trial.failures_saved.values()]
        if entry.status is CheckpointStatus.STAGED
    ]
    sweep.io.sweep(wanted)


def _warn_of_other_outcomes(sweep: OpenSweep, attempts_before: Sequence[int]) -> None:
    """Say which rows came out otherwise when they were computed again, if any were in this run."""
    state = sweep.experiment.state
    before = dict(enumerate(attempts_before))
    again = {trial.trial for trial in state.trials if trial.attempt > max(1, before.get(trial.trial, 0))}
    if again:
        rows = [as_shown(row, sweep.plan.trial_name) for row in sweep.rows(again).rewritten]
        if text := summary(rows, deterministic=sweep.plan.tune.deterministic):
            logger.warning("%s", one_line(text))


def _conclude(sweep: OpenSweep, exit_code: int) -> None:
    """Raise what the user must not miss."""
    state = sweep.experiment.state
    if exit_code and state.outcome is Outcome.INTERRUPTED:
        sys.stderr.write("interrupted; everything is saved. Run the same script again to go on.\n")
        raise SweepInterrupted(exit_code)
    if state.outcome is Outcome.ERROR:
        raise _experiment_error(state.error)
    if state.culprit is not None and sweep.plan.run.failure_config.fail_fast == "raise":
        failed = state.trials[state.culprit]
        error = failed.error
        raise TrialError(
            f"{sweep.plan.trial_name(failed.trial)} failed: {error.type if error else ''}: {failed.reason}",
            error_type=error.type if error else "",
            traceback=error.traceback if error else "",
        )


def _experiment_error(text: str) -> Exception:
    """Return the error that ended the experiment: of the class that it had in the worker, if it is about settings."""
    kind, _, rest = text.partition(": ")
    message, _, hint = rest.partition("\n\nhint: ")
    cls = getattr(errors, kind.rpartition(".")[2], None)
    if isinstance(cls, type) and issubclass(cls, ConfigError):
        return cls(message, hint=hint)
    return ExperimentError(text, hint="mend the cause and run the script again: what was reached is saved")


def _results(plan: Plan, experiment: Experiment) -> ResultGrid:
    state = experiment.state

    def rows() -> RowTable:
        folder = experiment_folder(plan.path)
        if folder.header() is None:
            raise ExperimentNotFoundError(
                f"the rows of the experiment cannot be read: it is no longer at {plan.path}",
                hint="if the folder was moved: Tuner.restore(new_path, trainable).get_results()",
            )
        return RowTable(folder.records())

    return ResultGrid(
        trials=state.trials,
        configs=lambda trial: plan.space.resolve(state.trials[trial].draw.values),
        rows=rows,
        trainable_name=plan.info.name,
        path=plan.path,
        metric=plan.tune.metric,
        mode=plan.tune.mode,
        outcome=state.outcome,
    )


def _not_found(path: str) -> ExperimentNotFoundError:
    return ExperimentNotFoundError(
        f"there is no experiment at {path}", hint="check name and storage_path, or run fit() first"
    )
