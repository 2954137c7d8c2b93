"""The script compared with the experiment that is already there, and what follows from a difference.

What an experiment *is* (its identity) may never change. Its search space may, if ``on_change="extend"`` says so: new
trials are drawn from the new one. With ``on_change="fork"``, a script that describes something else goes on under
another name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import count

from tunekit.config.problems import MAX_NAME_BYTES
from tunekit.core.events import DriverStarted, TrialStarted
from tunekit.core.trial import TrialState
from tunekit.journal.folder import ExperimentFolder, experiment_folder
from tunekit.journal.header import ExperimentHeader, differences, mismatch
from tunekit.logs import logger_of
from tunekit.printable import one_line
from tunekit.runtime.sweep.plan import Plan
from tunekit.runtime.sweep.spaces import Spaces
from tunekit.trainable import code_digest, has_changed

logger = logger_of("tunekit")

_QUESTION = ("metric", "mode")
"""Parts of the identity that say what is looked for."""


def seed_of(plan: Plan, header: ExperimentHeader) -> int:
    """Return the script's seed, or else the recorded one."""
    return plan.tune.seed if plan.tune.seed is not None else int(header.identity.get("seed", 0))


def new_header(plan: Plan, seed: int) -> ExperimentHeader:
    """Return what an experiment of this script says of itself."""
    return ExperimentHeader(name=plan.name, identity=plan.identity(seed), space=plan.space.signature())


def has_begun(folder: ExperimentFolder) -> bool:
    """Return whether a trial has ever started, from which moment on the header binds."""
    return any(isinstance(record, TrialStarted) for record in folder.records(holding=b'"trial_started"'))


def is_as_begun(plan: Plan, header: ExperimentHeader) -> bool:
    """Return whether identity and space are those with which the experiment began."""
    script = new_header(plan, seed_of(plan, header))
    return not any(differences("", header.identity, script.identity)) and not any(
        differences("", header.space, script.space)
    )


def check_identity(plan: Plan, header: ExperimentHeader) -> None:
    """Compare the script with what the experiment is.

    Raises:
        ExperimentMismatchError: They differ.
    """
    if found := list(differences("", header.identity, plan.identity(seed_of(plan, header)))):
        raise mismatch(header.name, found, hint=_QUESTION_HINT if _questions(found) else "")


def check_space(plan: Plan, header: ExperimentHeader, spaces: Spaces, trials: Iterable[TrialState] = ()) -> None:
    """Compare the script's search space with the one that was drawn from last.

    Args:
        plan: The script.
        header: The experiment.
        spaces: Those that it has had.
        trials: Its trials; those that have not ended must still have a configuration.

    Raises:
        ExperimentMismatchError: They differ, which the script does not allow, or not in this way.
        ConfigError: A trial cannot go on in the new space.
    """
    if changes := spaces.changes:
        if plan.run.on_change != "extend":
            raise mismatch(header.name, changes, hint=_SPACE_HINT)
        if spaces.changed_grid:
            raise mismatch(header.name, changes, hint=_GRID_HINT)
    for trial in trials:
        if not trial.status.is_ended and not spaces.is_current(trial.trial):
            spaces.resolve(trial.trial, trial.draw.values)


def has_work(plan: Plan, trials: Sequence[TrialState]) -> bool:
    """Return whether a run of the script may compute anything, and not only return what is there."""
    is_enough = plan.num_trials is not None and len(trials) >= plan.num_trials
    tries_again = plan.resume_errored or plan.restart_errored
    return not is_enough or tries_again or not all(trial.status.is_ended for trial in trials)


def warn_of_changes(plan: Plan, header: ExperimentHeader, spaces: Spaces, trials: Sequence[TrialState]) -> None:
    """Say what the user should know who has changed the script and goes on with the experiment."""
    if spaces.changes:
        logger.warning(
            "the search space of %r was changed (%s): its %d trials so far keep their configurations, and new ones are "
            "drawn from the new space. From here on, this script alone does not come to the same sweep again",
            header.name,
            _counted(spaces.changes),
            len(trials),
        )
    if trials and has_work(plan, trials) and has_changed(spaces.code, code_digest(plan.trainable)):
        logger.warning(
            "the code of %s was changed since %r ran last: its results so far are of the old code, and what is "
            "computed from now on is of the new one",
            plan.info.name,
            header.name,
        )


def forked(plan: Plan, *, says_so: bool = True) -> Plan:
    """Return the plan under the name under which it goes on: its own, unless another experiment has that.

    Args:
        plan: The script.
        says_so: Whether the user is to be told of another name.

    Raises:
        ExperimentMismatchError: The script looks for something else, or does not allow another name.
    """
    if plan.run.on_change != "fork" or not (found := _others(plan)):
        return plan
    if _questions(found):
        raise mismatch(plan.name, found, hint=_QUESTION_HINT)
    for number in count(2):
        other = dataclasses.replace(plan, run=dataclasses.replace(plan.run, name=_numbered(plan.name, number)))
        if not _others(other):
            break
    if says_so:
        text = f"the script does not describe the experiment {plan.name!r} ({_counted(found)})"
        logger.warning("%s: it goes on as %r", one_line(text), other.name)
    return other


def _numbered(name: str, number: int) -> str:
    """Return a name with a number behind it, shortened if it would be too long for a folder."""
    suffix = f"-{number}"
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore").rstrip() + suffix


def _others(plan: Plan) -> list[str]:
    """Return in what the experiment of the plan's name is another one than the script's; nothing: it can be used."""
    folder = experiment_folder(plan.path)
    header = folder.header()
    if header is None or not has_begun(folder):
        return []
    found = list(differences("", header.identity, plan.identity(seed_of(plan, header))))
    return found + recorded_spaces(plan, header, folder).changes


def recorded_spaces(plan: Plan, header: ExperimentHeader, folder: ExperimentFolder) -> Spaces:
    """Return the newest search space of an experiment, without reading all of its journal."""
    spaces = Spaces(plan, header.space, seed_of(plan, header))
    for record in folder.records(holding=b'"driver_started"'):
        if isinstance(record, DriverStarted):
            spaces.note(record, 0)
    return spaces


def _questions(found: list[str]) -> list[str]:
    return [line for line in found if line.partition(":")[0] in _QUESTION]


def _counted(found: list[str]) -> str:
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}"


_SPACE_HINT = (
    "Put the search space back to go on as it was. With RunConfig(on_change='extend') new trials are drawn from the "
    "new one, with on_change='fork' a new experiment begins beside this one."
)
_GRID_HINT = (
    "A grid cannot be extended: its cells would be numbered in another way. Begin a new experiment beside this one "
    "(on_change='fork'), or make the grid a choice from the start."
)
_QUESTION_HINT = "A sweep that looks for something else needs a name of its own: RunConfig(name=…)."
