"""What all attempts of a simulation share: the world, and what is true of it though no journal says so."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tunekit.runtime.line.spec import Delivery
from tunekit.testing.sim_diary import Diary
from tunekit.testing.sim_nodes import SimNodes
from tunekit.testing.sim_options import SimOptions
from tunekit.testing.sim_world import SimStore, Timeline
from tunekit.types import StartOver, TrialId


@dataclass(slots=True)
class Surroundings:
    """What all attempts of a simulation share."""

    seed: int
    options: SimOptions
    rng: random.Random
    timeline: Timeline
    store: SimStore
    deliver: Callable[[Delivery], bool]
    """Hands a delivery to the driver; False while there is none."""
    coin: Callable[[float], bool]
    """True with the given probability, and never once calm has come."""
    launched: dict[tuple[TrialId, int], int] = field(default_factory=dict)
    """How often each attempt was launched."""
    warned: set[tuple[TrialId, int]] = field(default_factory=set)
    """Attempts that were told that their machine is to go, or may go."""
    anew: dict[tuple[TrialId, int], StartOver] = field(default_factory=dict)
    """Attempts that made nothing of the checkpoint that they were given, and how that shows."""
    lags: dict[tuple[TrialId, int], int] = field(default_factory=dict)
    """By how many iterations the state of an attempt is behind the number of its rows, if it is."""
    diaries: dict[tuple[TrialId, int], Diary] = field(default_factory=dict)
    """What each attempt did, and when."""
    nodes: SimNodes = field(init=False)

    def __post_init__(self) -> None:
        """Have the machines there."""
        self.nodes = SimNodes(self.options.num_nodes, self.rng, self.timeline)

    def trained(self, trial: TrialId, attempt: int, iteration: int) -> int:
        """Return how many iterations have gone into what an attempt has at this one."""
        return iteration - self.lags.get((trial, attempt), 0)
