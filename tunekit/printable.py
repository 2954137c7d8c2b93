"""What may be shown to a person: no text that steers a terminal, and no value whose name says that it is secret.

Names, messages and metrics come from elsewhere: from user code, from files that somebody else may have written. A
terminal takes some characters for orders (to change its title, to hide what follows, to type), and some turn the text
around them, so that it reads as something else. Whatever tunekit prints, logs or puts into an error goes through here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"
"""Shown in the place of a secret."""

_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_URI_PASSWORD: Final = re.compile(r"(?<=://)[^/\s@'\"]+:[^/\s@'\"]+(?=@)")
_SECRET_PARTS: Final = ("password", "passwd", "passphrase", "secret", "credential", "apikey", "accesskey", "privatekey")
_SECRET_WORDS: Final = frozenset({"token", "auth", "authorization", "pwd", "pw", "bearer"})
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_MIN_CHARS: Final = 4
"""A shorter secret is found in too many other words, and is none."""


def printable(text: str) -> str:
    """Return the text with every character that could steer a terminal written out, but for newlines and tabs.

    Names and passwords inside of URIs are hidden.
    """
    return _STEERING.sub(_written_out, _URI_PASSWORD.sub(HIDDEN, text))


def one_line(text: str) -> str:
    """Return the same on one line, with single spaces."""
    return printable(" ".join(text.split()))


def is_secret(name: str) -> bool:
    """Return whether the value of this name is likely to be a secret: a password, a token, a key to something.

    ``max_tokens`` and ``tokenizer`` are none; ``hf_token``, ``apiKey`` and ``db/password`` are.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS) or not _SECRET_WORDS.isdisjoint(words)


def without_secrets(text: str, config: Mapping[str, Any]) -> str:
    """Return the text without the secrets of a configuration, wherever they occur in it."""
    for secret in sorted(_secrets(config), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _texts(value) if is_secret(str(key)) else _secrets(value)
    elif isinstance(config, list | tuple):
        for item in config:
            yield from _secrets(item)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text inside a secret."""
    if isinstance(value, str):
        if len(value) >= _MIN_CHARS:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _texts(item)


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "backslashreplace").decode("ascii")
