"""A process that runs trial after trial: what the Ray actor does.

The actor has one method, and that is one long call. Ray runs the methods of a plain synchronous actor on the process's
main thread, which is where signal handlers work and where CUDA and Lightning expect to be; an actor with concurrency
would not. When the call returns, the process is to end, and what it returns are its last words.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import cloudpickle
import ray

from tunekit import session
from tunekit.core.events import LaunchFailed, Place, TrialRaised
from tunekit.errors import StorageError
from tunekit.journal.lock import folder_nonce
from tunekit.runtime.attempt.attempt import run_attempt, seconds_since
from tunekit.runtime.attempt.class_trial import release
from tunekit.runtime.attempt.reaping import reap_children
from tunekit.runtime.line.door import Errand, Visitor
from tunekit.runtime.line.failure import error_info
from tunekit.runtime.line.heartbeat import being_heard
from tunekit.runtime.line.hiring import Contract, Detour, contract_of_this_actor
from tunekit.runtime.line.link import Link
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.runtime.line.wire import Assign, AttemptKey, Hello
from tunekit.runtime.preemption.poller import start_poller
from tunekit.runtime.preemption.sigterm import Notice
from tunekit.store import CheckpointIO, open_store
from tunekit.trainable import bind
from tunekit.types import LossCause

GRACE_S = 10.0
"""Seconds from the end of the lease to the end of the process."""
_DELIVERY_S = 5.0
"""So long a process that was told to end waits for the driver to journal its last words. They go with its end, too."""
_SIGNAL = signal.SIGUSR2


Load: TypeAlias = Callable[[Assign], tuple[Any, CheckpointIO]]
"""Loads the trainable for this attempt, and opens the storage."""


def work(door: str, relay: str, trainable: bytes, parameters: Mapping[str, Any]) -> tuple[int, list[bytes]]:
    """Serve until told to leave, or until this process should not serve another trial.

    Args:
        door: Name of the driver's door.
        relay: Name of the relay, an actor that there may be.
        trainable: The trainable, pickled, if it is not in the contract.
        parameters: References to its large objects.

    Returns:
        Number of the first message that the driver has not acknowledged, and all of these.
    """
    contract = contract_of_this_actor(door, relay)
    if contract is None:  # The driver has given this worker up meanwhile.
        return 1, []
    contract = replace(contract, trainable=contract.trainable or trainable, parameters=parameters)
    place = _place(contract.worker)
    interruption = _Interruption()
    link = Link(
        worker=contract.worker,
        hello=Hello(pid=place.pid, node=ray.get_runtime_context().get_node_id()),
        call=Visitor(door, Errand.EXCHANGE, Detour(relay, "exchange")),
        lease_s=contract.sweep.lease_s,
        grace_s=GRACE_S,
        rearm=_watchdog(_longest_call_s(contract.sweep)),
        interrupt=interruption.send,
        die=_die,
    )
    link.start_pump()
    start_poller(link, door)
    notice = Notice(link, contract.sweep.preemption_grace_s, _die)
    try:
        with _handling_interrupts(interruption), notice.heeded():
            serve(link, contract.sweep, place, Loader(contract, link))
            if link.termination:
                link.deliver(min(_DELIVERY_S, notice.remaining_s))
        release()
        return link.remaining()
    finally:
        link.close()
        faulthandler.cancel_dump_traceback_later()


def serve(link: Link, sweep: SweepSpec, place: Place, load: Load) -> None:
    """Run attempts until the driver ends it, or an attempt after which this process is not to be used again."""
    while (assign := link.next_assignment()) is not None:
        reap_children()  # Now and not when a trial ends: what it has left may take a while to end as well.
        given_at = time.monotonic()
        try:
            trainable, io = load(assign)
            spec: AttemptSpec = pickle.loads(assign.spec)  # noqa: S301 - the driver wrote it
        except Exception as error:  # noqa: BLE001 - foreign code is loaded here; its failure is an event
            fatal = isinstance(error, EverywhereError)
            info = error_info(error.cause if isinstance(error, EverywhereError) else error)
            is_storage = isinstance(error, StorageError)  # It may be read in a moment.
            link.send(
                LaunchFailed(
                    trial=assign.trial,
                    attempt=assign.attempt,
                    error=info,
                    fatal=fatal,
                    cause=LossCause.STORAGE if is_storage else LossCause.START_FAILED,
                    node=place.node,
                    took_s=seconds_since(given_at),
                )
            )
            if sweep.fresh_process:  # The driver gives it nothing more.
                return
            continue
        if link.termination:  # Loading may take a minute. The driver gives the attempt to another process.
            return
        is_reusable = _attempt(link, sweep, spec, trainable, io, place, given_at)
        del trainable  # What is large in it goes before the next attempt gets its own.
        if sweep.fresh_process or link.has_raised or not is_reusable:
            return


def _attempt(
    link: Link,
    sweep: SweepSpec,
    spec: AttemptSpec,
    trainable: Any,
    io: CheckpointIO,
    place: Place,
    given_at: float,
) -> bool:
    """Run one attempt. Return whether this process may run another one."""
    try:
        return run_attempt(sweep, spec, trainable, link, io, place=place, owns_process=True, given_at=given_at)
    except Exception as error:  # noqa: BLE001 - a fault of ours must end the attempt, not the sweep
        link.send(TrialRaised(trial=spec.trial, attempt=spec.attempt, error=error_info(error, spec.config)))
        return False


class EverywhereError(Exception):
    """Carries an error to which every worker would come; any other may be the fault of one machine."""

    def __init__(self, cause: Exception) -> None:
        """Remember the error."""
        super().__init__(str(cause))
        self.cause = cause


class Loader:
    """Loads the code and opens the storage once, and fetches the objects of ``with_parameters`` for each attempt.

    If trials shared them, one would see what others have changed, and results would depend on which trials a process
    happens to run. NumPy arrays are read-only views of the object store, so this is cheap for what is large.

    Args:
        contract: What this worker is to run.
        link: What is heard while a fetch lasts.
    """

    def __init__(self, contract: Contract, link: Link) -> None:
        """Load nothing yet."""
        self._contract = contract
        self._link = link
        self._loaded: tuple[Any, CheckpointIO] | None = None

    def __call__(self, assign: Assign) -> tuple[Any, CheckpointIO]:
        """Load what an attempt needs.

        Raises:
            EverywhereError: No worker could load it.
            Exception: This one could not.
        """
        self._loaded = self._loaded or _load(self._contract)
        references = self._contract.parameters
        if not references:
            return self._loaded
        trainable, io = self._loaded
        with being_heard(self._contract.sweep, self._link, assign.trial, assign.attempt):
            values = ray.get(list(references.values()))
        return bind(trainable, dict(zip(references, values, strict=True)), originals=references), io


def _load(contract: Contract) -> tuple[Any, CheckpointIO]:
    _check_folder(contract.sweep)
    try:
        trainable = cloudpickle.loads(contract.trainable)
    except Exception as error:
        raise EverywhereError(error) from error
    return trainable, CheckpointIO(open_store(contract.sweep.path, create=False))


def _check_folder(sweep: SweepSpec) -> None:
    """Raise unless the experiment's folder is the driver's own, and not one of the same name on another disk.

    Raises:
        EverywhereError: It is not.
        StorageError: It cannot be read, which says nothing about the place.
    """
    if not sweep.nonce or (seen := _nonce(sweep.path)) == sweep.nonce:
        return
    what = "is not the same place" if seen else "holds no experiment"
    raise EverywhereError(
        StorageError(
            f"{sweep.path} {what} on {socket.gethostname()}, but the driver runs one there",
            hint="give a storage_path that every node of the cluster sees, such as a shared file system or a bucket; "
            "memory:// is seen by one process alone",
        )
    )


def _nonce(path: str) -> str:
    """Return what a folder shows, loading of the journal no more than that takes."""
    if "://" not in path:
        return folder_nonce(Path(path))
    from tunekit.journal.folder import experiment_nonce  # noqa: PLC0415 - loaded by those who use one

    return experiment_nonce(path)


class _Interruption:
    """Carries the word to interrupt an attempt from the thread that received it to the main thread."""

    def __init__(self) -> None:
        self._main = threading.main_thread().ident or 0
        self._key: AttemptKey | None = None

    def send(self, trial: int, attempt: int) -> None:
        """Interrupt the main thread."""
        self._key = trial, attempt
        signal.pthread_kill(self._main, _SIGNAL)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Let the attempt raise ``TrialStopped``, if it is the one that runs."""
        del signum, frame
        key, self._key = self._key, None
        if key is not None:
            session.interrupt(*key)


