"""The excerpt for KubeRay: what it gives trials to save fits into what Kubernetes gives the pod."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXCERPT = ROOT / "doc_code" / "kuberay.yaml"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
RESERVE_S = 5
"""What Ray may take to end by itself, and what the page asks for."""


def worker_pods() -> list[Any]:
    """Return what the pods of each group of workers are to be."""
    cluster = yaml.safe_load(EXCERPT.read_text())
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    return [group["template"]["spec"] for group in cluster["spec"]["workerGroupSpecs"]]


def test_the_page_shows_it() -> None:
    assert f"```yaml\n{EXCERPT.read_text()}```" in (ROOT / "docs" / "kubernetes.md").read_text()


@pytest.mark.parametrize("pod", worker_pods())
def test_the_time_of_the_trials_ends_before_that_of_their_pod(pod: Any) -> None:
    """Kubernetes refuses a variable that is no string."""
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert isinstance(environment[DRAIN], str)
    assert 0 < float(environment[DRAIN]) <= pod["terminationGracePeriodSeconds"] - RESERVE_S
    assert "lifecycle" not in container, "the time of a hook is taken from this"


def test_the_variable_is_one_that_ray_reads() -> None:
    """A misspelt one would be ignored, and 30 seconds be all that trials have."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    assert f'"{DRAIN}"' in (Path(spec.origin).parent / "_private" / "ray_constants.py").read_text()
