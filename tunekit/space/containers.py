"""Fresh dicts, lists and tuples, so that no two trials ever share one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tunekit.space.describe import same

_COPIED = (set, bytearray)


class _Unmade:
    """Stands where a later ``sample_from`` will put its value."""

    def __repr__(self) -> str:
        return "<made by a later sample_from>"


UNMADE = _Unmade()


def can_rebuild(original: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> bool:
    """Return whether ``rebuild`` knows how to make another one; it does not know every class derived from tuple."""
    return not isinstance(original, tuple) or type(original) is tuple or hasattr(original, "_fields")


def rebuild(original: dict[Any, Any] | list[Any] | tuple[Any, ...], items: list[tuple[Any, Any]]) -> Any:
    """Return a new container of the type of ``original``.

    Args:
        original: A dict, list or tuple, or an instance of a class derived from one.
        items: Key or index, and value. Of a dict, those that are not made yet are left out.
    """
    kind: Any = type(original)
    if isinstance(original, dict):
        fresh_dict: dict[Any, Any] = {} if kind is dict else copy.copy(original)
        fresh_dict.clear()
        fresh_dict.update((key, value) for key, value in items if value is not UNMADE)
        return fresh_dict
    values = [value for _, value in items]
    if isinstance(original, list):
        fresh_list: list[Any] = [] if kind is list else copy.copy(original)
        fresh_list[:] = values
        return fresh_list
    return tuple(values) if kind is tuple else kind(*values)  # a named tuple takes its fields one by one


def fresh(value: Any) -> Any:
    """Return a value whose dicts, lists, tuples, sets and bytearrays are new; what else it holds stays the same."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return rebuild(value, [(key, fresh(item)) for key, item in pairs]) if can_rebuild(value) else value
    return copy.copy(value) if type(value) in _COPIED else value


def covers(whole: object, part: object) -> bool:
    """Return whether ``part`` equals ``whole``, where keys of dicts may be missing at any depth."""
    if isinstance(whole, Mapping) and isinstance(part, Mapping):
        return all(key in whole and covers(whole[key], item) for key, item in part.items())
    if isinstance(whole, list | tuple) and isinstance(part, list | tuple):
        return len(whole) == len(part) and all(map(covers, whole, part))
    return same(whole, part)
