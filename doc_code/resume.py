"""Run the same script again: finished trials are not run again, and more samples run just the rest."""

import tunekit as tk

runs: list[str] = []
"""Trials that were really run, in this process."""


def train(config):
    runs.append(tk.get_context().trial_name)
    return {"loss": (config["x"] - 3) ** 2}


# region: sweep
def make_tuner(num_samples):
    return tk.Tuner(
        train,
        param_space={"x": tk.uniform(0, 10)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=num_samples, seed=7),
        run_config=tk.RunConfig(name="parabola", storage_path="results", verbose=0),
    )


# endregion


def main():
    # region: again
    first = tk.inline(make_tuner(num_samples=4))
    again = tk.inline(make_tuner(num_samples=4))  # returns at once
    more = tk.inline(make_tuner(num_samples=6))  # runs two more
    # endregion
    assert [result.config for result in again] == [result.config for result in first]
    assert [result.config for result in more][:4] == [result.config for result in first]
    assert runs == [f"train_{index:05d}" for index in range(6)]
    # region: mismatch
    other_metric = tk.Tuner(
        train,
        param_space={"x": tk.uniform(0, 10)},
        tune_config=tk.TuneConfig(metric="loss", mode="max", num_samples=4, seed=7),
        run_config=tk.RunConfig(name="parabola", storage_path="results"),
    )
    try:
        tk.inline(other_metric)
    except tk.ExperimentMismatchError as error:
        print(error)
    # endregion
    else:
        raise AssertionError("the mode of an experiment must not change")


if __name__ == "__main__":
    main()
