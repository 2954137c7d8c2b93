"""tunekit's loggers: nothing that they are told can steer a terminal.

Names of metrics, texts of exceptions and paths come from elsewhere, see ``tunekit.printable``. Each logger has a filter
that writes out what could steer, in the message and in a traceback, whatever handlers there are.
"""

from __future__ import annotations

import io
import logging
import traceback
from typing import Final

from tunekit.printable import printable


class _Harmless(logging.Filter):
    """Lets every record pass, with its text made printable."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Write out what steers. The exception itself stays with the record, for handlers that want it."""
        record.msg, record.args = printable(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = printable(_formatted(record.exc_info[1]))
        return True


_HARMLESS: Final = _Harmless()


def logger_of(name: str) -> logging.Logger:
    """Return the logger of this name. The only way in which tunekit gets one."""
    logger = logging.getLogger(name)
    logger.addFilter(_HARMLESS)  # Once, however often it is asked for.
    return logger


def _formatted(error: BaseException) -> str:
    """Return the traceback of an exception, whose own methods may raise."""
    text = io.StringIO()
    try:
        traceback.print_exception(error, file=text)
    except Exception as problem:  # noqa: BLE001 - foreign __repr__s
        return f"<the traceback could not be formatted: {type(problem).__qualname__}>"
    return text.getvalue().rstrip("\n")
