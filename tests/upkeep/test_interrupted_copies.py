"""A copy that is interrupted at any moment shows nothing partial, and is gone on with to the same end."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments import Built, built, content, whole

from tunekit.store import LocalStore
from tunekit.store.shelves import shelf_of
from tunekit.testing.faulty_store import Faults, FaultyOps, SimulatedCrash
from tunekit.upkeep.copying import copy
from tunekit.upkeep.copying_experiment import copy_experiment
from tunekit.upkeep.places import find
from tunekit.upkeep.transfer import CopyReport, Transfer


class Counting:
    """A meter that is a system call like the others: the process may die at it."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def expect(self, num_bytes: int) -> None:
        self.faults.run("begin", lambda: None)

    def advance(self, num_bytes: int) -> None:
        self.faults.run("copy", lambda: None)


def copy_with(source: Path, target: Path, ops: FaultyOps) -> None:
    transfer = Transfer(
        source=find(source).shelf,
        target=shelf_of(LocalStore(target, ops=ops)),
        report=CopyReport(str(source), find(source).kind, target=str(target)),
        meter=Counting(ops.faults),
    )
    copy_experiment(transfer, while_running=False)


def differing(one: Path, other: Path) -> list[str]:
    """Return the files in which two folders differ, by name. A draft that was put away means nothing to anybody."""
    first, second = content(one), content(other)
    names = {name for name in first.keys() | second.keys() if not name.startswith(".trash/")}
    return sorted(name for name in names if first.get(name) != second.get(name))


def test_crash_at_every_operation(tmp_path: Path) -> None:
    """Each checkpoint that can be seen is whole, and the copy is gone on with to the same end. S000-14."""
    source = tmp_path / "exp"
    made = built(source, trials=2, steps=2, num_bytes=200)
    copy(source, tmp_path / "older")
    older = Built.again(source)
    older.save(0, 2, attempt=2)
    older.delete(1, 1)
    older.stage(1, 3)
    older.close()
    del made
    undisturbed = FaultyOps()
    copy_with(source, tmp_path / "undisturbed", undisturbed)
    assert undisturbed.faults.count > 60
    end = content(tmp_path / "undisturbed")
    assert content(source).items() <= end.items()
    assert {name.rpartition("/")[0] for name in end.keys() - content(source).keys()} == {
        "walk_00001/checkpoint_000003",
        "walk_00001/checkpoint_000003/deep",
    }
    for number in range(1, undisturbed.faults.count + 1):
        target = tmp_path / str(number)
        updates = number % 3 == 0
        if updates:
            copy(tmp_path / "older", target)
        ops = FaultyOps(Faults(crash_at=number))
        with contextlib.suppress(SimulatedCrash):
            copy_with(source, target, ops)
        ops.close()
        seen = whole(target)
        if not updates and (target / "experiment.json").exists():
            assert seen == 4
        copy(source, target)
        assert content(target) == end
        assert not (target / ".staging").exists()


@pytest.mark.chaos
def test_sigkill_at_random_moments(tmp_path: Path, kills: int) -> None:
    """At every moment each visible checkpoint of the copy is whole, and the end equals the source byte for byte."""
    source, target = tmp_path / "exp", tmp_path / "copy"
    built(source, trials=4, steps=4, num_bytes=400_000)
    code = "import sys; from tunekit.upkeep.copying import copy; print('go', flush=True); copy(*sys.argv[1:])"

    def start(to: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(source), str(to)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        return process

    process = start(tmp_path / "undisturbed")
    began = time.monotonic()
    process.communicate(timeout=240)
    takes = time.monotonic() - began
    chance = random.Random(7)
    partial = complete = 0
    for _ in range(kills):
        process = start(target)
        time.sleep(chance.uniform(0, takes))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
        seen = whole(target) if target.exists() else 0
        partial += 0 < seen < 16
        if seen < 16:
            assert not (target / "experiment.json").exists()
        elif (target / "experiment.json").exists():
            assert differing(target, source) == []
            complete += 1
            target = tmp_path / f"copy {complete}"
    report = copy(source, target, verify=True)
    assert report.verified
    assert differing(target, source) == differing(tmp_path / "undisturbed", source) == []
    print(f"{partial} of {kills} kills left a part of the checkpoints")


def test_what_lies_aside_from_an_earlier_try_is_not_trusted(tmp_path: Path) -> None:
    """A file that is there, as large as it should be and torn by a loss of power; and a stranger."""
    source, target = tmp_path / "exp", tmp_path / "copy"
    built(source, trials=1, steps=1)

    class DiedError(Exception):
        pass

    class Dying:
        def expect(self, num_bytes: int) -> None:
            """Nothing."""

        def advance(self, num_bytes: int) -> None:
            """Die as soon as the model has been copied."""
            if num_bytes == 2000:
                raise DiedError

    with pytest.raises(DiedError):
        copy(source, target, meter=Dying())
    aside = target / ".staging" / "copy~walk_00000~checkpoint_000001"
    assert (aside / "model.bin").stat().st_size == 2000
    (aside / "model.bin").write_bytes(b"\0" * 2000)
    (aside / "stranger").mkdir()
    (aside / "stranger" / "file").touch()
    report = copy(source, target, verify=True)
    assert report.bytes_copied > 2000
    assert content(target) == content(source)


def test_files_that_were_copied_are_not_copied_again(tmp_path: Path) -> None:
    source, target = tmp_path / "exp", tmp_path / "copy"
    built(source, trials=1, steps=1)
    copied: list[int] = []

    class Meter:
        def expect(self, num_bytes: int) -> None:
            """Nothing."""

        def advance(self, num_bytes: int) -> None:
            """Die at the second file."""
            copied.append(num_bytes)
            if len(copied) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, target, meter=Meter())
    report = copy(source / "walk_00000/checkpoint_000001", tmp_path / "alone")
    assert report.bytes_copied == 3000
    done = sum(copied)
    journal = sum(path.stat().st_size for path in [source / "experiment.json", *(source / "journal").iterdir()])
    assert copy(source, target).bytes_copied == 3000 + journal - done
    assert content(target) == content(source)
