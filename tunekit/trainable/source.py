"""Whether the code of a trainable is what it was, as far as its source can be had."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import textwrap
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from xxhash import xxh3_64_hexdigest

from tunekit.trainable.base import Trainable
from tunekit.trainable.bound import as_bound

_TREES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""What was read: it takes milliseconds for each sweep, and what is loaded stays as it is, whatever its file becomes."""


def code_digest(trainable: Any) -> str:
    """Return a digest of a trainable's own source, without its comments and its layout; empty if it cannot be had.

    It covers the function, or the class and those that it derives from up to ``Trainable``; not what they call. It
    begins with the version of Python, since syntax trees differ from one to the next.
    """
    target = as_bound(trainable).target
    while isinstance(target, partial):
        target = target.func
    parts = [_known_tree(part) for part in _parts(target)]
    if not parts or not all(parts):
        return ""
    digest = xxh3_64_hexdigest("\0".join(parts).encode(errors="surrogatepass"))
    return f"{sys.version_info.major}.{sys.version_info.minor} {digest}"


def has_changed(before: str, now: str) -> bool:
    """Return whether two digests say that the code is another one; those of two versions of Python say nothing."""
    return bool(before and now) and before.split(maxsplit=1)[0] == now.split(maxsplit=1)[0] and before != now


def _parts(target: Any) -> list[Any]:
    if not isinstance(target, type):
        return [target if inspect.isroutine(target) else type(target)]
    return [cls for cls in target.__mro__ if cls is not Trainable and issubclass(cls, Trainable)]


def _known_tree(part: Any) -> str:
    with contextlib.suppress(KeyError, TypeError):  # TypeError: it has no hash, or cannot be referred to weakly
        return _TREES[part]
    tree = _tree(part)
    with contextlib.suppress(TypeError):
        _TREES[part] = tree
    return tree


def _tree(part: Any) -> str:
    """Return the syntax tree of a function or class as text, its source if that is no whole statement, or nothing."""
    try:
        source = textwrap.dedent(inspect.getsource(part))
    except (OSError, TypeError):
        return ""
    try:
        return ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return source
