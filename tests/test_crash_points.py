"""A sweep that dies, is interrupted, loses power or meets a full or broken disk at any single call to the system.

Each of them is run again, and must end as the one that nothing happened to: ``tests/integration/crash_lab.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import crash_lab
import labs
import pytest

FATES: tuple[crash_lab.Fate, ...] = get_args(crash_lab.Fate)
STRIDES: dict[crash_lab.Fate, int] = {"dies": 2}
"""Each second call is one to die at in each run of the tests; for the other fates it is each ninth. In a long run, all
of them happen at every call."""
ENDS = {
    "full once": {0, crash_lab.REFUSED},
    "broken for good": {crash_lab.REFUSED},
    "interrupted twice": {0, crash_lab.INTERRUPTED},
}
"""How a disturbed process ends that is not killed."""


def check(kind: crash_lab.Kind, fate: crash_lab.Fate, folder: Path, stride: int) -> None:
    offset = 1 + 2 * FATES.index(fate) % stride
    undisturbed, again, *rest = labs.in_two_processes(crash_lab, [kind, fate], str(folder), offset, stride)
    assert again["trials"] == undisturbed["trials"]
    assert len(rest) > 100 // stride
    for point in rest:
        assert point["again"] == 0, point
        assert point["code"] in ENDS.get(fate, {crash_lab.KILLED}), point
        pairs = zip(point["trials"], undisturbed["trials"], strict=True)
        for trial, expected in pairs:
            assert (trial["status"], trial["rows"]) == (expected["status"], expected["rows"]), point
            if fate == "dies":
                assert trial["kept"] == expected["kept"], point
            elif fate == "power fails":  # A deletion is not synced: at worst a whole checkpoint is back.
                assert trial["kept"].items() >= expected["kept"].items(), point
        assert point["repeated"] <= 2, point


@pytest.mark.parametrize("fate", FATES)
def test_one_call_goes_wrong(tmp_path: Path, fate: crash_lab.Fate) -> None:
    """S003-12, S003-19: what was called durable is there, what is visible is whole, and the sweep ends as undisturbed.

    A disk that refuses once costs a save at most; else the sweep ends with an error that says what to do.
    """
    check("class", fate, tmp_path, STRIDES.get(fate, 9))


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("kind", crash_lab.KINDS)
def test_any_call_goes_wrong(tmp_path: Path, kind: crash_lab.Kind, fate: crash_lab.Fate) -> None:
    """As above, at every single call; also for a function that reports folders, under a limit of bytes."""
    check(kind, fate, tmp_path, 1)
