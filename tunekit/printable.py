"""What may be shown to a person: no text that steers a terminal, and no value whose name says that it is secret.

Names, messages and metrics come from elsewhere: from user code, from files that somebody else may have written. A
terminal takes some characters for orders (to change its title, to hide what follows, to type), and some turn the text
around them, so that it reads as something else. Whatever tunekit prints, logs or puts into an error goes through here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from numbers import Number
from typing import Any, Final
from urllib.parse import quote, unquote

HIDDEN: Final = "(hidden)"
"""Shown in the place of a secret."""

_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_URI_USER: Final = re.compile(
    r"(?<=://)(?:[^/\s@'\"]+|[^/\s@'\":]*:(?![0-9]+/)[^\s'\"]{0,128})(?=@)"  # a password may hold slashes, a port none
)
_SECRET_PARTS: Final = (
    *("password", "passwd", "passphrase", "passcode", "secret", "credential", "connectionstring", "sessionid"),
    *("apikey", "accesskey", "privatekey", "sshkey", "licensekey", "licencekey", "encryptionkey", "signingkey"),
    *("masterkey", "accountkey", "databaseurl", "dburl", "webhook"),
)
_SECRET_WORDS: Final = frozenset(
    {"token", "auth", "authorization", "pwd", "pw", "bearer", "creds", "cookie", "cookies", "dsn", "sas", "jwt", "otp"}
)
_SECRET_ENDINGS: Final = frozenset({"pin", "pass"})
"""Secret if they come last: ``user_pin``, but not ``pin_memory``."""
_DOUBTFUL_ENDING: Final = "key"
"""``stripe_key`` is a secret and ``label_key`` is none: the value tells."""
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z]{1,16}[0-9]{0,2}(?:[-_./: ][A-Za-z]{0,16}[0-9]{0,2})*")
"""What a value is that is a name and no key: ``image``, ``train/loss``, ``layer_2``."""
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
_DIGIT: Final = re.compile("[0-9]")
_MIN_CHARS: Final = 4
"""A shorter secret is found in too many other words, and is none."""
_MIN_DIGITS: Final = 6
"""A shorter number is found in too many other places."""
_ATOMS: Final = frozenset({int, float, complex, bool, type(None)})


def printable(text: str) -> str:
    """Return the text with every character that could steer a terminal written out, but for newlines and tabs.

    Names and passwords inside of URIs are hidden.
    """
    return _STEERING.sub(_written_out, _URI_USER.sub(HIDDEN, text))


def without_login(uri: str) -> str:
    """Return a URI that was not understood: without what might be a password, or options with one."""
    scheme, slashes, rest = re.split("[?#]", uri, maxsplit=1)[0].partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{slashes}{HIDDEN if user else ''}{at}{place}"


def one_line(text: str) -> str:
    """Return the same on one line, with single spaces."""
    return printable(" ".join(text.split()))


def is_secret(name: str, value: Any = None) -> bool:
    """Return whether a value is likely to be a secret: a password, a token, a key to something.

    ``max_tokens``, ``tokenizer`` and ``pin_memory`` are none; ``hf_token``, ``apiKey`` and ``db/password`` are.

    Args:
        name: What it is called; slashes may stand between names.
        value: What it is, if that is known: ``stripe_key`` is secret if the value is not the name of something.
    """
    is_sure, is_doubtful = _kind(name)
    return is_sure or (is_doubtful and any(True for _ in _no_names(value)))


def masked(config: Any) -> Any:
    """Return the same configuration with ``HIDDEN`` in the place of each secret."""
    if isinstance(config, Mapping):
        return {key: HIDDEN if is_secret(str(key), value) else masked(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        items = [masked(item) for item in config]
        return items if isinstance(config, list) else tuple(items)
    return config


def without_secrets(text: str, config: Any) -> str:
    """Return the text without the secrets of a configuration, wherever they occur in it."""
    return concealing(config)(text)


def concealing(config: Any) -> Callable[[str], str]:
    """Return what takes the secrets of a configuration out of texts.

    They are also found as Python, JSON and URIs write them, so where a whole configuration is quoted.
    """
    forms: set[str] = set()
    numbers: set[str] = set()
    for secret in _secrets(config):
        if isinstance(secret, Number):
            numbers.add(str(secret).lstrip("-"))
        elif len(secret) >= _MIN_CHARS:
            forms.update(_forms(secret))
    longest_first = sorted(forms, key=len, reverse=True)

    def conceal(text: str) -> str:
        for form in longest_first:
            text = text.replace(form, HIDDEN)
        return _NUMBER.sub(lambda found: _hidden_number(found, numbers), text) if numbers else text

    return conceal


@lru_cache(maxsize=4096)
def _kind(name: str) -> tuple[bool, bool]:
    """Return whether a name is that of a secret, and whether it may be."""
    parts = [[word.lower() for word in _WORD.findall(part)] for part in name.split("/")]
    joined = "".join(word for words in parts for word in words)
    last = {words[-1] for words in parts if words}
    is_sure = any(part in joined for part in _SECRET_PARTS) or not _SECRET_ENDINGS.isdisjoint(last)
    is_sure = is_sure or any(not _SECRET_WORDS.isdisjoint(words) for words in parts)
    return is_sure, _DOUBTFUL_ENDING in last


def _secrets(config: Any) -> Iterator[Any]:
    """Yield every text, bytes and long number that is secret; each part of a configuration is visited once."""
    waiting = [config]
    seen: dict[int, Any] = {}  # kept, as the next one may be made in the same place
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield from _passwords(value)
        elif id(value) not in seen and isinstance(value, Mapping):
            for key, item in value.items():
                is_sure, is_doubtful = _kind(str(key))
                if is_sure:
                    yield from _leaves(item)
                elif is_doubtful:
                    yield from _no_names(item)
                elif type(item) not in _ATOMS:
                    waiting.append(item)
        elif id(value) not in seen and isinstance(value, list | tuple):
            waiting.extend(item for item in value if type(item) not in _ATOMS)
        seen[id(value)] = value


def _no_names(value: Any) -> Iterator[Any]:
    """Yield the texts and bytes in a value that are no names of something."""
    for leaf in _leaves(value):
        if isinstance(leaf, bytes) or (isinstance(leaf, str) and not _PLAIN_NAME.fullmatch(leaf)):
            yield leaf


def _leaves(secret: Any) -> Iterator[Any]:
    """Yield every text, bytes and long number in a secret, keys that are no plain names included."""
    waiting = [secret]
    seen: dict[int, Any] = {}
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield str(value)
            yield from _passwords(value)
        elif isinstance(value, bytes | bytearray):
            yield bytes(value)
        elif isinstance(value, Number):
            if len(_DIGIT.findall(str(value))) >= _MIN_DIGITS:
                yield value
        elif id(value) not in seen and isinstance(value, Mapping):
            waiting.extend(value.values())
            waiting.extend(key for key in value if not (isinstance(key, str) and _PLAIN_NAME.fullmatch(key)))
        elif id(value) not in seen and isinstance(value, list | tuple | set | frozenset):
            waiting.extend(value)
        seen[id(value)] = value


def _passwords(text: str) -> Iterator[str]:
    """Yield the passwords of the URIs in a text."""
    for user in _URI_USER.findall(text) if "@" in text else ():
        password = user.partition(":")[2] or user
        yield password
        yield unquote(password)


def _forms(secret: str | bytes) -> Iterator[str]:
    """Yield a secret as texts quote it."""
    data = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    text = secret.decode("utf-8", "backslashreplace") if isinstance(secret, bytes) else secret
    yield from (quote(data, safe=""), quote(data))
    # Once more escaped: a message that quotes a message.
    for once in {text, *_escaped(text), repr(data)[2:-1], repr(b'"' + data)[3:-1]}:
        yield once
        yield from _escaped(once)


def _escaped(text: str) -> tuple[str, ...]:
    """Return a text as Python and JSON write it; which quotes Python escapes depends on the text around."""
    both = f'"{text}'
    return (
        *(repr(text)[1:-1], repr(both)[2:-1], ascii(text)[1:-1], ascii(both)[2:-1]),
        *(json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]),
    )


def _hidden_number(found: re.Match[str], numbers: set[str]) -> str:
    number = found.group()
    return HIDDEN if number in numbers or number.partition(".")[0] in numbers else number


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "backslashreplace").decode("ascii")
