"""Buffers are used again, and all processes of a machine agree on how many there may be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunekit.runtime.saving import staging_slots
from tunekit.runtime.saving.staging_slots import Allowance, StagingSlots, available_bytes, memory_bytes

MB = 1 << 20


@pytest.fixture
def slots(tmp_path: Path) -> StagingSlots:
    return StagingSlots(Allowance(tmp_path / "tokens", 64 * MB))


def address(buffer: Any) -> int:
    return int(buffer.__array_interface__["data"][0])


def test_a_buffer_is_used_again(slots: StagingSlots) -> None:
    first = slots.take("a", 3 * MB)
    assert (first.dtype, first.shape) == (np.uint8, (3 * MB,))
    slots.give_back("a")
    again = slots.take("b", 2 * MB)
    assert (again.shape, address(again)) == ((2 * MB,), address(first))
    assert slots.num_used == 1


def test_two_are_in_use_at_a_time(slots: StagingSlots) -> None:
    one, two = slots.take("a", MB), slots.take("b", MB)
    assert address(one) != address(two)
    slots.give_back("a")
    slots.give_back("b")
    slots.give_back("b")
    assert slots.num_used == 0


def test_a_state_that_grows_gets_a_larger_one_in_its_place(slots: StagingSlots) -> None:
    for size in (10 * MB, 30 * MB, 60 * MB):
        assert slots.take("a", size) is not None
        slots.give_back("a")


def test_there_is_an_end_to_it(slots: StagingSlots) -> None:
    assert slots.take("a", 40 * MB) is not None
    assert slots.take("b", 40 * MB) is None
    assert slots.take("c", 65 * MB) is None
    slots.give_back("a")
    assert slots.take("b", 40 * MB) is not None


def test_memory_is_given_back(slots: StagingSlots, tmp_path: Path) -> None:
    slots.take("a", 60 * MB)
    slots.give_back("a")
    slots.release()
    assert slots.take("a", 60 * MB) is not None


def test_a_buffer_that_was_given_up_in_vain_is_not_held_back_from_other_processes(
    slots: StagingSlots, tmp_path: Path
) -> None:
    assert slots.take("a", 40 * MB) is not None
    slots.give_back("a")
    assert slots.take("b", 65 * MB) is None  # The free one went to make room for it.
    take = f"StagingSlots(Allowance(Path({str(tmp_path / 'tokens')!r}), {64 * MB})).take('c', {60 * MB})"
    code = f"from pathlib import Path; from tunekit.runtime.saving.staging_slots import *; exit({take} is None)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0


def test_a_machine_that_is_short_of_memory_gives_none(slots: StagingSlots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_slots, "available_bytes", lambda: 4 * MB)
    assert slots.take("a", 3 * MB) is None
    assert slots.take("a", 2 * MB) is not None


def test_a_file_that_cannot_be_made_means_no_room(tmp_path: Path) -> None:
    assert StagingSlots(Allowance(tmp_path / "none" / "tokens", 64 * MB)).take("a", MB) is None


def test_without_an_accelerator_nothing_is_pinned_and_all_works(slots: StagingSlots) -> None:
    import torch

    assert not torch.cuda.is_available()
    assert slots.take("a", MB, pinned=True) is not None


OTHER = """
import sys
from pathlib import Path
from tunekit.runtime.saving.staging_slots import Allowance
allowance = Allowance(Path(sys.argv[1]), 64 << 20)
print(allowance.hold(40 << 20), flush=True)
sys.stdin.read()
"""


def test_processes_share_and_a_killed_one_gives_back(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    command = [sys.executable, "-c", OTHER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        mine = Allowance(path, 64 * MB)
        assert not mine.hold(40 * MB)
        assert mine.hold(20 * MB)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert mine.hold(60 * MB)
    assert mine.hold(0)


def test_it_knows_the_machine() -> None:
    assert 0 < available_bytes() <= 2 * memory_bytes()
