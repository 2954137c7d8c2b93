"""Connections to Ray that are refused before anything is started."""

from __future__ import annotations

import pytest
import ray
from ray._private import client_mode_hook

from tunekit.errors import ExperimentError
from tunekit.runtime.executor.cluster import Cluster


def test_workers_could_not_reach_a_driver_behind_ray_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with pytest.raises(ExperimentError, match=r"Ray Client.*\n\nhint: .*ray job submit"):
        Cluster()
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(client_mode_hook, "client_mode_should_convert", lambda: True)
    with pytest.raises(ExperimentError, match="Ray Client"):
        Cluster()
