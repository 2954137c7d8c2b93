"""A bucket that cannot be reached: for a while, which a sweep sits out, and for good, which ends it in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sweeps
from flaky_proxy import Trouble, flaky_proxy
from s3_server import S3Server

import tunekit as tk
from tunekit.errors import StorageError
from tunekit.store.object_client import Patience

pytestmark = pytest.mark.s3

OUT_S = 3.0


class Walk(tk.Trainable):
    """Adds up numbers."""

    def setup(self, config: dict[str, Any]) -> None:
        self.total, self.by = 0.0, config["by"]

    def step(self) -> dict[str, Any]:
        self.total += self.by * self.iteration
        return {"total": self.total}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        return {"total": self.total}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.total = checkpoint["total"]


class Network:
    """Lets requests through, until it is cut after a number of them."""

    def __init__(self) -> None:
        self.left: float = float("inf")
        self.back_at = float("inf")
        self.is_cut = False

    def trouble(self, method: str, path: str, is_conditional: bool) -> Trouble:  # noqa: FBT001 - as it is called
        self.left -= 1
        if self.left < 0 and not self.is_cut:
            self.is_cut, self.back_at = True, time.monotonic() + self.back_at
        return "busy" if self.is_cut and time.monotonic() < self.back_at else ""


@pytest.fixture
def network(s3_server: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    assert s3_uri
    network = Network()
    with flaky_proxy(s3_server.endpoint, network.trouble) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield network


def run(storage: str | Path) -> tk.ResultGrid:
    return tk.inline(
        tk.Tuner(
            Walk,
            param_space={"by": tk.uniform(0, 1)},
            tune_config=tk.TuneConfig(metric="total", mode="max", num_samples=3, seed=1),
            run_config=tk.RunConfig(
                name="walks",
                storage_path=str(storage),
                stop={"training_iteration": 8},
                checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2, num_to_keep=2),
                verbose=0,
            ),
        )
    )


def test_a_sweep_sits_an_outage_out(network: Network, s3_uri: str, tmp_path: Path) -> None:
    """S003-24: no trial fails, starts over or loses a row, and nobody does anything about it."""
    network.left, network.back_at = 60, OUT_S
    results = run(s3_uri)
    assert network.is_cut
    assert not results.errors
    run(tmp_path)
    assert sweeps.table(f"{s3_uri}/walks") == sweeps.table(tmp_path / "walks")


def test_a_bucket_that_is_gone_for_good_ends_the_sweep_and_costs_nothing_that_was_recorded(
    network: Network, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S003-24: after the deadline there is one error that says what to do; with the bucket back, the same end."""
    network.left = 60
    with monkeypatch.context() as patch:
        patch.setattr("tunekit.store.objects.Patience", lambda: Patience(0.5))
        patch.setattr("tunekit.journal.remote._ENOUGH_S", 0.1)
        patch.setattr("tunekit.journal.lease._FAREWELL_S", 0.1)
        with pytest.raises(StorageError, match="run the script again"):
            run(s3_uri)
    network.left, network.is_cut = float("inf"), False
    results = run(s3_uri)
    assert not results.errors
    run(tmp_path)
    assert sweeps.table(f"{s3_uri}/walks") == sweeps.table(tmp_path / "walks")
