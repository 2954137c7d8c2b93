"""What an experiment is binds once a trial has started; a script that means another one is told how it differs."""

from __future__ import annotations

import errno
import json
import math
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tunekit.core.events import DriverStarted, Settings
from tunekit.errors import (
    ExperimentExistsError,
    JournalCorruptError,
    JournalVersionError,
    StorageError,
)
from tunekit.journal.durable import remove_drafts
from tunekit.journal.header import (
    ExperimentHeader,
    _checksum,
    create_header,
    differences,
    mismatch,
    read_header,
    replace_header,
)
from tunekit.journal.log import Journal, read_records

IDENTITY: dict[str, Any] = {
    "metric": "loss",
    "mode": "min",
    "seed": 7,
    "trainable": {"name": "demo.train", "kind": "function"},
    "scheduler": {"class": "ASHA", "max_t": 81, "bounds": (1, math.inf), "floor": math.nan},
}
SPACE: dict[str, Any] = {"lr": {"loguniform": [1e-4, 1e-1]}, "width": {"choice": [32, 64]}}
HEADER = ExperimentHeader(name="digits", identity=IDENTITY, space=SPACE, created=1.7e9)


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**base, **changes}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert read_header(folder) is None
    create_header(folder, HEADER)
    found = read_header(folder)
    assert found is not None
    assert repr(found) == repr(HEADER)  # repr: NaN is in it
    assert [path.name for path in folder.iterdir()] == ["experiment.json"]
    assert json.loads((folder / "experiment.json").read_text())["name"] == "digits"


def test_the_moment_of_creation_is_noted() -> None:
    assert ExperimentHeader(name="a", identity={}, space={}).created > 1.7e9


def test_a_header_is_never_overwritten(tmp_path: Path) -> None:
    create_header(tmp_path, HEADER)
    content = (tmp_path / "experiment.json").read_bytes()
    with pytest.raises(ExperimentExistsError, match="holds an experiment already"):
        create_header(tmp_path, ExperimentHeader(name="other", identity={}, space={}))
    assert (tmp_path / "experiment.json").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_failure_leaves_no_header_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(StorageError, match="No space left"):
        create_header(tmp_path, HEADER)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    create_header(tmp_path, HEADER)
    assert repr(read_header(tmp_path)) == repr(HEADER)
    with pytest.raises(ExperimentExistsError):
        create_header(tmp_path, ExperimentHeader(name="other", identity={}, space={}))
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]


OTHER = ExperimentHeader(name="digits", identity={"metric": "acc"}, space={}, created=1.8e9)


def test_a_header_is_replaced_with_the_journal_that_spoke_of_it(tmp_path: Path) -> None:
    create_header(tmp_path, HEADER)
    with closing(Journal.open(tmp_path / "journal", segment_bytes=1)) as journal:
        for generation in (1, 2, 3):
            journal.append([DriverStarted(generation=generation, settings=Settings())])
            journal.commit()
    replace_header(tmp_path, OTHER, journal=tmp_path / "journal")
    assert read_header(tmp_path) == OTHER
    assert list(read_records(tmp_path / "journal")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["experiment.json", "journal"]


@pytest.mark.parametrize("num_calls", range(4))
def test_a_crash_while_it_is_replaced_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_calls: int
) -> None:
    """At each of its steps: what is left of the journal is a beginning of it, or it is the new header."""
    create_header(tmp_path, HEADER)
    with closing(Journal.open(tmp_path / "journal", segment_bytes=1)) as journal:
        for generation in (1, 2, 3):
            journal.append([DriverStarted(generation=generation, settings=Settings())])
            journal.commit()
    left = num_calls
    for name in ("unlink", "replace"):
        original = getattr(Path, name)

        def step(path: Path, *arguments: Any, original: Any = original, **keywords: Any) -> Any:
            nonlocal left
            if left == 0:
                raise OSError(5, "crash")
            left -= 1
            return original(path, *arguments, **keywords)

        monkeypatch.setattr(Path, name, step)
    with pytest.raises(OSError, match="crash"):
        replace_header(tmp_path, OTHER, journal=tmp_path / "journal")
    monkeypatch.undo()
    assert repr(read_header(tmp_path)) == repr(HEADER)
    records = list(read_records(tmp_path / "journal"))
    assert [record.generation for record in records if isinstance(record, DriverStarted)] == [1, 2, 3][: 3 - num_calls]


