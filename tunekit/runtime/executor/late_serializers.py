"""Puts off what Ray loads before the first object is serialized.

For each job, Ray has a table of serializers. To fill it, Ray loads pydantic, numpy and pyarrow: a quarter second of
processor time; and it asks for the table whenever an actor is created, even if there is nothing to be serialized, as
with our workers. So a new driver would spend that time between being connected and asking for its first worker.

The table is put off instead: something stands in its place that gives way to the table as soon as anybody uses it, and
goes with the sweep if nobody has. Ray has no public way to do that. Where the inner parts that are used here are not as
expected, nothing is changed, and things take as long as Ray takes. The table itself is made by Ray, so that it is the
one that Ray would have made.
"""

from __future__ import annotations

from typing import Any


class Later:
    """Stands for the serialization context of a job, which is made when it is used.

    Args:
        worker: Ray's view of this process.
        make: Makes a context for it, for those who still have this one after Ray was left.
    """

    def __init__(self, worker: Any, make: Any) -> None:
        """Stand in its place from now on."""
        job, contexts = worker.current_job_id, worker.serialization_context_map
        ask_ray = worker.get_serialization_context
        self.__dict__.update(_worker=worker, _job=job, _ask_ray=ask_ray, _make=make, _made=None)
        contexts[job] = self

    def __getattr__(self, name: str) -> Any:
        """Answer as the context does."""
        return getattr(_made(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Change the context."""
        setattr(_made(self), name, value)


def _made(later: Later) -> Any:
    """Return the context, which takes its place if it is made now."""
    own = vars(later)
    with own["_worker"].lock:
        if own["_made"] is None:
            own["_made"] = own["_ask_ray"]() if withdraw(later) else own["_make"](own["_worker"])
        return own["_made"]


def withdraw(later: Later) -> bool:
    """Leave its place to the context that Ray makes when it needs one. Return whether it was still there."""
    own = vars(later)
    with own["_worker"].lock:
        contexts = own["_worker"].serialization_context_map
        is_there = contexts.get(own["_job"]) is later
        if is_there:
            del contexts[own["_job"]]
        return is_there


def put_off_serializers() -> Later | None:
    """Let the serializers of the job that this process is connected to wait for their first use.

    Returns:
        What stands in their place, to be withdrawn when it is not needed any more; None where nothing was changed.
    """
    try:
        from ray._private import serialization, worker  # noqa: PLC0415 - which may not be there

        return put_off(worker.global_worker, serialization.SerializationContext)
    except Exception:  # noqa: BLE001 - inner parts of Ray, which promises nothing of them
        return None


def put_off(worker: Any, make: Any) -> Later | None:
    """Put something in the place of a context that would be made, unless there is one.

    Args:
        worker: Ray's view of this process.
        make: Makes a context for it.
    """
    with worker.lock:
        return None if worker.serialization_context_map else Later(worker, make)
