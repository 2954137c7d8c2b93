"""Calling a ``sample_from``: what it sees of the configuration, and what becomes of its errors."""

from __future__ import annotations

from typing import Any

from tunekit.errors import ConfigError
from tunekit.space.describe import plain
from tunekit.space.nodes import Function


class ConfigSoFar(dict[str, Any]):
    """What a ``sample_from`` sees: the configuration, whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key; ``config`` is the configuration itself, for functions written for Ray Tune."""
        if name in self:
            return self[name]
        if name == "config":
            return self
        raise AttributeError(f"the configuration has no {name!r} so far")


def apply(function: Function, config: dict[str, Any]) -> Any:
    """Return what the function makes of ``config``.

    Raises:
        ConfigError: If it raises, naming its path.
    """
    try:
        return _without_attributes(plain(function.domain.function(_with_attributes(config))))
    except Exception as error:
        raise ConfigError(
            f"{function.path}: {function.domain!r} raised {type(error).__name__}: {error}",
            hint="it is given the configuration, without the values of later sample_from",
            path=function.path,
        ) from error


def _with_attributes(value: Any) -> Any:
    if type(value) is dict:
        return ConfigSoFar((key, _with_attributes(item)) for key, item in value.items())
    return [_with_attributes(item) for item in value] if type(value) is list else value


def _without_attributes(value: Any) -> Any:
    """Return a part of the configuration that a function passed on as what it was before."""
    if type(value) is ConfigSoFar:
        return {key: _without_attributes(item) for key, item in value.items()}
    return [_without_attributes(item) for item in value] if type(value) is list else value
