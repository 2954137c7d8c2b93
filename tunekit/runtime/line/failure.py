"""An exception of user code as text: nothing about a strange exception may stop the message about it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tunekit.core.events import ErrorInfo
from tunekit.errors import ConfigError, ReportError, SaveError, SessionError, TrainableError, TunekitError
from tunekit.printable import without_secrets

_PACKAGE: Final = str(Path(__file__).parents[2])
_MAX_MESSAGE: Final = 10_000
_MAX_TRACEBACK: Final = 50_000
_MISUSE: Final = (ConfigError, ReportError, SaveError, SessionError, TrainableError)


def error_info(error: BaseException) -> ErrorInfo:
    """Return ``error`` as text."""
    own = error if isinstance(error, TunekitError) else None
    return ErrorInfo(
        type=_encodable(_type_name(error)),
        message=_encodable(_message(error))[:_MAX_MESSAGE],
        traceback=_encodable(_traceback(error)),
        hint=_encodable(own.hint) if own else "",
    )


def concealed(info: ErrorInfo, config: Mapping[str, Any]) -> ErrorInfo:
    """Return the same error without the secrets of the configuration under which it was raised."""
    return ErrorInfo(
        type=info.type,
        message=without_secrets(info.message, config),
        traceback=without_secrets(info.traceback, config),
        hint=without_secrets(info.hint, config),
    )


def is_misuse(error: BaseException) -> bool:
    """Return whether the same error is certain to come again, because tunekit was used in a wrong way."""
    return isinstance(error, _MISUSE)


def is_fatal(error: BaseException) -> bool:
    """Return whether the configuration of the sweep is wrong, for every trial."""
    return isinstance(error, ConfigError) and error.fields.get("fatal") is True


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    if isinstance(error, TunekitError):
        return str(error.message)
    try:
        if isinstance(error, SystemExit):
            return f"the trainable called sys.exit({error.code!r})"
        return str(error)
    except BaseException as problem:  # noqa: BLE001 - whatever the user's __str__ or __repr__ does, sys.exit() included
        called = "sys.exit() with an object whose __repr__" if isinstance(error, SystemExit) else "its __str__"
        return f"<{called} raised {type(problem).__qualname__}>"


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _from_user_code(error.__traceback__))
    except BaseException as problem:  # noqa: BLE001 - as above: __repr__ of notes and causes
        return f"<the traceback could not be formatted: {type(problem).__qualname__}>"
    text = "".join(lines)
    return text if len(text) <= _MAX_TRACEBACK else "…" + text[-_MAX_TRACEBACK:]


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame outside of tunekit; all of it if there is none."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inner = inner.tb_next
    return inner or trace


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
