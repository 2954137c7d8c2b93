"""The process dies, or the disk refuses, at every single operation of a checkpoint's life."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunekit.errors import CheckpointNotFoundError, StorageError
from tunekit.store import CheckpointIO, LocalStore, MemoryStore, Store, layout
from tunekit.store.object_folders import LocalFolders
from tunekit.store.objects import ObjectStore
from tunekit.testing.faulty_objects import FaultyObjects, MemoryObjects, no_waiting
from tunekit.testing.faulty_store import Faults, FaultyOps, FaultyStore, SimulatedCrash, When

TRIAL = "train_00007"
FILES = {"model": b"weights" * 50, "deep/optimizer": b"moments" * 50}

Redo = Callable[[CheckpointIO], None]


class Driver:
    """Saves and deletes checkpoints, and remembers what a journal would know when it dies."""

    def __init__(self) -> None:
        self.must_show: set[tuple[int, int]] = set()
        """(iteration, attempt) that was acknowledged as published and not yet told to go."""
        self.open: Redo | None = None
        """The command that was journalled and not answered."""

    def live(self, io: CheckpointIO, run: Callable[[Callable[[], None]], None]) -> None:
        """Save, replace, delete; ``run`` carries each step out, and may try it again."""
        for step in self.steps(io):
            run(step)

    def steps(self, io: CheckpointIO) -> Iterator[Callable[[], None]]:
        for iteration, attempt in [(1, 1), (2, 1), (2, 2)]:
            yield from self.save(io, iteration, attempt)
        yield lambda: self.command({(1, 1)}, lambda io: io.delete(TRIAL, 1, 1), io)
        yield lambda: self.command({(2, 2)}, lambda io: io.quarantine(TRIAL, 2, 2), io)

    def save(self, io: CheckpointIO, iteration: int, attempt: int) -> Iterator[Callable[[], None]]:
        manifest: dict[str, object] = {}

        def stage() -> None:
            folder = io.begin(TRIAL, iteration, attempt)
            for name, data in FILES.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data + b"%d %d" % (iteration, attempt))
            manifest.update(io.seal(TRIAL, iteration, attempt, metadata={"score": 0.5}))

        def publish(io: CheckpointIO) -> None:
            io.publish(TRIAL, iteration, attempt, manifest)
            self.must_show.add((iteration, attempt))

        replaced = {(iteration, earlier) for earlier in range(attempt)}
        yield stage
        yield lambda: self.command(replaced, publish, io)

    def command(self, ends: set[tuple[int, int]], redo: Redo, io: CheckpointIO) -> None:
        self.must_show -= ends
        self.open = redo
        redo(io)
        self.open = None


def once(step: Callable[[], None]) -> None:
    step()


def whole(io: CheckpointIO) -> set[tuple[int, int]]:
    """Return what is visible, after reading every byte of it."""
    shown = io.visible(TRIAL)
    for iteration, attempt in shown:
        folder = io.verify(TRIAL, iteration)
        for name, data in FILES.items():
            assert (folder / name).read_bytes() == data + b"%d %d" % (iteration, attempt)
    return set(shown)


def quick(root: Path) -> CheckpointIO:
    """Return a clean start on what is left, on a disk whose syncs take no time."""
    ops = FaultyOps()
    return CheckpointIO(LocalStore(root, ops=ops), ops=ops)


def num_operations(root: Path) -> int:
    ops = FaultyOps()
    Driver().live(CheckpointIO(LocalStore(root, ops=ops), ops=ops), once)
    ops.close()
    return ops.faults.count


@pytest.mark.parametrize("death", ["process dies", "power fails", "power fails, names are lost"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_crash_at_every_operation(tmp_path: Path, when: When, death: str) -> None:
    """Visible means whole; what was acknowledged stays; the open command can be issued again. S000-14, S003-12.

    On a disk that writes no names along with files, the save that was under way may be gone; its command then says so.
    """
    keeps_names = death == "power fails"
    for number in range(1, num_operations(tmp_path / "undisturbed") + 1):
        root = tmp_path / str(number)
        ops = FaultyOps(Faults(crash_at=number, when=when), syncs_the_way=keeps_names)
        driver = Driver()
        with pytest.raises(SimulatedCrash):
            driver.live(CheckpointIO(LocalStore(root, ops=ops), ops=ops), once)
        if death != "process dies" and root.exists():
            ops.lose_power(root)
        ops.close()

        io = quick(root)
        assert driver.must_show <= whole(io), ops.faults.log[-1]
        if driver.open is not None:
            may_be_gone = contextlib.suppress(CheckpointNotFoundError) if "lost" in death else contextlib.nullcontext()
            for _ in range(2):
                with may_be_gone:
                    driver.open(io)
        shown = whole(io)
        assert driver.must_show <= shown, ops.faults.log[-1]
        io.sweep()
        assert whole(io) == shown
        assert not (root / layout.STAGING).exists()
        assert not (root / layout.TRASH).exists()
        aside = root / layout.QUARANTINE
        assert [path.name for path in (aside.iterdir() if aside.exists() else [])] in ([], [f"{TRIAL}.2.2"])


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for a while"])
def test_disk_refuses_at_every_operation(tmp_path: Path, persistent: bool) -> None:  # noqa: FBT001 - a parameter
    """A full disk is a StorageError, takes nothing away, and a second try comes to the same end."""
    refusals: list[StorageError] = []
    count = num_operations(tmp_path / "undisturbed")
    for number in range(1, count + 1):
        ops = FaultyOps()
        io = CheckpointIO(LocalStore(tmp_path / str(number), ops=ops), ops=ops)
        ops.faults = Faults(fail_at=number, error=errno.ENOSPC, persistent=persistent)
        driver = Driver()

        def stubborn(step: Callable[[], None], io: CheckpointIO = io, driver: Driver = driver) -> None:
            try:
                step()
            except StorageError as error:
                refusals.append(error)
            else:
                return
            assert driver.must_show <= whole(io)
            ops.faults = Faults()  # noqa: B023 - of this very round
            step()

        driver.live(io, stubborn)
        ops.faults = Faults()
        io.sweep()
        assert whole(io) == set()
        ops.close()
    assert len(refusals) > count / 2
    assert all(error.errno == errno.ENOSPC and "free some space" in error.hint for error in refusals)


def test_delete_lost_by_a_power_failure_costs_only_space(tmp_path: Path) -> None:
    """Deleting is not synced: at worst the checkpoint is back, whole."""
    ops = FaultyOps()
    io = CheckpointIO(LocalStore(tmp_path / "e", ops=ops), ops=ops)
    steps = Driver().steps(io)
    for _ in range(2):
        next(steps)()
    io.delete(TRIAL, 1, 1)
    assert whole(io) == set()
    ops.lose_power(tmp_path / "e")
    assert whole(quick(tmp_path / "e")) == {(1, 1)}


@pytest.mark.parametrize("when", ["before", "after"])
def test_any_store_survives_a_crash_at_every_call(when: When) -> None:
    """The same promises from the calls of the protocol alone, so for stores that have no files below them."""
    faults = Faults()
    Driver().live(CheckpointIO(FaultyStore(MemoryStore(f"memory://crash-{when}/all"), faults)), once)
    for number in range(1, faults.count + 1):
        store: Store = MemoryStore(f"memory://crash-{when}/{number}")
        driver = Driver()
        with pytest.raises(SimulatedCrash):
            driver.live(CheckpointIO(FaultyStore(store, Faults(crash_at=number, when=when))), once)
        io = CheckpointIO(store)
        assert driver.must_show <= whole(io)
        if driver.open is not None:
            driver.open(io)
        assert driver.must_show <= whole(io)
        io.sweep()
        assert store.sizes(layout.STAGING) == {}


def test_staged_files_that_are_gone_cannot_be_published(tmp_path: Path) -> None:
    """The replaced checkpoint stays when its successor has been swept."""
    io = quick(tmp_path / "e")
    driver = Driver()
    steps = driver.steps(io)
    for _ in range(2):
        next(steps)()
    stage, publish = Driver().save(io, 1, 2)
    stage()
    io.sweep()
    with pytest.raises(CheckpointNotFoundError, match="gone"):
        publish()
    assert whole(io) == {(1, 1)}


# -- object stores -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bucket(name: str, faults: Faults | None = None, *, reply_lost: bool = False) -> Iterator[CheckpointIO]:
    """Give what one process knows of a bucket."""
    client = FaultyObjects(MemoryObjects(name), faults, reply_lost=reply_lost)
    with contextlib.closing(LocalFolders()) as local_folders:
        yield CheckpointIO(ObjectStore(client, patience=no_waiting(), local_folders=local_folders))


def num_requests(name: str) -> int:
    faults = Faults()
    with bucket(name, faults) as io:
        Driver().live(io, once)
    return faults.count


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_bucket_survives_a_crash_at_every_request(when: When) -> None:
    """Visible means whole; what was acknowledged stays; the open command can be issued again; nothing is left over."""
    for number in range(1, num_requests(f"crash-{when}") + 1):
        name, driver = f"crash-{when}-{number}", Driver()
        with bucket(name, Faults(crash_at=number, when=when)) as io, pytest.raises(SimulatedCrash):
            driver.live(io, once)

        with bucket(name) as io:
            assert driver.must_show <= whole(io)
            if driver.open is not None:
                driver.open(io)
                driver.open(io)
            shown = whole(io)
            assert driver.must_show <= shown
            io.sweep()
            assert whole(io) == shown
        kept = [key for key in MemoryObjects(name).held if key.startswith(TRIAL)]
        assert len(kept) == len(shown) * len([*FILES, layout.MANIFEST]), kept


@pytest.mark.parametrize("reply_lost", [False, True], ids=["refused", "reply lost"])
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for a while"])
def test_a_bucket_fails_at_every_request(persistent: bool, reply_lost: bool) -> None:  # noqa: FBT001 - parameters
    """A failure that passes is not noticed; one that stays is a StorageError, and a second try ends alike."""
    name = f"fail-{persistent}-{reply_lost}"
    for number in range(1, num_requests(name) + 1):
        faults = Faults(fail_at=number, persistent=persistent)
        with bucket(f"{name}-{number}", faults, reply_lost=reply_lost) as io:
            driver, refusals = Driver(), list[StorageError]()

            def stubborn(step: Callable[[], None]) -> None:
                try:
                    step()
                except StorageError as error:
                    refusals.append(error)  # noqa: B023 - of this very round
                    faults.fail_at = None  # noqa: B023 - as above
                    assert driver.must_show <= whole(io)  # noqa: B023 - as above
                    step()

            driver.live(io, stubborn)
            assert whole(io) == set()
            assert len(refusals) == int(persistent), refusals
            io.sweep()
        held = MemoryObjects(f"{name}-{number}").held
        assert {key.partition("/")[0] for key in held} <= {layout.QUARANTINE}
