"""How many threads numpy and scipy use for a matrix product, which decides its bits.

Both read the environment when they are loaded and never again, so what is loaded already must be told by a call of the
library below them. It has one of a few names, and is found through the module that is linked with it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

_MODULES: Final = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath", "scipy.linalg._fblas")
_NAMES: Final = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)
"""In the wheels of numpy, those of scipy, those of distributions, and MKL."""


class _Pool(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], object]


def set_threads(number: int) -> list[tuple[Callable[[int], object], int]]:
    """Have every library that is loaded use ``number`` threads.

    Returns:
        What to call, with what, to undo it.
    """
    undo = []
    for pool in _pools():
        if (before := pool.get()) != number:
            pool.set(number)
        undo.append((pool.set, before))
    return undo


def _pools() -> Iterator[_Pool]:
    for name in _MODULES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and (pool := _pool(file)) is not None:
            yield pool


@cache
def _pool(file: str) -> _Pool | None:
    """Return the library that a loaded extension module is linked with; None: it is of an unknown kind."""
    try:
        library = ctypes.CDLL(file)
    except OSError:
        return None
    for getter, setter in _NAMES:
        if hasattr(library, getter) and hasattr(library, setter):
            return _Pool(library[getter], library[setter])
    return None
