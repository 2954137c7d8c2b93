"""The class that a class trainable derives from. The protocol is Ray Tune's, so that classes move over unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

SHOULD_CHECKPOINT = "should_checkpoint"
"""Key of a result that asks for a checkpoint now. Counts only when its value is True; it is not stored."""
PIN_CHECKPOINT = "pin_checkpoint"
"""Key of a result that asks for a checkpoint which is kept for good. Counts as above."""
DONE = "done"
"""Key of a result that ends the trial. Counts only when its value is True."""

T = TypeVar("T", bound="Trainable")


class Trainable:
    """One trial of a sweep, step by step. Derive from it and override at least ``step``.

    A trial calls ``setup`` once, then ``load_checkpoint`` if it goes on from a checkpoint, then ``step`` again and
    again, ``save_checkpoint`` between two steps whenever the ``CheckpointConfig`` says so, and in the end ``cleanup``.

    Args:
        config: The configuration; reaches ``setup``.

    Example::

        class Counter(tk.Trainable):
            def setup(self, config):
                self.value = config["start"]

            def step(self):
                self.value += 1
                return {"value": self.value}

            def save_checkpoint(self, path):
                return {"value": self.value}

            def load_checkpoint(self, state):
                self.value = state["value"]
    """

    _iteration: int = 0
    _trial_name: str = "default"
    _experiment_name: str = ""
    _logdir: str | None = None
    _resources: Mapping[str, float] = {}
    _parameters: Mapping[str, Any] = {}

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        """Keep the configuration and call ``setup``."""
        self.config: dict[str, Any] = {} if config is None else config
        self.setup(self.config, **self._parameters)  # type: ignore[arg-type, unused-ignore] # overrides take them

    # -- to be overridden ----------------------------------------------------------------------------------------------

    def setup(self, config: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Prepare the trial: data, model, optimiser.

        Override it as ``setup(self, config)``; what ``with_parameters`` gave comes as further keyword arguments, to be
        named in the signature.

        Args:
            config: The configuration.
            *args: Never given.
            **kwargs: What ``with_parameters`` gave.
        """

    def step(self) -> dict[str, Any]:
        """Train one iteration and return its metrics.

        ``done``, ``should_checkpoint`` and ``pin_checkpoint`` may be among them.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must define step(self), which returns a dict of metrics")

    def save_checkpoint(self, path: str) -> str | dict[Any, Any] | None:
        """Save the state of the trial.

        Args:
            path: An empty folder.

        Returns:
            None or ``path`` if files were written there, or a dict that is stored in their place.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not define save_checkpoint(self, path)")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Restore what ``save_checkpoint`` saved. Called after ``setup``.

        Args:
            checkpoint: The folder, not to be changed; or the dict, if ``save_checkpoint`` returned one.
        """
        raise NotImplementedError(f"{type(self).__qualname__} does not define load_checkpoint(self, checkpoint)")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become the trial of another configuration, under ``TuneConfig(reuse_actors=True)``.

        Returns:
            Whether that was possible; if not, a new instance is made.
        """
        del new_config
        return False

    def cleanup(self) -> None:
        """Release what ``setup`` took.

        Called whatever happened after ``setup``; what it raises is logged and changes no result.
        """

    # -- provided ------------------------------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """How many iterations are done, those of earlier attempts included. During ``step``: before this one."""
        return self._iteration

    @property
    def training_iteration(self) -> int:
        """The same as ``iteration``."""
        return self._iteration

    @property
    def trial_name(self) -> str:
        """The trial's name, such as ``Counter_00007``."""
        return self._trial_name

    @property
    def trial_id(self) -> str:
        """The same as ``trial_name``."""
        return self._trial_name

    @property
    def experiment_name(self) -> str:
        """The experiment's name."""
        return self._experiment_name

    @property
    def trial_resources(self) -> Mapping[str, float]:
        """What the trial may use, such as ``{"CPU": 1.0}``."""
        return self._resources

    @property
    def logdir(self) -> str | None:
        """The trial's folder; it may not exist yet. None if the experiment is not in a local folder."""
        return self._logdir

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return self.config

    def train(self) -> dict[str, Any]:
        """Do one step and count it. For trying a class out; a sweep calls ``step`` itself."""
        result = self.step()
        self._iteration += 1
        return {**result, "training_iteration": self._iteration}

    def stop(self) -> None:
        """Call ``cleanup``. For trying a class out."""
        self.cleanup()


def create(cls: type[T], config: dict[str, Any], *, parameters: Mapping[str, Any] | None = None, **about: Any) -> T:
    """Return an instance that knows its trial before its ``setup`` runs.

    Args:
        cls: The class.
        config: The configuration.
        parameters: What ``with_parameters`` gave.
        about: See ``tell``.
    """
    instance = cls.__new__(cls)
    instance._parameters = parameters or {}  # noqa: SLF001 - made here
    tell(instance, **about)
    # Called by hand, because setup runs inside and must find all of the above.
    instance.__init__(config)  # type: ignore[misc]
    return instance


def tell(
    instance: Trainable,
    *,
    trial_name: str = "default",
    experiment: str = "",
    logdir: str | None = None,
    resources: Mapping[str, float] | None = None,
    iteration: int = 0,
) -> None:
    """Tell an instance which trial it is.

    Args:
        instance: The instance.
        trial_name: The trial's name.
        experiment: The experiment's name.
        logdir: The trial's folder.
        resources: What the trial may use.
        iteration: How many iterations are done.
    """
    instance._trial_name = trial_name  # noqa: SLF001 - the other half of the class
    instance._experiment_name = experiment  # noqa: SLF001
    instance._logdir = logdir  # noqa: SLF001
    instance._resources = resources or {}  # noqa: SLF001
    instance._iteration = iteration  # noqa: SLF001


def set_iteration(instance: Trainable, iteration: int) -> None:
    """Tell an instance how many iterations are done."""
    instance._iteration = iteration  # noqa: SLF001 - the other half of the class
