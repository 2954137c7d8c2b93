"""Places inside a local path or URI, as text."""

from __future__ import annotations

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
    folder, question, options = rest.partition("?")
    parts = [folder.rstrip("/"), *(name if scheme == "memory" else _quoted(name) for name in names)]
    return f"{scheme}://{'/'.join(filter(None, parts))}{question}{options}"


def _quoted(name: str) -> str:
    """Return a name with those characters percent-encoded that mean something in a URI."""
    return "".join(_MEANS_SOMETHING.get(character, character) for character in name)
