"""Whole sweeps in virtual time, from one seed, with every misfortune: the production core and driver, all else made up.

::

    Simulation(seed=7).run()                        # raises if a promise is broken
    python -m tunekit.testing.simulator --seed 7    # the same, from a shell

Real are the core, the turns of the driver, the journal's codec and framing, replay, schedulers and the table of
results. Made up are time, workers, messages, the store, the searcher and the disk (see the ``sim_…`` modules).

Checked at each boot: the journal that a crash left can be read, and replay gives the commands that it records; what
was acknowledged is in it; each visible checkpoint is known to it, and whole; no attempt was launched twice; a judge
with books of its own finds no fault with any command. At the end, besides: the sweep ended; each (trial, iteration) is
in the table once, with the value of an undisturbed run; each trial ended as its failures and decisions say; the
checkpoints are those of an undisturbed run; its accounts add up; and to run it again does nothing. In deterministic
mode a sweep that was drawn is run once more without misfortunes, and comes to the same.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from tunekit.core import invariants
from tunekit.core.codec import Record
from tunekit.core.events import DriverStarted, ResultReported, StopRequested
from tunekit.core.experiment import Experiment
from tunekit.core.state import State
from tunekit.core.trial import CheckpointStatus
from tunekit.errors import InvariantViolationError
from tunekit.runtime.driver.driver import Driver
from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_checks import require
from tunekit.testing.sim_drawing import draw_options
from tunekit.testing.sim_executor import SimExecutor
from tunekit.testing.sim_fate import Fate
from tunekit.testing.sim_journal import DriverDiedError, SimJournal
from tunekit.testing.sim_options import SimOptions, settings_of
from tunekit.testing.sim_publisher import SimPublisher
from tunekit.testing.sim_reference import differences, is_promised, undisturbed
from tunekit.testing.sim_review import Review
from tunekit.testing.sim_surroundings import Surroundings
from tunekit.testing.sim_world import SimClock, SimSearcher, SimStore, Timeline
from tunekit.types import Outcome, TrialId, TrialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a simulated sweep went. It went well: what does not, raises."""

    seed: int
    options: SimOptions
    boots: int
    """How many drivers there were, the last of which only looked at the results."""
    deaths: int
    """How many of them died."""
    turns: int
    attempts: int
    lost: int
    """How many of the attempts were lost: ended without ending their trial, though nobody had told them to."""
    records: int
    """In the journal at the end."""
    virtual_s: float
    digest: str
    """Of the journal. Equal for equal seeds, in every process and on every machine."""


