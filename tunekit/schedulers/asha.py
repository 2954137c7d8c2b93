"""Asynchronous successive halving, the kind that stops trials and never pauses them.

A trial runs to a *rung*, an iteration at which its metric is compared with those of all trials that came there before
it. If it is among the best 1/η of them it goes on to the next rung, η times further away; otherwise it ends. Nobody
waits for anybody: a decision uses what is recorded when the trial arrives.

State is what was recorded and decided, and it changes only in ``decide``. A decision stands: a trial that comes to a
rung again, in a later attempt, is given its first answer and is not recorded twice.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf, isfinite
from typing import ClassVar

from tunekit.config.problems import Problems
from tunekit.core.decisions import Continue, Decision, Stop
from tunekit.core.rng import uniform
from tunekit.schedulers.rung import Rung
from tunekit.types import Mode, TrialId


@dataclass(frozen=True, kw_only=True)
class ASHA:
    """Stops trials that are not among the best at their rung.

    The rungs are at iterations ``grace_period · reduction_factor^k`` below ``max_t``, where every trial ends. With n
    values recorded at a rung, the newcomer's own included, it goes on if n < η, or if its value is as good as the
    ⌊n/η⌋-th best (so that equals are treated alike). A value that is missing, NaN or infinite counts among the n, ranks
    last, and ends its trial at once.

    Source:
        Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", Alg. 2, with r = ``grace_period``,
        R = ``max_t``, η = ``reduction_factor``, s = the bracket. The rule that stops instead of promoting, and lets
        the first η - 1 trials of a rung pass, is that of Klein et al. 2020, "Model-based Asynchronous Hyperparameter
        and Neural Architecture Search". Sizes of the brackets: Li et al. 2018, "Hyperband", Alg. 1.

    Differs:
        From the paper: a trial is decided once, when it arrives, and is never promoted later; so it needs no
        checkpoint, and early arrivals pass more easily. From Ray Tune: the newcomer's own value counts, and the cut is
        a recorded value rather than an interpolated percentile; rungs are whole numbers, so ``reduction_factor`` is
        one too; a NaN stops its trial; brackets are filled in Hyperband's proportions by a hash of the trial's index
        rather than by a softmax and chance.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    time_attr: str = "training_iteration"
    """What rungs are measured in; only ``training_iteration``."""
    max_t: int = 100
    """Iterations after which a trial ends."""
    grace_period: int = 1
    """Iterations before which no trial is stopped."""
    reduction_factor: int = 4
    """η: one trial in so many goes on, for so many times as long."""
    brackets: int = 1
    """How many sequences of rungs share the trials; bracket s leaves out the first s rungs."""

    needs_metric: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check every field."""
        problems = Problems("ASHA")
        problems.one_of("time_attr", self.time_attr, ("training_iteration",))
        problems.integer("max_t", self.max_t, at_least=1)
        problems.integer("grace_period", self.grace_period, at_least=1)
        problems.integer("reduction_factor", self.reduction_factor, at_least=2)
        problems.integer("brackets", self.brackets, at_least=1)
        if not problems:
            _check_fit(problems, self)
        problems.raise_if_any()

    @property
    def rungs(self) -> tuple[int, ...]:
        """The iterations at which bracket 0 decides, in order."""
        rungs = []
        milestone = self.grace_period
        while milestone < self.max_t:
            rungs.append(milestone)
            milestone *= self.reduction_factor
        return tuple(rungs)

    def begin(self, mode: Mode) -> ASHAState:
        """Return fresh state for one experiment."""
        return ASHAState(self, mode)

    def identity(self) -> dict[str, object]:
        """Return class name and arguments as JSON values."""
        return {"class": type(self).__name__, **asdict(self)}


def _check_fit(problems: Problems, asha: ASHA) -> None:
    num_rungs = len(asha.rungs)
    if asha.grace_period > asha.max_t:
        problems.bad_value(
            "grace_period", asha.grace_period, f"at most max_t={asha.max_t}", hint="trials are compared before max_t"
        )
    elif asha.brackets > num_rungs + 1:
        allowed = f"at most {num_rungs + 1}: there are {num_rungs} rungs"
        problems.bad_value("brackets", asha.brackets, allowed, hint="brackets=1 is what most sweeps need")


class ASHAState:
    """ASHA at work on one experiment.

    Args:
        asha: The user's choice.
        mode: Which end of the metric is the better one.
    """

    def __init__(self, asha: ASHA, mode: Mode) -> None:
        """Begin with empty rungs."""
        rungs = asha.rungs
        self._max_t = asha.max_t
        self._sign = -1.0 if mode == Mode.MAX else 1.0
        self._milestones = [rungs[s:] for s in range(asha.brackets)]
        self._stages = [
            {at: _Stage(asha, at, until) for at, until in pairwise((*tail, asha.max_t))} for tail in self._milestones
        ]
        self._sizes = _bracket_sizes([len(tail) for tail in self._milestones], asha.reduction_factor)
        self._stopped: dict[TrialId, tuple[int, Stop]] = {}

    def bracket(self, trial: TrialId) -> int:
        """Return the bracket of a trial, which depends on its index only."""
        if len(self._sizes) == 1:
            return 0
        place = uniform(0, "asha bracket", trial) * sum(self._sizes)
        for bracket, size in enumerate(self._sizes):
            place -= size
            if place < 0:
                return bracket
        return len(self._sizes) - 1

    def horizon(self, trial: TrialId, iteration: int) -> int:
        """Return the next rung, or ``max_t``; a trial that is past its end is to ask at once."""
        stopped_at, _ = self._stopped.get(trial, (self._max_t, None))
        if iteration >= stopped_at:
            return iteration + 1
        return self._next_milestone(self.bracket(trial), iteration)

    def decide(self, trial: TrialId, iteration: int, value: float | None) -> Decision:
        """Decide about a trial at a rung, once; between rungs it just goes on."""
        if trial in self._stopped:
            stopped_at, stop = self._stopped[trial]
            if iteration >= stopped_at:
                return stop
        if iteration >= self._max_t:
            return Stop(reason=f"max_t {self._max_t} reached", early=False)
        bracket = 0 if len(self._stages) == 1 else self.bracket(trial)
        stage = self._stages[bracket].get(iteration)
        if stage is None:
            until = self._next_milestone(bracket, iteration)
            return Continue(until=until, reason=f"iteration {iteration} is no rung; the next is {until}")
        decision = stage.decided.get(trial)
        if decision is None:
            decision = stage.decided[trial] = self._compare(stage, value)
            if type(decision) is Stop:
                self._stopped[trial] = (iteration, decision)
        return decision

    def _next_milestone(self, bracket: int, iteration: int) -> int:
        milestones = self._milestones[bracket]
        at = bisect_right(milestones, iteration)
        return milestones[at] if at < len(milestones) else self._max_t

    def _compare(self, stage: _Stage, value: float | None) -> Decision:
        if value is None or not isfinite(value):
            stage.rung.record(inf)
            return Stop(reason=f"rung {stage.milestone}: {value} is no finite number")
        key = value * self._sign
        cutoff = stage.rung.record(key)
        if cutoff is None:
            return stage.passes_early
        if key <= cutoff:
            return stage.passes
        best = f"the best {stage.rung.num_best} of {stage.rung.num_recorded} values end at {cutoff * self._sign:.6g}"
        return Stop(reason=f"rung {stage.milestone}: {value:.6g}, where {best}")


class _Stage:
    """A rung of one bracket, and what was decided there.

    That a trial goes on is recorded nowhere, and is said so often that it has one answer for all.
    """

    __slots__ = ("decided", "milestone", "passes", "passes_early", "rung")

    def __init__(self, asha: ASHA, milestone: int, until: int) -> None:
        eta = asha.reduction_factor
        self.milestone = milestone
        self.rung = Rung(eta)
        self.decided: dict[TrialId, Decision] = {}
        self.passes = Continue(until=until, reason=f"rung {milestone}: among the best 1/{eta}")
        self.passes_early = Continue(until=until, reason=f"rung {milestone}: fewer than {eta} values so far")


def _bracket_sizes(num_rungs: list[int], eta: int) -> list[int]:
    """Return in which proportion trials go to brackets: those of Hyperband, which cost about the same each.

    A bracket with s rungs begins with ⌈(s_max + 1) · η^s / (s + 1)⌉ trials there.
    """
    most = max(num_rungs) + 1
    return [-(-most * eta**num // (num + 1)) for num in num_rungs]
