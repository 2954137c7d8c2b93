"""Gives each attempt objects of its own in place of what ``with_parameters`` gave, in the process that holds these.

If trials shared an object that can be changed, one would see what others have changed, and results would depend on
which trials a process happens to run. What a worker of Ray takes from the object store is a copy by nature, with
NumPy arrays that are read-only views of one memory. Here the same is made by the same means: pickles with their
buffers apart.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import cloudpickle

from tunekit.trainable.bound import as_bound, bind


class OwnCopies:
    """Makes the trainable for one attempt after another. One without parameters stays as it is.

    Args:
        trainable: With the originals, which are pickled when the first attempt is to have its copies.
    """

    def __init__(self, trainable: Any) -> None:
        """Pickle nothing yet."""
        self._trainable = trainable
        self._originals = as_bound(trainable).parameters

    def __call__(self) -> Any:
        """Return the trainable with copies that nobody else has.

        Raises:
            Exception: Whatever loading a copy raised, which it did not when it was tried.
        """
        if not self._originals:
            return self._trainable
        own = {name: load() for name, load in self._loads.items()}
        return bind(self._trainable, own, originals=self._originals)

    @cached_property
    def _loads(self) -> dict[str, Callable[[], Any]]:
        # One by one, as they are put into Ray's object store: what two of them share, they share no more.
        return {name: _load_of(value) for name, value in self._originals.items()}


def _load_of(value: Any) -> Callable[[], Any]:
    """Return what makes copies of ``value``; of what cannot be copied, such as a lock, the original."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        load = partial(pickle.loads, data, buffers=[buffer.raw().toreadonly() for buffer in buffers])
        load()  # Some exceptions can be pickled and not be loaded, say.
    except Exception:  # noqa: BLE001 - reduce methods may raise anything
        return lambda: value
    return load
