"""Garbage goes after a grace; nothing that is visible, awaited or being worked with ever does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from experiments import Built, content
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ConfigError, ExperimentExistsError, JournalCorruptError
from tunekit.journal.lock import DriverLock
from tunekit.store import LocalStore, layout
from tunekit.store.contents import Kind, kind_of, take_apart
from tunekit.store.copying import plan
from tunekit.store.garbage import Why, garbage
from tunekit.store.shelf import Found
from tunekit.upkeep.clearing import clear
from tunekit.upkeep.report import NothingHereError
from tunekit.upkeep.verifying import verify

OLD = time.time() - 7200


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """An experiment with every kind of garbage, two hours old, and with what must stay."""
    root = tmp_path / "exp"
    made = Built(root)
    for step in (1, 2):
        made.save(0, step)
    made.stage(0, 3)
    (made.io.begin("walk_00001", 4, 1) / "x").write_bytes(b"1234")
    made.close()
    for name, data in {
        ".trash/walk_00000~checkpoint_000001/x": b"12",
        ".quarantine/walk_00000.1.0/x": b"123",
        "walk_00001/checkpoint_000007/model.bin": b"12345",
        ".experiment.json.17.draft": b"1",
        "notes.txt": b"keep",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    age(root)
    return root


def age(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        os.utime(path, (OLD, OLD))


GARBAGE = {
    ".trash/walk_00000~checkpoint_000001": (Why.TRASH, 2),
    ".staging/walk_00001.4.1": (Why.STAGED, 4),
    "walk_00001/checkpoint_000007": (Why.UNPUBLISHED, 5),
    ".experiment.json.17.draft": (Why.DRAFT, 1),
}


def test_a_dry_run_tells_and_changes_nothing(exp: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exp.rglob("*")}
    report = clear(exp, dry_run=True)
    assert {item.place: (item.why, item.num_bytes) for item in report.items} == GARBAGE
    assert (report.num_bytes, report.removed) == (12, False)
    assert {path: path.stat().st_mtime_ns for path in exp.rglob("*")} == before
    assert json.loads(json.dumps(report.as_json()))["num_bytes"] == 12


def test_garbage_goes_and_nothing_else(exp: Path) -> None:
    """What the journal waits for stays staged, and what is in quarantine is kept for a look."""
    before = content(exp)
    assert clear(exp).num_bytes == 12
    gone = before.keys() - content(exp).keys()
    assert gone == {
        ".trash/walk_00000~checkpoint_000001/x", "walk_00001/checkpoint_000007/model.bin", ".experiment.json.17.draft"
    }  # fmt: skip
    assert [path.name for path in (exp / ".staging").iterdir()] == ["walk_00000.3.1"]
    assert verify(exp).is_clean
    assert clear(exp).items == []
    assert [item.why for item in clear(exp, quarantine=True).items] == [Why.QUARANTINE]
    assert not (exp / ".quarantine").exists()


def test_what_was_changed_a_short_while_ago_stays(exp: Path) -> None:
    """Somebody who is cut off may still be writing."""
    (exp / ".staging/walk_00001.4.1/x").write_bytes(b"12345678")
    assert ".staging/walk_00001.4.1" not in {item.place for item in clear(exp).items}
    assert [item.num_bytes for item in clear(exp, older_than_s=0).items] == [8]


def test_a_running_experiment_is_not_touched(exp: Path) -> None:
    with DriverLock(exp):
        for dry_run in (True, False):
            with pytest.raises(ExperimentExistsError, match=r"running.*\n\nhint: wait until it ends"):
                clear(exp, dry_run=dry_run)
    assert (exp / ".trash/walk_00000~checkpoint_000001/x").exists()


def test_only_an_experiment_can_be_cleared_up(exp: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a trial"):
        clear(exp / "walk_00000")
    with pytest.raises(ConfigError, match="is a checkpoint"):
        clear(exp / "walk_00000/checkpoint_000001")
    with pytest.raises(NothingHereError):
        clear(tmp_path)


def test_without_its_journal_nobody_knows_what_is_garbage(exp: Path) -> None:
    segment = exp / "journal/000000000001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"iteration":2', b'"iteration":3', 1))
    before = content(exp)
    with pytest.raises(JournalCorruptError):
        clear(exp)
    assert content(exp) == before


def test_uploads_that_nobody_finished_are_dropped(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def abort_uploads(store: LocalStore, older_than_s: float) -> list[str]:
        asked.append(older_than_s)
        return ["walk_00001/checkpoint_000009/d-1/model.bin"]

    monkeypatch.setattr(LocalStore, "abort_uploads", abort_uploads)
    assert (clear(exp, dry_run=True).uploads, asked) == ([], [])
    assert clear(exp, older_than_s=5).uploads == ["walk_00001/checkpoint_000009/d-1/model.bin"]
    assert asked == [5]


# -- pure parts --------------------------------------------------------------------------------------------------------

_part = st.sampled_from(
    ["walk_00000", "checkpoint_000001", "failure_000002_1", "d-1", "d-2", "x", "MANIFEST.json", ".staging", ".trash",
     ".quarantine", "walk_00000.1.1", "journal", "experiment.json", "driver.lock", ".x.draft", "000000000001.jsonl"]
)  # fmt: skip
_names = st.lists(_part, min_size=1, max_size=4).map("/".join)
_found = st.builds(Found, st.integers(0, 9), st.floats(0, 100))


def without_files_that_are_folders(listing: dict[str, Found]) -> dict[str, Found]:
    return {name: found for name, found in listing.items() if not any(key.startswith(f"{name}/") for key in listing)}


_listings = st.dictionaries(_names, _found, max_size=12).map(without_files_that_are_folders)


@given(_listings, st.sampled_from(list(Kind)))
def test_every_file_has_one_place(listing: dict[str, Found], kind: Kind) -> None:
    parts = take_apart(listing, kind)
    nested = {**parts.checkpoints, **parts.aside}
    names = [f"{folder}/{name}".strip("/") for folder, inside in nested.items() for name in inside]
    names += [*parts.journal, *parts.others, *parts.bound]
    assert sorted(names) == sorted(listing)
    assert set(parts.visible) <= parts.checkpoints.keys()
    assert kind_of(listing) in {None, *Kind}


@given(_listings, st.booleans(), st.floats(0, 100), st.sets(_names, max_size=3))
def test_nothing_that_is_visible_awaited_or_young_is_garbage(
    listing: dict[str, Found],
    quarantine: bool,  # noqa: FBT001 - a parameter
    grace_s: float,
    waiting: set[str],
) -> None:
    parts = take_apart(listing, Kind.EXPERIMENT)
    own = {folder: {name for name in inside if not name.startswith("d-2/")} for folder, inside in parts.visible.items()}
    found = garbage(parts, own=own, waiting=waiting, now=100.0, grace_s=grace_s, quarantine=quarantine)
    gone = {name for item in found for name in listing if f"{name}/".startswith(f"{item.place}/")}
    visible = {f"{folder}/{name}" for folder, names in own.items() for name in names}
    assert not gone & visible
    assert not gone & {*parts.journal, *parts.others}
    assert not {item.place for item in found} & waiting
    assert all(100.0 - listing[name].modified >= grace_s for name in gone)
    assert quarantine or not [name for name in gone if name.startswith(layout.QUARANTINE)]
    assert sum(item.num_bytes for item in found) == sum(listing[name].size for name in gone)


_shown = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([b"1", b"2"]))


@given(_shown, _shown)
def test_a_plan_makes_the_target_the_source(source: dict[str, bytes], target: dict[str, bytes]) -> None:
    todo = plan(source, target)
    after = {**target, **{folder: source[folder] for folder in todo.copy}}
    for folder in todo.remove:
        del after[folder]
    assert after == source
    assert plan(source, after) == ([], sorted(source), [])
    assert all(target[folder] == source[folder] for folder in todo.keep)
    assert not {*todo.copy} & {*todo.remove}
