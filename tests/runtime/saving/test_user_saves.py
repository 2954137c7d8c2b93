"""What user code does while it saves and loads: a full disk has many words, and a loader may damage what it reads."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from trainables import Counter

from tunekit.config import CheckpointConfig
from tunekit.runtime.saving.user_saves import UserError, written
from tunekit.session import report, restore
from tunekit.testing.recording import RecordedTrial, RecordingChannel


def fail(error: Exception) -> None:
    raise error


WORDS = [
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    OSError("100000 requested and 49984 written"),
    OSError(errno.ENOSPC, "No space left on device"),
]


@pytest.mark.parametrize("error", WORDS, ids=repr)
def test_a_disk_that_takes_no_more_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: fail(full))
    with pytest.raises(OSError, match="No space left") as caught:
        written(lambda folder: fail(error), tmp_path)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("error", WORDS[:2], ids=repr)
def test_a_disk_with_room_is_not(tmp_path: Path, error: Exception) -> None:
    with pytest.raises((UserError, RuntimeError)) as caught:
        written(lambda folder: fail(error), tmp_path)
    assert error in (caught.value, getattr(caught.value, "cause", None))
    assert not list(tmp_path.iterdir()), "what was tried is gone"


# -- loading -----------------------------------------------------------------------------------------------------------


class Locking(Counter):
    """Leaves a lock beside what it reads, as some loaders do."""

    def load_checkpoint(self, path: Any) -> None:
        super().load_checkpoint(path)
        Path(path, "count.lock").touch()


def locking(config: dict[str, Any]) -> None:
    saver = Locking({})
    restore(saver)
    while True:
        report(saver.step(), checkpoint=saver)


@pytest.mark.parametrize("trainable", [Locking, locking])
def test_loading_that_changes_the_checkpoint_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trainable: Any
) -> None:
    """The next restore would find out, when there may be nothing else to go on from."""
    made = RecordedTrial(
        tmp_path, trainable, stop={"training_iteration": 3}, checkpoint=CheckpointConfig(checkpoint_frequency=2)
    )
    made.run(RecordingChannel(stop_at=2))
    assert not caplog.records
    assert [row.metrics["count"] for row in made.resume().rows] == [3]
    (record,) = caplog.records
    assert "count.lock: it is not in the manifest" in record.getMessage()
    assert str(tmp_path / "trial_00000/checkpoint_000002") in record.getMessage()
