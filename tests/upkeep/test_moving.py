"""A sweep is moved, renamed or copied in the middle of it, and ends elsewhere with the very same bits."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from experiments import content
from scripts import moving_sweep

import tunekit as tk
from tunekit.errors import ExperimentExistsError
from tunekit.store import layout
from tunekit.upkeep.copying import copy
from tunekit.upkeep.verifying import verify

STEPS = (5, 9, 6)
"""After how many more steps the driver is killed at each station; 28 make the whole sweep."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return moving_sweep.live(tmp_path_factory.mktemp("undisturbed"))


def lives(places: Sequence[Path], move: Any) -> Any:
    """Let the driver die at each place but the last, and move the sweep on from there."""
    for number, steps in enumerate(STEPS):
        folder, name = places[number].parent, places[number].name
        assert moving_sweep.live(folder, "--name", name, "--die-after", str(steps)) is None
        assert verify(places[number]).is_clean
        move(places[number], places[number + 1])
    return moving_sweep.live(places[-1].parent, "--name", places[-1].name)


def staged(experiment: Path) -> set[str]:
    """Return the places of the checkpoints that had not been published when the driver was killed."""
    keys = [layout.parse_key_name(path.name) for path in (experiment / layout.STAGING).iterdir()]
    return {layout.place(key) for key in keys if key is not None}


def test_an_experiment_is_moved(tmp_path: Path, undisturbed: Any) -> None:
    """S003-5: nothing in it remembers where it was."""
    places = [tmp_path / f"disk {number}" / "deep" / "walks" for number in range(4)]

    def move(old: Path, new: Path) -> None:
        new.parent.mkdir(parents=True)
        shutil.move(old, new)

    assert lives(places, move) == undisturbed
    text = b"".join(content(places[-1]).values())
    assert str(tmp_path).encode() not in text
    assert os.fsencode(tmp_path.name) not in text


def test_an_experiment_is_renamed(tmp_path: Path, undisturbed: Any) -> None:
    places = [tmp_path / name for name in ("walks", "walks of a drunkard", "w", "walks-4")]
    assert lives(places, Path.rename) == undisturbed


def test_an_experiment_is_copied_and_goes_on_in_the_copy(tmp_path: Path, undisturbed: Any) -> None:
    places = [tmp_path / str(number) / "walks" for number in range(4)]

    def move(old: Path, new: Path) -> None:
        before, waiting = content(old), staged(old)
        assert copy(old, new, verify=True).verified
        assert content(old) == before
        shown = content(new)
        assert {name: shown.get(name) for name in before} == before
        published = {str(Path(*Path(name).parts[:2])) for name in shown.keys() - before.keys()}
        assert published <= waiting, "the copy shows what the next driver would, and nothing else"

    assert lives(places, move) == undisturbed
    assert moving_sweep.live(places[0].parent) == undisturbed, "the copy took nothing away from what it is a copy of"
    with pytest.raises(ExperimentExistsError, match="gone on by itself"):
        copy(places[0], places[1])


def test_other_tools_may_copy_it(tmp_path: Path, undisturbed: Any) -> None:
    """``cp -r`` keeps no order; a sweep whose driver is dead does not mind."""
    places = [tmp_path / str(number) / "walks" for number in range(4)]
    assert lives(places, shutil.copytree) == undisturbed


def test_through_memory_and_back(tmp_path: Path, undisturbed: Any) -> None:
    """Half of the trials here, the next ones in memory, the rest here again."""
    there = f"memory://{tmp_path.name}"
    assert moving_sweep.live(tmp_path / "a", "--die-after", "5") is None
    copy(tmp_path / "a/walks", f"{there}/walks", verify=True)
    tk.inline(moving_sweep.tuner(there, samples=3))
    assert verify(f"{there}/walks").is_clean
    copy(f"{there}/walks", tmp_path / "b/walks", verify=True)
    assert (
        json.loads(json.dumps(moving_sweep.outcome(tk.inline(moving_sweep.tuner(str(tmp_path / "b")))))) == undisturbed
    )
    copy(tmp_path / "b/walks", f"{there}/walks", verify=True)
    assert json.loads(json.dumps(moving_sweep.outcome(tk.inline(moving_sweep.tuner(there))))) == undisturbed


def test_a_running_sweep_is_copied_again_and_again_and_each_copy_goes_on(tmp_path: Path, undisturbed: Any) -> None:
    """It saves, publishes and deletes meanwhile; every copy is an earlier state of it, and whole."""
    source = tmp_path / "live" / "walks"
    copies: list[Path] = []
    gate = tmp_path / "gate"
    command = [sys.executable, moving_sweep.__file__, str(source.parent), "--pause", "0.03", "--gate", str(gate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if not (source / "journal/000000000001.jsonl").exists():
                time.sleep(0.02)
                continue
            target = tmp_path / f"copy {len(copies)}" / "walks"
            copy(source, target, while_running=True, verify=True)
            report = verify(target)
            assert report.problems == []
            assert verify(source).problems == []
            copies.append(target)
            if len(copies) == 3:
                gate.touch()
            time.sleep(0.05)
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == undisturbed
    assert len(copies) >= 3
    ends = [(path / "journal/000000000001.jsonl").read_bytes() for path in [*copies, source]]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(ends))
    for target in (copies[0], copies[len(copies) // 2], copies[-1]):
        assert moving_sweep.live(target.parent) == undisturbed