class Simulation:
    """One sweep.

    Args:
        seed: Decides everything.
        options: What the sweep is like; drawn from the seed by default.
    """

    def __init__(self, seed: int, options: SimOptions | None = None) -> None:
        """Make a world in which nothing has happened yet."""
        self.seed = seed
        self._rng = random.Random(seed)  # noqa: S311 - the whole point is to be repeatable
        self.options = options if options is not None else draw_options(self._rng)
        self._is_drawn = options is None
        self.store = SimStore()
        self._timeline = Timeline()
        self._fate = Fate(self.options, self._rng)
        self._journal = SimJournal(self._fate.of_commit, self._rng.random)
        self._around = Surroundings(
            seed=seed,
            options=self.options,
            rng=self._rng,
            timeline=self._timeline,
            store=self.store,
            deliver=self._deliver,
            coin=self._fate.coin,
        )
        self._review = Review(self._around)
        self._inbox: list[Delivery] = []
        self._driver: Driver | None = None
        self._executor: SimExecutor | None = None
        self._publisher: SimPublisher | None = None
        self._boots = self._deaths = self._runs = self._chances = 0
        self._rung_at = -1.0
        self._is_finished = self._is_over = False
        self._launched_before = 0

    def run(self) -> Report:
        """Run the sweep to its end.

        Raises:
            InvariantViolationError: A promise is broken, or the sweep does not end.
        """
        try:
            self._boot()
            while not self._is_over:
                if self._fate.turns > 20 * self.options.calm_after + 200 * self.options.num_trials:
                    self._fail("the sweep does not end")
                if not self._timeline.step():
                    self._fail("the sweep has stalled: nothing is left to happen")
            if self._is_drawn:
                self._compare_with_undisturbed()
        except Exception as error:
            error.add_note(f"repeat it with: python -m tunekit.testing.simulator --seed {self.seed}")
            raise
        return Report(
            seed=self.seed,
            options=self.options,
            boots=self._boots,
            deaths=self._deaths,
            turns=self._fate.turns,
            attempts=len(self._review.judge.launched),
            lost=self._review.judge.num_lost,
            records=len(self._journal.open()),
            virtual_s=self._timeline.now,
            digest=xxhash.xxh3_128_hexdigest(self._journal.disk),
        )

    def outcome(self) -> dict[str, Any]:
        """Return what the sweep, which is over, has come to."""
        return self._review.outcome(self._journal.read_again())

    def _compare_with_undisturbed(self) -> None:
        """Hold that a sweep in deterministic mode comes to what it comes to if nothing happens."""
        if self._review.last is not None and is_promised(self._around, self._review.last):
            reference = Simulation(self.seed, undisturbed(self.options))
            reference.run()
            require(differences(reference.outcome(), self.outcome()))

    # -- drivers -------------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        """Start the next driver, as production does: open, replay, take over."""
        self._boots += 1
        records = self._journal.open()
        experiment = self._review.take_over(records)
        if self._is_finished and not self._is_rerun(experiment.state, records):
            return
        self._driver = self._make_driver(experiment)
        self.store.sweep(_wanted(experiment.state))
        settings = settings_of(
            self.options, self.seed, self._num_wanted(), run=self._runs, resume_errored=self._chances == 1
        )
        start = DriverStarted(generation=self._boots, settings=settings)
        self._guarded(lambda driver: driver.turn([start]))
        if self._driver is not None:
            executor = self._executor = SimExecutor(self._around, self._review.acknowledge, self._fate.of_command)
            self._guarded(lambda driver: driver.attach(executor))

    def _is_rerun(self, state: State, records: list[Record]) -> bool:
        """Check the results of a finished sweep, and say whether it still has to be run once more."""
        self._review.check_end(state, records)
        if not self._launched_before:
            self._launched_before = len(self._around.launched)
            return True
        if len(self._around.launched) != self._launched_before:
            self._fail("a finished sweep was run again and launched a trial")
        if self._journal.read_again() != records:
            self._fail("what was durable has changed")
        self._review.check_accounts(state, records)
        self._is_over = True
        return False

    def _make_driver(self, experiment: Experiment) -> Driver:
        state = experiment.state
        self._publisher = SimPublisher(self._around, self._fate.of_command)
        searcher = SimSearcher(
            num_trials=self._num_wanted(),
            coin=self._fate.coin,
            failure=self.options.faults.searcher,
            learns=self.options.learns,
            in_flight=lambda: state.num_open > 0,
            is_steady=self.options.logical_slots is not None,
            heard=list(self._review.heard),
        )
        return Driver(
            experiment=experiment,
            journal=self._journal,
            searcher=searcher,
            publisher=self._publisher,
            inbox=queue.SimpleQueue(),
            clock=SimClock(self._timeline, state.now),
            stop=self._judge_row if self.options.judged else None,
            observers=[self._review],
        )

    def _num_wanted(self) -> int:
        return 1 if self.options.grows and not self._runs else self.options.num_trials

    def _judge_row(self, row: ResultReported) -> str:
        return "enough" if row.iteration >= self.options.last_iteration else ""

    def _guarded(self, act: Callable[[Driver], None]) -> None:
        """Let the driver act; it may die of it, or come to its end."""
        driver = self._driver
        if driver is None:
            return
        try:
            act(driver)
            if self._fate.turns % (1 + len(driver.state.trials) // 10) == 0:  # of a large sweep now and then: it costs
                invariants.check(driver.experiment)
            if driver.state.ended:
                self._journal.close()
                self._conclude(driver)
            else:
                self._wind_alarm(driver)
        except DriverDiedError:
            self._bury(driver)

    def _bury(self, driver: Driver) -> None:
        """Let the workers of a dead driver die with it, most of them, and start the next one."""
        self._deaths += 1
        attempts = self._executor.attempts.values() if self._executor is not None else ()
        for attempt in attempts:
            if self._rng.random() < 0.7:  # noqa: PLR2004 - the others live on as orphans
                attempt.die()
        self._leave(driver)

    def _conclude(self, driver: Driver) -> None:
        """End a run in order. The user starts the next one, unless the sweep has finished."""
        is_finished = driver.state.outcome is Outcome.FINISHED and len(driver.state.trials) == self.options.num_trials
        if driver.state.outcome is Outcome.FINISHED and len(driver.state.trials) < self._num_wanted():
            self._fail(f"the sweep has finished with {len(driver.state.trials)} of {self._num_wanted()} trials")
        has_failed = any(trial.status is TrialStatus.FAILED for trial in driver.state.trials)
        if is_finished and has_failed and self.options.second_chance:
            self._chances += 1
        self._is_finished = is_finished and (not has_failed or not self.options.second_chance or self._chances > 1)
        self._runs += 1
        if self._executor is not None:
            self._executor.close()
        self._leave(driver)

    def _leave(self, driver: Driver) -> None:
        self._review.leave(driver.state)
        if self._publisher is not None:
            self._publisher.close()
        self._driver = self._executor = None
        self._inbox = []
        self._rung_at = -1.0
        self._timeline.after(1.0 + self._rng.random(), self._boot)

    # -- turns ---------------------------------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> bool:
        """Put a delivery into the driver's inbox; False if there is no driver."""
        if self._driver is None:
            return False
        if not self._inbox:
            self._timeline.after(0.01, self._turn, self._boots)
        self._inbox.append(delivery)
        return True

    def _turn(self, boot: int) -> None:
        if boot != self._boots or self._driver is None:
            return
        self._fate.turns += 1
        self._meddle()
        inbox, self._inbox = self._inbox, []
        self._guarded(lambda driver: driver.take(inbox))

    def _meddle(self) -> None:
        """Let the user and the cluster do something now and then."""
        if self._fate.coin(self.options.faults.interrupt):
            self._inbox.append(Delivery([StopRequested(reason="Ctrl-C")]))
        if self._fate.coin(self.options.faults.capacity) and self._executor is not None:
            self._executor.announce(self._rng.randrange(5))
            self._timeline.after(5.0, self._executor.announce, self.options.max_live)
        if self._fate.coin(self.options.faults.machine):
            self._around.nodes.strike()

    def _wind_alarm(self, driver: Driver) -> None:
        """Take a turn when the next deadline has come."""
        deadline = driver.experiment.next_deadline()
        if deadline is not None and deadline != self._rung_at:
            self._rung_at = deadline
            delay = max(0.0, deadline - driver._clock.now())  # noqa: SLF001
            self._timeline.after(delay + 1e-6, self._turn, self._boots)

    def _fail(self, text: str) -> None:
        state = self._driver.state if self._driver is not None else self._review.last
        raise InvariantViolationError(f"{text} (after {self._fate.turns} turns and {self._boots} boots): {state!r}")


def _wanted(state: State) -> set[tuple[TrialId, int, int, bool]]:
    return {
        (trial.trial, entry.iteration, entry.attempt, entry.exact)
        for trial in state.trials
        for entry in [*trial.checkpoints.values(), *trial.failures_saved.values()]
        if entry.status is CheckpointStatus.STAGED
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run seeds from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tunekit.testing.simulator", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    args = parser.parse_args(arguments)
    for seed in range(args.seed, args.seed + args.count):
        report = Simulation(seed).run()
        if args.count == 1:
            sys.stdout.write(f"{report}\n")
    sys.stdout.write(f"{args.count} seeds: no violations\n")


if __name__ == "__main__":
    main()
