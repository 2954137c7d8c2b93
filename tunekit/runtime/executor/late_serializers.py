"""Puts off what Ray loads before the first object is serialized.

For each job, Ray has a table of serializers. To fill it, Ray loads pydantic, numpy and pyarrow: a quarter second of
processor time; and it asks for the table whenever an actor is created, even if there is nothing to be serialized, as
with our workers. So a new driver would spend that time between being connected and asking for its first worker.

The table is put off instead: something stands in its place that becomes the table as soon as anybody uses it. Ray has
no public way to do that. Where the inner parts that are used here are not as expected, nothing is changed, and things
take as long as Ray takes.
"""

from __future__ import annotations

from typing import Any


class _Later:
    """Stands for the serialization context of a job, and makes it when it is used."""

    def __init__(self, worker: Any, job: Any, make: Any) -> None:
        self._worker, self._job, self._make = worker, job, make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        """Answer as the context does."""
        with self._worker.lock:
            if self._made is None:
                self._made = self._make(self._worker)
                contexts = self._worker.serialization_context_map
                if contexts.get(self._job) is self:
                    contexts[self._job] = self._made
        return getattr(self._made, name)


def put_off_serializers() -> None:
    """Let the serializers of the job that this process is connected to wait for their first use."""
    try:
        from ray._private import serialization, worker  # noqa: PLC0415 - which may not be there

        put_off(worker.global_worker, serialization.SerializationContext)
    except Exception:  # noqa: BLE001 - inner parts of Ray, which promises nothing of them
        return


def put_off(worker: Any, make: Any) -> None:
    """Put something in the place of a context that would be made, unless there is one.

    Args:
        worker: Ray's view of this process.
        make: Makes a context for it.
    """
    with worker.lock:
        if not worker.serialization_context_map:
            worker.serialization_context_map[worker.current_job_id] = _Later(worker, worker.current_job_id, make)