@contextmanager
def _handling_interrupts(interruption: _Interruption) -> Iterator[None]:
    before = signal.signal(_SIGNAL, interruption.handle)
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)


def _place(worker: int) -> Place:
    return Place(
        pid=os.getpid(),
        hostname=socket.gethostname(),
        node_ip=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
        worker=str(worker),
        node=ray.get_runtime_context().get_node_id(),
    )


def _longest_call_s(sweep: SweepSpec) -> float | None:
    """Return how long C code may hold the interpreter lock before this process is to end; None: for any time.

    While it does, no thread of ours can ask whether the driver is there, and the timer cannot either. So the timer must
    not come before the driver itself would take the trial for hung, or it would end an honest computation.
    """
    if sweep.hang_timeout_s is None:
        return None
    return max(sweep.lease_s, sweep.hang_timeout_s) + 2 * GRACE_S


def _watchdog(after_s: float | None) -> Callable[[], None]:
    """Return what puts off the end of this process, which comes even while C code holds the interpreter lock.

    Without a limit there is no such end: a worker cut off in the middle of such a call ends when the call returns.
    """
    if after_s is None:
        return lambda: None
    stderr = os.fdopen(os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2), "w")

    def rearm() -> None:
        faulthandler.dump_traceback_later(after_s, exit=True, file=stderr)

    rearm()
    return rearm


def _die(reason: str, code: int = 1) -> None:
    sys.stderr.write(f"tunekit: worker {os.getpid()} ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(code)
