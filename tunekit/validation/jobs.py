"""What a fresh process is asked to do with a trainable, and what it tells of it: plain values, nothing of the user's.

The process that asks never unpickles what a trainable has saved, and imports none of its libraries.
"""

from __future__ import annotations

from typing import Any

import msgspec

RESTORING = "restoring"
"""Stands for a method where tunekit itself could not open the checkpoint."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of the trial."""

    iterations: int
    """The iteration after which it is stopped."""
    saves: bool
    """Whether it saves at every iteration; else only at its end."""
    resume_from: int | None = None
    """The iteration to go on from; the job brings the checkpoint."""
    watch: int | None = None
    """The iteration at which to look at generators and attributes; for a restored run: after loading."""
    put_back: dict[str, bytes] = {}
    """States of generators to set after loading, as a trainable should have done itself."""
    puts_back: bool = False
    """Whether these are the ones that an earlier run of the job was seen to have."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does."""

    root: str
    """An empty folder of its own."""
    sys_path: list[str]
    module: tuple[str, str] | None = None
    """Name and file of a module that holds the trainable and cannot be found by its name."""
    trainable: bytes = b""
    """Pickled."""
    config: bytes = b""
    """Pickled."""
    runs: list[Run] = []
    checkpoint: str | None = None
    """The checkpoint's folder for the runs that resume."""
    dies: bool = False
    """Whether it waits to be killed as soon as the last run has saved for the last time."""
    states: list[str] = []
    """Folders of checkpoints whose content is to be told."""
    roots: list[str] = []
    """Folders whose names in a state mean nothing: they differ from run to run."""


class Row(msgspec.Struct, frozen=True):
    """What was reported at one iteration."""

    iteration: int
    metrics: dict[str, Any]


class Saved(msgspec.Struct, frozen=True):
    """A checkpoint."""

    iteration: int
    folder: str
    """Relative to the job's root."""
    files: dict[str, str]
    """Digest of each file."""


class Trouble(msgspec.Struct, frozen=True):
    """An exception."""

    method: str
    """The method of the user's that raised it; empty: none did."""
    iteration: int
    """The last one that was done."""
    type: str
    message: str
    traceback: str
    hint: str


class Change(msgspec.Struct, frozen=True):
    """Something that should have stayed as it was."""

    iteration: int
    key: str
    before: str
    after: str


class Leaf(msgspec.Struct, frozen=True, array_like=True):
    """One value inside a state."""

    digest: str
    shown: str
    is_opaque: bool = False
    """Whether nothing is known about it but its bytes."""


State = dict[str, Leaf]
"""Each value inside a state by the way to it."""


class Look(msgspec.Struct, frozen=True):
    """What the process and the trainable held at one moment."""

    generators: dict[str, bytes]
    """State of each library's own random generator."""
    attributes: State
    """The attributes of the instance, or of the saver."""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of one run."""

    rows: list[Row] = []
    saves: list[Saved] = []
    trouble: Trouble | None = None
    cleanup: Trouble | None = None
    """What ``cleanup`` raised, which ends nothing."""
    storage: str = ""
    """What kept a checkpoint from being written, if it was not the trainable."""
    not_a_dict: str = ""
    """What ``step`` returned, if it was no dict."""
    returned: str = ""
    """What kind of thing ``save_checkpoint`` returned last: dict, path, None or another."""
    unpicklable: str | None = None
    """The first key of the returned dict whose value cannot be pickled."""
    is_opened: bool = False
    """Whether the checkpoint was loaded, or asked for."""
    has_saver: bool = False
    """Whether a function reported something that can save."""
    is_stopped: bool = False
    """Whether it was stopped at its last iteration, rather than ending by itself."""
    mutated: Change | None = None
    """What the trainable changed in a dict that it had returned from ``save_checkpoint``."""
    shared: list[Change] = []
    """Attributes of the class that the run changed."""
    written_outside: list[str] = []
    """Files that ``save_checkpoint`` wrote beside the folder that it was given."""
    changed: str = ""
    """What has become of the checkpoint that it went on from."""
    read_before: list[str] = []
    """Files in the folder of an earlier run that were opened."""
    looks: dict[str, Look] = {}
    """``watched`` as asked for, ``unloaded`` just before loading, ``last`` at the last iteration."""


class Reply(msgspec.Struct, kw_only=True):
    """What a process sends back, piece by piece."""

    outcome: Outcome | None = None
    states: list[State] | None = None
    error: str = ""
    """Traceback of what went wrong before any run, such as unpickling the trainable."""
