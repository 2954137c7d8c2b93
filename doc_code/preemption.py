"""A trial whose process is told to end: it is saved, and goes on from there."""

import contextlib
import os
import signal

import tunekit as tk

runs = {"count": 0}


class Model:
    """Something that takes many batches for an epoch."""

    def __init__(self):
        self.epoch, self.batch, self.loss = 0, 0, 1.0

    def train_on(self, batch):
        self.loss *= 0.99
        if runs["count"] == 0 and self.epoch == 2 and batch == 50:
            os.kill(os.getpid(), signal.SIGTERM)  # As a machine does that is taken away.

    def save_checkpoint(self, path):
        return vars(self)

    def load_checkpoint(self, state):
        vars(self).update(state)


# region: ask
def train(config):
    model = Model()
    tk.restore(model)
    while model.epoch < 4:
        for batch in range(model.batch, 100):
            model.train_on(batch)
            model.batch = batch + 1
            if tk.preempted():  # An epoch takes longer than the notice: come to a report now.
                break
        else:
            model.epoch, model.batch = model.epoch + 1, 0
        tk.report({"loss": model.loss, "epoch": model.epoch}, checkpoint=model)


# endregion


def main():
    # region: grace
    run_config = tk.RunConfig(
        name="spot",
        storage_path="results",
        preemption_grace_s=100,  # from SIGTERM to the end of the process; 30 unless you say so
        failure_config=tk.FailureConfig(max_failures=0),  # preemptions are no failures
    )
    # endregion
    tuner = tk.Tuner(train, param_space={}, tune_config=tk.TuneConfig(metric="loss", mode="min"), run_config=run_config)
    with contextlib.suppress(KeyboardInterrupt):
        tk.inline(tuner)
    runs["count"] += 1
    (result,) = tk.inline(tuner)
    assert [row["epoch"] for row in result.rows] == [1, 2, 2, 3, 4]
    assert abs(result.metrics["loss"] - 0.99**400) < 1e-12
    assert not tk.preempted()


if __name__ == "__main__":
    main()
