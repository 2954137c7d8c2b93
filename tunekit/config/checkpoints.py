"""When checkpoints are saved, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.config.durations import AUTO, Duration, check_duration, seconds_of
from tunekit.config.problems import Problems, make_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are saved, and which of them are kept.

    Raises:
        ConfigError: If a field is out of range or contradicts another one; all fields are reported together.
    """

    num_to_keep: int | None = None
    """How many checkpoints each trial keeps, the best or else the newest (its newest is always kept too); None: all."""
    checkpoint_score_attribute: str | None = None
    """The reported metric (nested as ``val/loss``) by which the best ones are kept; None: the newest ones are."""
    checkpoint_score_order: str = "max"
    """Whether a high (``max``) or a low (``min``) score is the better one."""
    checkpoint_frequency: int | None = 0
    """Save every so many iterations; 0 or None: not periodically."""
    checkpoint_at_end: bool | None = None
    """Whether to save when a trial ends; None: if it can."""
    checkpoint_every_s: float | str | Duration | None = None
    """Save when so long has passed since the last save: seconds, a ``timedelta``, or ``90s``, ``30min``, ``2h``.

    ``auto``: the interval sets itself, by what a save costs and how often work is lost.
    """
    checkpoint_on_failure: bool = False
    """Whether to save what is there when user code raises, apart from the others: nothing goes on from it by itself."""
    max_experiment_bytes: int | None = None
    """Bytes that the checkpoints of all trials may take together; None: any. What trials need to go on always stays."""

    def __post_init__(self) -> None:
        """Check every field."""
        make_plain(self, "num_to_keep", "checkpoint_frequency", "checkpoint_every_s", "max_experiment_bytes")
        problems = Problems("CheckpointConfig")
        problems.integer("num_to_keep", self.num_to_keep, at_least=1, none_is="keep all")
        problems.key("checkpoint_score_attribute", self.checkpoint_score_attribute)
        problems.one_of("checkpoint_score_order", self.checkpoint_score_order, ("max", "min"))
        problems.integer("checkpoint_frequency", self.checkpoint_frequency, at_least=0, none_is="never")
        problems.flag("checkpoint_at_end", self.checkpoint_at_end, none_is="if the trainable can save")
        check_duration(problems, "checkpoint_every_s", self.checkpoint_every_s, none_is="no saves by time", auto=True)
        problems.flag("checkpoint_on_failure", self.checkpoint_on_failure)
        problems.integer("max_experiment_bytes", self.max_experiment_bytes, at_least=1, none_is="any number")
        if self.checkpoint_score_order == "min" and self.checkpoint_score_attribute is None:
            problems.add(
                "checkpoint_score_order",
                "got 'min', but there is no checkpoint_score_attribute to order by",
                hint="set checkpoint_score_attribute to the metric that ranks checkpoints, such as 'loss'",
            )
        problems.raise_if_any()

    @property
    def frequency(self) -> int:
        """Save every so many iterations; 0: not periodically."""
        return self.checkpoint_frequency or 0

    @property
    def every_s(self) -> float | None:
        """Save when so many seconds have passed since the last save; None: not by time, or as often as is best."""
        return None if self.checkpoint_every_s is None or self.is_auto else seconds_of(self.checkpoint_every_s)

    @property
    def is_auto(self) -> bool:
        """Whether saves by time come as often as is best."""
        return isinstance(self.checkpoint_every_s, str) and self.checkpoint_every_s == AUTO
