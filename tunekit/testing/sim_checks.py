"""What must be true of a simulated sweep when a driver boots, and when all is over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from tunekit.core.codec import Record
from tunekit.core.events import ResultReported
from tunekit.core.rows import RowTable
from tunekit.core.state import State
from tunekit.core.trial import CheckpointStatus, TrialState
from tunekit.errors import InvariantViolationError
from tunekit.schedulers import ASHA, FIFO
from tunekit.testing.sim_books import Books
from tunekit.testing.sim_judge import Judge
from tunekit.testing.sim_kept import check_kept
from tunekit.testing.sim_options import METRIC, SimOptions
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_world import Oracle, SimStore, Visible
from tunekit.types import TrialId, TrialStatus

_NOT_COMPARED = {"scheduler", "deadlines", "limit"}
"""A scheduler shows itself in its decisions; heaps drop what is outdated when it is met, and invariants hold them."""


def require(problems: Iterator[str]) -> None:
    """Raise everything that is wrong.

    Raises:
        InvariantViolationError: Something is.
    """
    found = list(problems)
    if found:
        raise InvariantViolationError("\n".join(found))


def check_boot(
    around: Surroundings,
    judge: Judge,
    oracle: Oracle,
    *,
    acknowledged: Collection[tuple[TrialId, int, int]],
) -> Iterator[str]:
    """Yield what the world and the journal disagree about.

    Args:
        around: The world as it is.
        judge: Has seen the whole journal.
        oracle: Knows what a checkpoint must hold.
        acknowledged: Rows that workers were told to forget.
    """
    lost = [row for row in acknowledged if row not in judge.rows]
    if lost:
        yield f"acknowledged rows (trial, attempt, iteration) are not in the journal: {lost}"
    for key, times in around.launched.items():
        if times != 1 or key not in judge.launched:
            yield f"attempt {key} was launched {times} times; in the journal: {key in judge.launched}"
    yield from _check_visible(around, judge, oracle)
    yield from _check_relied_on(judge, around.store)


def _check_visible(around: Surroundings, judge: Judge, oracle: Oracle) -> Iterator[str]:
    store = around.store
    for (trial, iteration), there in store.visible.items():
        if not _is_known(judge.of(trial), iteration, there.attempt):
            yield f"checkpoint {iteration} of trial {trial}, attempt {there.attempt}, is not known to the journal"
        if there.state != oracle.state(trial, around.trained(trial, there.attempt, iteration)):
            yield f"checkpoint {iteration} of trial {trial} does not hold the state of that iteration"
    for trial, iteration, attempt in store.failures:
        if (iteration, attempt) not in judge.of(trial).failures:
            yield f"failure checkpoint {iteration} of trial {trial}, attempt {attempt}, is not known to the journal"


def _check_relied_on(judge: Judge, store: SimStore) -> Iterator[str]:
    for trial, book in enumerate(judge.books):
        for iteration, attempt in book.published.items():
            found = store.visible.get((trial, iteration))
            is_there = found is not None and found.attempt in {attempt, book.staged.get(iteration)}
            if not is_there and (iteration, attempt) not in book.doubted:
                yield f"checkpoint {iteration} of trial {trial} is relied on, but the store holds {found}"
        for (iteration, attempt), at in book.failures.items():
            if at == "published" and (trial, iteration, attempt) not in store.failures:
                yield f"failure checkpoint {iteration} of trial {trial}, attempt {attempt}, is gone"


def _is_known(book: Books, iteration: int, attempt: int) -> bool:
    expected = {book.published.get(iteration), book.staged.get(iteration)}
    return attempt in expected or (iteration, attempt) in book.given_up


def compare(live: State, replayed: State) -> Iterator[str]:
    """Yield the fields in which a state differs from its replay."""
    for name in State.__slots__:
        one, other = getattr(live, name), getattr(replayed, name)
        if name not in _NOT_COMPARED and one != other:
            yield f"{name} is {one!r}, but after a replay {other!r}"


def check_end(
    around: Surroundings, state: State, records: Sequence[Record], judge: Judge, oracle: Oracle
) -> Iterator[str]:
    """Yield what is wrong with the results of a sweep that has finished."""
    options, store = around.options, around.store
    if len(state.trials) != options.num_trials:
        yield f"there are {len(state.trials)} trials, but must be {options.num_trials}"
    table = RowTable(records)
    for row, again, _ in table.rewritten:
        lags = {around.lags.get((row.trial, attempt), 0) for attempt in (row.attempt, again.attempt)}
        if len(lags) == 1:
            yield f"{row!r} was computed again with another outcome: {again!r}"
    visible: dict[TrialId, dict[int, Visible]] = {}
    for (index, iteration), there in store.visible.items():
        visible.setdefault(index, {})[iteration] = there
    for trial in state.trials:
        if not options.second_chance:  # It gives every trial a fresh budget, twice if a driver dies meanwhile.
            judge.check_end(trial.trial, trial.status)
        yield from _check_rows(around, trial, table.rows(trial), judge.of(trial.trial), oracle)
        yield from _check_restarts(around, trial, judge.of(trial.trial))
        failures = {attempt: iteration for index, iteration, attempt in store.failures if index == trial.trial}
        shown = visible.get(trial.trial, {})
        yield from _check_checkpoints(trial, shown, failures, judge.of(trial.trial))
        if trial.status is TrialStatus.COMPLETED:
            yield from check_kept(options, trial.trial, shown, judge.of(trial.trial), around.warned, oracle)
    yield from _check_bytes(options, judge)


def _check_bytes(options: SimOptions, judge: Judge) -> Iterator[str]:
    """Yield it when the checkpoints take more than they may, though one of them might have gone."""
    if options.max_bytes is None:
        return
    num_bytes, num_failures = 0, 0
    idle: list[tuple[TrialId, int]] = []
    best = max(judge.saves.scores(), default=None)
    for trial, book in enumerate(judge.books):
        num_bytes += sum(book.sizes[key] for key in book.published.items())
        num_failures += list(book.failures.values()).count("published")
        stays = book.onward(book.published) or max(book.published, default=0)
        for key in book.published.items():
            is_best = best is not None and book.scores.get(key) == best
            if key not in book.pinned and key[0] != stays and not is_best:
                idle.append((trial, key[0]))
    if num_failures and num_bytes > options.max_bytes:
        yield f"{num_failures} failure checkpoints stay although the others take {num_bytes} bytes"
    if idle and num_bytes > options.max_bytes:
        yield f"the checkpoints take {num_bytes} bytes of {options.max_bytes}, though these may go: {idle}"


def _check_rows(
    around: Surroundings, trial: TrialState, rows: Sequence[ResultReported], book: Books, oracle: Oracle
) -> Iterator[str]:
    """Yield it when the table does not have each row that counts once, by the attempt and with the value it must."""
    options, length = around.options, len(rows)
    end = book.newest or book.resumed_from or 0
    if trial.status is TrialStatus.FAILED:
        end = max(book.reported, default=0)
    by = {iteration: attempt for iteration, attempt in sorted(book.reported.items()) if iteration <= end}
    if [(row.iteration, row.attempt) for row in rows] != list(by.items()) or list(by) != list(range(1, end + 1)):
        yield f"trial {trial.trial} has rows of {[(row.iteration, row.attempt) for row in rows]}, but must have {by}"
    trained = [around.trained(trial.trial, row.attempt, row.iteration) for row in rows]
    expected = [{METRIC: oracle.metric(trial.trial, iteration)} for iteration in trained]
    if [row.metrics for row in rows] != expected:
        yield f"trial {trial.trial} has the rows {rows}, but undisturbed {expected}"
    last = options.last_iteration
    if trial.status is TrialStatus.COMPLETED and length != last and not (options.time_limit_s and length < last):
        yield f"trial {trial.trial} is complete with {length} rows of {last}"
    elif trial.status is TrialStatus.STOPPED and not _may_stop(options, length):
        yield f"trial {trial.trial} was stopped after {length} rows"
    elif not trial.status.is_ended or length > last:
        yield f"trial {trial.trial} is {trial.status} with {length} rows"


def _check_restarts(around: Surroundings, trial: TrialState, book: Books) -> Iterator[str]:
    """Yield it when somebody is said to have begun anew who has not, or is not said to have though it shows."""
    told = [tuple(restart) for restart in trial.silent_restarts]
    if told != book.restarts.told:
        yield f"attempts of trial {trial.trial} began anew: {told}, but must be {book.restarts.told}"
    for attempt, _, _ in book.restarts.told:
        if (trial.trial, attempt) not in around.anew:
            yield f"attempt {attempt} of trial {trial.trial} is said to have begun anew, and has not"


def _may_stop(options: SimOptions, length: int) -> bool:
    asha = options.scheduler
    if isinstance(asha, ASHA):
        return length in {*asha.rungs, asha.max_t}
    return not isinstance(asha, FIFO)  # Of another scheduler nothing is known but its decisions.


def _check_checkpoints(
    trial: TrialState, visible: Mapping[int, Visible], failures: Mapping[int, int], book: Books
) -> Iterator[str]:
    known = {
        entry.iteration: entry.attempt
        for entry in trial.checkpoints.values()
        if entry.status is CheckpointStatus.PUBLISHED
        if entry.iteration in visible or (entry.iteration, entry.attempt) not in book.doubted
    }
    failed = {
        attempt: entry.iteration
        for attempt, entry in trial.failures_saved.items()
        if entry.status is CheckpointStatus.PUBLISHED
    }
    if not set(failed.items()) <= set(failures.items()):
        yield f"trial {trial.trial} has the failure checkpoints {failures}, but the core believes in {failed}"
    giving_up = [i for i, entry in trial.checkpoints.items() if entry.status is CheckpointStatus.DELETING]
    shown = {iteration: there.attempt for iteration, there in visible.items() if iteration not in giving_up}
    if shown != known:
        yield f"trial {trial.trial} has the checkpoints {shown}, but the core believes in {known}"
