"""Real Ray on several nodes, where anything may die or stand still at any moment: the sweep ends in the same bits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nemesis
import pytest
import sweeps

from tunekit.core.events import CheckpointPublished

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.soak]

SEED = "nodes 10"
"""In the first sweep, the first five kills meet each kind of victim, and a worker and a node are stopped."""
STRIKES = 6
"""So many kills at most for one sweep; then it is compared, and another one begins."""


Rig = tuple[nemesis.Nodes, Path]
"""A cluster, and the folder of the same sweep in one process that nothing happened to."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("undisturbed")
    reference = sweeps.start("torch_sweep.py", str(folder), "--inline")
    with nemesis.nodes(2, "--hasty") as cluster:
        sweeps.finish(reference)
        yield cluster, folder / "mlps"


def assert_published_once(experiment: Path) -> None:
    """Each checkpoint became visible once, or again by a later attempt that came by."""
    published = Counter(
        (record.trial, record.iteration, record.attempt)
        for record in sweeps.journal(experiment)
        if isinstance(record, CheckpointPublished)
    )
    assert set(published.values()) <= {1}


@pytest.mark.timeout(3600)
def test_whatever_dies_or_stops(tmp_path: Path, rig: Rig, kills: int) -> None:
    """S003-12: workers, nodes, relay and driver, killed or stopped and continued: metrics and weights agree."""
    cluster, undisturbed = rig
    expected, kept = sweeps.table(undisturbed), sweeps.weights(undisturbed)
    assert len(expected) == 6 * 12
    assert len({name.split("/")[0] for name in kept}) == 6
    struck: Counter[tuple[str, str]] = Counter()
    killed = number = 0
    while killed < kills:
        number += 1
        folder = tmp_path / str(number)
        fate = nemesis.Nemesis(
            cluster,
            random.Random(f"{SEED}/{number}"),
            ["torch_sweep.py", str(folder), "--step-s", "0.15"],
            folder / "mlps",
        )
        killed += fate.strike(min(STRIKES, kills - killed))
        struck += fate.struck
        assert sweeps.table(folder / "mlps") == expected, fate.story
        assert sweeps.weights(folder / "mlps") == kept, fate.story
        assert_published_once(folder / "mlps")
        assert not [path for path in folder.glob("mlps/.staging/**/*") if path.is_file()], fate.story
        print("\n".join(fate.story))
    print(f"{killed} kills in {number} sweeps: {dict(struck)}")
