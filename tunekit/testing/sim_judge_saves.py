"""What the judge of a simulated sweep has to say of checkpoints: which are there, and which of them may go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tunekit.core.commands import DeleteCheckpoint, PublishCheckpoint
from tunekit.core.events import (
    CheckpointAdopted,
    CheckpointMissing,
    CheckpointPublished,
    CheckpointStaged,
    Event,
    PublishFailed,
    Settings,
)
from tunekit.testing.sim_books import Books, hold
from tunekit.types import TrialId


class SaveJudge:
    """Follows the checkpoints of all trials.

    Args:
        books: Of all trials, in their order.
    """

    def __init__(self, books: Sequence[Books]) -> None:
        """Begin with what is in the books."""
        self.settings = Settings()
        """Of the newest driver."""
        self._books = books

    def owed(self) -> Iterator[tuple[TrialId, int, bool]]:
        """Yield trial, iteration and exactness of each publication that is open."""
        for trial, book in enumerate(self._books):
            yield from ((trial, iteration, True) for iteration in book.staged)
            yield from ((trial, iteration, False) for (iteration, _), at in book.failures.items() if at == "staged")

    def see_publish(self, book: Books, command: PublishCheckpoint) -> None:
        """Hold that only what was staged is published."""
        if command.exact:
            known = book.staged.get(command.iteration) == command.attempt
        else:
            known = book.failures.get((command.iteration, command.attempt)) == "staged"
        hold(known, f"{command!r} publishes what was never staged")

    def see(self, book: Books, event: Event) -> None:
        """Enter what happened to a checkpoint."""
        if not getattr(event, "exact", True):
            self._see_failure(book, event)
            return
        match event:
            case CheckpointStaged():
                if book.counts(event.attempt) and book.saved_at < event.iteration <= book.newest:
                    book.saved_at = event.iteration
                    book.staged[event.iteration] = event.attempt
                    self._describe(book, event)
            case CheckpointPublished():
                if book.staged.get(event.iteration) == event.attempt:
                    book.published[event.iteration] = book.staged.pop(event.iteration)
                    book.ever_published.add((event.iteration, event.attempt))
                    book.unreadable.discard(event.iteration)
            case PublishFailed():
                if book.staged.get(event.iteration) == event.attempt:
                    book.given_up.add((event.iteration, book.staged.pop(event.iteration)))
                    self._doubt(book, event.iteration)
            case CheckpointAdopted() | CheckpointMissing():
                self._see_found(book, event)
            case _:
                pass

    def see_delete(self, book: Books, command: DeleteCheckpoint) -> None:
        """Hold that nothing is deleted that anybody needs."""
        if not command.exact:
            known = book.failures.get((command.iteration, command.attempt)) in {"published", "gone"}
            hold(known, f"{command!r} deletes a failure checkpoint that is not published")
            book.failures[command.iteration, command.attempt] = "gone"
            return
        if (command.iteration, command.attempt) in book.given_up:
            return  # once more, by a later driver
        if command.quarantine:
            hold(command.iteration in book.unreadable, f"{command!r} puts a good checkpoint aside")
        else:
            self._check_worth(book, command)
            known = book.published.pop(command.iteration, None) == command.attempt
            hold(known, f"{command!r} deletes what is not published")
            is_beyond = book.has_ended and command.iteration > book.newest
            is_spare = self._is_spare(book, command)
            has_served = bool(book.published) and (command.iteration, command.attempt) in book.interim
            if not (is_beyond or is_spare) and self.settings.logical_slots is not None and not book.is_live:
                book.is_done = has_served  # It was parked when its end was decided, and no journal says so.
            may_go = is_beyond or is_spare or (has_served and (book.has_ended or book.is_done))
            hold(may_go, f"{command!r} deletes what the trial goes on from")
            needed = book.is_live and book.resumed_from == command.iteration
            hold(not needed, f"{command!r} deletes the checkpoint that its attempt started from")
        book.given_up.add((command.iteration, command.attempt))

    def _is_spare(self, book: Books, command: DeleteCheckpoint) -> bool:
        """Return whether a trial can do without a checkpoint that is not published any more.

        Once it has come to its end, a newer one will do; until then, another one must be left that it goes on from.
        """
        if book.has_ended and not book.budgets.may_fail:
            return max(book.published, default=0) > command.iteration
        before = {**book.published, command.iteration: command.attempt}
        return book.onward(before) != command.iteration

    def scores(self) -> list[float]:
        """Return the scores of all published checkpoints."""
        return [book.scores[key] for book in self._books for key in book.published.items() if key in book.scores]

    def _doubt(self, book: Books, iteration: int) -> None:
        """Follow that a published checkpoint was to be replaced, and that nobody knows whether it was."""
        if iteration not in book.published:
            return
        if len(book.published) > 1:
            book.given_up.add((iteration, book.published.pop(iteration)))
        else:
            book.doubted.add((iteration, book.published[iteration]))

    def _see_found(self, book: Books, event: CheckpointAdopted | CheckpointMissing) -> None:
        """Follow what a driver that takes over found, or did not find."""
        key = (event.iteration, event.attempt)
        if isinstance(event, CheckpointMissing):
            if book.published.get(event.iteration) == event.attempt:
                del book.published[event.iteration]
                book.given_up.add(key)
        elif event.iteration not in {*book.published, *book.staged} and key not in book.given_up and not book.is_live:
            book.published[event.iteration] = event.attempt

    def _describe(self, book: Books, event: CheckpointStaged) -> None:
        key = (event.iteration, event.attempt)
        book.sizes[key] = sum(file["size"] for file in event.manifest.get("files", []))
        if event.score is not None:
            book.scores[key] = event.score
        if event.pinned:
            book.pinned.add(key)
        if event.interim:
            book.interim.add(key)

    def _see_failure(self, book: Books, event: Any) -> None:
        """Follow a failure checkpoint: staged once, published once, deleted once at most."""
        key = (event.iteration, event.attempt)
        at = book.failures.get(key, "")
        if isinstance(event, CheckpointStaged):
            is_first = all(attempt != event.attempt for _, attempt in book.failures)
            if book.counts(event.attempt) and is_first:
                book.failures[key] = "staged"
        elif isinstance(event, CheckpointPublished) and at == "staged":
            book.failures[key] = "published"
        elif isinstance(event, PublishFailed) and at == "staged":
            book.failures[key] = "gone"

    def _check_worth(self, book: Books, command: DeleteCheckpoint) -> None:
        """Hold that what is pinned stays, and the best of the experiment, but for what lies beyond a trial's end."""
        key = (command.iteration, command.attempt)
        if command.iteration > book.newest:
            return
        hold(key not in book.pinned, f"{command!r} deletes a pinned checkpoint")
        if key in book.scores and key not in book.interim and self.settings.score_attribute is not None:
            sign = 1 if self.settings.score_order == "max" else -1
            better = [score for score in self.scores() if sign * score >= sign * book.scores[key]]
            hold(len(better) > 1, f"{command!r} deletes the best checkpoint of the experiment")
