"""Runs an experiment that is open, and hands the results over: the order of things from a script to its results."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from tunekit import errors
from tunekit.callbacks.alarm import Alarm
from tunekit.callbacks.cadence import Cadence
from tunekit.callbacks.notices import Notices
from tunekit.callbacks.progress import Progress
from tunekit.config.durations import seconds_of
from tunekit.core.accounts import Accounts
from tunekit.core.codec import Record
from tunekit.core.events import DriverStarted, StopRequested
from tunekit.core.experiment import Experiment
from tunekit.core.ordering import dependence
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.core.trial import CheckpointStatus
from tunekit.errors import (
    ConfigError,
    ExperimentError,
    ExperimentNotFoundError,
    TrialError,
    TunekitError,
)
from tunekit.journal.folder import experiment_folder
from tunekit.logs import logger_of
from tunekit.printable import one_line
from tunekit.runtime.driver.clock import Clock
from tunekit.runtime.driver.driver import Driver, Observer
from tunekit.runtime.driver.publisher import LANES_ACROSS_A_NETWORK, DirectPublisher, Publisher, ThreadedPublisher
from tunekit.runtime.driver.signals import SweepInterrupted, interruptible
from tunekit.runtime.driver.stocktaking import take_stock
from tunekit.runtime.executor.late_modules import put_off_modules
from tunekit.runtime.line.spec import Delivery
from tunekit.runtime.sweep.comparing import check_identity, check_space, forked, has_work, seed_of
from tunekit.runtime.sweep.opening import OpenSweep, fold, opened
from tunekit.runtime.sweep.plan import PREFETCH, Plan
from tunekit.runtime.sweep.spaces import Spaces
from tunekit.store.layout import staging_name
from tunekit.types import Json, Outcome, TrialId

if TYPE_CHECKING:
    from tunekit.results import ResultGrid
    from tunekit.runtime.executor.first_worker import HeadStart

logger = logger_of("tunekit")


def fit(
    plan: Plan,
    pickled: bytes | None = None,
    *,
    takeover: bool = False,
    first: HeadStart = None,
) -> ResultGrid:
    """Run a sweep to its end, or go on with it.

    Args:
        plan: The sweep.
        pickled: Its trainable, for workers of Ray; None: to run it in this process.
        takeover: Whether to take the place of a driver that is running it.
        first: What came of asking for the first worker early.
    """
    with opened(forked(plan), takeover=takeover) as sweep:
        _run(sweep, pickled, first)
        return _results(sweep.plan, sweep.experiment, sweep.spaces)


def load(plan: Plan) -> ResultGrid:
    """Return an experiment's results so far, without a lock and without writing anything."""
    plan = forked(plan, says_so=False)
    folder = experiment_folder(plan.path)
    header = folder.header()
    if header is None:
        raise _not_found(plan.path)
    check_identity(plan, header)
    seed = seed_of(plan, header)
    spaces = Spaces(plan, header.space, seed)
    experiment, _ = fold(plan, seed, spaces, folder.records())
    check_space(plan, header, spaces)
    return _results(plan, experiment, spaces)


def _run(sweep: OpenSweep, pickled: bytes | None, first: HeadStart) -> None:
    """Run trials until the experiment ends, on workers that are sent this trainable; None: in this process."""
    inline = pickled is None
    plan = sweep.plan
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    direct = DirectPublisher(sweep.io, plan.trial_name, allowed=sweep.right.check)
    observers: list[Observer] = [Alarm(plan.trial_name), Notices()]
    if plan.run.verbose:
        observers += [Progress(plan.trial_name, verbose=plan.run.verbose), Cadence()]
    if (telling := sweep.telling) is not None:
        telling.catch_up(sweep.experiment.state)
        observers.append(telling)
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
    driver.witness = telling.witness if telling else None
    attempts = [trial.attempt for trial in sweep.experiment.state.trials]
    with interruptible(lambda name: inbox.put(Delivery([StopRequested(reason=name)]))) as interruption:
        try:
            settings = plan.settings(sweep.seed, driver.state.now)
            start = DriverStarted(generation=sweep.generation, settings=settings, run=_wishes(sweep))
            sweep.spaces.note(start, len(driver.state.trials))
            driver.turn([start, *found])
            sweep.right.opened()
            if not driver.state.ended:
                if pickled is None:
                    _run_inline(sweep, driver, inbox)
                else:
                    _run_on_ray(sweep, driver, inbox, pickled, first)
        except BaseException:
            publisher.close(finish=False)
            raise
        publisher.close()
    sweep.right.check()
    _sweep_garbage(sweep)
    try:
        if not interruption.exit_code:  # Whoever wants it to end soon does not wait for a journal to be read.
            _look_back(sweep, attempts)
    finally:
        _conclude(sweep, interruption.exit_code)


def _wishes(sweep: OpenSweep) -> dict[str, Json]:
    """Return what the script asks for, with the code that has computed what is there if this run computes nothing."""
    record = sweep.plan.record()
    if not has_work(sweep.plan, sweep.experiment.state.trials):
        record["code"] = sweep.spaces.code or record["code"]
    return record


def _run_inline(sweep: OpenSweep, driver: Driver, inbox: queue.SimpleQueue[Delivery]) -> None:
    from tunekit.runtime.sweep.inline import run_inline  # noqa: PLC0415

    run_inline(
        driver,
        inbox,
        sweep=sweep.plan.sweep_spec(sweep.seed, nonce=sweep.nonce),
        spec_of=sweep.spec_of,
        trainable=sweep.plan.trainable,
        io=sweep.io,
    )


