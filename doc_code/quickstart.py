"""The first example of the README: a class, a search space, a sweep."""

# region: quickstart
import tunekit as tk


class Descent(tk.Trainable):
    def setup(self, config):
        self.x, self.lr = 5.0, config["lr"]

    def step(self):
        self.x -= self.lr * 2 * self.x
        return {"loss": self.x**2}

    def save_checkpoint(self, path):
        return {"x": self.x}

    def load_checkpoint(self, state):
        self.x = state["x"]


if __name__ == "__main__":
    tuner = tk.Tuner(
        Descent,
        param_space={"lr": tk.loguniform(1e-3, 1e0)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=20, seed=1),
        run_config=tk.RunConfig(
            storage_path="results",
            stop={"training_iteration": 20},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=5, num_to_keep=2),
        ),
    )
    best = tuner.fit().get_best_result()
    print(best.config, best.metrics["loss"], best.checkpoint.path)
    # endregion
    assert 0.1 < best.config["lr"] < 1.0
    assert best.metrics["training_iteration"] == 20
