"""The sweep of the demo: a script as a user would write it, run in a process of its own so that it can be killed.

It knows nothing of being killed. Run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import tunekit as tk

BATCH = 64
NUM_TRAIN = 1400
"""Of 1797 images; the others measure accuracy."""


class TrainingRun:
    """Everything that the next epoch depends on, so that a restored run goes on as if it had never stopped."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Make a fresh network and its optimizer."""
        width = config["width"]
        self.model = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(config["dropout"]),
            nn.Linear(2 * width * 16, 10),
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config["lr"], momentum=0.9, weight_decay=1e-4)

    def save_checkpoint(self, path: str | Path) -> None:
        """Write weights, momentum, running statistics, and the generator that dropout and shuffling draw from."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        torch.save(state, Path(path) / "state.pt")

    def load_checkpoint(self, path: str | Path) -> None:
        """Read what ``save_checkpoint`` wrote."""
        state = torch.load(Path(path) / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])

    def fit_one_epoch(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the mean loss of one pass in a random order."""
        self.model.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH):
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(images[batch]), labels[batch])
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(batch)
        return total / len(images)

    @torch.no_grad()
    def evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """Return loss and accuracy on images that were not trained on."""
        self.model.eval()
        logits = self.model(images)
        hits = (logits.argmax(1) == labels).sum().item()
        return {"val_loss": functional.cross_entropy(logits, labels).item(), "accuracy": hits / len(labels)}


def train(config: dict[str, Any]) -> None:
    """Train until the sweep's stop condition ends the trial; save when its CheckpointConfig says so."""
    torch.set_num_threads(1)  # a sum over two threads has other bits than over one
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    run = TrainingRun(config)
    tk.restore(run)
    while True:
        loss = run.fit_one_epoch(images[:NUM_TRAIN], labels[:NUM_TRAIN])
        metrics = run.evaluate(images[NUM_TRAIN:], labels[NUM_TRAIN:])
        tk.report({"loss": loss, **metrics}, checkpoint=run)


def make_tuner(options: argparse.Namespace) -> tk.Tuner:
    """Describe the sweep."""
    return tk.Tuner(
        train,
        param_space={
            "lr": tk.loguniform(1e-3, 3e-1),
            "width": tk.choice([8, 16, 32]),
            "dropout": tk.uniform(0.0, 0.5),
        },
        tune_config=tk.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=options.trials,
            max_concurrent_trials=2,
            deterministic=True,
            scheduler=tk.ASHA(max_t=options.epochs, grace_period=2, reduction_factor=2)
            if options.scheduler == "asha"
            else tk.FIFO(),
            seed=7,
        ),
        run_config=tk.RunConfig(
            name="digits",
            storage_path=options.storage,
            stop={"training_iteration": options.epochs},
            checkpoint_config=tk.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="accuracy", checkpoint_frequency=2, checkpoint_at_end=True
            ),
            failure_config=tk.FailureConfig(max_failures=3, hang_timeout_s="5min"),
            verbose=0,
        ),
    )


def main() -> None:
    """Run the sweep, or what is left of it, and write its table for the demo to compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--storage", required=True)
    parser.add_argument("--scheduler", default="asha")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--table", required=True)
    options = parser.parse_args()
    results = make_tuner(options).fit()
    trials = [
        {"name": result.trial_id, "config": result.config, "error": str(result.error or ""), "rows": result.rows}
        for result in results
    ]
    best = results.get_best_result().trial_id
    Path(options.table).write_text(json.dumps({"best": best, "trials": trials}))


if __name__ == "__main__":
    main()
