"""The demo itself, in small: real processes, really killed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tunekit.cli.demo import run_demo
from tunekit.cli.demo_process import EXPERIMENT, Plan
from tunekit.cli.demo_watch import records


def table_of(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "demo" / "disturbed" / "table.json").read_text())
    return table


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_sweep_that_is_killed_twice_is_identical(tmp_path: Path) -> None:
    """S000-1, S000-10: kill, run the same command again, compare bit for bit."""
    shown = io.StringIO()
    status = run_demo(Plan(folder=str(tmp_path / "demo"), num_trials=6, epochs=4), Console(file=shown, width=120))
    said = shown.getvalue()
    assert status == 0, said
    assert "and where each trial ended" in said
    counts = {trial["rows"][-1]["training_iteration"] for trial in table_of(tmp_path)["trials"]}
    assert counts == {2, 4}, "ASHA stopped none, or all"
    assert said.count("SIGKILL") == 2
    disturbed = list(records(tmp_path / "demo" / "disturbed" / EXPERIMENT))
    assert sum(record["kind"] == "driver_started" for record in disturbed) == 2
    assert any(record["kind"] == "worker_lost" and record["cause"] == "crashed" for record in disturbed)
