"""The order in which a trainable is examined: alone, with saving, and restored.

::

    process 1    run without saving, iterations 1 … n      what a trial that nobody interrupts does
                 run with saving at each of them           the same, or saving changes it
    process 2    restored at iteration s, s + 1 … n        the same as the other two from s + 1 on

n is 2 · steps and s is steps, unless the trial ends earlier by itself. Later checkpoints than that of s exist when s is
restored, so state that is kept outside of a checkpoint is of the wrong iteration.
"""

from __future__ import annotations

from tunekit.errors import StorageError, ValidationError
from tunekit.validation.compare import Comparison, Record
from tunekit.validation.complaints import Complaints
from tunekit.validation.explanation import Explanation
from tunekit.validation.jobs import Run
from tunekit.validation.laboratory import Kept, Laboratory, ProcessDiedError, Subject


class Examination:
    """Examines one trainable.

    Args:
        subject: The trainable.
        laboratory: Where it is run.
        steps: How many iterations before the interruption, and how many after it.
    """

    def __init__(self, subject: Subject, laboratory: Laboratory, steps: int) -> None:
        """Run nothing yet."""
        self._laboratory = laboratory
        self._steps = steps
        self._complaints = Complaints(subject.name, is_class=subject.is_class)
        self._comparison = Comparison(laboratory)

    def run(self) -> None:
        """Run it all.

        Raises:
            ValidationError: What is wrong with it.
        """
        num_steps = 2 * self._steps
        plain, saving = self._run([Run(iterations=num_steps, saves=False), Run(iterations=num_steps, saves=True)])
        self._check(plain, "before anything was saved,")
        self._check(saving, "in a run that saves,")
        if len(plain.rows) < 2:  # noqa: PLR2004 - one before and one after the interruption
            raise self._complaints.too_short(len(plain.rows))
        if difference := self._comparison.of_records(plain, saving, learns=True):
            raise self._explanation(plain, saving).of_saving(difference)
        step = self._step_to_restore(plain, saving)
        if saving.outcome.mutated:
            raise self._complaints.mutated_dict(saving.outcome.mutated)
        self._restore(plain, saving, step)

    def _restore(self, plain: Record, saving: Record, step: int) -> None:
        done = len(plain.rows)
        # One more, if the trial is to end by itself there: a restored one may not know when.
        limit = done if plain.outcome.is_stopped else done + 1
        run = Run(iterations=limit, saves=True, resume_from=step)
        (restored,) = self._run([run], checkpoint=saving.kept[step], when="while it went on from a checkpoint")
        explanation = self._explanation(plain, saving)
        if restored.outcome.trouble and (problem := explanation.of_lost_path(restored)):
            raise problem
        if restored.rows and restored.rows[0].iteration <= step:
            raise self._complaints.never_restores(step)
        self._check(restored, "in a fresh process that was to go on from a checkpoint,")
        if difference := self._comparison.of_records(saving, restored, after=step):
            raise explanation.of_restoring(difference, restored, step)
        if restored.outcome.changed:
            raise self._complaints.changed_by_loading(restored.outcome.changed, step)

    def _explanation(self, plain: Record, saving: Record) -> Explanation:
        return Explanation(self._laboratory, self._comparison, self._complaints, plain, saving)

    def _run(
        self, runs: list[Run], *, checkpoint: Kept = None, when: str = "before anything was restored"
    ) -> list[Record]:
        try:
            outcomes, kept = self._laboratory.run(runs, checkpoint=checkpoint)
        except ProcessDiedError as error:
            raise self._complaints.of_death(error, when) from None
        return [Record(*both) for both in zip(outcomes, kept, strict=True)]

    def _check(self, record: Record, when: str) -> None:
        """Raise what user code, or what was left of it, did wrong in one run."""
        outcome = record.outcome
        if outcome.storage:
            raise StorageError(
                f"a checkpoint could not be written while validating: {outcome.storage}",
                hint="make room in the folder for temporary files, or set TMPDIR to another one",
            )
        if outcome.trouble:
            raise self._complaints.of_trouble(outcome, outcome.trouble, when)
        if outcome.cleanup:
            raise self._complaints.of_exception(outcome.cleanup, when)

    def _step_to_restore(self, plain: Record, saving: Record) -> int:
        """Return the iteration whose checkpoint is restored.

        Raises:
            ValidationError: There is none.
        """
        limit = min(self._steps, len(plain.rows) - 1)
        if steps := [step for step in saving.kept if step <= limit]:
            return max(steps)
        raise self._no_checkpoint(saving, limit)

    def _no_checkpoint(self, saving: Record, limit: int) -> ValidationError:
        return self._complaints.no_checkpoint(limit) if saving.outcome.has_saver else self._complaints.no_saver()
