"""Which checkpoints a simulated trial has at its end, if nothing has cost one of them for good.

They are those of an undisturbed trial, to the last one: what was saved besides, because a machine was to go, is there
to go on from, and goes with the next regular one. Only if there is no regular one, it stays: the newest of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tunekit.schedulers import FIFO
from tunekit.testing.sim_books import Books
from tunekit.testing.sim_options import SimOptions, is_divisible
from tunekit.testing.sim_world import Oracle
from tunekit.types import TrialId


def check_kept(
    options: SimOptions,
    trial: TrialId,
    kept: Collection[int],
    book: Books,
    warned: Collection[tuple[TrialId, int]],
    oracle: Oracle,
) -> Iterator[str]:
    """Yield in what the checkpoints of a trial that is complete differ from what they must be.

    Args:
        options: What the sweep is like.
        trial: The trial.
        kept: Iterations of the checkpoints that it has.
        book: What the judge knows of it.
        warned: Attempts that were given notice.
        oracle: Knows the scores.
    """
    if not _is_comparable(options):
        return
    regular = _regular(options)
    saved = {iteration for iteration, _ in book.ever_published}
    if not regular <= saved:
        yield f"trial {trial} has saved {sorted(saved)}, but must have saved {sorted(regular)}"
    for iteration, attempt in book.ever_published:
        if iteration not in regular and (trial, attempt) not in warned:
            yield f"attempt {attempt} of trial {trial} has saved iteration {iteration} although nothing asked for it"
    expected = _retained(options, trial, regular, oracle) if regular else {max(saved)} if saved else set()
    if set(kept) != expected:
        yield f"trial {trial} has the checkpoints {sorted(kept)} of {sorted(saved)}, but must have {sorted(expected)}"


def _is_comparable(options: SimOptions) -> bool:
    """Whether nothing costs a checkpoint for good, and nothing but a notice asks for one more."""
    faults = options.faults
    # Who saves when told to stop says so, and may be killed before that is heard.
    unheard = options.persist_s > 0 and faults.delay + 0.1 > 2 * options.stop_grace_s
    costs = faults.anew or faults.save or faults.store or faults.damage or faults.deaf or unheard
    asks = faults.interrupt or options.time_budget_s or options.fail_fast or options.time_limit_s
    asks = asks or options.auto or options.deadline_s or options.max_cost or options.logical_slots  # It parks trials.
    return isinstance(options.scheduler, FIFO) and not costs and not asks and options.max_bytes is None


def _regular(options: SimOptions) -> set[int]:
    """Return the iterations that an undisturbed trial saves."""
    last = options.last_iteration
    saved = {i for i in range(1, last + 1) if is_divisible(i, options.save_every) or is_divisible(i, options.pin_every)}
    return saved | {last} if options.saves_at_end else saved


def _retained(options: SimOptions, trial: TrialId, saved: Collection[int], oracle: Oracle) -> set[int]:
    if options.num_to_keep is None or not saved:
        return set(saved)
    ranked = sorted(saved, key=lambda i: (oracle.metric(trial, i) if options.by_score else 0.0, i))
    pinned = {i for i in saved if is_divisible(i, options.pin_every)}
    return {*ranked[-options.num_to_keep :], max(saved), *pinned}
