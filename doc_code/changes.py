"""A script that was changed: new trials from another space, another experiment beside the first, another driver."""

import tunekit as tk


def train(config):
    return {"loss": (config["x"] - 3) ** 2}


def sweep(space, num_samples, **run):
    return tk.Tuner(
        train,
        param_space=space,
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=num_samples, seed=7),
        run_config=tk.RunConfig(name="parabola", storage_path="results", verbose=0, **run),
    )


def main():
    # region: extend
    first = tk.inline(sweep({"x": tk.uniform(0, 1)}, num_samples=4))
    wider = tk.inline(sweep({"x": tk.uniform(1, 5)}, num_samples=8, on_change="extend"))
    assert [result.config for result in wider][:4] == [result.config for result in first]  # they stay as they are
    assert all(result.config["x"] > 1 for result in wider[4:])  # the others are of the new space
    # endregion
    # region: fork
    other = tk.inline(sweep({"x": tk.uniform(0, 100)}, num_samples=4, on_change="fork"))
    assert other.experiment_path.endswith("parabola-2")  # the log says so
    again = tk.inline(sweep({"x": tk.uniform(0, 100)}, num_samples=6, on_change="fork"))
    assert again.experiment_path == other.experiment_path  # the same script goes on there
    # endregion
    # region: takeover
    tuner = sweep({"x": tk.uniform(1, 5)}, num_samples=10)
    results = tk.inline(tuner, takeover=True)  # or tuner.fit(takeover=True), on Ray
    # endregion
    assert len(results) == 10


if __name__ == "__main__":
    main()
