"""The demo itself, in small: real processes, really killed; and the network that it trains when nobody looks on."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sweeps
from rich.console import Console

import tunekit as tk
from tunekit.cli.demo import run_demo
from tunekit.cli.demo_process import EXPERIMENT, Plan
from tunekit.cli.demo_watch import records


def table_of(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "demo" / "disturbed" / "table.json").read_text())
    return table


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("program", ["stand-in", pytest.param("itself", marks=pytest.mark.soak)])
def test_a_sweep_that_is_killed_twice_is_identical(
    tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """S000-1, S000-10: kill, run the same command again, compare bit for bit."""
    shown = io.StringIO()
    plan: dict[str, Any] = {"folder": str(tmp_path / "demo"), "num_trials": 6, "epochs": 4}
    if program == "stand-in":
        plan["program"] = (str(sweeps.SCRIPTS / "demo_stand_in.py"),)
        monkeypatch.setenv("RAY_ADDRESS", ray_address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    status = run_demo(Plan(**plan), Console(file=shown, width=120))
    said = shown.getvalue()
    assert status == 0, said
    assert "and where each trial ended" in said
    counts = {trial["rows"][-1]["training_iteration"] for trial in table_of(tmp_path)["trials"]}
    assert counts == {2, 4}, "ASHA stopped none, or all"
    assert said.count("SIGKILL") == 2
    disturbed = list(records(tmp_path / "demo" / "disturbed" / EXPERIMENT))
    assert sum(record["kind"] == "driver_started" for record in disturbed) == 2
    assert any(record["kind"] == "worker_lost" and record["cause"] == "crashed" for record in disturbed)


def test_the_network_of_the_demo_goes_on_exactly(tmp_path: Path) -> None:
    """What it trains, without Ray: it is saved whole, and its sweep runs."""
    import torch

    from tunekit.cli.demo_sweep import TrainingRun, make_tuner

    options = argparse.Namespace(storage=str(tmp_path), trials=1, epochs=2, scheduler="asha")
    (result,) = tk.inline(make_tuner(options))
    assert [row["training_iteration"] for row in result.rows] == [1, 2]
    images, labels = torch.rand(200, 1, 8, 8), torch.randint(10, (200,))
    run, again = TrainingRun(result.config), TrainingRun(result.config)
    run.fit_one_epoch(images, labels)
    run.save_checkpoint(tmp_path)
    loss, metrics = run.fit_one_epoch(images, labels), run.evaluate(images, labels)
    again.load_checkpoint(tmp_path)
    assert (again.fit_one_epoch(images, labels), again.evaluate(images, labels)) == (loss, metrics)
