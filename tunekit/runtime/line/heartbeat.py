"""Signs of life from a thread, while the main thread waits for something of ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunekit.core.events import TrialSaving
from tunekit.runtime.line.channel import Channel
from tunekit.runtime.line.spec import SweepSpec
from tunekit.types import TrialId


def being_heard(
    sweep: SweepSpec, channel: Channel, trial: TrialId, attempt: int
) -> contextlib.AbstractContextManager[None]:
    """Tell the driver now and then that an attempt waits for our storage, so that it is not taken for hung."""
    timeout_s = sweep.hang_timeout_s
    return beating(
        lambda: channel.send(TrialSaving(trial=trial, attempt=attempt)), None if timeout_s is None else timeout_s / 3
    )


@contextmanager
def beating(beat: Callable[[], None], every_s: float | None) -> Iterator[None]:
    """Call ``beat`` again and again on a thread until the block is left; None: never.

    Never around user code: that a thread lives says nothing about what the main thread does.
    """
    if every_s is None:
        yield
        return
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(every_s):
            beat()

    thread = threading.Thread(target=work, name="tunekit-heartbeat", daemon=True)
    with contextlib.suppress(RuntimeError):  # The system has no thread for it.
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if thread.is_alive():
            thread.join()
