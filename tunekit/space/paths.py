"""Paths: where in a nested configuration a value stands, as one string such as ``layers/0/width``."""

from __future__ import annotations


def join(parent: str, key: str | int) -> str:
    """Return the path of ``key`` below ``parent``, which is empty for the configuration itself.

    Source: the escapes of RFC 6901 (JSON Pointer): ``~`` is written ``~0`` and ``/`` is written ``~1``, so that two
    different places never share a path.
    """
    part = str(key).replace("~", "~0").replace("/", "~1")
    return f"{parent}/{part}" if parent else part
