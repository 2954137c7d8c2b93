"""Validation that reports every problem of an object at once.

``Problems`` is filled by one check per field and raises one error at the end, so that a user who got three settings
wrong runs the script once and not three times.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.printable import printable

_MAX_SHOWN = 80
MAX_NAME_BYTES = 200
"""Of the name of a folder: leaves room for ``.<iteration>.<attempt>`` within the 255 that file systems allow."""
_FIRST_PRINTABLE = 32
_DELETE = 127
_SURROGATES = range(0xD800, 0xE000)
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?(e[+-]?[0-9]{1,3})?")
_YES = (1, "true", "yes", "on", "1")
_NO = (0, "false", "no", "off", "0", "")


def shorten(value: object, limit: int = _MAX_SHOWN) -> str:
    """Return ``repr(value)`` on one line of at most ``limit`` characters, even if the object's own ``repr`` raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a broken repr of user code must not hide the problem that is being reported
        text = f"<{type(value).__qualname__} whose repr raises>"
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(value: object, options: Sequence[str]) -> str:
    """Return the option that ``value`` most likely stands for, or an empty string."""
    if not isinstance(value, str):
        return ""
    word = value.strip().lower()
    for option in options:
        if word.startswith(option.lower()):
            return option
    import difflib  # noqa: PLC0415 - only where something is wrong

    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return close[0] if close else ""


def is_integer(value: object) -> bool:
    """Return whether ``value`` is an integer and not a bool, which Python counts as one."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether ``value`` is an integer or a float and not a bool. NaN is a number here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: float) -> bool:
    """Return whether a number is finite as a float: an integer may be beyond all of them."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def plain_number(value: Any) -> Any:
    """Return a number of another library, such as numpy, as Python's own, and anything else as it is."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return operator.index(value)
    return float(value) if isinstance(value, Real) else value


def make_plain(config: object, *fields: str) -> None:
    """Replace numbers of other libraries in a frozen dataclass by Python's own, which have a JSON form."""
    for field in fields:
        object.__setattr__(config, field, plain_number(getattr(config, field)))


