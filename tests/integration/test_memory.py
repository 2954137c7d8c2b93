"""On real Ray: its memory monitor ends a worker, and the trial ends as if nobody had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sweeps
from ray._private import utils

from tunekit.core.commands import LaunchTrial
from tunekit.core.events import WorkerLost
from tunekit.types import LossCause

pytestmark = [pytest.mark.ray, pytest.mark.soak]

rays: Any = utils
"""Its functions carry no annotations. It counts what is used in a way of its own."""
ROOM = 2 << 30
"""Bytes between what the machine uses now and the limit; Ray's own processes take more than half a gigabyte of it."""


def test_whom_ray_ends_for_want_of_memory_goes_on_from_its_newest_checkpoint(tmp_path: Path) -> None:
    """The limit is that of a small machine with as much free as this test needs, so that it does not need much.

    If others take the room meanwhile, the trial is ended again, and again goes on.
    """
    (tmp_path / "fine").mkdir()
    (tmp_path / "hungry").mkdir()
    sweeps.finish(sweeps.start("hungry_sweep.py", str(tmp_path / "fine")))
    limit, total = rays.get_used_memory() + ROOM, rays.get_system_memory()
    assert limit < 0.95 * total, "this machine has no memory to spare for this test"
    monitor = {"RAY_memory_usage_threshold": f"{limit / total:.4f}", "RAY_memory_monitor_refresh_ms": "100"}
    with sweeps.ray_head(environment=monitor) as address:
        process = sweeps.start("hungry_sweep.py", str(tmp_path / "hungry"), "--limit", str(limit), address=address)
        sweeps.finish(process)
    records = sweeps.journal(tmp_path / "hungry" / "walks")
    lost = [record for record in records if isinstance(record, WorkerLost)]
    assert {loss.cause for loss in lost} == {LossCause.OUT_OF_MEMORY}, lost
    assert all(loss.detail.startswith("Ray ended it. Memory on the node") for loss in lost)
    launches = [record for record in records if isinstance(record, LaunchTrial)]
    assert launches[1].resume_from in {2, 4}
    assert len(launches) == 1 + len(lost)
    assert sweeps.table(tmp_path / "hungry" / "walks") == sweeps.table(tmp_path / "fine" / "walks")