def _run_on_ray(
    sweep: OpenSweep,
    driver: Driver,
    inbox: queue.SimpleQueue[Delivery],
    pickled: bytes,
    first: HeadStart,
) -> None:
    if isinstance(first, ExperimentError):
        raise first
    with put_off_modules():
        from tunekit.runtime.executor.ray_executor import LEAVE_S, RayExecutor  # noqa: PLC0415 - Ray is loaded when there is work for it

    executor = RayExecutor(
        sweep=sweep.plan.sweep_spec(sweep.seed, nonce=sweep.nonce),
        trainable=sweep.plan.trainable,
        spec_of=sweep.spec_of,
        inbox=inbox,
        max_concurrent_trials=sweep.plan.tune.max_concurrent_trials,
        prefetch=0 if sweep.plan.searcher.learns or sweep.plan.tune.deterministic else PREFETCH,
        pickled=pickled,
        leave_s=seconds_of(sweep.plan.run.stop_grace_s) if sweep.plan.tune.reuse_actors else LEAVE_S,
        first=first,
        is_rerun=any(trial.iteration for trial in driver.state.trials),
    )
    try:
        driver.attach(executor)
        driver.run()
    finally:
        executor.close()


def _sweep_garbage(sweep: OpenSweep) -> None:
    """Remove what attempts of earlier drivers left half done, and nothing of a driver that has just taken over."""
    trials, name = sweep.experiment.state.trials, sweep.plan.trial_name
    wanted = [
        staging_name(name(trial.trial), entry.iteration, entry.attempt, entry.exact)
        for trial in trials
        for entry in [*trial.checkpoints.values(), *trial.failures_saved.values()]
        if entry.status is CheckpointStatus.STAGED
    ]
    sweep.io.sweep(wanted, attempts={name(trial.trial): trial.attempt for trial in trials})


def _look_back(sweep: OpenSweep, attempts_before: Sequence[int]) -> None:
    """Say which rows of this run came out otherwise than before, and what the seconds of the sweep went into.

    Neither is worth the results: a journal that cannot be read now is not read.
    """
    trials = sweep.experiment.state.trials
    before = dict(enumerate(attempts_before))
    again = {trial.trial for trial in trials if trial.attempt > max(1, before.get(trial.trial, 0))}
    sums_up = sweep.plan.run.verbose and [trial.attempt for trial in trials] != attempts_before
    if not (again or sums_up):
        return
    from tunekit.results.differences import as_shown, summary  # noqa: PLC0415 - as in _results
    from tunekit.results.ledger import in_two_lines  # noqa: PLC0415

    table, accounts = RowTable(only=again), Accounts(trials=trials)
    try:
        for record in _records(sweep.plan, sweep.experiment):
            table.apply(record)
            accounts.apply(record)
    except (TunekitError, OSError) as error:
        logger.warning("the journal cannot be read to sum the sweep up: %s", one_line(str(error)))
        return
    rows = [as_shown(row, sweep.plan.trial_name) for row in table.rewritten]
    if text := summary(rows, deterministic=sweep.plan.tune.deterministic):
        logger.warning("%s", one_line(text))
    if sums_up:
        sys.stderr.write("".join(f"  {line}\n" for line in in_two_lines(accounts.spent(trials))))


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


def _results(plan: Plan, experiment: Experiment, spaces: Spaces) -> ResultGrid:
    from tunekit.results import ResultGrid  # noqa: PLC0415 - nobody waits for results before a trial has run

    state = experiment.state

    def config(trial: TrialId) -> dict[str, Any]:
        return spaces.resolve(trial, state.trials[trial].draw.values)

    return ResultGrid(
        trials=state.trials,
        configs=config,
        shown_configs=lambda trial: spaces.resolve(trial, state.trials[trial].draw.values, is_shown=True),
        rows=lambda: RowTable(_records(plan, experiment)),
        accounts=lambda: Accounts(_records(plan, experiment), state.trials),
        resources=lambda trial: plan.resources(lambda: config(trial)),
        prices=plan.tune.plain_prices or None,
        trainable_name=plan.info.name,
        path=plan.path,
        metric=plan.tune.metric,
        mode=plan.tune.mode,
        outcome=state.outcome,
        depends_on=dependence(state),
    )


def _records(plan: Plan, experiment: Experiment) -> Iterator[Record]:
    """Return what the journal held when the experiment was as it is here, whatever its driver, or the next, has added.

    The folder is looked at at once, and the journal is read as it is asked for.
    """
    folder = experiment_folder(plan.path)
    if folder.header() is None:
        raise ExperimentNotFoundError(
            f"the journal of the experiment cannot be read: it is no longer at {plan.path}",
            hint="if the folder was moved: Tuner.restore(new_path, trainable).get_results()",
        )
    return takewhile(partial(_is_of, experiment.state), folder.records())


def _is_of(state: State, record: Record) -> bool:
    """Return whether a state knows of a record. Commands are of the event before them."""
    if isinstance(record, DriverStarted) and record.generation > state.generation:
        return False
    return getattr(record, "at", state.now) <= state.now


def _not_found(path: str) -> ExperimentNotFoundError:
    return ExperimentNotFoundError(
        f"there is no experiment at {path}", hint="check name and storage_path, or run fit() first"
    )
