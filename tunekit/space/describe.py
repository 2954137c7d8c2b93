"""How values of any Python type are shown in tables, recognised between runs, and told from plain JSON.

A configuration may hold anything: classes, functions, arrays. What goes on disk is text about them, so it must be
the same in every process: no memory addresses, no order of a set.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any, TypeGuard

from tunekit.config.problems import shorten
from tunekit.types import Json

_MAX_SHOWN = 60
_MAX_EXACT = 200
_INT64 = range(-(2**63), 2**63)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def is_json(value: object) -> TypeGuard[Json]:
    """Return whether ``value`` is the same after a round trip through JSON, its types included."""
    kind = type(value)  # subclasses come back as their base, so they do not count
    if value is None or kind in {bool, str}:
        return True
    if isinstance(value, int) and kind is int:
        return value in _INT64
    if isinstance(value, float) and kind is float:
        return math.isfinite(value)
    if isinstance(value, list) and kind is list:
        return all(is_json(item) for item in value)
    if isinstance(value, dict) and kind is dict:
        return all(type(key) is str and is_json(item) for key, item in value.items())
    return False


def shown(value: object) -> Json:
    """Return a JSON scalar for tables and logs: the value itself, a name, or a short ``repr``."""
    if is_json(value) and not isinstance(value, str | list | dict):
        return value
    if isinstance(value, str):
        return value if len(value) <= _MAX_SHOWN else value[: _MAX_SHOWN - 1] + "…"
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else shorten(value, _MAX_SHOWN)


def fingerprint(value: object) -> Json:
    """Return JSON that is equal for equal values, in every process: a scalar itself, else a text about it.

    What has no text of its own, such as an object that shows its memory address, counts by its type alone.
    """
    if is_json(value) and not isinstance(value, list | dict) and not (isinstance(value, str) and _is_long(value)):
        return value
    if isinstance(value, list | tuple):
        return [fingerprint(item) for item in value]
    if isinstance(value, dict):
        return {shorten(key) if not isinstance(key, str) else key: fingerprint(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return {"set": sorted(repr(fingerprint(item)) for item in value)}
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return {"name": name}  # without its module, which is __main__ or not depending on how the script is run
    return _fingerprint_of_text(value)


def _fingerprint_of_text(value: object) -> Json:
    kind = type(value).__qualname__
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr of user code says no more than the type
        return {"type": kind}
    if _ADDRESS.search(text):
        return {"type": kind}
    if _is_long(text):
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()
        return {"type": kind, "start": text[:_MAX_SHOWN], "hash": digest}
    return {"type": kind, "value": text}


def _is_long(text: str) -> bool:
    return len(text) > _MAX_EXACT


def plain(value: Any) -> Any:
    """Return a numpy scalar as the Python number that it stands for, and anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def same(one: object, other: object) -> bool:
    """Return whether two values are equal, where ``True`` is not ``1`` and an undecided comparison is a no."""
    if one is other:
        return True
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - arrays refuse to be compared as a whole, and user classes may raise anything
        return False
