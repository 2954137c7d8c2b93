"""What the seconds of a sweep went into, and what they cost."""

import time

import tunekit as tk

tries: dict[str, int] = {}


class Slow(tk.Trainable):
    def setup(self, config):
        self.name = self.trial_name
        tries[self.name] = tries.get(self.name, 0) + 1
        self.loss = config["x"]

    def step(self):
        time.sleep(0.02)
        self.loss /= 2
        if self.iteration == 4 and tries[self.name] == 1:
            raise ConnectionError("the data server is busy")
        return {"loss": self.loss}

    def save_checkpoint(self, path):
        return {"loss": self.loss}

    def load_checkpoint(self, state):
        self.loss = state["loss"]


def main():
    # region: ledger
    tuner = tk.Tuner(
        Slow,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=3, seed=1),
        run_config=tk.RunConfig(
            name="slow",
            storage_path="results",
            stop={"training_iteration": 6},
            checkpoint_config=tk.CheckpointConfig(checkpoint_frequency=2),
            failure_config=tk.FailureConfig(max_failures=1),
        ),
    )
    ledger = tk.inline(tuner).ledger
    print(ledger)  # a table, and the two lines with which a sweep ends
    useful_s, lost_s = ledger.total.useful_s, ledger.total.lost_s  # of the whole sweep
    recomputed_s = ledger.by_cause["user exception"].recomputed_s  # what exceptions have cost in training
    waited_s = ledger.by_trial["Slow_00001"].checkpointing_s  # for how long this trial waited for saves
    restoring_s = ledger.of("Slow_00001")["user exception"].restoring_s  # of one trial, by cause
    cost = ledger.cost({"CPU": 0.04, "GPU": 2.1})  # per resource and hour, in any currency
    print(cost)  # such as: 5.70 in all: 5.00 useful, 0.70 lost
    # endregion
    total = ledger.total
    assert abs(sum(total.by_kind().values()) - total.leased_s) < 1e-6
    assert min(useful_s, lost_s, recomputed_s, waited_s, restoring_s) > 0
    assert abs(cost.total - total.held_s / 3600 * 0.04) < 1e-9


if __name__ == "__main__":
    main()
