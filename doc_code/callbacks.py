"""Callbacks: to print, to log, and to have each record in a database exactly once."""

# region: table
import sqlite3

import tunekit as tk


class Table(tk.Callback):
    """Has every row in a database, exactly once, whatever is killed."""

    def __init__(self, path):
        self.path = path

    def setup(self, **info):
        self.db = sqlite3.connect(self.path, check_same_thread=False)
        self.db.execute("create table if not exists rows (trial, iteration, loss, primary key (trial, iteration))")
        self.db.execute("create table if not exists told (number)")

    def position(self):
        (number,) = self.db.execute("select max(number) from told").fetchone()
        return number or 0  # everything behind this record is told (again)

    def on_trial_result(self, trial, result, **info):
        row = (trial.trial_id, result["training_iteration"], result["loss"])
        self.db.execute("insert or replace into rows values (?, ?, ?)", row)

    def on_trial_complete(self, trial, **info):
        self.db.execute("delete from rows where trial = ? and iteration > ?", (trial.trial_id, trial.iteration))

    def flush(self, number):
        self.db.execute("insert into told values (?)", (number,))
        self.db.commit()  # the rows and the number, both or neither


# endregion


# region: best
class Best(tk.Callback):
    """Says so whenever there is a new best result."""

    def position(self):
        return 0  # it keeps nothing, so it wants to be told everything from the beginning

    def setup(self, **info):
        self.best = float("inf")

    def on_trial_result(self, trial, result, **info):
        if result["loss"] < self.best:
            self.best = result["loss"]
            print(f"{trial.trial_id} {trial.config}: {self.best}")


# endregion


def train(config):
    for step in range(5):
        tk.report({"loss": config["x"] / (step + 1)})


def main():
    # region: run
    tuner = tk.Tuner(
        train,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=3, seed=1),
        run_config=tk.RunConfig(
            name="followed",
            storage_path="results",
            callbacks=[Best(), Table("rows.db"), tk.JsonlLogger("logs/followed")],
        ),
    )
    # endregion
    results = tk.inline(tuner)
    tk.inline(tuner)
    expected = {(result.trial_id, row["training_iteration"], row["loss"]) for result in results for row in result.rows}
    with sqlite3.connect("rows.db") as db:
        assert set(db.execute("select * from rows")) == expected
    db.close()


if __name__ == "__main__":
    main()
