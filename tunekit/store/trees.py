"""Nested dicts, lists and tuples as one JSON document, with the large things in them left to other files.

What JSON cannot say is an object with one key that begins with ``$``, as in ``tunekit.core.codec``::

    nan, inf              {"$float": "nan"}             an integer beyond 64 bits   {"$int": "-0x1f…"}
    (1, 2)                {"$tuple": [1, 2]}            half of a surrogate pair    {"$text": "00d8"}
    {1: 2, "$x": 3}       {"$dict": [[1, 2], …]}        an OrderedDict              {"$ordered": [[…], …, {attributes}]}
    b"x", bytearray()     {"$bytes": "eA=="}            a NumPy scalar              {"$scalar": ["<f4", "0000803f"]}
    an array, a tensor    {"$array": {"name": …}}       anything else               {"$pickle": 0}

An array of which there are two in the tree, or a tensor that shares its memory with another one, is stored once, and is
one object when it is read. Other objects that appear twice come back as equal ones.
"""

from __future__ import annotations

import base64
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from tunekit.store import arrays
from tunekit.store.arrays import Leaf
from tunekit.types import Json

_INLINE_BYTES: Final = 1024
"""Bytes objects up to this length are part of the document."""
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_KEY_TYPES: Final = frozenset({type(None), bool, int, float, str, bytes})


class Tree(NamedTuple):
    """A value taken apart."""

    document: Json
    leaves: list[Leaf]
    """What goes into the file of tensors, in the order of appearance."""
    names: list[str]
    """A name for each of the leaves."""
    others: list[Any]
    """What only pickle can store."""
    paths: list[str]
    """Where each of them was."""


class Planter:
    """Takes one value apart."""

    def __init__(self) -> None:
        """Begin with nothing found."""
        self._names: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()
        self._leaves: list[Leaf] = []
        self._others: list[Any] = []
        self._paths: list[str] = []
        self._path: list[object] = []

    def plant(self, value: Any) -> Tree:
        """Return the parts.

        Raises:
            RecursionError: The value holds itself, or is nested without end.
        """
        document = self._plant(value)
        return Tree(document, self._leaves, list(self._names.values()), self._others, self._paths)

    def _plant(self, value: Any) -> Json:
        plant = _PLANTERS.get(type(value))
        return self.other(value) if plant is None else plant(self, value)

    def inside(self, name: object, value: Any) -> Json:
        """Return the document of a part."""
        self._path.append(name)
        document = self._plant(value)
        self._path.pop()
        return document

    def items(self, value: Mapping[Any, Any]) -> list[Json]:
        """Return the keys and values of a mapping."""
        return [[self._plant(key), self.inside(key, item)] for key, item in value.items()]

    def leaf(self, leaf: Leaf) -> dict[str, Json]:
        """Keep a block of bytes, once, and return its note."""
        name = self._names.get(leaf.key)
        if name is None:
            name = base = self._where()
            count = 1
            while name in self._taken or name == "__metadata__":
                count += 1
                name = f"{base}#{count}"
            self._taken.add(name)
            self._names[leaf.key] = name
            self._leaves.append(leaf)
        return {"name": name, **leaf.note}

    def other(self, value: Any) -> Json:
        """Return the document of an array, a tensor, a scalar, or what only pickle can store."""
        if (scalar := arrays.scalar_note(value)) is not None:
            return {"$scalar": scalar}
        if (leaf := arrays.leaf_of(value)) is not None:
            return {f"${leaf.kind}": self.leaf(leaf)}
        return self.pickled(value)

    def pickled(self, value: Any) -> Json:
        """Leave a value to pickle."""
        self._others.append(value)
        self._paths.append(self._where())
        return {"$pickle": len(self._others) - 1}

    def _where(self) -> str:
        return "/".join(map(_label, self._path)).encode("utf-8", "backslashreplace").decode()


def _label(key: object) -> str:
    try:
        return str(key)
    except ValueError:  # an integer of thousands of digits
        return type(key).__name__


def _int(_planter: Planter, value: int) -> Json:
    return value if _SMALLEST <= value <= _LARGEST else {"$int": hex(value)}


def _float(_planter: Planter, value: float) -> Json:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _text(_planter: Planter, value: str) -> Json:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"$text": value.encode("utf-16-le", "surrogatepass").hex()}
    return value


def _list(planter: Planter, value: list[Any]) -> list[Json]:
    if len(value) > 16 and _is_plain(value):  # noqa: PLR2004 - where looking at the types begins to pay
        return list(value)
    return [planter.inside(index, item) for index, item in enumerate(value)]


