"""Where attempts are run: each job in a process that is started for it, in a folder that no later one finds.

Two places do it. ``Processes`` starts plain Python interpreters; checkpoints stay on the disk, in folders that are
renamed as soon as their process has ended. ``tunekit.validation.object_store`` starts Ray's; checkpoints travel
through Ray's object store, and no file is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import msgspec

from tunekit.errors import TunekitError
from tunekit.validation.jobs import Job, Outcome, Reply, Run, State

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tunekit.validation.child import main; main()"
_LOG_CHARS = 3000
_PATIENCE_S = 5.0

Kept = Any
"""A checkpoint that was saved, by whatever a laboratory knows it."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is examined, as other processes are given it."""

    name: str
    is_class: bool
    trainable: bytes
    config: bytes
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    module: tuple[str, str] | None = None
    """Name and file of the module that holds it, if it cannot be found by its name."""


class ProcessDiedError(TunekitError):
    """A process ended before it had told all of what it was to tell."""


class Laboratory(Protocol):
    """Runs attempts in fresh processes."""

    def run(self, runs: Sequence[Run], *, checkpoint: Kept = None) -> tuple[list[Outcome], list[dict[int, Kept]]]:
        """Run attempts one after another in one fresh process.

        Args:
            runs: What to do.
            checkpoint: What the runs that resume go on from.

        Returns:
            What came of each run, and its checkpoints by iteration.

        Raises:
            ProcessDiedError: The process ended early.
        """
        ...

    def states(self, checkpoints: Sequence[Kept]) -> list[State]:
        """Return what checkpoints hold, read in a fresh process."""
        ...

    @property
    def roots(self) -> Sequence[str]:
        """Folders that were there once: who names one remembers what is gone."""
        ...


class Processes:
    """Runs attempts in Python interpreters of their own. A context manager: at its end nothing is left.

    Args:
        subject: What is examined.
        kills: Whether a process that has saved is killed instead of coming to its end.
    """

    def __init__(self, subject: Subject, *, kills: bool = False) -> None:
        """Start nothing yet."""
        self._subject = subject
        self._kills = kills
        self._base = Path()
        self._num_jobs = 0
        self._roots: list[str] = []

    def __enter__(self) -> Self:
        """Make the folder that everything lies in."""
        self._base = Path(tempfile.mkdtemp(prefix="tunekit-validate-")).resolve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        shutil.rmtree(self._base, ignore_errors=True)

    def run(self, runs: Sequence[Run], *, checkpoint: Kept = None) -> tuple[list[Outcome], list[dict[int, Kept]]]:
        """Run attempts one after another in one fresh process."""
        dies = self._kills and checkpoint is None and any(run.saves for run in runs)
        replies, kept = self._do(runs=list(runs), checkpoint=checkpoint, dies=dies)
        outcomes = [reply.outcome for reply in replies if reply.outcome]
        return outcomes, [{saved.iteration: str(kept / saved.folder) for saved in one.saves} for one in outcomes]

    def states(self, checkpoints: Sequence[Kept]) -> list[State]:
        """Return what checkpoints hold, read in a fresh process."""
        replies, _ = self._do(states=list(checkpoints))
        return next((reply.states for reply in replies if reply.states is not None), [])

    @property
    def roots(self) -> Sequence[str]:
        """Folders that were there once."""
        return self._roots

    def _do(self, **wanted: Any) -> tuple[list[Reply], Path]:
        self._num_jobs += 1
        root, kept = self._base / f"run_{self._num_jobs}", self._base / f"kept_{self._num_jobs}"
        root.mkdir()
        job = job_for(self._subject, root=str(root), roots=[*self._roots, str(root)], **wanted)
        try:
            return list(_talk(job, root, environment_of(self._subject))), kept
        finally:
            # Under another name from now on, so that whoever remembers a path finds nothing there.
            self._roots.append(str(root))
            root.rename(kept)


def job_for(subject: Subject, **fields: Any) -> Job:
    """Return a job with the trainable in it."""
    return Job(
        sys_path=[str(path) for path in sys.path],
        module=subject.module,
        trainable=subject.trainable,
        config=subject.config,
        **fields,
    )


def environment_of(subject: Subject) -> dict[str, str]:
    """Return what a process of the subject finds in its environment: as many threads as Ray would give it."""
    return {"OMP_NUM_THREADS": str(max(1, int(subject.num_cpus)))}


def checked(reply: Reply) -> Reply:
    """Return a reply, unless it is that nothing could be run.

    Raises:
        ProcessDiedError: The trainable could not be unpickled.
    """
    if reply.error:
        raise ProcessDiedError(reply.error, is_loading=True)
    return reply


def _talk(job: Job, root: Path, environment: dict[str, str]) -> Iterator[Reply]:
    """Start a process, give it the job and yield its replies; kill it if it has said its last words."""
    ours, theirs = os.pipe()
    log = root.parent / f"{root.name}.log"
    with os.fdopen(ours, "rb") as pipe, log.open("wb") as output:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-c", _CODE, json.dumps(job.sys_path), str(theirs)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                env={**os.environ, **environment},
            )
        finally:
            os.close(theirs)
        num_expected = len(job.runs) + (1 if job.states else 0)
        try:
            _give(process, job)
            for number, reply in enumerate(_replies(pipe), 1):
                if job.dies and number == num_expected and process.poll() is None:
                    process.kill()
                yield checked(reply)
                if number == num_expected:
                    break
            else:
                raise _died(process.wait(), log)
            # A thread that user code has left behind may keep it from ending.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_PATIENCE_S)
        finally:
            process.kill()
            process.wait()


def _give(process: subprocess.Popen[bytes], job: Job) -> None:
    """Write the job to the process; one that dies meanwhile is noticed by its silence."""
    if process.stdin is None:
        return
    try:
        with process.stdin as stdin:
            stdin.write(msgspec.msgpack.encode(job))
    except BrokenPipeError:
        pass


def _replies(pipe: BinaryIO) -> Iterator[Reply]:
    while len(size := pipe.read(8)) == 8:  # noqa: PLR2004 - the bytes of the length
        data = pipe.read(int.from_bytes(size, "big"))
        yield msgspec.msgpack.decode(data, type=Reply)


def _died(status: int, log: Path) -> ProcessDiedError:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    text = log.read_text(errors="replace").strip()[-_LOG_CHARS:]
    return ProcessDiedError(f"{how}", is_loading=False, output=text)
