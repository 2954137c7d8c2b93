"""Search spaces as JSON, where they hold nothing but JSON values and domains of them.

It lets an experiment be restored from its path alone. A space with classes or functions in it has no such form: code is
never stored. Of such a space there is an *outline*: the same, with a fingerprint in the place of each object. Together
with another space that still has the objects, it makes the space again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import isfinite
from typing import Any

from tunekit.space import domains
from tunekit.space.describe import fingerprint, is_json
from tunekit.types import Json

_KINDS = {
    cls.__name__: cls
    for cls in vars(domains).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and issubclass(cls, domains.Drawn)
}


def to_portable(space: object) -> Json | None:
    """Return a space, or a part of one, as JSON; None if it holds something that has no JSON form.

    Containers and domains are marked, so that no value of the user can be taken for a mark.
    """
    if isinstance(space, domains.Domain):
        fields = {field.name: getattr(space, field.name) for field in dataclasses.fields(_dataclass(space))}
        parts = {name: to_portable(value) for name, value in fields.items()}
        is_whole = type(space).__name__ in _KINDS and None not in parts.values()
        return {"domain": type(space).__name__, "arguments": parts} if is_whole else None
    if isinstance(space, Mapping):
        items = [[key, to_portable(value)] for key, value in space.items()]
        return {"dict": items} if all(type(key) is str and part is not None for key, part in items) else None
    if isinstance(space, list | tuple):
        parts_ = [to_portable(item) for item in space]
        return None if None in parts_ else {"tuple" if isinstance(space, tuple) else "list": parts_}
    if isinstance(space, float) and type(space) is float and not isfinite(space):
        return {"float": repr(space)}
    return {"value": space} if is_json(space) else None


def from_portable(portable: Json) -> Any:
    """Return the space that ``to_portable`` wrote down.

    Raises:
        KeyError: It names a domain that this version does not know.
    """
    ((mark, content), *rest) = portable.items()
    match mark:
        case "value":
            return content
        case "float":
            return float(content)
        case "dict":
            return {key: from_portable(part) for key, part in content}
        case "list":
            return [from_portable(part) for part in content]
        case "tuple":
            return tuple(from_portable(part) for part in content)
        case _:
            arguments = {name: from_portable(part) for name, part in dict(rest)["arguments"].items()}
            return _KINDS[content](**arguments)


def to_outline(space: object) -> Json:
    """Return a space, or a part of one, as JSON, whatever is in it; objects count by their fingerprints."""
    if (portable := to_portable(space)) is not None:
        return portable
    if isinstance(space, domains.SampleFrom):
        return {"function": space.signature()}
    if isinstance(space, domains.Domain) and type(space).__name__ in _KINDS:
        fields = {field.name: getattr(space, field.name) for field in dataclasses.fields(_dataclass(space))}
        return {"domain": type(space).__name__, "arguments": {name: to_outline(part) for name, part in fields.items()}}
    if isinstance(space, Mapping) and all(type(key) is str for key in space):
        return {"dict": [[key, to_outline(part)] for key, part in space.items()]}
    if isinstance(space, list | tuple):
        return {"tuple" if isinstance(space, tuple) else "list": [to_outline(item) for item in space]}
    return {"object": fingerprint(space)}


def from_outline(outline: Json, given: object) -> Any:
    """Return the space that ``to_outline`` saw.

    Args:
        outline: What it wrote down.
        given: Another space, from whose same places objects are taken. One that is not there is ``Lost``.

    Raises:
        KeyError: It names a domain that this version does not know.
    """
    ((mark, content), *rest) = outline.items()
    match mark:
        case "object":
            return given if fingerprint(given) == content else Lost(content)
        case "function":
            same = isinstance(given, domains.SampleFrom) and given.signature() == content
            return given if same else domains.SampleFrom(Lost(content["function"]))
        case "dict":
            inside = given if isinstance(given, Mapping) else {}
            return {key: from_outline(part, inside.get(key)) for key, part in content}
        case "list" | "tuple":
            items = list(given) if isinstance(given, list | tuple) else []
            made = [from_outline(part, _counterpart(part, place, items)) for place, part in enumerate(content)]
            return tuple(made) if mark == "tuple" else made
        case "domain":
            arguments = dict(rest)["arguments"].items()
            return _KINDS[content](**{name: from_outline(part, getattr(given, name, None)) for name, part in arguments})
        case _:
            return from_portable(outline)


def _counterpart(outline: Json, place: int, items: list[Any]) -> object:
    """Return the object of which an outline speaks, wherever it is in the list, or else what is at its place."""
    if "object" in outline:
        found = [item for item in items if fingerprint(item) == outline["object"]]
        return found[0] if found else None
    return items[place] if place < len(items) else None


class Lost:
    """Stands where an object was that nobody has given again."""

    def __init__(self, what: Json) -> None:
        """Remember its fingerprint."""
        self.what = what

    def __repr__(self) -> str:
        """Return what it was called."""
        return f"<{self.what.get('name', self.what) if isinstance(self.what, dict) else self.what}>"

    def __call__(self, *_: object) -> Any:
        """Refuse: it was a function, or a class.

        Raises:
            LookupError: Always.
        """
        raise LookupError(f"the script no longer has {self!r}")


def find_lost(value: object) -> Lost | None:
    """Return something in a configuration that nobody has given again; None: it is complete."""
    if isinstance(value, Lost):
        return value
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((lost for item in inside if (lost := find_lost(item)) is not None), None)


def _dataclass(space: domains.Domain) -> Any:
    return space
