"""Checks what the sweep needs of a row of results, where it is not too late: at the first of each attempt."""

from __future__ import annotations

from typing import Any, Final

from tunekit.config.problems import did_you_mean, shorten
from tunekit.core.metrics import MISSING, flatten, lookup
from tunekit.core.stopping import TIME_TOTAL_S, TRAINING_ITERATION
from tunekit.errors import MetricNotFoundError, ReportError
from tunekit.runtime.line.spec import SweepSpec

COUNTED: Final = frozenset({TRAINING_ITERATION, TIME_TOTAL_S})
"""What tunekit counts itself, so that it is in every row."""


def check(sweep: SweepSpec, metrics: dict[str, Any], source: str) -> None:
    """Check that the metrics which the sweep decides by are there, and numbers.

    Args:
        sweep: Says which.
        metrics: The row.
        source: Where it came from, for messages.

    Raises:
        MetricNotFoundError: The metric of the sweep is not among them.
        ReportError: One that must be a number is none.
    """
    metric = sweep.metric
    if metric is not None:
        value = lookup(metrics, metric)
        if value is MISSING:
            raise _not_found(metric, metrics, source)
        _check_number(metric, value, "the metric of the sweep", source)
    attribute = sweep.checkpoint.checkpoint_score_attribute
    if attribute is not None:
        _check_number(attribute, lookup(metrics, attribute), "the checkpoint_score_attribute", source)


def missing(sweep: SweepSpec, metrics: dict[str, Any]) -> list[str]:
    """Say which metrics the settings wait for in vain so far. No error: they may be reported now and then only."""
    waiting = dict.fromkeys(sweep.stop, "stop")
    attribute = sweep.checkpoint.checkpoint_score_attribute
    if attribute is not None:
        waiting[attribute] = "checkpoint_score_attribute"
    texts = []
    for key, setting in waiting.items():
        if key not in COUNTED and lookup(metrics, key) is MISSING:
            names, meant = _names(metrics, key)
            hint = f"; did you mean {meant!r}?" if meant else ""
            texts.append(f"{setting} waits for {key!r}, which is not among the metrics of its first row: {names}{hint}")
    return texts


def _not_found(metric: str, metrics: dict[str, Any], source: str) -> MetricNotFoundError:
    names, meant = _names(metrics, metric)
    return MetricNotFoundError(
        f"{source}: the metric {metric!r} of the sweep is not among the reported ones: {names}",
        hint=(f"did you mean {meant!r}? " if meant else "")
        + f"report {metric!r}, or name another metric in TuneConfig(metric=…)",
        metric=metric,
        reported=sorted(flatten(metrics)),
    )


def _names(metrics: dict[str, Any], key: str) -> tuple[str, str]:
    """Return the names of the reported metrics as a text, and the one that ``key`` most likely stands for."""
    names = sorted(flatten(metrics))
    listed = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")  # noqa: PLR2004 - enough to read
    return listed or "nothing", did_you_mean(key, names)


def _check_number(key: str, value: Any, role: str, source: str) -> None:
    if isinstance(value, str | list | dict):
        raise ReportError(
            f"{source}: {key!r}, {role}, must be a number, got {shorten(value)} ({type(value).__qualname__})",
            hint=f"report a number as {key!r}",
            key=key,
        )
