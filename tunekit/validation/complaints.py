"""What can be wrong with a trainable, each kind with a message of its own: what happened, what differs, what to do."""

from __future__ import annotations

from enum import StrEnum

from tunekit.errors import ValidationError
from tunekit.validation.compare import Difference, first_part
from tunekit.validation.jobs import RESTORING, Change, Outcome, Trouble
from tunekit.validation.laboratory import ProcessDiedError


class Problem(StrEnum):
    """The kinds; ``ValidationError.problem`` is one of them."""

    MISSING_METHODS = "missing methods"
    NOT_PICKLABLE = "not picklable"
    NOT_A_DICT = "result is no dict"
    BAD_RESULT = "bad result"
    UNPICKLABLE_STATE = "unpicklable state"
    WRONG_RETURN = "wrong return"
    EXCEPTION = "exception"
    PROCESS_DIED = "process died"
    TOO_SHORT = "too short"
    NO_CHECKPOINT = "no checkpoint"
    NOT_DETERMINISTIC = "not deterministic"
    SHARED_STATE = "shared state"
    SAVE_CHANGES_TRAINING = "save changes training"
    MUTATED_DICT = "mutated dict"
    UNREADABLE = "unreadable checkpoint"
    CHANGED_CHECKPOINT = "changed checkpoint"
    ABSOLUTE_PATH = "absolute path"
    NEVER_RESTORES = "never restores"
    MISSING_GENERATOR = "missing random generator"
    NO_OP_LOAD = "no-op load"
    FORGOTTEN_ITERATION = "forgotten iteration"
    PARTIAL_LOAD = "partial load"


_WHAT_TO_SAVE = "compare what save_checkpoint writes with what load_checkpoint puts back"