def test_drafts_of_the_killed_are_removed(tmp_path: Path) -> None:
    create_header(tmp_path, HEADER)
    (tmp_path / ".experiment.json.123.draft").write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"not ours")
    remove_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "experiment.json"]


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    create_header(tmp_path, HEADER)
    path = tmp_path / "experiment.json"
    content = path.read_bytes()
    contents = [content[:size] for size in range(0, len(content) - 1, 7)]
    contents += [
        content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        for place in range(len(content))
        for bit in (0, 5)
        if content[place] not in b" \n"
    ]
    for damaged in contents:
        path.write_bytes(damaged)
        with pytest.raises(JournalCorruptError) as caught:
            read_header(tmp_path)
        assert str(path) in caught.value.message
        assert "copy" in caught.value.hint


def rewritten(folder: Path, **changes: Any) -> None:
    """Write a header as another version would."""
    path = folder / "experiment.json"
    fields = {**json.loads(path.read_text()), **changes}
    del fields["checksum"]
    path.write_text(json.dumps({"checksum": _checksum(fields), **fields}))


def test_a_newer_format_is_called_that_and_a_newer_field_is_ignored(tmp_path: Path) -> None:
    plain = ExperimentHeader(name="a", identity={"seed": 1}, space={}, created=1.0)
    create_header(tmp_path, plain)
    rewritten(tmp_path, mood="good")
    assert read_header(tmp_path) == plain
    rewritten(tmp_path, format=2, identity="changed")
    with pytest.raises(JournalVersionError, match="format 2"):
        read_header(tmp_path)


def test_the_same_script_passes_after_a_round_trip(tmp_path: Path) -> None:
    create_header(tmp_path, HEADER)
    found = read_header(tmp_path)
    assert found is not None
    again = changed(IDENTITY, scheduler=changed(IDENTITY["scheduler"], floor=float("nan")))
    assert [*differences("", found.identity, again), *differences("", found.space, SPACE)] == []


def test_a_difference_shows_no_secret_inside_of_what_it_shows() -> None:
    was = {"servers": [{"host": "a", "pin": 12}], "stripe_key": "sk_live_51H8z"}
    lines = list(differences("", was, {"servers": ({"password": "it's"},), "stripe_key": "image"}))
    assert lines == [
        "servers: [{'host': 'a', 'pin': '(hidden)'}] in the experiment, ({'password': '(hidden)'},) in the script",
        "stripe_key: not the same in the experiment as in the script (hidden)",
    ]


def test_every_difference_is_named_at_once() -> None:
    identity = changed(IDENTITY, metric="acc", scheduler={"class": "ASHA", "max_t": 27, "grace": 1}, seed=True)
    error = mismatch("digits", list(differences("", IDENTITY, identity)))
    assert error.fields["differences"] == [
        "metric: 'loss' in the experiment, 'acc' in the script",
        "seed: 7 in the experiment, True in the script",
        "scheduler/max_t: 81 in the experiment, 27 in the script",
        "scheduler/bounds: (1, inf) in the experiment, absent in the script",
        "scheduler/floor: nan in the experiment, absent in the script",
        "scheduler/grace: absent in the experiment, 1 in the script",
    ]
    for difference in error.fields["differences"]:
        assert difference in error.message
    assert "'digits'" in error.message
    assert "another name" in error.hint


def test_a_header_that_cannot_be_read_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").mkdir()
    with pytest.raises(StorageError, match="could not be read"):
        read_header(tmp_path)


@pytest.mark.parametrize("journal", ["../elsewhere", "/tmp/elsewhere", "..", "", ".staging", "a/b"])
def test_a_header_leads_nowhere_else(tmp_path: Path, journal: str) -> None:
    """A folder that somebody else made must not have files outside of it read, written or emptied."""
    create_header(tmp_path / "exp", msgspec.structs.replace(HEADER, journal=journal))
    with pytest.raises(JournalCorruptError, match="its journal is"):
        read_header(tmp_path / "exp")
