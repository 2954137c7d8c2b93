"""Ray's serializers are made by Ray, at their first use, and never twice; a Ray that looks otherwise is left alone."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray._private import serialization
from ray._private import worker as ray_worker

from tunekit.runtime.executor import cluster as cluster_module
from tunekit.runtime.executor.cluster import Cluster
from tunekit.runtime.executor.late_serializers import put_off, put_off_serializers, withdraw


class Table:
    """A serialization context."""

    made: ClassVar[list[Any]] = []

    def __init__(self, worker: Any) -> None:
        Table.made.append(self)
        self.worker = worker
        self.is_zero_copy = False

    def serialize(self, value: object) -> tuple[str, object]:
        return "serialized", value


class Process:
    """Ray's view of a process, as far as it is used."""

    current_job_id = "job"

    def __init__(self, **contexts: Any) -> None:
        self.lock = threading.RLock()
        self.serialization_context_map = dict(contexts)

    def get_serialization_context(self) -> Any:
        with self.lock:
            if "job" not in self.serialization_context_map:
                self.serialization_context_map["job"] = Table(self)
            return self.serialization_context_map["job"]


@pytest.fixture(autouse=True)
def _none_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "made", [])


def test_what_stands_in_its_place_gives_way_to_the_table_at_the_first_use() -> None:
    worker = Process()
    later = put_off(worker, None)
    assert worker.get_serialization_context() is later
    assert Table.made == []
    assert later is not None
    assert later.serialize(1) == ("serialized", 1)
    table = worker.serialization_context_map["job"]
    assert isinstance(table, Table)
    assert later.serialize(2) == ("serialized", 2), "whoever kept it"
    later.is_zero_copy = True
    assert table.is_zero_copy
    assert Table.made == [table]
    with pytest.raises(AttributeError):
        _ = later.no_such_thing


def test_the_first_use_may_be_to_set_something() -> None:
    worker = Process()
    put_off(worker, None)
    worker.get_serialization_context().is_zero_copy = True
    assert worker.serialization_context_map["job"].is_zero_copy


def test_what_ray_needs_to_make_one_is_its_own_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constructor may get other arguments: the user's first ``ray.put`` must not fail for that."""

    class Newer(Table):
        def __init__(self, worker: Any, job: str) -> None:
            super().__init__(worker)
            self.job = job

    def get_serialization_context(worker: Process) -> Any:
        return worker.serialization_context_map.setdefault("job", Newer(worker, "job"))

    monkeypatch.setattr(Process, "get_serialization_context", get_serialization_context)
    worker = Process()
    later = put_off(worker, Newer)
    assert later is not None
    assert later.serialize(1) == ("serialized", 1)
    assert worker.serialization_context_map["job"].job == "job"


def test_one_that_nobody_has_used_is_gone_with_its_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection may be the user's, who then gets what Ray makes."""
    worker = Process()
    monkeypatch.setattr(ray_worker, "global_worker", worker)
    runtime = SimpleNamespace(get_node_id=lambda: "here")
    ray_itself = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: runtime)
    monkeypatch.setattr(cluster_module, "ray", ray_itself)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = Cluster()
    assert "job" in worker.serialization_context_map
    cluster.leave()
    assert worker.serialization_context_map == {}
    cluster.leave()
    later = put_off(worker, None)
    assert later is not None
    table = worker.get_serialization_context().worker.serialization_context_map["job"]
    assert not withdraw(later), "it has given way"
    assert worker.serialization_context_map == {"job": table}


def test_a_table_that_is_there_stays() -> None:
    """Scripts register serializers of their own, for this job or before there is one."""
    for job in ("job", "nil"):
        worker = Process(**{job: "theirs"})
        assert put_off(worker, Table) is None
        assert worker.serialization_context_map == {job: "theirs"}


def test_one_that_came_after_a_disconnection_is_not_replaced() -> None:
    worker = Process()
    later = put_off(worker, Table)
    worker.serialization_context_map = {"job": "of the next connection"}
    assert later is not None
    assert later.serialize(1) == ("serialized", 1)
    assert worker.serialization_context_map == {"job": "of the next connection"}


def test_a_ray_without_these_inner_parts_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: dict[str, Any] = {}
    parts = {"lock": threading.RLock(), "serialization_context_map": contexts, "current_job_id": "job"}
    for worker in (object(), SimpleNamespace(**parts)):
        monkeypatch.setattr(ray_worker, "global_worker", worker)
        assert put_off_serializers() is None
    assert contexts == {}
    monkeypatch.delattr(serialization, "SerializationContext")
    assert put_off_serializers() is None
