"""A state taken apart into its values, so that two of them can be compared across processes, and a difference named.

Equal states need not have equal bytes: a zip file remembers the time, a pickle remembers which objects were the same
one. So what is compared is what a state holds: each value by the way that leads to it, with its type and its bits.
Objects of classes that nobody here knows are taken apart as pickle does it.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import cloudpickle
import xxhash

from tunekit.config.problems import shorten
from tunekit.validation.jobs import Leaf, State

_MAX_LEAVES = 100_000
_MANY = 100
"""A list of so many plain values is one value."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOMENTS = frozenset({"timestamp", "date", "pid", "hostname", "node_ip"})
_INSIDE_ROOT = r"(?:/\d+)?(?:/\.staging/[^/\s'\"]+|/[^/\s'\"]+/checkpoint_\d+)?"
"""What comes after the root in the path of an experiment, and of a checkpoint in it."""


def leaves(value: Any, roots: Iterable[str] = (), *, name: str = "") -> State:
    """Return each value inside ``value`` by the way to it.

    Args:
        value: The state.
        roots: Folders whose paths count as the same wherever they occur in a text.
        name: What the way begins with.
    """
    walk = _Walk(roots)
    try:
        walk.visit(value, name)
    except (RecursionError, _TooManyError) as error:
        # What has been found counts; the rest is known by its bytes alone.
        shown = f"the rest of a {type(value).__qualname__} that is too {_reason(error)} to be looked through"
        walk.found[f"{name}…"] = Leaf(_of_bytes(value), shown, is_opaque=True)
    return walk.found


def is_moment(key: object, value: object) -> bool:
    """Return whether an entry tells when and where a run took place, and so differs from run to run."""
    if not isinstance(key, str):
        return False
    return key in _MOMENTS or (key.startswith("time_") and isinstance(value, float))


def digest_of(state: State) -> str:
    """Return one digest for all of a state."""
    return xxhash.xxh3_128_hexdigest(repr(sorted((path, leaf.digest) for path, leaf in state.items())).encode())


class _TooManyError(Exception):
    """There are more values than are worth it."""


