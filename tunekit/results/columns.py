"""From rows of the journal to what users see.

The journal holds what user code reported, and numbers. The columns that every sweep has are filled in here, under the
names that Ray Tune gave them. Where a user's metric has such a name, tunekit's value is shown, as Ray Tune does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tunekit.core.events import Place, ResultReported
from tunekit.core.metrics import Missing, flatten, lookup
from tunekit.errors import TunekitError
from tunekit.types import Json

if TYPE_CHECKING:
    import pandas as pd

_COUNTS = frozenset({"training_iteration", "time_this_iter_s", "time_total_s", "timestamp"})
"""Columns that are numbers of the row itself, so that trials can be compared by them."""


def filled(row: ResultReported, *, trial_name: str, place: Place) -> dict[str, Any]:
    """Return a row's metrics together with the columns that every row has.

    Args:
        row: The row.
        trial_name: Shown as ``trial_id``.
        place: Where the attempt that reported it ran.
    """
    moment = datetime.fromtimestamp(row.timestamp, tz=UTC).astimezone()
    return {
        **row.metrics,
        "training_iteration": row.iteration,
        "time_this_iter_s": row.time_this_iter_s,
        "time_total_s": row.time_total_s,
        "timestamp": row.timestamp,
        "date": moment.strftime("%Y-%m-%d_%H-%M-%S"),
        "trial_id": trial_name,
        "pid": place.pid,
        "hostname": place.hostname,
        "node_ip": place.node_ip,
    }


def find(row: ResultReported, key: str) -> Json | Missing:
    """Return what the row shows at ``key``, which is one of tunekit's own counts or a metric, or ``MISSING``."""
    if key == "training_iteration":
        return row.iteration
    return getattr(row, key) if key in _COUNTS else lookup(row.metrics, key)


def with_config(row: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row made flat, with a column ``config/<path>`` for each setting."""
    return {**flatten(row), **flatten({"config": config})}


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a table, with a column for each key of any of them.

    Raises:
        TunekitError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - tables are the only thing that needs it
    except ImportError as error:
        raise TunekitError(
            "a table of results needs pandas, which cannot be imported",
            hint="pip install 'tunekit[pandas]', or use Result.rows, which are plain dicts",
        ) from error
    return pd.DataFrame(list(rows))
