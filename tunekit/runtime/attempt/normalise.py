"""Turns what user code reports into plain JSON values of our own, or says which key cannot be recorded.

The result shares no container with what was given, so changing the dict after ``report()`` changes no record. Numbers
of numpy, torch and jax are recognised by what they can do, so none of these libraries is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final

from tunekit.config.problems import shorten
from tunekit.errors import ReportError
from tunekit.types import Json

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32
MAX_KEY_CHARS: Final = 256

_INT_MIN: Final = -(1 << 63)
_INT_END: Final = 1 << 64
_BYTES_PER_VALUE: Final = 9
"""The longest number in MessagePack, the form in which rows travel."""
_ATOMS: Final = frozenset({bool, float, type(None)})


def normalise(metrics: Any, source: str = "report()") -> dict[str, Json]:
    """Return ``metrics`` as plain Python values.

    Args:
        metrics: What user code reported.
        source: Where it came from, for messages.

    Raises:
        ReportError: It is no dict, or holds something that cannot be recorded; names the path of keys.
    """
    if not isinstance(metrics, Mapping):
        raise ReportError(
            f"{source}: metrics must be a dict such as {{'loss': 0.1}}, got {shorten(metrics)} "
            f"({type(metrics).__qualname__})",
            hint=f"name the value: {source.removesuffix('()')}({{'loss': value}})"
            if source == "report()"
            else "return a dict that names each value",
        )
    budget = _Budget(source)
    return _mapping(metrics, "", budget, 1)


class _Budget:
    """How many bytes a record may still take."""

    __slots__ = ("left", "source")

    def __init__(self, source: str) -> None:
        self.left = MAX_BYTES
        self.source = source

    def take(self, size: int, path: str) -> None:
        self.left -= size
        if self.left < 0:
            raise ReportError(
                f"{self.source}: the record is larger than {MAX_BYTES:,} bytes (reached at {path!r})",
                hint="report summaries, and put large data into a checkpoint",
                key=path,
            )


def _mapping(value: Mapping[Any, Any], path: str, budget: _Budget, depth: int) -> dict[str, Json]:
    if depth > MAX_DEPTH:
        raise _refused(path[:80] + "…", "is nested deeper than 32 levels", "flatten it", budget)
    result = {}
    for key, item in value.items():
        name = _key(key, path, budget)
        place = f"{path}/{name}" if path else name
        kind = type(item)
        if kind in _ATOMS:
            budget.take(_BYTES_PER_VALUE, place)
            result[name] = item
        else:
            result[name] = _value(item, place, budget, depth)
    return result


def _key(key: Any, path: str, budget: _Budget) -> str:
    if not isinstance(key, str):
        where = f" in {path!r}" if path else ""
        raise ReportError(
            f"{budget.source}: keys must be strings, got {shorten(key)} ({type(key).__qualname__}){where}",
            hint=f"use str({shorten(key)}) as the key",
            key=path,
        )
    if not key or len(key) > MAX_KEY_CHARS:
        raise _refused(f"{path}/{key[:40]}", f"has a key of {len(key)} characters", f"use 1 to {MAX_KEY_CHARS}", budget)
    return _text(key, path, budget)


def _value(value: Any, path: str, budget: _Budget, depth: int) -> Json:
    if isinstance(value, str):
        return _text(value, path, budget)
    if isinstance(value, Mapping):
        return _mapping(value, path, budget, depth + 1)
    if isinstance(value, list | tuple):
        if depth >= MAX_DEPTH:
            raise _refused(path[:80] + "…", "is nested deeper than 32 levels", "flatten it", budget)
        return [_value(item, f"{path}/{index}", budget, depth + 1) for index, item in enumerate(value)]
    budget.take(_BYTES_PER_VALUE, path)
    return _scalar(value, path, budget)


def _scalar(value: Any, path: str, budget: _Budget) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _integer(int(value), path, budget)
    if isinstance(value, float):
        return float(value)
    size = _array_size(value)
    if size == 1:
        return _item(value, path, budget)
    if size is not None:
        shape = tuple(value.shape)
        raise _refused(path, f"is an array of shape {shape} ({_kind(value)})", "report its mean, or .tolist()", budget)
    if isinstance(value, Integral):
        return _integer(int(value), path, budget)
    if isinstance(value, Real):
        return float(value)
    raise _refused(path, f"is {shorten(value)} ({_kind(value)})", _advice(value), budget)


def _item(value: Any, path: str, budget: _Budget) -> Json:
    item = value.item()
    if isinstance(item, bool | int | float | str) or item is None:
        return _value(item, path, budget, 1)
    raise _refused(path, f"is {shorten(value)} ({_kind(value)})", _advice(item), budget)


def _array_size(value: Any) -> int | None:
    """Return the number of elements of an array or tensor; None for anything else."""
    if not hasattr(value, "item") or not hasattr(value, "shape"):
        return None
    size = 1
    for length in value.shape:
        size *= int(length)
    return size


def _integer(value: int, path: str, budget: _Budget) -> int:
    if not _INT_MIN <= value < _INT_END:
        raise _refused(path, "is an integer of more than 64 bits", "report it as a float or as a string", budget)
    return value


def _text(value: str, path: str, budget: _Budget) -> str:
    plain = value if type(value) is str else str.__str__(value)
    budget.take(len(plain) + 5, path)
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError:
            raise _refused(
                path, f"is not valid Unicode: {plain!a:.80}", "encode it with errors='replace'", budget
            ) from None
    return plain


def _advice(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "decode it to a string, or save it in a checkpoint"
    if isinstance(value, set | frozenset):
        return "sort it into a list"
    if isinstance(value, complex):
        return "report real and imaginary part as two numbers"
    if hasattr(value, "__fspath__") or hasattr(value, "isoformat"):
        return "report str(…) of it"
    if hasattr(value, "__dataclass_fields__"):
        return "report dataclasses.asdict(…) of it"
    return "report numbers, strings, bools or None, in dicts and lists; save anything else in a checkpoint"


def _kind(value: Any) -> str:
    module = type(value).__module__
    name = type(value).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def _refused(path: str, what: str, advice: str, budget: _Budget) -> ReportError:
    return ReportError(f"{budget.source}: {path!r} {what}, which cannot be recorded", hint=advice, key=path)
