"""One driver at a time on an object store, where nothing can be locked.

A driver holds an object that says who it is, and renews it every few seconds by compare-and-set. No clock of another
machine is ever believed: whoever comes second *watches* the object. If it changes, its holder lives, and the second
driver is told so and gives up, within one renewal. If it has not changed for as long as its holder promised to renew
it, then the holder is dead, or as good as dead, and the second driver replaces it. A holder that ended in peace says
so, and one that died on this very machine shows as a process that is gone: then nobody waits.

The lease alone keeps nobody from writing: a driver can sleep between looking at it and writing. It is the journal's
next segment, which only one of them can create, that does (see ``remote``). The lease tells who should try, and gives
the other one a name.

A driver's *generation* counts the drivers that this experiment has had.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from tunekit.errors import ExperimentExistsError, StorageError
from tunekit.journal.holder import Holder, is_gone, parse_holder, process_start, this_machine
from tunekit.journal.right import DriverRight
from tunekit.logs import logger_of
from tunekit.store.base import PutOutcome, Store

logger = logger_of(__name__)

__all__ = ["LEASE_NAME", "LEASE_S", "DriverLease", "Holder", "is_gone", "parse_holder"]

LEASE_NAME = "driver.lease"
LEASE_S = 30.0
"""Seconds without a renewal after which a driver counts as dead."""
_RENEWALS = 6
"""How often a lease is renewed in its time."""
_FAREWELL_S = 5.0
"""Seconds to wait for a renewal that is under way, and for the lease to be given back."""
_TRIES = 5
"""How often a lease is asked for when the store does not say what became of it, or others are quicker."""


class DriverLease(DriverRight):
    """The right to be the driver of an experiment on an object store.

    Args:
        store: The experiment.
        lease_s: Without a renewal for so long, this driver counts as dead.
        clock: Seconds that never run backwards; replaced by tests.
        pause: Waits; replaced by tests.
        renews: Whether a thread renews it; else ``renew`` must be called.
        drives: Whether the holder is a driver; who is not cannot be taken over from.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        renews: bool = True,
        drives: bool = True,
    ) -> None:
        """Only note the store."""
        self._store = store
        self._lease_s = lease_s
        self._clock = clock
        self._pause = pause
        self._renews = renews
        self._drives = drives
        self._mine: Holder | None = None
        self._other: Holder | None = None
        self._is_lost = False
        self._pid = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def generation(self) -> int:
        """Which driver of this experiment the holder is, counted from 1; 0 before the lease was acquired."""
        return self._mine.generation if self._mine else 0

    @property
    def token(self) -> str:
        """What no other driver has."""
        return self._mine.token if self._mine else ""

    def acquire(self, *, takeover: bool = False) -> int:
        """Take the lease, and return the generation. Waits no longer than until the present holder counts as dead.

        Args:
            takeover: Whether to take it at once, though its holder may live.

        Raises:
            ExperimentExistsError: Another driver holds it, and has just shown that it lives.
            StorageError: The store does not let us.
        """
        token = secrets.token_hex(8)
        for _ in range(_TRIES):
            found, tag = self._read()
            if found is not None and found.token == token:
                break  # the reply to the try before was lost
            if found is not None and not (takeover and found.drives):
                found, tag = self._wait_for_death(found, tag)
            self._mine = self._make(token, found)
            outcome = self._store.replace(LEASE_NAME, msgspec.json.encode(self._mine), tag)
            self.took_over = tag is not None and not (found is not None and found.released)
            if outcome in {PutOutcome.CREATED, PutOutcome.MINE}:
                break
        else:
            raise self._unavailable("is not granted")
        self._begin()
        return self.generation

    def renew(self) -> None:
        """Show that this driver lives, or note that another one has taken over.

        Raises:
            StorageError: The store does not answer.
        """
        if self._mine is None or self._is_lost:
            return
        found, tag = self._read()
        if found is not None and found.token != self._mine.token:
            self._is_lost, self._other = True, found
            return
        renewals = max(self._mine.renewals, found.renewals if found else 0) + 1
        mine = msgspec.structs.replace(self._mine, renewals=renewals)
        if self._store.replace(LEASE_NAME, msgspec.json.encode(mine), tag) in {PutOutcome.CREATED, PutOutcome.MINE}:
            self._mine = mine

    def check(self) -> None:
        """Raise if it is known that another driver has taken over.

        Raises:
            ExperimentExistsError: One has.
        """
        if self._is_lost:
            raise self.fenced()

    def fenced(self) -> ExperimentExistsError:
        """Return the error of a driver whose place another one has taken, and never write again."""
        if self._other is None:
            with contextlib.suppress(StorageError):
                found, _ = self._read()
                self._other = found if found and self._mine and found.token != self._mine.token else None
        self._is_lost = True
        who = str(self._other) if self._other else "it does not say who"
        return ExperimentExistsError(
            f"another driver has taken over the experiment in {self._store.uri}: {who}. "
            "This one has stopped, and writes nothing more",
            hint=f"That happens to a driver that the storage has not heard of for {self._lease_s:g} s, and when "
            "another one is started with takeover=True. It goes on with everything that was recorded.",
            path=self._store.uri,
            pid=self._other.pid if self._other else None,
        )

    def release(self) -> None:
        """Give the lease back, if it is still ours. Does nothing when it is not held, and in a forked child."""
        mine, self._mine = self._mine, None
        if mine is None or self._pid != os.getpid():
            return
        self._end()
        if self._is_lost:
            return
        # A store that does not answer is asked again and again; whoever is to learn of that must not wait for it here.
        raised: list[BaseException] = []
        farewell = threading.Thread(target=self._give_back, args=(mine, raised), name="tunekit-farewell", daemon=True)
        farewell.start()
        farewell.join(_FAREWELL_S)
        if farewell.is_alive():
            logger.warning("the lease of %s is not given back: the storage does not answer", self._store.uri)
        if raised:
            raise raised[0]

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[Holder | None, str | None]:
        """Return what the lease says, and its tag. One that cannot be read by any tunekit binds nobody."""
        try:
            data, tag = self._store.read_tagged(LEASE_NAME)
        except FileNotFoundError:
            return None, None
        return parse_holder(data), tag

    def _give_back(self, mine: Holder, raised: list[BaseException]) -> None:
        try:
            found, tag = self._read()
            if found is not None and found.token == mine.token:
                released = msgspec.structs.replace(found, released=True)
                self._store.replace(LEASE_NAME, msgspec.json.encode(released), tag)
        except StorageError as error:
            logger.warning("the lease of %s could not be given back, and runs out: %s", self._store.uri, error)
        except BaseException as error:  # noqa: BLE001 - it is raised again where it belongs
            raised.append(error)

    def _make(self, token: str, before: Holder | None) -> Holder:
        return Holder(
            token=token,
            generation=before.generation + 1 if before else 1,
            pid=os.getpid(),
            host=socket.gethostname(),
            machine=this_machine(),
            started=process_start(os.getpid()) or "",
            since=time.time(),
            lease_s=self._lease_s,
            drives=self._drives,
        )

    def _wait_for_death(self, found: Holder, tag: str | None) -> tuple[Holder | None, str | None]:
        """Return the lease and its tag once nobody lives who holds it.

        Raises:
            ExperimentExistsError: Its holder has renewed it.
        """
        deadline = self._clock() + found.lease_s
        told = False
        while not (found.released or is_gone(found)):
            left = deadline - self._clock()
            if left <= 0:
                break
            if not told:
                told = True
                logger.warning("watching for up to %.0f s whether another driver lives: %s", left, found)
            self._pause(min(left, max(0.05, found.lease_s / _RENEWALS / 5)))
            now, new_tag = self._read()
            if now is None:
                return None, new_tag
            if new_tag != tag and not now.released:
                raise self._refused(now)
            found, tag = now, new_tag
        return found, tag

    def _refused(self, holder: Holder) -> ExperimentExistsError:
        return ExperimentExistsError(
            f"another driver is running the experiment in {self._store.uri}: {holder}",
            hint="Wait until it ends, or end it: the experiment is free as soon as that is seen, at the latest "
            f"{holder.lease_s:g} s after its process is gone. To go on in its place whatever it does, use "
            "fit(takeover=True). To run beside it, give this sweep another name.",
            path=self._store.uri,
            pid=holder.pid,
        )

    def _unavailable(self, what: str) -> StorageError:
        return StorageError(
            f"the lease of the experiment in {self._store.uri} {what}",
            hint="Check that the storage is reachable and may be written to, then run the script again.",
        )

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._is_lost, self._other = False, None
        if self._renews:
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._keep, args=(self._done,), name="tunekit-lease", daemon=True)
            self._thread.start()

    def _end(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(_FAREWELL_S)  # a store that does not answer may hold it up; then its tag is outdated
            self._thread = None

    def _keep(self, done: threading.Event) -> None:
        """Renew until the end. Trouble of the store passes, or the journal meets it as well."""
        while not done.wait(self._lease_s / _RENEWALS):
            try:
                self.renew()
            except Exception as error:  # noqa: BLE001 - a thread that dies would look like a dead driver
                logger.warning("the lease of %s could not be renewed: %s", self._store.uri, error)