def _of_bytes(value: Any) -> str:
    try:
        return xxhash.xxh3_128_hexdigest(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 - reduce methods may raise anything
        return ""


def _reason(error: Exception) -> str:
    return "large" if isinstance(error, _TooManyError) else "deep"


class _Walk:
    def __init__(self, roots: Iterable[str]) -> None:
        self.found: State = {}
        names = [re.escape(root) for root in sorted(roots, key=len, reverse=True) if root]
        self._root = re.compile(f"(?:{'|'.join(names)}){_INSIDE_ROOT}") if names else None
        self._above: set[int] = set()

    def visit(self, value: Any, path: str) -> None:
        """Add what is in ``value``."""
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            return self._add_plain(value, path)
        if id(value) in self._above:
            return self._add(path, "cycle", "the object that it is in")
        self._above.add(id(value))
        try:
            self._visit(value, path)
        finally:
            self._above.discard(id(value))
        return None

    def text(self, value: str) -> str:
        """Return a text without the names of folders that mean nothing."""
        return self._root.sub("<folder>", value) if self._root else value

    def _visit(self, value: Any, path: str) -> None:
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if isinstance(value, Mapping):
            self._visit_mapping(value, path)
        elif isinstance(value, list | tuple):
            self._visit_sequence(value, path)
        elif isinstance(value, set | frozenset):
            self._add(path, *self._of_set(value))
        elif isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            name = f"{getattr(value, '__module__', '')}.{value.__qualname__}"
            self._add(path, name, name)
        elif numpy and isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
            self._add(path, *_of_array(value, "array"))
        elif numpy and isinstance(value, numpy.generic) and not value.dtype.hasobject:
            digest, _ = _of_array(numpy.asarray(value), "scalar")
            self._add(path, digest, shorten(value.item()))
        elif torch and isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            self._add(path, *_of_tensor(value, torch))
        elif torch and isinstance(value, torch.Generator):
            kind = "torch.Generator"
            self._add(f"type({path})", kind, kind)
            self.visit(value.get_state(), path)
        else:
            self._visit_object(value, path)

    def _visit_mapping(self, value: Mapping[Any, Any], path: str) -> None:
        if not value:
            self._add(path, "{}", "{}")
        for index, (key, item) in enumerate(value.items()):
            if not is_moment(key, item):
                self.visit(item, _below(path, key, index))

    def _visit_sequence(self, value: list[Any] | tuple[Any, ...], path: str) -> None:
        kind = "tuple" if isinstance(value, tuple) else "list"
        if not value or (len(value) >= _MANY and all(type(item) in _PLAIN for item in value)):
            text = repr([self.text(item) if isinstance(item, str) else item for item in value])
            return self._add(path, f"{kind} {text}", shorten(value))
        for index, item in enumerate(value):
            self.visit(item, f"{path}[{index}]")
        return self._add(f"len({path})", f"{kind} {len(value)}", str(len(value)))

    def _of_set(self, value: set[Any] | frozenset[Any]) -> tuple[str, str]:
        parts = []
        for item in value:
            walk = _Walk(())
            walk._root = self._root
            walk.visit(item, "")
            parts.append(digest_of(walk.found))
        return f"set {sorted(parts)}", shorten(value)

    def _visit_object(self, value: Any, path: str) -> None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - whatever a class does instead of being pickled
            return self._add(path, kind, kind, is_opaque=True)
        if isinstance(reduced, str):
            return self._add(path, f"{kind} {reduced}", reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        self._add(f"type({path})", kind, kind)
        self.visit(make, f"type({path}).made by")
        for index, argument in enumerate(arguments or ()):
            self.visit(argument, f"{path}({index})")
        if state is not None:
            self.visit(state, path)
        if items is not None:
            self.visit(list(items), path)
        if pairs is not None:
            self.visit(dict(pairs), path)
        return None

    def _add_plain(self, value: Any, path: str) -> None:
        text = self.text(value) if isinstance(value, str) else value
        self._add(path, f"{type(value).__name__} {_exact(text)}", shorten(text))

    def _add(self, path: str, exact: str, shown: str, *, is_opaque: bool = False) -> None:
        if len(self.found) >= _MAX_LEAVES:
            raise _TooManyError
        self.found[path.removesuffix(":")] = Leaf(_hash(exact), shown, is_opaque)


def _exact(value: Any) -> str:
    return "nan" if isinstance(value, float) and math.isnan(value) else repr(value)


def _below(path: str, key: Any, index: int) -> str:
    if isinstance(key, str):
        return f"{path}.{key}" if path and not path.endswith(":") else f"{path}{key}"
    if isinstance(key, type):
        return f"{path}[{key.__qualname__}]"
    if not _is_plain(key):
        return f"{path}[{type(key).__qualname__} {index}]"  # Its text may hold an address.
    text = repr(key)
    return f"{path}[{text}]" if len(text) <= _MANY else f"{path}[{shorten(key)} {_hash(text)[:8]}]"


def _is_plain(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_is_plain, key))
    return type(key) in _PLAIN


def _hash(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "replace"))


def _of_array(value: Any, kind: str, dtype: str = "") -> tuple[str, str]:
    numpy = sys.modules["numpy"]
    flat = numpy.ascontiguousarray(value).reshape(-1)
    digest = xxhash.xxh3_128_hexdigest(flat.view(numpy.uint8)) if flat.size else ""
    kind = f"{kind} {dtype or value.dtype} {tuple(value.shape)}"
    return f"{kind} {digest}", f"{kind} {_preview(flat.tolist() if flat.size <= _MANY else flat[:4].tolist())}"


def _of_tensor(value: Any, torch: Any) -> tuple[str, str]:
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    numpy = plain.view(torch.uint8).numpy() if plain.numel() else b""
    dtype = str(value.dtype).removeprefix("torch.")
    kind = f"tensor {dtype} {tuple(value.shape)}"
    return f"{kind} {xxhash.xxh3_128_hexdigest(numpy)}", f"{kind} {_preview(plain[:4].tolist())}"


def _preview(values: list[Any]) -> str:
    return shorten(values[:3])[:-1] + (", …]" if len(values) > 3 else "]")  # noqa: PLR2004 - enough to recognise it
