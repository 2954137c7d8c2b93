"""Links of the user that lead to an experiment, a checkpoint, or the folder for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trainables import Counter

import tunekit as tk
from tunekit.core.commands import LaunchTrial
from tunekit.journal.log import read_records
from tunekit.upkeep.verifying import verify


def tuner(root: Path, name: str, stop: int, **config: Any) -> tk.Tuner:
    return tk.Tuner(
        Counter,
        param_space=config,
        run_config=tk.RunConfig(
            name=name,
            storage_path=root,
            verbose=0,
            stop={"training_iteration": stop},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        ),
    )


def kept(experiment: Path) -> list[str]:
    return sorted(path.name for path in (experiment / "Counter_00000").glob("checkpoint_*"))


@pytest.mark.parametrize("is_there", [True, False])
def test_the_folder_for_results_may_be_a_link(tmp_path: Path, *, is_there: bool) -> None:
    """As on machines whose home is small and whose scratch disk is large."""
    scratch = tmp_path / "scratch"
    if is_there:
        scratch.mkdir()
    (tmp_path / "results").symlink_to(scratch)
    result = tk.inline(tuner(tmp_path / "results", "exp", 3))[0]
    assert len(result.rows) == 3
    assert result.checkpoint is not None
    result.checkpoint.verify()
    assert kept(scratch / "exp") == kept(tmp_path / "results" / "exp") == ["checkpoint_000002", "checkpoint_000003"]


def test_an_experiment_goes_on_through_a_link(tmp_path: Path) -> None:
    """Nothing of it is taken for missing, and what a trial goes on from is not taken for a download and removed."""
    config = {"fail_at": 4, "flags": tmp_path}
    failed = tk.inline(tuner(tmp_path, "exp", 5, **config))[0]
    assert failed.error is not None
    assert kept(tmp_path / "exp") == ["checkpoint_000002", "checkpoint_000003"]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "exp")
    assert verify(link).is_clean
    result = tk.inline(tk.Tuner.restore(link, Counter, param_space=config, resume_errored=True))[0]
    assert [row["count"] for row in result.rows] == [1, 2, 3, 4, 5]
    launches = [record for record in read_records(link / "journal") if isinstance(record, LaunchTrial)]
    assert [launch.resume_from for launch in launches] == [None, 3]
    assert kept(link) == ["checkpoint_000004", "checkpoint_000005"]
    assert verify(link).is_clean


def test_a_checkpoint_is_opened_through_a_link(tmp_path: Path) -> None:
    result = tk.inline(tuner(tmp_path, "exp", 1))[0]
    assert result.checkpoint is not None
    (tmp_path / "best").symlink_to(result.checkpoint.path)
    best = tk.Checkpoint(tmp_path / "best")
    best.verify()
    assert best.iteration == 1
    with best.as_directory() as folder:
        assert (Path(folder) / "count.json").read_text() == "1"
