"""A sweep that ends when it has cost enough, or when it is late, and goes on with more."""

from datetime import datetime, timedelta

import tunekit as tk


def train(config):
    for step in range(3):
        tk.report({"loss": config["x"] / (step + 1)})


def main():
    # region: limits
    tune_config = tk.TuneConfig(
        metric="loss",
        mode="min",
        num_samples=2,
        max_cost=50.0,  # in the currency of the prices, over all runs of the script
        prices={"GPU": 2.1, "CPU": 0.04},  # of one resource for an hour
        deadline=datetime.now().astimezone() + timedelta(hours=8),
    )
    # endregion
    tuner = tk.Tuner(
        train,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tune_config,
        run_config=tk.RunConfig(name="limits", storage_path="results"),
    )
    # region: reason
    results = tk.inline(tuner)
    print(results.outcome)  # "finished", "max cost" or "deadline"
    # endregion
    assert results.outcome == "finished"


if __name__ == "__main__":
    main()
