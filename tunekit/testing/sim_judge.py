"""A second opinion on the core: what a sweep must look like from outside, written without looking at the core's state.

The judge sees each journalled event with the commands that came of it, and keeps books of its own. It is shorter than
the core because it only has to say what is wrong, not what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunekit.core.commands import (
    Command,
    ContinueTrial,
    DeleteCheckpoint,
    EndExperiment,
    InterruptTrial,
    KillTrial,
    LaunchTrial,
    PublishCheckpoint,
    StopTrial,
)
from tunekit.core.events import (
    CheckpointStaged,
    DriverStarted,
    Event,
    RestoreFailed,
    ResultReported,
    SaveFailed,
    Settings,
    TrialAssigned,
    TrialHalted,
    TrialReturned,
    TrialSaving,
    TrialStarted,
    TrialStartedOver,
    WorkerLost,
)
from tunekit.testing.sim_books import ENDINGS, Books, hold
from tunekit.testing.sim_judge_saves import SaveJudge
from tunekit.testing.sim_options import SimOptions
from tunekit.testing.sim_rungs import Rungs
from tunekit.types import TrialId, TrialStatus


class Judge:
    """Follows a journal from its beginning.

    Args:
        options: What the sweep is like.
    """

    def __init__(self, options: SimOptions) -> None:
        """Begin with empty books."""
        self.books: list[Books] = []
        self.rows: set[tuple[TrialId, int, int]] = set()
        """Trial, attempt and iteration of each row in the journal, whether it counts or not."""
        self.launched: set[tuple[TrialId, int]] = set()
        self.num_lost = 0
        """How many attempts were lost: ended without ending their trial, and nobody had told them to."""
        self.saves = SaveJudge(self.books)
        self._settings = Settings()
        self._now = 0.0
        self._follows_budgets = not options.second_chance
        """Whether budgets and waits can be followed; a second chance begins anew with both."""
        self._rungs = Rungs(options)

    def see(self, event: Event, commands: Sequence[Command]) -> None:
        """Enter an event and what came of it.

        Raises:
            InvariantViolationError: A promise is broken.
        """
        self._now = event.at
        if isinstance(event, DriverStarted):
            self._see_driver(event, commands)
        elif (trial := getattr(event, "trial", None)) is not None:
            self._see_trial(self.of(trial), event)
        for command in commands:
            self._see_command(command)
        if isinstance(event, ResultReported):
            book = self.of(event.trial)
            self._check_answer(book, event, commands)
            may_go_on = not any(book.doom) or book.is_stopping or not book.is_live
            hold(may_go_on, f"trial {event.trial} goes on although it began anew: {event!r}")

    def check_end(self, trial: TrialId, status: TrialStatus) -> None:
        """Compare how a trial ended with the failures that were told."""
        problem = self.of(trial).budgets.end(self._settings, status)
        hold(not problem, f"trial {trial}: {problem}")

    # -- events --------------------------------------------------------------------------------------------------------

    def _see_driver(self, event: DriverStarted, commands: Sequence[Command]) -> None:
        self._settings = self.saves.settings = event.settings
        for book in self.books:
            self.num_lost += book.is_live
            if book.is_live:
                self._condemn(book)
            book.seconds.end(self._now)
            book.pauses.begin_run()
            book.not_before = 0.0
            book.is_live = book.is_stopping = book.is_waiting = False
        again = {(c.trial, c.iteration, c.exact) for c in commands if isinstance(c, PublishCheckpoint)}
        owed = set(self.saves.owed())
        hold(again == owed, f"a new driver publishes {again}, but must publish {owed}")

    def _hear(self, book: Books, event: Event) -> None:
        """Follow when an attempt began to run, and when there was news of it. What comes twice is no news."""
        if isinstance(event, TrialAssigned) and book.counts(event.attempt):
            book.seconds.take_up(self._now)
        if isinstance(event, TrialStarted):
            is_news = book.seconds.started_at is None
        elif isinstance(event, ResultReported):
            is_news = event.iteration > book.newest
        else:
            is_news = isinstance(event, SaveFailed | TrialSaving) or (
                isinstance(event, CheckpointStaged) and (not event.exact or event.iteration > book.saved_at)
            )
        if is_news and book.counts(getattr(event, "attempt", 0)):
            book.seconds.hear(self._now, is_stopping=book.is_stopping)

    def _see_trial(self, book: Books, event: Event) -> None:
        self._hear(book, event)
        if book.counts(getattr(event, "attempt", 0)):
            book.budgets.locate(event)
        if isinstance(event, ResultReported):
            self.rows.add((event.trial, event.attempt, event.iteration))
            if book.counts(event.attempt) and event.iteration > book.newest:
                self._see_row(book, event)
        elif isinstance(event, TrialStartedOver):
            if book.counts(event.attempt):
                book.restarts.hear(event)
        elif isinstance(event, ENDINGS):
            if book.counts(event.attempt):
                self._see_end(book, event)
        else:
            self.saves.see(book, event)

    def _charge(self, book: Books, event: Event) -> None:
        """Have somebody pay for an attempt that did not come to its end."""
        is_sure = not (book.is_stopping or book.has_final)
        is_hung = book.seconds.is_killed
        is_spared = not book.has_final and book.pauses.lose(event) is False
        charged = book.budgets.pay(
            self._settings, event, book.reached, is_sure=is_sure, is_hung=is_hung, is_spared=is_spared
        )
        if charged is not None:
            self._blame(book, charged)
        if self._follows_budgets:
            book.not_before = self._now + book.budgets.wait_s

    def _blame(self, book: Books, event: Any) -> None:
        start = (book.resumed_from or 0, book.published.get(book.resumed_from or 0, 0))
        if all(start):
            fault = (start, event.cause if isinstance(event, WorkerLost) else event.error.type)
            if fault == book.last_fault:
                book.suspects.add(start)
            book.last_fault = fault

    def _see_row(self, book: Books, event: ResultReported) -> None:
        if not book.is_stopping:
            book.seconds.check_limit(self._settings, self._now)
        book.newest = event.iteration
        book.reached = event.iteration
        book.reported[event.iteration] = event.attempt
        if book.restarts.see(event, book.resumed_from) and self._settings.silent_restart == "fail":
            at = book.resumed_from or 0
            book.doom = at, book.published.get(at, 0)
        book.has_final = event.final
        book.pauses.is_pausing &= not event.stop
        book.is_ending = book.is_ending or bool(event.stop)
        asks = self._settings.asks_every_result and event.iteration > (book.resumed_from or 0)
        asks = asks or (book.until is not None and event.iteration >= book.until)
        book.is_waiting = asks and not event.final and not book.is_stopping
        self._rungs.enter(book, event)

    def _see_end(self, book: Books, event: Event) -> None:
        if isinstance(event, RestoreFailed):
            book.lose(event.iteration, may_begin_anew=not self._settings.fails_without_checkpoint)
        elif any(book.doom):
            self._condemn(book)
        elif not isinstance(event, TrialReturned | TrialHalted):
            self._charge(book, event)
        self.num_lost += not isinstance(event, TrialReturned | TrialHalted)
        book.seconds.end(self._now)
        book.is_live = book.is_waiting = book.is_stopping = False

    def _condemn(self, book: Books) -> None:
        """Have a trial fail that began anew where that is not wanted, and trust nothing that it saved since."""
        if any(book.doom):
            book.budgets.must_fail = book.budgets.may_fail = True
            for iteration, attempt in [*book.staged.items(), *book.published.items()]:
                if attempt == book.attempt:
                    book.anew.add((iteration, attempt))

    # -- commands ------------------------------------------------------------------------------------------------------

    def _see_command(self, command: Command) -> None:
        match command:
            case LaunchTrial():
                self._see_launch(self.of(command.trial), command)
            case ContinueTrial() | StopTrial():
                self._see_answer(self.of(command.trial), command)
            case PublishCheckpoint():
                self.saves.see_publish(self.of(command.trial), command)
            case DeleteCheckpoint():
                self.saves.see_delete(self.of(command.trial), command)
            case KillTrial():
                self._see_kill(self.of(command.trial), command)
                self.of(command.trial).pauses.see(command)
            case InterruptTrial():
                self.of(command.trial).pauses.see(command)
            case EndExperiment():
                busy = [
                    trial
                    for trial, book in enumerate(self.books)
                    if book.is_live or book.staged or "staged" in book.failures.values()
                ]
                hold(not busy, f"the run ends while trials {busy} are under way")
            case _:
                pass

    def _see_launch(self, book: Books, command: LaunchTrial) -> None:
        hold(not book.is_live, f"{command!r} launches a trial that is alive")
        hold(not book.is_done, f"{command!r} follows the deletion of what it was parked with")
        hold(self._now >= book.not_before, f"{command!r} comes before {book.not_before} s")
        hold(command.attempt > book.attempt, f"{command!r} follows attempt {book.attempt}")
        if book.pauses.see(command) and not self._settings.rules:
            book.budgets.confirm()
        self._check_budgets(book, command)
        hold(not book.staged, f"{command!r} does not wait for the publication of {book.staged}")
        newest = book.onward(book.published)
        hold(command.resume_from == newest, f"{command!r} does not start from the newest checkpoint, {newest}")
        self.launched.add((command.trial, command.attempt))
        book.attempt, book.is_live, book.newest, book.has_final = command.attempt, True, 0, False
        book.saved_at = 0
        book.is_ending, book.doom = False, (0, 0)
        book.restarts.begin()
        book.until, book.resumed_from = command.until, command.resume_from

    def _check_budgets(self, book: Books, command: LaunchTrial) -> None:
        """Hold that who has failed for good is left alone, and that nodes are avoided as the user's rules say."""
        budgets, avoided = book.budgets, set(command.avoid)
        if self._follows_budgets:
            hold(not budgets.is_over(self._settings), f"{command!r} comes after the end: {budgets}")
        is_right = budgets.avoided <= avoided <= budgets.avoided | budgets.perhaps_avoided
        hold(is_right, f"{command!r} must avoid {budgets.avoided}, and {budgets.perhaps_avoided} perhaps")
        budgets.node = ""

    def _see_answer(self, book: Books, command: ContinueTrial | StopTrial) -> None:
        hold(book.counts(command.attempt), f"{command!r} speaks to an attempt that is over")
        if isinstance(command, ContinueTrial):
            hold(book.is_waiting, f"{command!r} answers a trial that did not ask")
            book.until = command.until
        else:
            hold(not book.is_stopping, f"{command!r} stops a trial twice")
            book.seconds.check_stop(self._settings, self._now, command)
            book.is_stopping = True
            if self._settings.time_limit_s is None:  # Nobody says so if that ends it while it pauses.
                book.pauses.see(command)
            book.is_ending = book.is_ending or not command.pause
        book.is_waiting = False

    def _see_kill(self, book: Books, command: KillTrial) -> None:
        """Hold that a trial is killed only if it does not stop, or if it runs and says nothing."""
        hold(book.counts(command.attempt), f"{command!r} kills an attempt that is over")
        if not book.is_stopping:
            book.seconds.check_kill(self._settings, self._now, command)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _check_answer(self, book: Books, event: ResultReported, commands: Sequence[Command]) -> None:
        """Hold that who waits is answered, and that a decision is ASHA's, the same in every attempt."""
        if self._settings.logical_slots is not None:
            return  # Who waits and what is decided depends on others that may still be on their way.
        hold(not book.is_waiting, f"trial {event.trial} is left waiting after {event!r}")
        told = [c for c in commands if isinstance(c, ContinueTrial | StopTrial) and c.trial == event.trial]
        if not told or event.iteration not in book.decisions or any(book.doom):
            return
        goes_on, expected = isinstance(told[0], ContinueTrial), book.decisions[event.iteration]
        hold(goes_on == expected, f"{told[0]!r} answers {event!r}, but going on must be {expected}")

    def of(self, trial: TrialId) -> Books:
        """Return the book of a trial."""
        while len(self.books) <= trial:
            self.books.append(Books())
        return self.books[trial]