class Complaints:
    """Makes the errors about one trainable.

    Args:
        name: What it is called.
        is_class: Whether it is a class.
    """

    def __init__(self, name: str, *, is_class: bool) -> None:
        """Remember its name."""
        self._name = name
        self._is_class = is_class
        self._load = "load_checkpoint" if is_class else "the function's restore"

    def of(
        self,
        problem: Problem,
        text: str,
        *,
        hint: str,
        difference: Difference | None = None,
        trouble: Trouble | None = None,
        **fields: object,
    ) -> ValidationError:
        """Return the error.

        Args:
            problem: Which kind.
            text: What happened.
            hint: What to do.
            difference: What differs.
            trouble: What was raised.
            fields: Those that follow neither from ``difference`` nor from ``trouble``.
        """
        about: dict[str, object] = {"step": None, "key": "", "expected": "", "found": "", "traceback": ""}
        if difference:
            text = f"{text}: {difference}"
            about |= {"step": difference.step, "key": difference.key}
            about |= {"expected": difference.expected, "found": difference.found}
        if trouble:
            about |= {"traceback": trouble.traceback, "found": f"{trouble.type}: {trouble.message}"}
            text = f"{text}\n\n{trouble.traceback.rstrip()}"
        return ValidationError(f"{self._name}: {text}", hint=hint, problem=problem.value, **{**about, **fields})

    # -- before anything is compared -----------------------------------------------------------------------------------

    def missing_methods(self, missing: list[str]) -> ValidationError:
        """Return that a class lacks methods."""
        names = " and ".join(f"{name}()" for name in missing)
        return self.of(
            Problem.MISSING_METHODS,
            f"the class does not define {names}, so its trials start over after every failure",
            hint=f"define {names}: save everything that step() needs to go on, and put it back",
            key=missing[0],
        )

    def no_saver(self) -> ValidationError:
        """Return that a function hands over nothing that can be saved."""
        return self.of(
            Problem.MISSING_METHODS,
            "the function reports nothing that can be saved, so its trials start over after every failure",
            hint="call report(metrics, checkpoint=state) with an object that has save_checkpoint(path) and "
            "load_checkpoint(path), and restore(state) before the first report",
            key="checkpoint",
        )

    def too_short(self, done: int) -> ValidationError:
        """Return that there are too few iterations to be interrupted."""
        return self.of(
            Problem.TOO_SHORT,
            f"the trial ended by itself after {done} iteration{'' if done == 1 else 's'}, but at least 2 are needed to "
            "interrupt it",
            hint="give a config with which it trains longer",
            step=done,
        )

    def no_checkpoint(self, steps: int) -> ValidationError:
        """Return that a function saved too late."""
        return self.of(
            Problem.NO_CHECKPOINT,
            f"the function saved no checkpoint in its first {steps} iterations",
            hint="raise steps, report a checkpoint more often, or report an object with save_checkpoint(path), which "
            "is saved whenever one is due",
            step=steps,
        )

    def of_death(self, error: ProcessDiedError, when: str) -> ValidationError:
        """Return that the process did not survive."""
        if error.fields.get("is_loading"):
            return self.of(
                Problem.NOT_PICKLABLE,
                f"it cannot be loaded in a fresh process\n\n{error.message.rstrip()}",
                hint="workers unpickle a trainable or import it: what it needs must be importable, and nothing that "
                "exists only in this process can travel",
                traceback=error.message,
            )
        output = str(error.fields.get("output", ""))
        shown = f"\n\n{output}" if output else ""
        return self.of(
            Problem.PROCESS_DIED,
            f"the process {error.message} {when}{shown}",
            hint="user code ended it: look for os._exit, for native code that crashed, or for too little memory",
            found=error.message,
        )

    def of_trouble(self, outcome: Outcome, trouble: Trouble, when: str) -> ValidationError:
        """Return what an exception means."""
        step = trouble.iteration
        kind = trouble.type.rpartition(".")[2]
        if outcome.not_a_dict and not trouble.method:
            return self.of(
                Problem.NOT_A_DICT,
                f"step() must return a dict of metrics, but returned {outcome.not_a_dict} at iteration {step + 1}",
                hint="return a dict such as {'loss': loss}",
                step=step + 1,
                key="step",
                expected="a dict",
                found=outcome.not_a_dict,
            )
        if kind == "SaveError" and not trouble.method:
            return self._of_save_error(outcome, trouble)
        if trouble.method == RESTORING:
            return self.of(
                Problem.CHANGED_CHECKPOINT,
                f"a checkpoint was changed after it was saved: {trouble.message}",
                hint="close all files before save_checkpoint() returns, and leave its folder alone from then on",
                step=step,
                found=trouble.message,
            )
        if not trouble.method and kind == "CheckpointCorruptError":
            return self.of(
                Problem.UNREADABLE,
                f"what save_checkpoint() returned cannot be read in a fresh process: {trouble.message}",
                hint=trouble.hint or "save plain values and arrays rather than objects of your own",
                step=step,
                key="save_checkpoint",
                traceback=trouble.traceback,
            )
        if not trouble.method:
            problem = Problem.BAD_RESULT if kind == "ReportError" else Problem.EXCEPTION
            text = f"{when} it failed at iteration {step + 1}: {trouble.message}"
            return self.of(problem, text, hint=trouble.hint, step=step + 1, found=trouble.message)
        return self.of_exception(trouble, when)

    def of_exception(self, trouble: Trouble, when: str) -> ValidationError:
        """Return that a method raised."""
        method = trouble.method if " " in trouble.method else f"{trouble.method}()"
        begun = trouble.iteration + (1 if trouble.method == "step" else 0)
        at = f" at iteration {begun}" if begun else ""
        return self.of(
            Problem.EXCEPTION,
            f"{when} {method} raised {trouble.type}{at}: {trouble.message}",
            hint=f"mend {method}: the traceback above is that of your code",
            trouble=trouble,
            step=begun,
            key=trouble.method,
        )

    def _of_save_error(self, outcome: Outcome, trouble: Trouble) -> ValidationError:
        is_dict = outcome.returned == "dict"
        key = (outcome.unpicklable or "") if is_dict else "save_checkpoint"
        named = f" (its key {key!r})" if is_dict and key and repr(key) not in trouble.message else ""
        return self.of(
            Problem.UNPICKLABLE_STATE if is_dict else Problem.WRONG_RETURN,
            f"at iteration {trouble.iteration} {trouble.message}{named}",
            hint=trouble.hint,
            step=trouble.iteration,
            key=key,
            found=outcome.returned,
        )

    # -- runs that nobody interrupted ----------------------------------------------------------------------------------

    def not_deterministic(self, difference: Difference) -> ValidationError:
        """Return that two runs differ, so that none can be compared with a restored one."""
        return self.of(
            Problem.NOT_DETERMINISTIC,
            "two runs of it differ although neither was interrupted, so this is not about saving and restoring",
            hint="draw all chance from random, numpy.random or torch, which tunekit seeds for each trial, or seed your "
            "own generators; do not depend on the order of sets or on the clock. A metric or a float in the state that "
            "measures time is left out if its name begins with time_",
            difference=difference,
        )

    def shared_state(self, shared: list[Change], difference: Difference) -> ValidationError:
        """Return that a second instance in the same process begins with what the first one left."""
        named = "; ".join(f"{change.key} went from {change.before} to {change.after}" for change in shared[:4])
        blamed = f" ({named})" if named else ""
        what = "instance" if self._is_class else "trial"
        return self.of(
            Problem.SHARED_STATE,
            f"a second {what} in the same process does not begin where the first one began{blamed}",
            hint="keep state on the instance: set self.… in setup()"
            if self._is_class
            else "keep state inside of the function, not in variables of its module",
            difference=difference,
            attributes=[change.key for change in shared],
        )

    def save_changes_training(self, difference: Difference) -> ValidationError:
        """Return that a run that saves differs from one that does not."""
        return self.of(
            Problem.SAVE_CHANGES_TRAINING,
            "saving changes the training: a run that saves at each iteration differs from one that saves at its end",
            hint="save_checkpoint() must leave everything as it is: no drawing of random numbers, no change of "
            "attributes, no switch to eval mode or to another device that is not undone",
            difference=difference,
        )

    def mutated_dict(self, change: Change) -> ValidationError:
        """Return that the trainable went on using a dict that it had handed over."""
        return self.of(
            Problem.MUTATED_DICT,
            f"the dict that save_checkpoint() returned at iteration {change.iteration} was changed afterwards: its key "
            f"{change.key!r} went from {change.before} to {change.after}",
            hint="return a new dict, such as dict(self.state): the one that is returned belongs to the checkpoint",
            step=change.iteration,
            key=change.key,
            expected=change.before,
            found=change.after,
        )

    # -- restored runs -------------------------------------------------------------------------------------------------

    def never_restores(self, step: int) -> ValidationError:
        """Return that a function did not even look at its checkpoint."""
        return self.of(
            Problem.NEVER_RESTORES,
            f"the function never asks for its checkpoint: restored at iteration {step}, it began again at iteration 1",
            hint="call restore(state), or get_checkpoint(), before the first report",
            step=step + 1,
            expected=f"iteration {step + 1}",
            found="iteration 1",
        )

    def absolute_path(
        self, paths: list[str], *, trouble: Trouble | None, difference: Difference | None
    ) -> ValidationError:
        """Return that something is looked for where it was saved."""
        shown = f" ({paths[0]})" if paths else ""
        return self.of(
            Problem.ABSOLUTE_PATH,
            f"it remembers an absolute path{shown}, where nothing is any more once the checkpoint has been moved",
            hint="read from the folder that load_checkpoint(path) is given, keep names relative to it, and write "
            "nothing elsewhere: checkpoints are moved, copied and restored on other machines",
            trouble=trouble,
            difference=difference,
            key=paths[0] if paths else "path",
            step=difference.step if difference else trouble.iteration if trouble else None,
        )

    def changed_by_loading(self, change: str, step: int) -> ValidationError:
        """Return that what was restored cannot be restored again."""
        return self.of(
            Problem.CHANGED_CHECKPOINT,
            f"{self._load} changes the checkpoint that it reads, so it can be restored only once: {change}",
            hint="leave the folder as it is, and write into a copy of it or elsewhere",
            step=step,
            found=change,
        )

    def missing_generator(self, names: list[str], how: list[str], difference: Difference) -> ValidationError:
        """Return that a random generator goes on from another state."""
        return self.of(
            Problem.MISSING_GENERATOR,
            f"the state of the random generator of {' and '.join(names)} is not restored",
            hint=f"save and restore it: {'; '.join(how)}",
            difference=difference,
            generators=names,
        )

    def no_op_load(self, step: int, difference: Difference) -> ValidationError:
        """Return that nothing is restored at all."""
        return self.of(
            Problem.NO_OP_LOAD,
            f"{self._load} changes nothing: restored at iteration {step}, it trains as if it had just begun",
            hint=f"put back what was saved; {_WHAT_TO_SAVE}",
            difference=difference,
        )

    def forgotten_iteration(self, name: str, difference: Difference) -> ValidationError:
        """Return that counting begins again."""
        return self.of(
            Problem.FORGOTTEN_ITERATION,
            f"the count of iterations is not restored: {name} begins again",
            hint="save the count and begin from it: in a class self.iteration is kept for you, in a function "
            "get_context().iteration tells how many are done",
            difference=difference,
        )

    def partial_load(self, attributes: list[Change], difference: Difference) -> ValidationError:
        """Return that something is missing."""
        named = "; ".join(f"{one.key} is {one.after}, was {one.before}" for one in attributes[:5])
        blamed = f" (after loading: {named})" if named else ""
        return self.of(
            Problem.PARTIAL_LOAD,
            f"not everything is restored{blamed}",
            hint=_WHAT_TO_SAVE + (f"; begin with {attributes[0].key}" if attributes else ""),
            difference=difference,
            attributes=[first_part(one.key) for one in attributes],
        )
