"""What a failure costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunekit.config.durations import LEAST_SILENCE_S, Duration, check_duration, seconds_of
from tunekit.config.problems import Problems, did_you_mean, flag_meant, make_plain, shorten
from tunekit.config.rules import FailureRule, check_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureConfig:
    """What a failure costs. Preemption is not a failure.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    max_failures: int = 0
    """How many failures each trial survives: exceptions, crashes, lack of memory, hangs; -1: any number."""
    max_preemption_failures: int = -1
    """How often each trial survives that its machine is taken away or lost; -1: any number."""
    backoff_s: float | str | Duration = 0.0
    """How long a trial waits after its first failure, twice that after its second, and so on, up to ten minutes."""
    max_identical_failures: int | None = 5
    """So many trials that fail in the same way, before any trial has reported a result, end the run; None: never."""
    fail_fast: bool | str = False
    """Whether the first failed trial ends the experiment; ``raise``: and ``fit()`` raises its error."""
    rules: Sequence[FailureRule] = ()
    """What to do about failures that the user knows: the first rule whose pattern fits the error holds."""
    silent_restart: str = "warn"
    """What becomes of a trial that was given a checkpoint and began anew all the same: ``warn`` says so, once a trial;
    ``fail`` ends it with an error, before it has thrown away what it had learned."""
    hang_timeout_s: float | str | Duration | None = None
    """A running trial that reports nothing for so long is killed and tried again; None: it may take any time.

    Seconds, a ``timedelta``, or ``90s``, ``30min``, ``2h``. It must be longer than the longest step, and than all that
    comes before the first report: loading data, compiling, ``setup``. A trial that waits for us (for a place, a
    decision, a save) is not taken for hung.
    """

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(
            self, "max_failures", "max_preemption_failures", "backoff_s", "max_identical_failures", "hang_timeout_s"
        )
        problems = Problems("FailureConfig")
        for budget in ("max_failures", "max_preemption_failures"):
            hint = f"{budget}=3 lets a trial survive three, {budget}=-1 any number"
            problems.integer(budget, getattr(self, budget), at_least=-1, hint=hint)
        check_duration(problems, "backoff_s", self.backoff_s, zero=True, example="10s")
        problems.integer("max_identical_failures", self.max_identical_failures, at_least=1, none_is="any number")
        check_duration(
            problems,
            "hang_timeout_s",
            self.hang_timeout_s,
            none_is="any time between two reports",
            at_least=LEAST_SILENCE_S,
        )
        check_rules(problems, self.rules)
        problems.one_of("silent_restart", self.silent_restart, ("warn", "fail"))
        if not isinstance(self.fail_fast, bool | str):
            hint = flag_meant("fail_fast", self.fail_fast)
            problems.bad_type("fail_fast", self.fail_fast, "True, False or 'raise'", hint=hint)
        elif self.fail_fast not in {True, False, "raise"}:
            meant = did_you_mean(self.fail_fast, ("raise",))
            hint = f"did you mean fail_fast={meant!r}?" if meant else flag_meant("fail_fast", self.fail_fast)
            problems.bad_value("fail_fast", self.fail_fast, "True, False or 'raise'", hint=hint)
        elif self.fail_fast and self.max_failures != 0:
            problems.add(
                "fail_fast",
                f"got {self.fail_fast!r} with max_failures={shorten(self.max_failures)}, which contradict each other",
                hint="leave max_failures at 0 to end at the first failure, or fail_fast at False to retry",
            )
        problems.raise_if_any()

    @property
    def hang_s(self) -> float | None:
        """Seconds without a report after which a running trial is taken for hung; None: never."""
        return None if self.hang_timeout_s is None else seconds_of(self.hang_timeout_s)
