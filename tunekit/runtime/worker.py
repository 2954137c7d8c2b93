"""A process that runs trial after trial: the code of the Ray actor.

``run`` is its only method and one long call. Ray runs the methods of a plain synchronous actor on the process's main
thread, which is where signal handlers work and where CUDA and Lightning expect to be; an actor with concurrency would not.
When the call returns, the process is to end, and what it returns are its last words.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import cloudpickle
import ray

from tunekit.core.events import LaunchFailed, TrialRaised
from tunekit.runtime.attempt import run_attempt
from tunekit.runtime.driver import describe_error
from tunekit.runtime.link import Link
from tunekit.runtime.spec import AttemptSpec, SweepSpec
from tunekit.runtime.wire import Hello
from tunekit.session import TrialStopped, interrupt
from tunekit.store import CheckpointIO, open_store
from tunekit.trainable import bind

GRACE_S = 10.0
"""Seconds from the end of the lease to the end of the process."""
_SIGNAL = signal.SIGUSR2


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a worker is told when it is hired."""

    worker: int
    sweep: SweepSpec
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """References to the large objects of ``with_parameters``, in Ray's object store."""


class Worker:
    """The actor."""

    def run(self, contract: Contract, mailbox: Any, trainable: bytes) -> tuple[int, list[bytes]]:
        """Serve until told to leave, or until this process should not serve another trial.

        Args:
            contract: Who this is, and what the sweep is.
            mailbox: Handle of the mailbox actor.
            trainable: The trainable, pickled.

        Returns:
            Number of the first message that the driver has not acknowledged, and all of these.
        """
        main = threading.main_thread().ident or 0
        link = Link(
            worker=contract.worker,
            hello=Hello(pid=os.getpid(), node=ray.get_runtime_context().get_node_id()),
            call=lambda frame, timeout_s: ray.get(mailbox.exchange.remote(frame), timeout=timeout_s),
            lease_s=contract.sweep.lease_s,
            grace_s=GRACE_S,
            rearm=_watchdog(contract.sweep.lease_s + 2 * GRACE_S),
            interrupt=lambda: signal.pthread_kill(main, _SIGNAL),
            die=_die,
        )
        link.start_pump()
        try:
            with _handling_signals(link):
                serve(link, contract.sweep, lambda: _load(contract, trainable))
            return link.remaining()
        finally:
            link.close()
            faulthandler.cancel_dump_traceback_later()


def serve(link: Link, sweep: SweepSpec, load: Callable[[], tuple[Any, CheckpointIO]]) -> None:
    """Run attempts until the driver or an attempt ends it."""
    loaded: tuple[Any, CheckpointIO] | None = None
    while (assign := link.next_assignment()) is not None:
        try:
            spec: AttemptSpec = pickle.loads(assign.spec)  # noqa: S301 - the driver wrote it
            loaded = loaded or load()
        except Exception as error:  # noqa: BLE001 - foreign code is loaded here; its failure is an event
            link.send(LaunchFailed(trial=assign.trial, attempt=assign.attempt, error=describe_error(error)))
            continue
        is_reusable = _attempt(link, sweep, spec, *loaded)
        if link.is_terminated:
            raise SystemExit(1)
        if not is_reusable or sweep.fresh_process:
            return


def _attempt(link: Link, sweep: SweepSpec, spec: AttemptSpec, trainable: Any, io: CheckpointIO) -> bool:
    """Run one attempt. Return whether this process may run another one."""
    try:
        is_reusable = run_attempt(sweep, spec, trainable, link, io)
    except TrialStopped:  # The interrupt came while the attempt was ending.
        is_reusable = False
    except Exception as error:  # noqa: BLE001 - a fault of ours must end the attempt, not the sweep
        is_reusable = False
        link.send(TrialRaised(trial=spec.trial, attempt=spec.attempt, error=describe_error(error)))
    return is_reusable and not link.has_raised


def _load(contract: Contract, trainable: bytes) -> tuple[Any, CheckpointIO]:
    loaded = cloudpickle.loads(trainable)
    if contract.parameters:
        names = list(contract.parameters)
        values = ray.get([contract.parameters[name] for name in names])
        loaded = bind(loaded, dict(zip(names, values, strict=True)))
    return loaded, CheckpointIO(open_store(contract.sweep.path, create=False))


@contextmanager
def _handling_signals(link: Link) -> Iterator[None]:
    """Raise ``TrialStopped`` when interrupted; remember a SIGTERM before Ray's own handler ends the process."""
    terminate = signal.getsignal(signal.SIGTERM)

    def interrupted(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if key := link.take_interrupt():
            interrupt(*key)

    def terminated(signum: int, frame: FrameType | None) -> None:
        link.is_terminated = True
        if callable(terminate):
            terminate(signum, frame)
        raise SystemExit(128 + signum)

    before = {_SIGNAL: signal.signal(_SIGNAL, interrupted), signal.SIGTERM: signal.signal(signal.SIGTERM, terminated)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _watchdog(after_s: float) -> Callable[[], None]:
    """Return what puts off the end of this process, which comes even while C code holds the interpreter lock."""
    stderr = os.fdopen(os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2), "w")

    def rearm() -> None:
        faulthandler.dump_traceback_later(after_s, exit=True, file=stderr)

    rearm()
    return rearm


def _die(reason: str) -> None:
    sys.stderr.write(f"tunekit: worker {os.getpid()} ends itself: {reason}\n")
    sys.stderr.flush()
    os._exit(1)
