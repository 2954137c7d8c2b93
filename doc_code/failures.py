"""What a failure costs: budgets, waits, silence, and a run that is not worth going on."""

import tunekit as tk

tries: dict[str, int] = {}


def train(config):
    name = tk.get_context().trial_name
    tries[name] = tries.get(name, 0) + 1
    tk.report({"loss": config["x"]})
    if tries[name] < 3:
        raise ConnectionError("the data server is busy")
    tk.report({"loss": config["x"] / 2})


def moody(config):
    tries["moody"] = tries.get("moody", 0) + 1
    if tries["moody"] < 3:
        raise ConnectionError("no free license: try again later")
    tk.report({"loss": 1.0})


def broken(config):
    raise KeyError("learning_rate")


def main():
    # region: budgets
    tuner = tk.Tuner(
        train,
        param_space={"x": tk.uniform(0, 1)},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=2, seed=1),
        run_config=tk.RunConfig(
            name="busy",
            storage_path="results",
            time_limit_s="2h",  # of one trial, all of its attempts together
            failure_config=tk.FailureConfig(
                max_failures=3,  # exceptions, crashes, lack of memory, hangs
                max_preemption_failures=-1,  # machines that are taken away or lost: any number
                backoff_s=0.05,  # seconds after the first failure, twice that after the second, …
                hang_timeout_s="10min",  # without a report
            ),
        ),
    )
    results = tk.inline(tuner)
    # endregion
    assert all(result.status == "completed" and len(result.rows) == 2 for result in results)
    assert set(tries.values()) == {3}
    # region: rules
    rules = [
        tk.FailureRule("no free license", "retry", max_times=20),
        tk.FailureRule("CUDA error|uncorrectable ECC", "avoid_node"),
        tk.FailureRule("CUDA out of memory", "give_up"),  # this configuration does not fit, here or elsewhere
    ]
    tuner = tk.Tuner(
        moody, param_space={}, run_config=tk.RunConfig(name="moody", failure_config=tk.FailureConfig(rules=rules))
    )
    (result,) = tk.inline(tuner)
    print(result.losses)  # {'user exception': 2}
    # endregion
    assert (result.status, result.losses) == ("completed", {"user exception": 2})
    # region: guard
    tuner = tk.Tuner(broken, param_space={"x": tk.uniform(0, 1)}, tune_config=tk.TuneConfig(num_samples=1000, seed=1))
    try:
        tk.inline(tuner)
    except tk.ExperimentError as error:
        print(error)  # 5 trials have failed in the same way, and none has ever reported a result: KeyError: …
    # endregion
    else:
        raise AssertionError("a thousand trials were tried")


if __name__ == "__main__":
    main()
