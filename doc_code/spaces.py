"""A search space: plain data, nested as you like."""

import tunekit as tk

# region: space
space = {
    "model": {"width": tk.choice([32, 64, 128]), "depth": tk.randint(1, 5)},
    "optimizer": {"lr": tk.loguniform(1e-4, 1e-1), "nesterov": tk.grid_search([True, False])},
    "layers": [tk.quniform(0.0, 0.5, 0.1), tk.quniform(0.0, 0.5, 0.1)],
    "batch_size": 64,
}
# endregion


def train(config):
    return {"loss": config["optimizer"]["lr"] * config["model"]["width"]}


if __name__ == "__main__":
    tuner = tk.Tuner(
        train,
        param_space=space,
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=3, seed=1),
        run_config=tk.RunConfig(name="spaces", storage_path="results", verbose=0),
    )
    results = tk.inline(tuner)
    # Three samples for each of the two cells of the grid, which share what is drawn.
    assert len(results) == 6
    assert [result.config["optimizer"]["nesterov"] for result in results] == [True, False] * 3
    assert all(result.config["batch_size"] == 64 for result in results)
    assert all(result.config["model"]["depth"] in range(1, 5) for result in results)
