"""Runs a laboratory of crashes in two processes, which share the work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any


def in_two_processes(lab: ModuleType, arguments: Sequence[str], folder: str, first: int, stride: int) -> list[Any]:
    """Return all points of both, those without a disturbance first.

    Args:
        lab: A script that takes the arguments, a folder of its own, the first point and the stride, and prints points.
        arguments: What comes before these.
        folder: Where both have their folders.
        first: The first point.
        stride: From one point to the next.
    """
    shares = [
        subprocess.Popen(
            [sys.executable, str(lab.__file__), *arguments, f"{folder}/{begin}", str(begin), str(2 * stride)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for begin in (first, first + stride)
    ]
    found = []
    with ThreadPoolExecutor(len(shares)) as threads:  # Neither is to wait until the other's words have been heard.
        heard = list(threads.map(lambda share: share.communicate(timeout=3600), shares))
    for share, (out, err) in zip(shares, heard, strict=True):
        assert share.returncode == 0, err
        found += [json.loads(line) | {"story": err[-3000:]} for line in out.splitlines()]
    return sorted(found, key=lambda point: int(point["number"]))
