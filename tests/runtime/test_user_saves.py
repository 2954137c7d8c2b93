"""A disk that takes no more is recognised in whatever words a library says it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tunekit.runtime.user_saves import UserError, written


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
