"""What travels between driver, mailbox and workers, and in which form.

Frames are what a worker's call of the mailbox carries, each way one ``bytes`` object: Ray passes those through
untouched. In a frame lie messages, numbered by their sender. A message of a worker holds what happened, in order; a
message of the driver is one order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from tunekit.core import codec
from tunekit.core.commands import ContinueTrial, InterruptTrial, StopTrial, TellOutlook
from tunekit.core.events import (
    Event,
    LaunchFailed,
    RestoreFailed,
    TrialHalted,
    TrialPreempted,
    TrialRaised,
    TrialReturned,
)
from tunekit.types import TrialId

AttemptKey: TypeAlias = tuple[TrialId, int]
"""Trial and attempt: what a message must name to be heeded."""

# -- what a worker says ------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """The first word of a worker: it is up, and this is where."""

    pid: int
    node: str
    """Id of its node in the Ray cluster."""


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="returned"):
    """An attempt that waited at the worker is given back unstarted, as it was recalled."""

    trial: TrialId
    attempt: int


class Terminating(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="terminating"):
    """The process was told to end: it takes nothing more, and however it ends, it was taken away."""

    reason: str


class MachineNotice(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="machine_notice"):
    """What the cloud says about the end of the worker's machine."""

    source: str
    deadline: float | None = None
    """In Unix seconds."""
    ends: bool = True
    """False: the machine may well stay."""
    is_withdrawn: bool = False
    """Whether it is no longer said."""


LAST_WORDS = (TrialReturned, TrialRaised, TrialHalted, TrialPreempted, LaunchFailed, RestoreFailed)
"""Events with which a worker ends an attempt."""

Note: TypeAlias = Hello | Returned | Terminating | MachineNotice
"""A message for the executor itself, of no interest to the core."""

# -- what a worker is told ---------------------------------------------------------------------------------------------


class Assign(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="assign"):
    """Run this attempt after those that wait already."""

    trial: TrialId
    attempt: int
    spec: bytes
    """The ``AttemptSpec``, pickled."""
    avoid: list[str] = []
    """Ids of nodes on which it is not to run; of no interest to the worker."""


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="recall"):
    """Give this attempt back if it has not started. → Returned, or nothing if it has."""

    trial: TrialId
    attempt: int


class Leave(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="leave"):
    """End the process as soon as no attempt runs."""


class Warn(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="warn"):
    """The machine of this process is to go, or may be; or is to stay after all."""

    source: str
    deadline: float | None = None
    """When, in Unix seconds."""
    ends: bool = True
    """Whether the process is to end after the next row, in peace. False: it saves that row, and goes on."""
    saves: bool = True
    """Whether there is time to save."""
    is_withdrawn: bool = False
    """Whether nothing of the kind is said any more."""


Order: TypeAlias = Assign | Recall | Leave | Warn | ContinueTrial | TellOutlook | StopTrial | InterruptTrial

# -- frames ------------------------------------------------------------------------------------------------------------


class Upload(msgspec.Struct, array_like=True, frozen=True):
    """What a worker puts into the mailbox."""

    worker: int
    first: int
    """Number of the first message."""
    messages: list[bytes]
    heeded: int
    """Number of the last order that the worker has; the mailbox forgets those."""
    wait_s: float
    """How long the mailbox may hold the answer back while there is no order."""


class Download(msgspec.Struct, array_like=True, frozen=True):
    """What the mailbox answers."""

    acknowledged: int
    """Number of the worker's last message that the driver has journalled."""
    first: int
    """Number of the first order."""
    orders: list[bytes]
    silence_s: float
    """Seconds since the driver was last heard of."""
    is_gone: bool = False
    """Whether the driver has given this worker up: its words no longer count."""


_encode = msgspec.msgpack.Encoder().encode
_said = msgspec.msgpack.Decoder(list[Event | Note]).decode
_order: Callable[[bytes], Order] = msgspec.msgpack.Decoder(Order).decode

_PACKED, _AS_JSON = b"m", b"j"


def encode_said(said: Sequence[Event | Note]) -> bytes:
    """Return what a worker has to say as one message.

    A number beyond 64 bits or half of a surrogate pair has no MessagePack form; the journal's JSON has one for both.
    """
    try:
        return _PACKED + _encode(said)
    except (OverflowError, UnicodeEncodeError, TypeError):
        lines = [_encode(item) if isinstance(item, Note) else codec.encode(item) for item in said]
        kinds = [isinstance(item, Note) for item in said]
        return _AS_JSON + _encode(list(zip(kinds, lines, strict=True)))


def decode_said(message: bytes) -> list[Event | Note]:
    """Return what ``encode_said`` was given."""
    body = memoryview(message)[1:]
    if message[:1] == _PACKED:
        return _said(body)
    pairs = msgspec.msgpack.decode(body, type=list[tuple[bool, bytes]])
    return [msgspec.msgpack.decode(line, type=Note) if note else _event(line) for note, line in pairs]


def _event(line: bytes) -> Event:
    record = codec.decode(line)
    if not isinstance(record, Event):
        raise TypeError(f"a worker sent a {type(record).__name__}, but may only send events")
    return record


def encode_order(order: Order) -> bytes:
    """Return an order as one message."""
    return _encode(order)


def decode_order(message: bytes) -> Order:
    """Return what ``encode_order`` was given."""
    return _order(message)
