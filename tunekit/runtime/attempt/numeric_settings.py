"""Settings of decimal and numpy that decide what a trial computes, and whether it fails where another would go on.

Neither is loaded for the sake of this.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any


def keep_decimal(undo: ExitStack) -> None:
    """Give the trial a copy of the context, so that the process's own is untouched, whoever holds it."""
    if (decimal := sys.modules.get("decimal")) is not None and hasattr(decimal, "localcontext"):
        undo.enter_context(decimal.localcontext())
    else:
        undo.callback(_forget_decimal)


def _forget_decimal() -> None:
    """Begin again with the context that everybody begins with, if the trial has loaded what has one."""
    decimal: Any = sys.modules.get("decimal")
    if hasattr(decimal, "DefaultContext"):
        decimal.setcontext(decimal.DefaultContext)


def keep_numpy(numpy: Any, undo: ExitStack) -> None:
    """Remember what numpy does about errors of arithmetic, and how much it adds up at once."""
    undo.callback(_restore_numpy, numpy, _read_numpy(numpy))


def _read_numpy(numpy: Any) -> tuple[dict[str, str], Any, int]:
    return numpy.geterr(), numpy.geterrcall(), numpy.getbufsize()


def _restore_numpy(numpy: Any, before: tuple[dict[str, str], Any, int]) -> None:
    if _read_numpy(numpy) != before:
        errors, callback, buffer_size = before
        numpy.seterr(**errors)
        numpy.seterrcall(callback)
        numpy.setbufsize(buffer_size)