class Problems:
    """Collects what is wrong with the settings of one object.

    Args:
        subject: The class or call that was given the settings, for the first line of the error.
    """

    def __init__(self, subject: str) -> None:
        """Begin without problems."""
        self._subject = subject
        self._lines: list[str] = []
        self._hints: list[str] = []
        self._only_types = True

    def __bool__(self) -> bool:
        """Return whether anything is wrong so far."""
        return bool(self._lines)

    def add(self, field: str, text: str, *, hint: str, is_type: bool = False) -> None:
        """Note a problem in words.

        Args:
            field: The setting.
            text: What was got and what is allowed.
            hint: What to do next.
            is_type: Whether the type is wrong, rather than the value.
        """
        self._lines.append(f"{field}: {text}")
        self._only_types = self._only_types and is_type
        if hint not in self._hints:
            self._hints.append(hint)

    def adopt(self, field: str, error: ConfigError) -> None:
        """Note every problem that ``error`` lists as one of ``field``."""
        for problem in error.fields.get("problems", [error.message]):
            self.add(field, problem, hint=error.hint, is_type=isinstance(error, ConfigTypeError))

    def bad_value(self, field: str, value: object, allowed: str, *, hint: str) -> None:
        """Note that the value is of the right type but not allowed."""
        self.add(field, f"got {shorten(value)}, but must be {allowed}", hint=hint)

    def bad_type(self, field: str, value: object, allowed: str, *, hint: str) -> None:
        """Note that the value is of the wrong type."""
        kind = value.__qualname__ if isinstance(value, type) else type(value).__qualname__
        got = f"the class {kind}" if isinstance(value, type) else f"{shorten(value)} ({kind})"
        self.add(field, f"got {got}, but must be {allowed}", hint=hint, is_type=True)

    def raise_if_any(self) -> None:
        """Raise one error that lists every problem, if there is one."""
        if self._lines:
            raise self.error()

    def error(self) -> ConfigError:
        """Return one error that lists every problem: a type error if all of them are wrong types."""
        kind = ConfigTypeError if self._only_types else ConfigError
        return kind.collect(self._subject, self._lines, hint="; ".join(self._hints))

    def integer(
        self,
        field: str,
        value: object,
        *,
        at_least: int,
        at_most: int | None = None,
        none_is: str = "",
        also: str = "",
        hint: str = "",
    ) -> None:
        """Check an integer.

        Args:
            field: The setting.
            value: What it was set to.
            at_least: The smallest value allowed.
            at_most: The largest value allowed; None: any.
            none_is: What None means; empty: None is not allowed.
            also: What a special value just below ``at_least`` means, as in ``-1 (any number)``; said, not checked.
            hint: What to do next; empty: what follows from the others.
        """
        if value is None and none_is:
            return
        span = f"an integer >= {at_least}" if at_most is None else f"an integer from {at_least} to {at_most}"
        allowed = (f"None ({none_is}) or " if none_is else "") + span + (f" or {also}" if also else "")
        if not isinstance(value, int) or isinstance(value, bool):
            self.bad_type(field, value, allowed, hint=_number_meant(field, value) or hint or _within(field, allowed))
        elif value < at_least or (at_most is not None and value > at_most):
            self.bad_value(field, value, allowed, hint=hint or _within(field, allowed))

    def number(self, field: str, value: object, *, above: float = -math.inf, hint: str = "") -> None:
        """Check a finite number, greater than ``above``."""
        allowed = "a finite number" + (f" > {above:g}" if above > -math.inf else "")
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.bad_type(field, value, allowed, hint=_number_meant(field, value) or hint or _within(field, allowed))
        elif not is_finite(value) or not value > above:
            self.bad_value(field, value, allowed, hint=hint or _within(field, allowed))

    def flag(self, field: str, value: object, *, none_is: str = "") -> None:
        """Check a bool, where ``none_is`` says what None means if it is allowed."""
        if not isinstance(value, bool) and not (value is None and none_is):
            allowed = f"True, False or None ({none_is})" if none_is else "True or False"
            self.bad_type(field, value, allowed, hint=flag_meant(field, value))

    def one_of(self, field: str, value: object, options: Sequence[str]) -> None:
        """Check that the value is one of a few words."""
        if isinstance(value, str) and value in options:
            return
        allowed = " or ".join(repr(option) for option in options)
        meant = did_you_mean(value, options)
        hint = f"did you mean {field}={meant!r}?" if meant else f"write {field}={allowed}"
        (self.bad_value if isinstance(value, str) else self.bad_type)(field, value, allowed, hint=hint)

    def key(self, field: str, value: object) -> None:
        """Check an optional name of a metric, such as ``loss`` or ``val/loss``."""
        allowed = "None or the name of a reported metric, such as 'loss' or 'val/loss'"
        hint = f"write the name as it is reported, such as {field}='loss'"
        if value is None:
            return
        if not isinstance(value, str):
            self.bad_type(field, value, allowed, hint=hint)
        elif not value.strip():
            self.bad_value(field, value, allowed, hint=hint)

    def folder_name(self, field: str, value: object) -> None:
        """Check a name that becomes a folder, so that it can leave no other folder and surprise nobody."""
        hint = f"{field} is one folder, such as 'digits-v2'"
        if not isinstance(value, str):
            self.bad_type(field, value, "a string", hint=hint)
            return
        reason = why_no_folder_name(value) or _why_it_surprises(value)
        if reason:
            self.add(field, f"got {shorten(value)}, but {reason}", hint=hint)


def _number_meant(field: str, value: object) -> str:
    """Return advice for a number that was written in another way, or an empty string."""
    if isinstance(value, float) and value.is_integer():
        return f"did you mean {field}={value:.0f}?"
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return f"did you mean {field}={value.strip()}, without quotes?"
    return ""


def _within(field: str, allowed: str) -> str:
    return f"set {field} to {allowed}"


def flag_meant(field: str, value: object) -> str:
    """Return advice for a value that is to say yes or no, and says it in another way."""
    word = value.strip().lower() if isinstance(value, str) else value
    for meant, words in ((True, _YES), (False, _NO)):
        if isinstance(word, int | float | str) and word in words:
            return f"did you mean {field}={meant}?"
    return f"write {field}=True or {field}=False"


def _why_it_surprises(name: str) -> str:
    """Return why nobody means to call an experiment so, or an empty string.

    Only new names are asked: what exists under such a name stays readable.
    """
    tests = {
        "it starts with a dash, which commands take for an option": name.startswith("-"),
        "it contains a character that is not shown or turns the text around": printable(name) != name,
        "it contains nothing that is shown": not any(char.isprintable() and not char.isspace() for char in name),
    }
    return next((reason for reason, applies in tests.items() if applies), "")


def why_no_folder_name(name: str) -> str:
    """Return why ``name`` cannot be the name of a folder, or an empty string if it can."""
    size = len(name.encode(errors="surrogatepass"))
    tests = {
        "it is empty": not name.strip(),
        "it starts with a dot": name.startswith("."),
        "it starts or ends with white space": name != name.strip(),
        "it contains a path separator": "/" in name or "\\" in name,
        "it contains a control character": any(ord(char) < _FIRST_PRINTABLE or ord(char) == _DELETE for char in name),
        "it is not valid Unicode": any(char in _SURROGATES for char in map(ord, name)),
        f"it is {size} bytes long (at most {MAX_NAME_BYTES} are allowed)": size > MAX_NAME_BYTES,
    }
    return next((reason for reason, applies in tests.items() if applies), "")
