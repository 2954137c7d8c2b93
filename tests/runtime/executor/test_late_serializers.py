"""Ray's serializers are made at their first use, and never twice; a Ray that looks otherwise is left alone."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private import serialization
from ray._private import worker as ray_worker

from tunekit.runtime.executor.late_serializers import put_off, put_off_serializers


class Table:
    """A serialization context."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def serialize(self, value: object) -> tuple[str, object]:
        return "serialized", value


def process(**contexts: Any) -> Any:
    return SimpleNamespace(lock=threading.RLock(), serialization_context_map=dict(contexts), current_job_id="job")


def test_what_stands_in_its_place_becomes_the_table_at_the_first_use() -> None:
    made: list[Table] = []

    def make(worker: Any) -> Table:
        made.append(Table(worker))
        return made[-1]

    worker = process()
    put_off(worker, make)
    later = worker.serialization_context_map["job"]
    assert not made
    assert later.serialize(1) == ("serialized", 1)
    assert worker.serialization_context_map == {"job": made[0]}
    assert later.serialize(2) == ("serialized", 2), "whoever kept it"
    assert len(made) == 1
    with pytest.raises(AttributeError):
        _ = later.no_such_thing


def test_a_table_that_is_there_stays() -> None:
    """Scripts register serializers of their own, for this job or before there is one."""
    for job in ("job", "nil"):
        worker = process(**{job: "theirs"})
        put_off(worker, Table)
        assert worker.serialization_context_map == {job: "theirs"}


def test_one_that_came_after_a_disconnection_is_not_replaced() -> None:
    worker = process()
    put_off(worker, Table)
    later = worker.serialization_context_map["job"]
    worker.serialization_context_map = {"job": "of the next connection"}
    assert later.serialize(1) == ("serialized", 1)
    assert worker.serialization_context_map == {"job": "of the next connection"}


def test_a_ray_without_these_inner_parts_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "global_worker", object())
    put_off_serializers()
    monkeypatch.delattr(serialization, "SerializationContext")
    put_off_serializers()
