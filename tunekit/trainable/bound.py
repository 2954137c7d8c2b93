"""A trainable with what belongs to it: constant arguments and resources.

It is plain data rather than a closure or a subclass, so that whoever sends it to another process can take the big
arguments out (``parameters_of``), move them by other means, and put them in again over there (``bind``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tunekit.errors import TrainableError
from tunekit.trainable.base import Trainable, create
from tunekit.trainable.resources import Resources, ResourcesOf, checked, checked_of


@dataclass(frozen=True, eq=False)
class BoundTrainable:
    """What ``with_parameters`` and ``with_resources`` return; use it wherever a trainable is asked for."""

    target: Any
    """The function or class."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Arguments beside the config, the same for every trial."""
    resources: Resources | ResourcesOf | None = None
    """What one trial occupies; None: the default."""
    originals: Mapping[str, Any] | None = None
    """What ``parameters`` are one attempt's own copies of; None: they are no copies."""

    def __repr__(self) -> str:
        """Return the target and the names of the parameters, whose values may be huge."""
        return f"BoundTrainable({self.target!r}, parameters={sorted(self.parameters)})"

    def __call__(self, config: dict[str, Any]) -> Any:
        """Call the function, or make an instance of the class, as a trial would."""
        if isinstance(self.target, type) and issubclass(self.target, Trainable):
            return create(self.target, config, parameters=self.parameters)
        return self.target(config, **self.parameters)


def as_bound(trainable: Any) -> BoundTrainable:
    """Return ``trainable`` as a BoundTrainable, with nothing added."""
    return trainable if isinstance(trainable, BoundTrainable) else BoundTrainable(trainable)


def with_parameters(trainable: Any, **parameters: Any) -> BoundTrainable:
    """Give a trainable constant arguments, such as a data set, which are sent to each machine only once.

    Each attempt of a trial has its own copies: what a trial changes in them, no other trial sees, nor the trial itself
    when it is tried again. NumPy arrays are read-only, so that large ones need not be copied: take ``array.copy()`` to
    change one. With ``reuse_actors``, an instance keeps what its ``setup`` was given. What cannot be pickled, such as a
    lock, is refused on Ray; in ``tunekit.inline``, the trials share it.

    Args:
        trainable: A function ``train(config, data=…)``, or a class with ``setup(self, config, data=…)``.
        parameters: The arguments by name.

    Raises:
        TrainableError: ``trainable`` is neither a function nor a class.
    """
    bound = _checked_kind(trainable, "with_parameters")
    return replace(bound, parameters={**bound.parameters, **parameters})


def with_resources(
    trainable: Any, resources: Mapping[str, float] | Callable[[dict[str, Any]], Mapping[str, float]]
) -> BoundTrainable:
    """Say what one trial occupies.

    Args:
        trainable: A function or a class.
        resources: Amounts by name, such as ``{"cpu": 2, "gpu": 0.5, "my_resource": 1}``, or a function of the config
            that returns them. CPU is 1 unless it is given.

    Raises:
        TrainableError: ``trainable`` is neither a function nor a class.
        ConfigError: An amount is negative, not finite, or not a number.
    """
    bound = _checked_kind(trainable, "with_resources")
    return replace(bound, resources=checked_of(resources) if callable(resources) else checked(resources))


def parameters_of(trainable: Any) -> dict[str, Any]:
    """Return the arguments that ``with_parameters`` gave, {} if none."""
    return dict(as_bound(trainable).parameters)


def bind(
    trainable: Any, parameters: Mapping[str, Any], *, originals: Mapping[str, Any] | None = None
) -> BoundTrainable:
    """Return ``trainable`` with exactly these arguments, whatever it had before.

    Args:
        trainable: The trainable.
        parameters: The arguments by name.
        originals: What they are copies of, if they are; the same objects for all copies.
    """
    return replace(as_bound(trainable), parameters=dict(parameters), originals=originals)


def _checked_kind(trainable: Any, caller: str) -> BoundTrainable:
    if not callable(trainable):
        raise TrainableError(
            f"{caller}: got {type(trainable).__qualname__}, but the first argument must be a function or a class",
            hint=f"write {caller}(train, …), where train is a function of the config or a subclass of Trainable",
        )
    return as_bound(trainable)
