"""A sweep of small networks to kill: model, optimizer and generator are saved, so that a wrong restore shows.

Usage: torch_sweep.py FOLDER [--samples N] [--iterations N] [--step-s S] [--inline]

Whoever has it killed compares metrics, and the weights in the checkpoints that are left.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import tunekit as tk


class Mlp(tk.Trainable):
    """Fits noise by minibatches that it draws from torch's own generator."""

    def setup(self, config: dict[str, Any]) -> None:
        import torch  # Here, so that a driver that is started again need not wait for it.

        torch.set_num_threads(1)  # A product differs in its bits between one and two threads.
        self.step_s = config["step_s"]
        self.model = torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 1)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["lr"])
        fixed = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(256, 8, generator=fixed)
        self.targets = torch.randn(256, 1, generator=fixed)

    def step(self) -> dict[str, Any]:
        import torch

        for _ in range(8):
            batch = torch.randint(256, (32,))
            self.optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(self.model(self.inputs[batch]), self.targets[batch])
            loss.backward()
            self.optimizer.step()
        time.sleep(self.step_s)
        return {"loss": float(loss), "norm": float(sum(p.double().norm() for p in self.model.parameters()))}

    def save_checkpoint(self, path: str) -> dict[str, Any]:
        import torch

        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
        }

    def load_checkpoint(self, checkpoint: Any) -> None:
        import torch

        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["generator"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--lease-s", type=float, default=60.0)
    parser.add_argument("--inline", action="store_true")
    options = parser.parse_args()
    tuner = tk.Tuner(
        Mlp,
        param_space={"lr": tk.loguniform(1e-4, 1e-1), "step_s": options.step_s},
        tune_config=tk.TuneConfig(
            metric="loss", mode="min", num_samples=options.samples, seed=3, max_concurrent_trials=2
        ),
        run_config=tk.RunConfig(
            name="mlps",
            storage_path=options.folder,
            stop={"training_iteration": options.iterations},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=3, num_to_keep=2, checkpoint_at_end=True),
            failure_config=tk.FailureConfig(max_failures=-1),
            lease_s=options.lease_s,
            verbose=0,
        ),
    )
    results = tk.inline(tuner) if options.inline else tuner.fit()
    assert results.num_errors == 0


if __name__ == "__main__":
    main()
