r"""The JSON form of events and commands: lossless, and readable with ordinary tools.

A record is one JSON object whose ``kind`` names its class. JSON has no NaN, no infinities, no tuples, no keys but
strings and no half of a surrogate pair, and an encoder that silently writes ``null`` for NaN changes what a resumed
sweep sees. Such values are written as objects with one key that begins with ``$``::

    nan  inf  -inf      {"$float": "nan"}  {"$float": "inf"}  {"$float": "-inf"}
    (1, 2)              {"$tuple": [1, 2]}
    {1: 2, "$x": 3}     {"$dict": [[1, 2], ["$x", 3]]}     also the escape for keys that begin with $
    "\ud800"            {"$text": "00d8"}                  UTF-16, little endian, in hexadecimal digits

Almost no record needs them. One whose values are plain is encoded and decoded by msgspec alone; a tag in the text,
which ``"$`` gives away, is what sends a record through Python code.

Versions: a reader ignores fields that it does not know, so a field with a default is a compatible change. Whatever an
older reader would misunderstand raises ``FORMAT_VERSION``. A kind or a tag that is not known here was written by a
newer tunekit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from tunekit.core.commands import Command, PublishCheckpoint, TellSearcher
from tunekit.core.events import CheckpointStaged, DriverStarted, Event, ResultReported, TrialsSuggested
from tunekit.errors import JournalCorruptError, JournalVersionError, ReportError
from tunekit.types import Json

FORMAT_VERSION = 1
"""Version of everything that tunekit writes into an experiment's folder as JSON."""

Record: TypeAlias = Event | Command
"""What a journal holds."""

OPEN_KINDS = frozenset({CheckpointStaged, DriverStarted, PublishCheckpoint, TellSearcher, TrialsSuggested})
"""Classes with fields of any JSON value. The values of ``ResultReported`` have a quick check of their own."""

_PLAIN = frozenset({bool, float, int, str, type(None)})
_UPGRADE = "Open this experiment with the version of tunekit that wrote it, or a newer one: pip install -U tunekit."

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode
_record_from_json = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """Return the record as one line of JSON, without the newline.

    Raises:
        ReportError: A value in it has no JSON form.
    """
    if isinstance(record, ResultReported):
        plain = _PLAIN.issuperset(map(type, record.metrics.values()))
    else:
        plain = type(record) not in OPEN_KINDS
    if plain:
        try:
            line = _to_json(record)
        except UnicodeEncodeError:
            return encode_value(record)
        # msgspec writes null for NaN, so a line without null holds none.
        if b"null" not in line and b'"$' not in line:
            return line
    return encode_value(record)


def decode(line: bytes) -> Record:
    """Return the record that ``encode`` made the line of.

    Raises:
        JournalVersionError: A newer tunekit wrote it.
        JournalCorruptError: It is not JSON.
    """
    try:
        if b'"$' in line:
            return msgspec.convert(decode_value(line), Record)  # type: ignore[no-any-return]
        return _record_from_json(line)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise JournalVersionError(
            f"a record is of a kind or a shape that this tunekit does not know: {error}; got {_shorten(line)}",
            hint=_UPGRADE,
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise JournalCorruptError(f"a record is not JSON: {error}; got {_shorten(line)}") from error


def encode_value(value: Any) -> bytes:
    """Return any JSON value, tuples and non-finite numbers included, as one line of JSON.

    Raises:
        ReportError: A value in it has no JSON form.
    """
    return _to_json(_tag(value, ""))


def decode_value(line: bytes) -> Any:
    """Return the value that ``encode_value`` made the line of.

    Raises:
        JournalVersionError: It holds a tag that this tunekit does not know.
        msgspec.DecodeError: It is not JSON.
    """
    return _untag(_from_json(line))


def _shorten(line: bytes) -> str:
    return repr(line if len(line) <= 200 else line[:200] + b"...")  # noqa: PLR2004 - about two lines of a terminal


# -- towards JSON ------------------------------------------------------------------------------------------------------


def _tag(value: Any, path: str) -> Json:
    """Return the value with every part that JSON cannot hold replaced by its tag."""
    for kind, encoder in _ENCODERS:
        if isinstance(value, kind):
            return encoder(value, path)
    raise ReportError(
        f"{path.lstrip('/') or 'a value'}: got a value of type {type(value).__qualname__}, but must be made of None, "
        "bool, int, float, str, lists, tuples and dicts",
        hint="Convert it first: float(x) for a number of another library, str(x) for anything else.",
    )


def _tag_same(value: Any, _path: str) -> Json:
    return value


def _tag_int(value: int, _path: str) -> Json:
    return int(value)


def _tag_float(value: float, _path: str) -> Json:
    return float(value) if math.isfinite(value) else {"$float": repr(float(value))}


def _tag_str(value: str, _path: str) -> Json:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"$text": text.encode("utf-16-le", "surrogatepass").hex()}
    return text


def _tag_list(value: list[Any], path: str) -> Json:
    return [_tag(item, path) for item in value]


def _tag_tuple(value: tuple[Any, ...], path: str) -> Json:
    return {"$tuple": _tag_list(list(value), path)}


def _tag_dict(value: Mapping[Any, Any], path: str) -> Json:
    if all(type(key) is str and not key.startswith("$") and _tag_str(key, path) is key for key in value):
        return {key: _tag(item, f"{path}/{key}") for key, item in value.items()}
    return {"$dict": [[_tag(key, path), _tag(item, f"{path}/{key}")] for key, item in value.items()]}


def _tag_struct(value: msgspec.Struct, path: str) -> Json:
    fields = msgspec.structs.asdict(value)
    for name, field in fields.items():
        if isinstance(field, dict) and not all(isinstance(key, str) for key in field):
            raise ReportError(f"{name}: got keys {list(field)!r}, but each must be a string")
    tag = value.__struct_config__.tag
    tagged = {name: _tag(field, f"{path}/{name}") for name, field in fields.items()}
    return tagged if tag is None else {"kind": tag, **tagged}


_ENCODERS: tuple[tuple[type, Callable[[Any, str], Json]], ...] = (
    (type(None), _tag_same),
    (bool, _tag_same),
    (float, _tag_float),
    (int, _tag_int),
    (str, _tag_str),
    (dict, _tag_dict),
    (list, _tag_list),
    (tuple, _tag_tuple),
    (msgspec.Struct, _tag_struct),
)


# -- and back ----------------------------------------------------------------------------------------------------------


def _untag(value: Json) -> Any:
    """Return the value with every tag replaced by what it stands for."""
    if type(value) is list:
        return [_untag(item) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        [(key, content)] = value.items()
        if key.startswith("$"):
            return _untag_one(key, content)
    return {key: _untag(item) for key, item in value.items()}


def _untag_one(tag: str, content: Json) -> Any:
    decoder = _DECODERS.get(tag)
    if decoder is None:
        raise JournalVersionError(
            f"a record holds a value tagged {tag}, which this tunekit does not know", hint=_UPGRADE
        )
    try:
        return decoder(content)
    except (TypeError, ValueError, AttributeError) as error:
        raise JournalCorruptError(
            f"a record holds a value tagged {tag} with impossible content: {content!r}"
        ) from error


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$tuple": lambda content: tuple(map(_untag, content)),
    "$dict": lambda content: {_untag(key): _untag(item) for key, item in content},
    "$text": lambda content: bytes.fromhex(content).decode("utf-16-le", "surrogatepass"),
}
