"""All results of an experiment, and the questions that can be asked about them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from tunekit.config.problems import Problems
from tunekit.core.accounts import Accounts
from tunekit.core.failures import tally
from tunekit.core.metrics import flatten
from tunekit.core.rows import RowTable
from tunekit.core.trial import TrialState
from tunekit.errors import NoResultError, TrialError, TunekitError
from tunekit.results.columns import table, with_config
from tunekit.results.differences import RewrittenRow, as_shown
from tunekit.results.history import History, Source
from tunekit.results.ledger import Ledger
from tunekit.results.questions import check_question, unknown_metric
from tunekit.results.ranking import SCOPES, best_row, order, standing, value_of
from tunekit.results.result import Result
from tunekit.types import Mode, Outcome, TrialId, TrialStatus

if TYPE_CHECKING:
    import pandas as pd


class ResultGrid(Sequence[Result]):
    """The results of all trials, in the order of their creation. Returned by ``Tuner.fit()``.

    Args:
        trials: The trials' states.
        configs: Makes the configuration of a trial.
        shown_configs: Makes it for tables, where what the script no longer has is there by name; None: as ``configs``.
        rows: Reads the whole table of rows; called at most once, when a question needs it.
        accounts: Reads what the seconds of the sweep went into; called at most once, too.
        resources: Says what a trial occupies.
        prices: What an hour of each resource costs, if the script says so.
        trainable_name: Names the trials.
        path: The experiment's folder.
        metric: What the sweep optimises, if it does.
        mode: Which end of the metric is better.
        outcome: How the last run ended; None while it goes on.
        depends_on: What the sweep owes to chance or to the clock although it is in deterministic mode.
    """

    def __init__(  # noqa: PLR0913 - the parts of a whole, each by its name
        self,
        *,
        trials: Sequence[TrialState],
        configs: Callable[[TrialId], dict[str, Any]],
        shown_configs: Callable[[TrialId], dict[str, Any]] | None = None,
        rows: Callable[[], RowTable],
        accounts: Callable[[], Accounts] = Accounts,
        resources: Callable[[TrialId], Mapping[str, float]] = lambda _: {},
        prices: Mapping[str, float] | None = None,
        trainable_name: str,
        path: str,
        metric: str | None = None,
        mode: str | None = None,
        outcome: Outcome | None = None,
        depends_on: str = "",
    ) -> None:
        """Keep the parts; nothing is read yet."""
        self._source = Source(
            path=path,
            trainable_name=trainable_name,
            configs=configs,
            shown_configs=shown_configs or configs,
            read_rows=rows,
        )
        self._histories = [History(trial, self._source) for trial in trials]
        self._results = [Result(history) for history in self._histories]
        self._accounts = accounts
        self._resources = resources
        self._prices = prices
        self._metric = metric
        self._mode = mode
        self.experiment_path = path
        """The experiment's folder."""
        self.depends_on = depends_on
        """In deterministic mode, why another run of this sweep might come to another end; empty if it would not."""
        self.outcome = outcome
        """How the last run ended; None while it goes on."""

    def __len__(self) -> int:
        """Return how many trials there are."""
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        """Return the result of one trial, or of several."""
        return self._results[index]

    def __repr__(self) -> str:
        """Return how many trials there are in each status."""
        counts = Counter(str(result.status) for result in self)
        parts = [f"{len(self)} trials", *(f"{count} {status}" for status, count in counts.items())]
        num_lost = sum(self.losses.values())
        lost = [f"{num_lost} attempt{'s' * (num_lost != 1)} lost"] if num_lost else []
        return f"<ResultGrid {', '.join(parts + lost)}, at {self.experiment_path}>"

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted, so that running the script again goes on."""
        return self.outcome is Outcome.INTERRUPTED

    @property
    def errors(self) -> list[TrialError]:
        """What the failed trials died of, in the order of the trials."""
        return [result.error for result in self if result.error is not None]

    @property
    def losses(self) -> dict[str, int]:
        """How often attempts of all trials were lost, by cause, the most frequent first. See ``Result.losses``."""
        return tally(history.state for history in self._histories)

    @cached_property
    def ledger(self) -> Ledger:
        """What the seconds of the sweep went into: useful or lost, by trial and by cause. Reads the journal.

        ``ledger.cost({"CPU": 0.04, "GPU": 2.1})`` says it in money, and ``print(ledger)`` shows it as a table.
        """
        all_spent = self._accounts().spent([history.state for history in self._histories])
        spent = {trial: by_cause for trial, by_cause in all_spent.items() if trial < len(self)}
        return Ledger(spent, trial_name=self._source.trial_name, resources=self._resources, prices=self._prices)

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return sum(result.status is TrialStatus.FAILED for result in self)

    @property
    def num_terminated(self) -> int:
        """How many trials ended without failing."""
        return sum(result.status in {TrialStatus.COMPLETED, TrialStatus.STOPPED} for result in self)

    @property
    def rewritten(self) -> list[RewrittenRow]:
        """Rows that came out otherwise when they were computed again after a failure. Reads the journal.

        None of them can be there if the trainable is deterministic: if it captures the states of its random generators,
        and runs with the same number of threads. Clock and place (``timestamp``, ``time_…``, ``pid`` and the like) do
        not count.
        """
        return [as_shown(row, self._source.trial_name) for row in self._source.table.rewritten]

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,  # noqa: FBT001, FBT002 - Ray Tune's signature
    ) -> Result:
        """Return the result of the best trial, whatever its status; the first one of equals.

        Args:
            metric: What to compare by, nested as ``val/loss``; also ``training_iteration`` and ``time_total_s``. None:
                the metric of the sweep.
            mode: ``min`` or ``max``; None: the mode of the sweep.
            scope: What stands for a trial: its ``last`` row that has the metric, the best of ``all``, or the average
                over all rows (``avg``) or the last ones (``last-5-avg``, ``last-10-avg``). All but the first read the
                journal.
            filter_nan_and_inf: Whether a trial whose value is NaN or infinite cannot be the best. A NaN ranks last in
                any case.

        Raises:
            ConfigError: No metric or mode is known, or an argument is of no use.
            MetricNotFoundError: No trial reported this metric.
            NoResultError: No trial has a value that counts.

        Differs:
            From Ray Tune: a single trial is looked at as critically as many.
        """
        problems = Problems("get_best_result")
        problems.one_of("scope", scope, SCOPES)
        problems.raise_if_any()
        metric, which = check_question("get_best_result", metric or self._metric, mode or self._mode)
        standings = [_standing(history, metric, which, scope) for history in self._histories]
        known = [(value, at) for at, value in enumerate(standings) if value is not None]
        usable = [pair for pair in known if math.isfinite(pair[0]) or not filter_nan_and_inf]
        if not usable:
            raise self._no_answer(metric, num_without=len(known))
        return self[min(usable, key=lambda pair: order(pair[0], which))[1]]

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> pd.DataFrame:
        """Return a table with one row for each trial: its last results and, as ``config/…``, its configuration.

        Args:
            filter_metric: None, or the metric by which each trial's best row is shown instead of its last one.
            filter_mode: ``min`` or ``max``; None: the mode of the sweep.

        Raises:
            ConfigError: ``filter_mode`` is missing or of no use.
            MetricNotFoundError: No trial reported ``filter_metric``.
            TunekitError: pandas is not installed.
        """
        if filter_metric is None and filter_mode is None:
            rows = [history.shown_last() for history in self._histories]
        else:
            metric, mode = check_question("get_dataframe", filter_metric, filter_mode or self._mode)
            best = [(history, best_row(history.rows, metric, mode)) for history in self._histories]
            if self._histories and all(row is None for _, row in best):
                raise self._no_answer(metric)
            rows = [history.shown(row) if row else {} for history, row in best]
        return table(
            with_config({"trial_id": history.name, **row}, history.shown_config)
            for history, row in zip(self._histories, rows, strict=True)
        )

    def _no_answer(self, metric: str, num_without: int = 0) -> TunekitError:
        """Return why no trial answers a question about the metric: its values, its name, or nothing was reported."""
        if num_without:
            return NoResultError(
                f"no trial has a finite value of {metric!r}, though {num_without} of {len(self)} reported it",
                hint="look at get_dataframe(), or pass filter_nan_and_inf=False",
            )
        known = {key for history in self._histories if history.last for key in flatten(history.last.metrics)}
        if known:
            return unknown_metric(metric, known, who="no trial reported")
        return NoResultError(
            f"none of {len(self)} trials has reported a result", hint=_why_nothing(len(self), self.num_errors)
        )


def _why_nothing(num_trials: int, num_errors: int) -> str:
    if num_errors:
        return "ResultGrid.errors says what trials died of"
    if num_trials:
        return "call tunekit.report(metrics) in the function, or return metrics from step()"
    return "no trial has been made yet: run fit(), and look at TuneConfig(num_samples)"


def _standing(history: History, metric: str, mode: Mode, scope: str) -> float | None:
    """Return the number that stands for a trial. The journal is read only if the newest row does not suffice."""
    last = history.last
    if last is None:
        return None
    rows = [last] if scope == "last" and value_of(last, metric) is not None else history.rows
    return standing(rows, metric, scope, mode)
