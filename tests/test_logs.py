"""No logger of tunekit passes on what could steer a terminal."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunekit
from tunekit.logs import logger_of
from tunekit.printable import printable

HOSTILE = "\x1b]0;owned\x07 \x1b[2J \u202etxt.exe"


class SilentError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no")


def fail() -> None:
    raise RuntimeError(HOSTILE) from KeyError(HOSTILE)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What a plain handler of the root logger writes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger().addHandler(handler)
    yield text
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("name", ["tunekit", "tunekit.some.module"])
def test_a_hostile_text_is_written_out(name: str, stream: io.StringIO) -> None:
    logger = logger_of(name)
    logger.warning("metric %s of %d trials", HOSTILE, 3)
    logger.warning("100 %% of %r and %s", {HOSTILE: 1}, HOSTILE)
    try:
        fail()
    except RuntimeError as error:
        error.add_note(HOSTILE)
        logger.exception("it raised")
        logger.warning("once more", exc_info=error)
    written = stream.getvalue()
    assert written.count("owned") >= 8
    assert "of 3 trials" in written
    assert written.count("RuntimeError: ") == 2
    assert printable(written) == written


def test_an_exception_that_cannot_be_shown_is_no_trouble(stream: io.StringIO) -> None:
    logger_of("tunekit").warning("what now", exc_info=SilentError())
    assert "what now" in stream.getvalue()
    assert "SilentError" in stream.getvalue()


def test_the_exception_itself_is_there_for_other_handlers(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("x")
    logger_of("tunekit").warning("it raised", exc_info=error)
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


def test_a_logger_without_an_exception_has_none(stream: io.StringIO) -> None:
    logger_of("tunekit").warning("plain", exc_info=True)
    assert stream.getvalue().splitlines()[0] == "plain"


def test_every_logger_is_one_of_these() -> None:
    package = Path(tunekit.__file__).parent
    others = [path.name for path in package.rglob("*.py") if re.search(r"getLogger\(", path.read_text())]
    assert others == ["logs.py"]
