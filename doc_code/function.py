"""A function trainable: restore, report, save; ASHA ends weak trials early."""

# region: function
import tunekit as tk


class Walk:
    """What the next epoch depends on."""

    def __init__(self):
        self.position = 8.0

    def save_checkpoint(self, path):
        return {"position": self.position}

    def load_checkpoint(self, state):
        self.position = state["position"]


def train(config):
    walk = Walk()
    tk.restore(walk)  # True, and loaded, if this trial has a checkpoint
    while True:
        walk.position *= 1 - config["rate"]
        tk.report({"distance": abs(walk.position)}, checkpoint=walk)


# endregion


def main():
    # region: tuner
    tuner = tk.Tuner(
        train,
        param_space={"rate": tk.uniform(0.0, 1.0)},
        tune_config=tk.TuneConfig(
            metric="distance", mode="min", num_samples=12, scheduler=tk.ASHA(max_t=16, reduction_factor=2), seed=3
        ),
        run_config=tk.RunConfig(
            name="walk",
            storage_path="results",
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=4, checkpoint_at_end=True),
            failure_config=tk.FailureConfig(max_failures=2),
        ),
    )
    results = tk.inline(tuner)  # in this process, for a debugger; tuner.fit() runs the same sweep on Ray
    # endregion
    # region: results
    best = results.get_best_result()
    print(best.trial_id, best.config["rate"], best.metrics["distance"])
    print(best.checkpoint.path, best.checkpoint.iteration)
    for result in results:
        print(result.trial_id, len(result.rows), result.status, result.reason)
    # endregion
    assert len(results) == 12
    assert results.num_errors == 0
    assert best.metrics["training_iteration"] == 16
    assert best.checkpoint.iteration == 16
    assert min(len(result.rows) for result in results) < 16


if __name__ == "__main__":
    main()
