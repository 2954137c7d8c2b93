"""Places inside a local path or URI, as text."""

from __future__ import annotations

from pathlib import PurePath
from urllib.parse import unquote

_MEANS_SOMETHING = {"%": "%25", "?": "%3F", "#": "%23"}


def joined(place: str, *names: str) -> str:
    """Return the path or URI of what lies in a folder. What follows a ``?`` in a URI stays behind it.

    Args:
        place: An absolute local path or a URI.
        names: The names on the way there; each may hold ``/``.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        return "/".join([place.rstrip("/"), *names])
    folder, query = _without_query(scheme, rest)
    parts = [folder.rstrip("/"), *(name if scheme == "memory" else _quoted(name) for name in names)]
    return f"{scheme}://{'/'.join(filter(None, parts))}{query}"


def parent_of(place: str) -> tuple[str, str]:
    """Return the path or URI of the folder around ``place``, or an empty text if there is none, and the last name.

    The other way round from ``joined``: what follows a ``?`` in a URI stays with the folder.
    """
    scheme, mark, rest = place.partition("://")
    if not mark:
        path = PurePath(place)
        return ("" if path.parent == path else str(path.parent)), path.name
    folder, query = _without_query(scheme, rest)
    around, slash, name = folder.rstrip("/").rpartition("/")
    return (f"{scheme}://{around}{query}" if slash else ""), name if scheme == "memory" else unquote(name)


def _without_query(scheme: str, rest: str) -> tuple[str, str]:
    """Return what goes before the ``?`` of a URI, and what begins with it. A name in memory may hold one."""
    folder, mark, options = rest.partition("?") if scheme != "memory" else (rest, "", "")
    return folder, f"{mark}{options}"


def _quoted(name: str) -> str:
    """Return a name with those characters percent-encoded that mean something in a URI."""
    return "".join(_MEANS_SOMETHING.get(character, character) for character in name)
