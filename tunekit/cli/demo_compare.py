"""Two tables of results, compared bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunekit.core.metrics import is_of_clock_or_place


class Difference(NamedTuple):
    """One value that two runs do not share."""

    trial: str
    iteration: int
    field: str
    undisturbed: str
    disturbed: str

    def __str__(self) -> str:
        """Say where the runs part, and with which values."""
        return f"{self.trial}, iteration {self.iteration}, {self.field}: {self.undisturbed} != {self.disturbed}"


def exact(value: Any) -> str:
    """Return a text that two values share exactly if they are the same, down to the last bit of a float."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {exact(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(exact, value)) + "]"
    return repr(value)


def rows_of(table: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return all rows of a table by trial and iteration, less clock and place.

    Raises:
        ValueError: A trial has the same iteration twice.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for trial in table["trials"]:
        for row in trial["rows"]:
            key = (trial["name"], row["training_iteration"])
            if key in rows:
                raise ValueError(f"{key[0]} has iteration {key[1]} twice")
            rows[key] = {name: value for name, value in row.items() if not is_of_clock_or_place(name)}
    return rows


def compare(undisturbed: Mapping[str, Any], disturbed: Mapping[str, Any]) -> list[Difference]:
    """Return every difference of two tables.

    Args:
        undisturbed: Table of the run that nobody touched.
        disturbed: Table of the other.
    """
    left, right = rows_of(undisturbed), rows_of(disturbed)
    differences: list[Difference] = []
    for key in sorted(left.keys() | right.keys()):
        if key in left and key in right:
            differences += _compare_rows(key, left[key], right[key])
        else:
            differences.append(
                Difference(*key, "row", *("present" if key in side else "absent" for side in (left, right)))
            )
    configs = [{trial["name"]: trial["config"] for trial in table["trials"]} for table in (undisturbed, disturbed)]
    for name in sorted(configs[0].keys() | configs[1].keys()):
        first, second = (exact(side.get(name)) for side in configs)
        if first != second:
            differences.append(Difference(name, 0, "config", first, second))
    return differences


def _compare_rows(key: tuple[str, int], left: dict[str, Any], right: dict[str, Any]) -> list[Difference]:
    absent = object()
    pairs = ((name, left.get(name, absent), right.get(name, absent)) for name in sorted(left.keys() | right.keys()))
    texts = ((name, *("absent" if value is absent else exact(value) for value in values)) for name, *values in pairs)
    return [Difference(*key, name, first, second) for name, first, second in texts if first != second]
