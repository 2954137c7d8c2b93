"""A script that joins a cluster early leaves it in each case, and says what it said when it joined late."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sweeps

pytestmark = pytest.mark.ray


def test_a_cluster_that_was_joined_early_is_left_as_it_was_found(tmp_path: Path) -> None:
    cases = re.findall(r"^@case\ndef (\w+)", (sweeps.SCRIPTS / "head_starts.py").read_text(), re.MULTILINE)
    assert len(cases) >= 8
    with sweeps.ray_head(num_cpus=1) as address:
        out = sweeps.finish(sweeps.start("head_starts.py", str(tmp_path), address=address))
    assert out.split() == cases
