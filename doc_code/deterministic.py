"""Deterministic mode: the same sweep, however many workers there are, and whatever happens to them."""

import tempfile

import tunekit as tk


# region: mode
class Walk(tk.Trainable):
    def setup(self, config):
        self.rate = config["rate"]
        self.position = 8.0

    def step(self):
        self.position *= 1 - self.rate
        return {"distance": abs(self.position)}

    def save_checkpoint(self, folder):
        return {"position": self.position}

    def load_checkpoint(self, state):
        self.position = state["position"]


def sweep(storage_path):
    return tk.Tuner(
        Walk,
        param_space={"rate": tk.uniform(0.0, 0.5)},
        tune_config=tk.TuneConfig(
            metric="distance",
            mode="min",
            num_samples=12,
            scheduler=tk.ASHA(max_t=8, reduction_factor=2),
            seed=3,
            deterministic=True,
            max_concurrent_trials=4,  # four trials are under way at a time, on four workers or on one
        ),
        run_config=tk.RunConfig(
            storage_path=storage_path,
            failure_config=tk.FailureConfig(max_failures=3, hang_timeout_s="10min"),
            verbose=0,
        ),
    )


# endregion

with tempfile.TemporaryDirectory() as folder:
    # region: same
    first = tk.inline(sweep(f"{folder}/one"))  # in this process, one trial at a time
    second = sweep(f"{folder}/other").fit()  # on Ray, as many at a time as there is room for
    assert [result.rows[-1]["distance"] for result in first] == [result.rows[-1]["distance"] for result in second]
    assert [len(result.rows) for result in first] == [len(result.rows) for result in second]
    # endregion
