"""A child that user code forks, and that comes back out of it, is no second worker and no second driver.

``os.fork`` copies everything: the stack that leads back into the loop over trials, the way to the driver, the journal.
A child that returns from user code, or raises, would go on as its parent does: it would report rows in its name, or
take the next trial. So it ends where it leaves user code, as a child of ``multiprocessing`` ends with its function.
Should it come by another way, it ends before it says or records anything.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_num_forks = 0
"""How many forks lie between this process and the one that loaded this module: to ask for a pid is a system call."""


def _count() -> None:
    global _num_forks  # noqa: PLW0603 - one for the process
    _num_forks += 1


os.register_at_fork(after_in_child=_count)


class Home:
    """The process in which this was made."""

    __slots__ = ("_num_forks",)

    def __init__(self) -> None:
        """Remember it."""
        self._num_forks = _num_forks

    def check(self, error: BaseException | None = None) -> None:
        """End this process if it is a child, with what it has raised, if it has."""
        if _num_forks != self._num_forks:
            _end(error)


@contextmanager
def ending_children() -> Iterator[None]:
    """End a child that user code forks inside the block as it leaves it."""
    home = Home()
    try:
        yield
    except BaseException as error:
        home.check(error)
        raise
    home.check()


def _end(error: BaseException | None) -> NoReturn:
    """End this process as an error would have ended it, but without what its parent is to do at exit."""
    code = 0 if error is None else 1
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)
