"""A cluster that runs already is used, and left as it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray

from tunekit.runtime.executor.cluster import Cluster

pytestmark = pytest.mark.ray


def test_a_cluster_that_was_there_is_left_as_it_was_found(rig: Callable[..., Any], reporter: Any) -> None:
    before = ray.get_runtime_context().get_session_name()
    rig(reporter).executor.close()
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_session_name() == before


def test_the_nodes_of_a_cluster_and_what_they_offer(cluster: None) -> None:
    joined = Cluster()
    assert joined.is_joined
    (node,) = joined.nodes()
    assert node.id == joined.here
    assert node.resources["CPU"] == 2.0
    assert joined.growth() == []
