"""Runs attempts in Ray's workers, and hands checkpoints over through Ray's object store.

Each job gets an actor in a process that has run nothing else. User code that wants a folder finds one, but its content
is in the object store before the actor ends, and the folder is gone; the driver never holds any of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import ray

from tunekit.errors import ResourcesError
from tunekit.runtime.executor.cluster import Cluster
from tunekit.validation.child import work
from tunekit.validation.jobs import Job, Outcome, Reply, Run, State
from tunekit.validation.laboratory import Kept, ProcessDiedError, Subject, checked, environment_of, job_for

Tree = dict[str, bytes]
"""The files of a checkpoint by their names."""


class ObjectStore:
    """Runs attempts in Ray's workers. A context manager: at its end Ray is as it was found.

    Args:
        subject: What is examined.
    """

    def __init__(self, subject: Subject) -> None:
        """Start nothing yet."""
        self._subject = subject
        self._cluster: Cluster | None = None
        self._roots: list[str] = []

    def __enter__(self) -> Self:
        """Start Ray on this machine, unless it is running.

        Raises:
            ResourcesError: The trainable needs more GPUs than there are.
        """
        self._cluster = Cluster("local")
        try:
            self._check_resources()
        except BaseException:
            self._cluster.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave Ray."""
        if self._cluster is not None:
            self._cluster.leave()

    @property
    def roots(self) -> Sequence[str]:
        """Folders that were there once."""
        return self._roots

    def run(self, runs: Sequence[Run], *, checkpoint: Kept = None) -> tuple[list[Outcome], list[dict[int, Kept]]]:
        """Run attempts one after another in one fresh process."""
        replies, trees = self._do([] if checkpoint is None else [checkpoint], runs=list(runs))
        outcomes = [reply.outcome for reply in replies if reply.outcome]
        return outcomes, [{saved.iteration: (trees, saved.folder) for saved in one.saves} for one in outcomes]

    def states(self, checkpoints: Sequence[Kept]) -> list[State]:
        """Return what checkpoints hold, read in a fresh process."""
        replies, _ = self._do(list(checkpoints), states=[""] * len(checkpoints))
        return next((reply.states for reply in replies if reply.states is not None), [])

    def _do(self, checkpoints: list[Kept], **wanted: Any) -> tuple[list[Reply], Any]:
        job = job_for(self._subject, root="", roots=list(self._roots), **wanted)
        refs = [trees for trees, _ in checkpoints]
        # What is unique in its environment has a process of its own, whatever is idle.
        actor: Any = ray.remote(_Worker)
        worker = actor.options(
            num_cpus=0,
            num_gpus=self._subject.num_gpus,
            runtime_env={"env_vars": {**environment_of(self._subject), "TUNEKIT_VALIDATION": uuid.uuid4().hex}},
        ).remote()
        names = [name for _, name in checkpoints]
        replies, trees = worker.work.options(num_returns=2).remote(msgspec.msgpack.encode(job), names, *refs)
        try:
            root, *encoded = ray.get(replies)
        except ray.exceptions.RayActorError as error:
            raise ProcessDiedError("died", is_loading=False, output=str(error)) from None
        finally:
            ray.kill(worker)
        self._roots.append(root)
        return [checked(msgspec.msgpack.decode(data, type=Reply)) for data in encoded], trees

    def _check_resources(self) -> None:
        needed, there = self._subject.num_gpus, ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
        if needed > there:
            raise ResourcesError(
                f"{self._subject.name} needs {needed:g} GPUs, but Ray has {there:g}",
                hint="start Ray where there are GPUs, or validate with resources that are there",
            )


class _Worker:
    """What runs in a process of its own."""

    def work(self, job: bytes, names: list[str], *trees: dict[str, Tree]) -> tuple[list[Any], dict[str, Tree]]:
        """Do a job.

        Args:
            job: The job, without a root.
            names: Which checkpoint of each of ``trees`` to use.
            trees: Checkpoints of earlier jobs by their names.

        Returns:
            The root that it had and its replies; its checkpoints by their names.
        """
        base = Path(tempfile.mkdtemp(prefix="tunekit-validate-")).resolve()
        try:
            wanted = [tree[name] for name, tree in zip(names, trees, strict=True)]
            given = [_written(tree, base / f"given_{number}") for number, tree in enumerate(wanted)]
            asked = msgspec.msgpack.decode(job, type=Job)
            root, temporary = base / "run", base / "tmp"
            root.mkdir()
            temporary.mkdir()
            # What user code leaves in temporary files goes with the rest.
            os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
            asked = msgspec.structs.replace(
                asked,
                root=str(root),
                roots=[*asked.roots, str(root), *given],
                checkpoint=given[0] if given and asked.runs else None,
                states=given if asked.states else [],
            )
            replies: list[Reply] = []
            work(asked, replies.append)
            saves = [saved for reply in replies if reply.outcome for saved in reply.outcome.saves]
            encoded = [msgspec.msgpack.encode(reply) for reply in replies]
            return [str(root), *encoded], {saved.folder: _read(root / saved.folder) for saved in saves}
        finally:
            shutil.rmtree(base, ignore_errors=True)


def _read(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _written(tree: Tree, folder: Path) -> str:
    folder.mkdir()
    for name, data in tree.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return str(folder)
