"""Signs of life from a thread, while the main thread waits for something of ours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
