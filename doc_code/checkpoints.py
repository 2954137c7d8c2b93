"""Checkpoints: how to make them, when they are made, which of them stay, and how to read one."""

import json
import shutil
from pathlib import Path

import numpy as np

import tunekit as tk


# region: dict
class Walk(tk.Trainable):
    def setup(self, config):
        self.rate = config["rate"]
        self.position = np.full(3, 8.0)
        self.rng = np.random.default_rng(config["seed"])

    def step(self):
        self.position *= 1 - self.rate * self.rng.random(3)
        return {"distance": float(np.abs(self.position).sum())}

    def save_checkpoint(self, folder):
        return {"position": self.position, "rng": self.rng.bit_generator.state}

    def load_checkpoint(self, state):
        self.position = state["position"]
        self.rng.bit_generator.state = state["rng"]


# endregion


# region: files
class WalkInFiles(Walk):
    def save_checkpoint(self, folder):
        np.save(Path(folder, "position.npy"), self.position)
        Path(folder, "rng.json").write_text(json.dumps(self.rng.bit_generator.state))

    def load_checkpoint(self, folder):
        self.position = np.load(Path(folder, "position.npy"))
        self.rng.bit_generator.state = json.loads(Path(folder, "rng.json").read_text())


# endregion


# region: saver
class State:
    """What the next epoch depends on."""

    def __init__(self):
        self.position = 8.0

    def save_checkpoint(self, folder):
        return {"position": self.position}

    def load_checkpoint(self, state):
        self.position = state["position"]


def with_saver(config):
    state = State()
    tk.restore(state)  # True, and loaded, if this trial goes on from a checkpoint
    while True:
        state.position *= 1 - config["rate"]
        tk.report({"distance": state.position}, checkpoint=state)


# endregion


# region: folder
def with_folders(config):
    position = 8.0
    checkpoint = tk.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            position = float(Path(folder, "position.txt").read_text())
    while True:
        position *= 1 - config["rate"]
        place = tk.get_context().checkpoint_dir()
        (place / "position.txt").write_text(repr(position))
        tk.report({"distance": position}, checkpoint=tk.Checkpoint.from_directory(place))


# endregion


# region: ready
def with_dicts(config):
    checkpoint = tk.get_checkpoint()
    position = checkpoint.to_dict()["position"] if checkpoint else 8.0
    while True:
        position *= 1 - config["rate"]
        tk.report({"distance": position}, checkpoint=tk.Checkpoint.from_dict({"position": position}))


# endregion


# region: demand
def on_demand(config):
    state = State()
    tk.restore(state)
    for epoch in range(1, 7):
        before = state.position
        state.position *= 1 - config["rate"]
        row = {
            "distance": state.position,
            tk.SHOULD_CHECKPOINT: before > 4 >= state.position,  # a checkpoint of this epoch
            tk.PIN_CHECKPOINT: epoch == 3,  # one that is never given up
        }
        tk.report(row, checkpoint=state)


# endregion


class Diverging(Walk):
    def step(self):
        if self.position.max() < 5:
            raise FloatingPointError("the loss is not a number")
        return super().step()


def run(trainable, name, *, fails=False, **settings):
    tuner = tk.Tuner(
        trainable,
        param_space={"rate": 0.3, "seed": 1},
        tune_config=tk.TuneConfig(metric="distance", mode="min"),
        run_config=tk.RunConfig(
            name=name,
            storage_path="results",
            stop={"training_iteration": 6},
            checkpoint_config=tk.CheckpointConfig(**settings),
            verbose=0,
        ),
    )
    (result,) = tk.inline(tuner)
    assert (result.error is not None) == fails, result.error
    return result


def saved(result):
    return [checkpoint.iteration for checkpoint, _ in result.best_checkpoints]


def main():
    assert saved(run(Walk, "dict", checkpoint_frequency=2)) == [2, 4, 6]
    assert saved(run(WalkInFiles, "files", checkpoint_frequency=4)) == [4, 6]
    assert saved(run(with_saver, "saver", checkpoint_frequency=4, checkpoint_at_end=True)) == [4, 6]
    assert saved(run(with_folders, "folders")) == [1, 2, 3, 4, 5, 6]
    assert saved(run(with_dicts, "dicts", num_to_keep=2)) == [5, 6]
    assert saved(run(on_demand, "demand", num_to_keep=1, checkpoint_at_end=True)) == [3, 6]

    # region: config
    config = tk.CheckpointConfig(
        checkpoint_frequency=10,  # every 10 iterations
        checkpoint_every_s="30min",  # and when the last save is half an hour ago
        checkpoint_at_end=True,
        num_to_keep=3,
        checkpoint_score_attribute="distance",
        checkpoint_score_order="min",
        max_experiment_bytes=200 * 10**9,
    )
    # endregion
    assert config.every_s == 1800

    # region: auto
    config = tk.CheckpointConfig(checkpoint_every_s="auto", num_to_keep=2)
    # endregion
    assert (config.is_auto, config.every_s) == (True, None)
    assert saved(run(Walk, "auto", checkpoint_every_s="auto")) == [1, 6]

    result = run(Walk, "read", checkpoint_frequency=2, num_to_keep=2)
    # region: read
    checkpoint = result.checkpoint  # the newest; result.best_checkpoints are all that were kept
    print(checkpoint.path, checkpoint.iteration, checkpoint.metadata["metrics"])
    state = checkpoint.to_dict()
    with checkpoint.as_directory() as folder:
        print(sorted(path.name for path in Path(folder).iterdir()))
    mine = checkpoint.to_directory("my_copy")
    # endregion
    assert state["position"].shape == (3,)

    # region: anywhere
    shutil.move(mine, "somewhere_else")
    found = tk.Checkpoint("somewhere_else")
    found.verify()
    print(found.iteration, found.metadata["trial_name"], found.metadata["reason"], found.metadata["environment"])
    # endregion
    assert (found.iteration, found.metadata["trial_name"]) == (6, "Walk_00000")

    # region: damage
    with Path("somewhere_else", "_tunekit_dict.safetensors").open("ab") as file:
        file.write(b"x")
    try:
        found.verify()
    except tk.CheckpointCorruptError as error:
        print(error)
    # endregion
    else:
        raise AssertionError("damage must be found")

    result = run(Diverging, "diverging", fails=True, checkpoint_frequency=1, checkpoint_on_failure=True)
    # region: failure
    for path in Path(result.path).glob("failure_*"):
        left = tk.Checkpoint(path)
        print(path.name, left.metadata["exact"], left.metadata["reason"], left.to_dict()["position"])
    # endregion
    assert left.iteration == result.checkpoint.iteration
    assert not left.metadata["exact"]


if __name__ == "__main__":
    main()
