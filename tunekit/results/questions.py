"""What can be asked of results, and what is said to a question that has no answer."""

from __future__ import annotations

from collections.abc import Iterable

from tunekit.config.problems import Problems, did_you_mean
from tunekit.errors import MetricNotFoundError
from tunekit.types import Mode

_MAX_SHOWN = 20


def check_question(asker: str, metric: str | None, mode: str | None) -> tuple[str, Mode]:
    """Return the metric and the mode of a question.

    Args:
        asker: The method that was called.
        metric: What to compare by.
        mode: Which end is better.

    Raises:
        ConfigError: One of them is missing or of no use.
    """
    problems = Problems(asker)
    if metric is None:
        problems.add("metric", "is missing, and the sweep has none", hint="name a reported metric: metric='loss'")
    else:
        problems.key("metric", metric)
    if mode is None:
        problems.add("mode", "is missing, and the sweep has none", hint="say mode='min' or mode='max'")
    else:
        problems.one_of("mode", mode, ("min", "max"))
    problems.raise_if_any()
    return str(metric), Mode(str(mode))


def unknown_metric(metric: str, known: Iterable[str], *, who: str) -> MetricNotFoundError:
    """Return the error about a metric that nobody reported.

    Args:
        metric: What was asked for.
        known: What was reported.
        who: Begins the message, as in ``no trial reported``.
    """
    names = sorted(known)
    shown = ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
    meant = did_you_mean(metric, names)
    return MetricNotFoundError(
        f"{who} a metric {metric!r}; known are: {shown}",
        hint=f"did you mean {meant!r}?" if meant else "nested metrics are addressed as 'a/b'",
        metric=metric,
        known=names,
    )
