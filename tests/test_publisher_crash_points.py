"""A sweep that dies at any call of any of its threads while another thread publishes: ``thread_crash_lab.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import crash_lab
import in_threads
import labs
import pytest
import thread_crash_lab
from thread_crash_lab import FATES, ROLES


def check(
    kind: crash_lab.Kind,
    fates: Sequence[thread_crash_lab.Fate],
    roles: Sequence[thread_crash_lab.Role],
    folder: Path,
    stride: int,
) -> None:
    which = [kind, ",".join(fates), ",".join(roles)]
    found = labs.in_two_processes(thread_crash_lab, which, str(folder), 0, stride)
    undisturbed = found[0]
    for point in found:
        assert point["again"] == 0, point
        assert point["code"] in {crash_lab.KILLED, 0}, point
        pairs = zip(point["trials"], undisturbed["trials"], strict=True)
        for trial, expected in pairs:
            assert (trial["status"], trial["rows"]) == (expected["status"], expected["rows"]), point
            if point["fate"] == "power fails":  # A deletion is not synced: at worst a whole checkpoint is back.
                assert trial["kept"].items() >= expected["kept"].items(), point
            else:
                assert trial["kept"] == expected["kept"], point
        assert point["repeated"] <= in_threads.MAX_REPEATED, point
    tried = [point for point in found if point["number"]]
    dead = Counter(f"{point['fate']}, {point['role']}" for point in tried if point["code"])
    print(f"{kind}: died at {dead.total()} of {len(tried)} points: {dict(sorted(dead.items()))}")
    assert {"publisher", "driver"} <= {point["role"] for point in tried if point["code"]}
    assert dead.total() >= 0.75 * len(tried)  # A thread may have fewer calls than it had when nothing disturbed it.


def test_one_thread_dies_while_another_publishes(tmp_path: Path) -> None:
    """Promises 1 to 3, S003-12, at one of twenty points: what was published is there, the rest is as undisturbed."""
    check("class", FATES, ["publisher", "driver"], tmp_path, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("kind", crash_lab.KINDS)
def test_any_thread_dies_while_another_publishes(
    tmp_path: Path, kind: crash_lab.Kind, fate: thread_crash_lab.Fate
) -> None:
    """As above, at every point; also for a function that reports folders, under a limit of bytes."""
    check(kind, [fate], ROLES, tmp_path, 1)
