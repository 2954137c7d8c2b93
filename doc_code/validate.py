"""Find out before a sweep whether a trainable comes back as it was saved."""

import random

import ray

import tunekit as tk


# region: trainable
class Walk(tk.Trainable):
    def setup(self, config):
        self.position = 0.0
        self.width = config["width"]

    def step(self):
        self.position += random.gauss(0, self.width)
        return {"position": self.position}

    def save_checkpoint(self, path):
        return {"position": self.position}

    def load_checkpoint(self, state):
        self.position = state["position"]


# endregion


# region: mended
class MendedWalk(Walk):
    def save_checkpoint(self, path):
        return {"position": self.position, "generator": random.getstate()}

    def load_checkpoint(self, state):
        self.position = state["position"]
        random.setstate(state["generator"])


# endregion


# region: function
class Place:
    def __init__(self):
        self.position = 0.0

    def save_checkpoint(self, path):
        return {"position": self.position}

    def load_checkpoint(self, state):
        self.position = state["position"]


def descend(config):
    place = Place()
    tk.restore(place)
    for _ in range(tk.get_context().iteration, 20):
        place.position -= config["rate"] * 2 * (place.position - 3)
        tk.report({"loss": (place.position - 3) ** 2}, checkpoint=place)


# endregion


def main():
    # region: refused
    try:
        tk.validate_save_restore(Walk, {"width": 0.5})
    except tk.ValidationError as error:
        print(error)
        print(error.problem, error.step, error.key, error.expected, error.found)
        # endregion
        seen = (error.problem, error.step, error.key)
    else:
        raise AssertionError("a walk without its generator must be refused")
    assert seen == ("missing random generator", 4, "position")
    # region: accepted
    tk.validate_save_restore(MendedWalk, {"width": 0.5})
    tk.validate_save_restore(descend, {"rate": 0.1}, steps=5)
    # endregion
    # region: object_store
    tk.validate_save_restore(MendedWalk, {"width": 0.5}, use_object_store=True)
    # endregion
    assert not ray.is_initialized()


if __name__ == "__main__":
    main()
