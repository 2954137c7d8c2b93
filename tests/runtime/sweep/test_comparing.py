"""The name under which a script goes on that describes something else."""

from __future__ import annotations

import pytest

from tunekit.config.problems import MAX_NAME_BYTES, why_no_folder_name
from tunekit.runtime.sweep.comparing import _numbered


@pytest.mark.parametrize(
    "name", ["exp", "x" * MAX_NAME_BYTES, "é" * (MAX_NAME_BYTES // 2), "x" * (MAX_NAME_BYTES - 3) + " y"]
)
def test_a_fork_of_any_name_has_a_name_that_can_be_a_folder(name: str) -> None:
    forks = [_numbered(name, number) for number in (2, 10)]
    assert not any(map(why_no_folder_name, forks))
    assert all(name.startswith(fork.rpartition("-")[0]) for fork in forks)
    assert [fork.rpartition("-")[2] for fork in forks] == ["2", "10"]
    assert _numbered("exp", 2) == "exp-2"
