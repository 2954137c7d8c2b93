"""Search spaces as JSON, where they hold nothing but JSON values and domains of them.

It lets an experiment be restored from its path alone. A space with classes or functions in it has no such form: code is
never stored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tunekit.space import domains
from tunekit.space.describe import is_json
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
        case "dict":
            return {key: from_portable(part) for key, part in content}
        case "list":
            return [from_portable(part) for part in content]
        case "tuple":
            return tuple(from_portable(part) for part in content)
        case _:
            arguments = {name: from_portable(part) for name, part in dict(rest)["arguments"].items()}
            return _KINDS[content](**arguments)


def _dataclass(space: domains.Domain) -> Any:
    return space
