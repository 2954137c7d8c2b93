"""What a scheduler says of a trial that waits at its horizon. Every decision carries its reason."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Continue(msgspec.Struct, frozen=True, kw_only=True):
    """Go on."""

    until: int | None
    """The next horizon, an iteration; None: never ask again."""
    reason: str = ""


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Give the place away and wait to be continued."""

    reason: str = ""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """End the trial here."""

    reason: str = ""
    early: bool = True
    """False: it has gone as far as any trial is to go, so that its training counts as useful and not as pruned."""


Decision: TypeAlias = Continue | Pause | Stop