def _is_plain(value: list[Any]) -> bool:
    """Return whether a long list holds nothing but numbers that JSON can say."""
    types = set(map(type, value))
    if types == {float}:
        return all(map(math.isfinite, value))
    return types == {int} and min(value) >= _SMALLEST and max(value) <= _LARGEST


def _tuple(planter: Planter, value: tuple[Any, ...]) -> Json:
    return {"$tuple": _list(planter, list(value))}


def _dict(planter: Planter, value: dict[Any, Any]) -> Json:
    if all(type(key) is str and key.isascii() and key[:1] != "$" for key in value):
        return {key: planter.inside(key, item) for key, item in value.items()}
    if not all(map(_is_key, value)):
        return planter.pickled(value)
    return {"$dict": planter.items(value)}


def _ordered(planter: Planter, value: OrderedDict[Any, Any]) -> Json:
    if not all(map(_is_key, value)):
        return planter.pickled(value)
    # torch keeps the versions of modules in an attribute of a state dict.
    return {"$ordered": [*planter.items(value), planter.inside("", vars(value))]}


def _bytes(planter: Planter, value: bytes) -> Json:
    return {"$bytes": _content(planter, value)}


def _bytearray(planter: Planter, value: bytearray) -> Json:
    return {"$bytearray": _content(planter, bytes(value))}


def _content(planter: Planter, value: bytes) -> Json:
    if len(value) <= _INLINE_BYTES:
        return base64.b64encode(value).decode()
    return planter.leaf(arrays.leaf_of_bytes(value))


def _is_key(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_is_key, key))
    return type(key) in _KEY_TYPES or arrays.scalar_note(key) is not None


def _same(_planter: Planter, value: Any) -> Json:
    return value


_PLANTERS: Final[dict[type, Callable[[Planter, Any], Json]]] = {
    type(None): _same,
    bool: _same,
    int: _int,
    float: _float,
    str: _text,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    OrderedDict: _ordered,
    bytes: _bytes,
    bytearray: _bytearray,
}


# -- and back ----------------------------------------------------------------------------------------------------------


class Grower:
    """Puts a value together again.

    Args:
        leaf: Returns the array or tensor of a kind and a note.
        other: Returns what was pickled under a number.
    """

    def __init__(self, leaf: Callable[[str, dict[str, Any]], Any], other: Callable[[int], Any]) -> None:
        """Keep where the parts come from."""
        self.leaf = leaf
        self.other = other

    def grow(self, document: Json) -> Any:
        """Return the value.

        Raises:
            ValueError: The document is none that ``Planter`` makes.
            TypeError: As above.
            KeyError: As above.
        """
        if type(document) is list:
            return [self.grow(item) for item in document]
        if type(document) is not dict:
            return document
        if len(document) == 1:
            [(tag, content)] = document.items()
            if tag[:1] == "$":
                return self._grow_one(tag, content)
        return {key: self.grow(item) for key, item in document.items()}

    def _grow_one(self, tag: str, content: Any) -> Any:
        grow = _GROWERS.get(tag)
        if grow is None:
            raise ValueError(f"unknown tag {tag}")
        return grow(self, content)

    def items(self, content: list[list[Json]]) -> list[tuple[Any, Any]]:
        """Return keys and values."""
        return [(self.grow(key), self.grow(item)) for key, item in content]

    def ordered(self, content: list[Any]) -> OrderedDict[Any, Any]:
        """Return an OrderedDict with its attributes."""
        *items, attributes = content
        ordered = OrderedDict(self.items(items))
        vars(ordered).update(self.grow(attributes))
        return ordered

    def content(self, content: Any) -> bytes:
        """Return the content of a bytes object."""
        return self.leaf("bytes", content) if type(content) is dict else base64.b64decode(content)


_GROWERS: Final[dict[str, Callable[[Grower, Any], Any]]] = {
    "$float": lambda _, content: float(content),
    "$int": lambda _, content: int(content, 16),
    "$text": lambda _, content: bytes.fromhex(content).decode("utf-16-le", "surrogatepass"),
    "$tuple": lambda grower, content: tuple(map(grower.grow, content)),
    "$dict": lambda grower, content: dict(grower.items(content)),
    "$ordered": lambda grower, content: grower.ordered(content),
    "$bytes": lambda grower, content: grower.content(content),
    "$bytearray": lambda grower, content: bytearray(grower.content(content)),
    "$scalar": lambda _, content: arrays.scalar_of(content),
    "$array": lambda grower, content: grower.leaf("array", content),
    "$tensor": lambda grower, content: grower.leaf("tensor", content),
    "$pickle": lambda grower, content: grower.other(content),
}
