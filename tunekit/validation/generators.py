"""The random generators that libraries share with everybody in a process: read, and put back."""

from __future__ import annotations

import pickle
import random
import sys
from importlib import import_module
from typing import Any

NAMES = {
    "random": "Python's random",
    "numpy": "numpy.random",
    "torch": "torch",
    "torch.cuda": "torch.cuda",
}
"""What to call them."""

HOW = {
    "random": "random.getstate() and random.setstate(…)",
    "numpy": "numpy.random.get_state() and numpy.random.set_state(…)",
    "torch": "torch.get_rng_state() and torch.set_rng_state(…)",
    "torch.cuda": "torch.cuda.get_rng_state_all() and torch.cuda.set_rng_state_all(…)",
}
"""What saves and restores them."""


def read() -> dict[str, bytes]:
    """Return the state of each generator whose library is loaded."""
    states = {"random": pickle.dumps(random.getstate())}
    numpy_random: Any = sys.modules.get("numpy.random")
    torch: Any = sys.modules.get("torch")
    if hasattr(numpy_random, "get_state"):
        states["numpy"] = pickle.dumps(numpy_random.get_state(legacy=True))
    if hasattr(torch, "get_rng_state"):
        states["torch"] = bytes(torch.get_rng_state().tolist())
        if torch.cuda.is_initialized():
            states["torch.cuda"] = pickle.dumps([bytes(state.tolist()) for state in torch.cuda.get_rng_state_all()])
    return states


def put_back(states: dict[str, bytes]) -> None:
    """Set generators to what ``read`` has returned. The pickles are our own."""
    for name, state in states.items():
        if name == "random":
            random.setstate(pickle.loads(state))  # noqa: S301 - see above
        elif name == "numpy":
            import_module("numpy.random").set_state(pickle.loads(state))  # noqa: S301 - see above
        else:
            torch = import_module("torch")
            if name == "torch":
                torch.set_rng_state(torch.tensor(list(state), dtype=torch.uint8))
            else:
                parts = pickle.loads(state)  # noqa: S301 - see above
                torch.cuda.set_rng_state_all([torch.tensor(list(part), dtype=torch.uint8) for part in parts])
