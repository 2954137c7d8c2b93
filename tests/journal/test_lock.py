"""One driver at a time, whoever died before."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tunekit.errors import ExperimentExistsError, JournalCorruptError, StorageError
from tunekit.journal.lock import DriverLock

HOLDER = """
import sys, time
from pathlib import Path
from tunekit.journal.lock import DriverLock

lock = DriverLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
if "fork" in sys.argv:
    import os, signal
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.close(1)
        time.sleep(600)
if "spawn" in sys.argv:
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def holder(folder: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that holds the lock, in a process group of its own, and end all of it."""
    command = [sys.executable, "-c", HOLDER, str(folder), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def first_line(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_each_driver_gets_the_next_generation(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "experiment"
    for generation in (1, 2, 3):
        lock = DriverLock(folder)
        assert lock.generation == 0
        with lock as held:
            assert held is lock
            assert held.generation == generation
    assert lock.acquire() == 4
    lock.release()
    lock.release()


def test_a_second_driver_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with DriverLock(tmp_path), pytest.raises(ExperimentExistsError) as caught:
        DriverLock(tmp_path).acquire()
    for shown in (str(tmp_path), f"process {os.getpid()}", socket.gethostname(), "since 20"):
        assert shown in caught.value.message
    assert caught.value.fields == {"path": str(tmp_path), "pid": os.getpid()}
    assert "its process is gone" in caught.value.hint
    assert DriverLock(tmp_path).acquire() == 2, "a refused driver counts for nothing"


def test_a_holder_that_has_not_signed_yet_still_holds(tmp_path: Path) -> None:
    with (tmp_path / "driver.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ExperimentExistsError, match="just started"):
            DriverLock(tmp_path).acquire()


@pytest.mark.parametrize("child", ["", "fork", "spawn"])
def test_a_killed_driver_is_no_obstacle_even_if_its_children_live(tmp_path: Path, child: str) -> None:
    with holder(tmp_path, child) as process:
        assert first_line(process) == 1
        if child:
            os.kill(first_line(process), 0)
        with pytest.raises(ExperimentExistsError, match=f"process {process.pid} on"):
            DriverLock(tmp_path).acquire()
        process.kill()
        process.wait()
        with DriverLock(tmp_path) as lock:
            assert lock.generation == 2


def test_a_crash_while_the_generation_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DriverLock(tmp_path):
        pass

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, broken)
        if name == "replace":
            monkeypatch.setattr(Path, "replace", broken)
        with pytest.raises(StorageError, match="could not be locked"):
            DriverLock(tmp_path).acquire()
        monkeypatch.undo()
    with DriverLock(tmp_path) as lock:
        assert lock.generation == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["driver.generation", "driver.lock"]


def test_a_damaged_generation_is_not_guessed(tmp_path: Path) -> None:
    with DriverLock(tmp_path):
        pass
    path = tmp_path / "driver.generation"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(JournalCorruptError) as caught:
            DriverLock(tmp_path).acquire()
        assert "Remove the file" in caught.value.hint
    path.unlink()
    with DriverLock(tmp_path) as lock:
        assert lock.generation == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_without_room_the_hint_is_to_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def write(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match="could not be locked") as caught:
        DriverLock(tmp_path).acquire()
    assert "free some space" in caught.value.hint


def test_a_folder_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be locked"):
        DriverLock(tmp_path / "file" / "experiment").acquire()
