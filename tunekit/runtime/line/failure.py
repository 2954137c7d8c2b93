"""An exception of user code as text: nothing about a strange exception may stop the message about it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tunekit.core.events import ErrorInfo
from tunekit.errors import ConfigError, ReportError, SaveError, SessionError, TrainableError, TunekitError
from tunekit.printable import concealing

_PACKAGE: Final = str(Path(__file__).parents[2])
_MAX_MESSAGE: Final = 10_000
_MAX_TRACEBACK: Final = 50_000
_MISUSE: Final = (ConfigError, ReportError, SaveError, SessionError, TrainableError)


def error_info(error: BaseException, config: Mapping[str, Any] | None = None) -> ErrorInfo:
    """Return ``error`` as text.

    Args:
        error: What was raised.
        config: The configuration under which it was, whose secrets the text is not to hold.
    """
    own = error if isinstance(error, TunekitError) else None
    conceal = _concealing(config)
    # Cut to length last: half a secret would not be found.
    return ErrorInfo(
        type=_encodable(_type_name(error)),
        message=conceal(_encodable(_message(error))[: 2 * _MAX_MESSAGE])[:_MAX_MESSAGE],
        traceback=_end_of(conceal(_encodable(_traceback(error))), _MAX_TRACEBACK),
        hint=conceal(_encodable(own.hint)) if own else "",
    )


def _concealing(config: Mapping[str, Any] | None) -> Callable[[str], str]:
    try:
        return concealing(config)
    except Exception as problem:  # noqa: BLE001 - whatever the user's own kinds of values do
        name = type(problem).__qualname__
        return lambda _: f"<not shown: {name} while the configuration was searched for secrets>"


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
    return _end_of("".join(lines), 2 * _MAX_TRACEBACK)


def _end_of(text: str, num_chars: int) -> str:
    return text if len(text) <= num_chars else "…" + text[-num_chars:]


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame outside of tunekit; all of it if there is none."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        inner = inner.tb_next
    return inner or trace


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
