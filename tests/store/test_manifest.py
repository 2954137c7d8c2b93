"""The record of a checkpoint: what is sealed reads back, and any change of it is noticed."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunekit
from tunekit.core import codec
from tunekit.core.commands import PublishCheckpoint
from tunekit.errors import CheckpointCorruptError, CheckpointVersionError, SaveError
from tunekit.store import manifest as manifests
from tunekit.store.layout import CheckpointKey
from tunekit.store.manifest import FileEntry

KEY = CheckpointKey("train_00007", 5, 2)
FILES = [FileEntry("model", 3, "0" * 32), FileEntry("deep/opt", 5, "f" * 32)]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def sealed(**metadata: Any) -> dict[str, Any]:
    return manifests.seal(KEY, FILES, metadata)


def changed(**fields: Any) -> bytes:
    """Return a manifest whose fields were changed and whose digest was then made to fit."""
    document = {**sealed(), **fields}
    return manifests.encode({**document, "digest": manifests.digest(document)})


def test_what_is_sealed_reads_back() -> None:
    found = manifests.decode(manifests.encode(sealed(metrics={"loss": 0.25}, score=0.25, reason="periodic")), "here")
    assert found.key == KEY
    assert [entry.name for entry in found.files] == ["deep/opt", "model"]
    assert (found.metrics, found.score, found.reason) == ({"loss": 0.25}, 0.25, "periodic")


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_metrics_of_any_value_read_back_alike(metrics: dict[str, Any]) -> None:
    """NaN, infinities, keys that look like tags: nothing changes on the way to the disk and back."""
    found = manifests.decode(manifests.encode(sealed(metrics=metrics)), "here")
    assert alike(found.metrics, metrics)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_a_document_survives_the_wire_and_the_journal(metrics: dict[str, Any]) -> None:
    """What the driver publishes is what the worker sealed, so the digest still fits."""
    document = sealed(metrics=metrics)
    wired = msgspec.msgpack.decode(msgspec.msgpack.encode(document))
    command = PublishCheckpoint(trial=7, attempt=2, iteration=5, manifest=wired)
    journalled = codec.decode(codec.encode(command))
    assert isinstance(journalled, PublishCheckpoint)
    assert manifests.encode(journalled.manifest) == manifests.encode(document)
    manifests.check(journalled.manifest, "here")


def test_it_can_be_read_with_ordinary_tools() -> None:
    text = manifests.encode(sealed(metrics={"loss": float("nan")})).decode()
    assert json.loads(text)["metrics"] == {"loss": {"$float": "nan"}}
    assert text.count("\n") > 10


def test_unknown_fields_are_kept_and_count_for_the_digest() -> None:
    data = manifests.encode(sealed(later="field"))
    assert b'"later": "field"' in data
    manifests.decode(data, "here")
    with pytest.raises(CheckpointCorruptError, match="digest"):
        manifests.decode(data.replace(b'"later": "field"', b'"later": "other"'), "here")


def test_numpy_scalars_that_are_floats_become_plain() -> None:
    import numpy as np

    found = sealed(score=np.float64(0.5), metrics={"pair": (1, 2)})
    assert type(found["score"]) is float
    assert found["metrics"] == {"pair": [1, 2]}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", {1: 2}, [{"a": object()}]])
def test_what_json_cannot_say_is_refused_by_its_place(value: object) -> None:
    with pytest.raises(SaveError, match="metrics/x") as caught:
        sealed(metrics={"x": value})
    assert "convert it" in caught.value.hint


def test_too_many_files_are_refused() -> None:
    files = [FileEntry(str(number), 1, "0" * 32) for number in range(manifests.MAX_FILES + 1)]
    with pytest.raises(SaveError, match="at most 10000 files, got 10001"):
        manifests.seal(KEY, files, {})


def test_every_changed_byte_is_noticed() -> None:
    """S000-14: a damaged record is an error that says so, never a shorter list of files."""
    data = manifests.encode(sealed(metrics={"loss": 0.25}))
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= flip
            with pytest.raises((CheckpointCorruptError, CheckpointVersionError)):
                manifests.decode(bytes(damaged), "here")


def test_every_cut_is_noticed() -> None:
    data = manifests.encode(sealed())
    for length in range(len(data)):
        with pytest.raises(CheckpointCorruptError, match=r"the checkpoint here is damaged: MANIFEST\.json"):
            manifests.decode(data[:length], "here")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"digest": 5}',
     b" " * (manifests.MAX_BYTES + 1), b'{"$what": 1}', b'{"format": "1"}'],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_other_files_are_no_manifests(data: bytes) -> None:
    with pytest.raises(CheckpointCorruptError):
        manifests.decode(data, "here")


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode("utf-8", "replace")))
def test_reading_never_raises_anything_else(data: bytes) -> None:
    with pytest.raises((CheckpointCorruptError, CheckpointVersionError)):
        manifests.decode(data, "here")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", ".", "MANIFEST.json", "C:x"])
def test_a_list_of_files_that_leaves_the_folder_is_refused(name: str) -> None:
    """Even if its digest fits, because somebody wanted it to."""
    with pytest.raises(CheckpointCorruptError):
        manifests.decode(changed(files=[{"name": name, "size": 1, "xxh3_128": "0" * 32}]), "here")


@pytest.mark.parametrize(
    "fields",
    [{"trial_name": "../x"}, {"trial_name": 5}, {"iteration": -1}, {"iteration": 1.5}, {"attempt": "1"},
     {"data": "../d"}, {"data": "a/b"}, {"files": None}, {"files": {}}, {"score": "best"}, {"format": 0},
     {"files": [{"name": "a", "size": -1, "xxh3_128": "0" * 32}]},
     {"files": [{"name": "a", "size": 1, "xxh3_128": "0" * 31}]},
     {"files": [{"name": "a", "size": 1, "xxh3_128": "0" * 32}] * 2},
     {"files": [{"name": name, "size": 1, "xxh3_128": "0" * 32} for name in ("a/b", "a")]}],
    ids=repr,
)  # fmt: skip
def test_fields_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(CheckpointCorruptError):
        manifests.decode(changed(**fields), "here")


def test_a_newer_format_asks_for_a_newer_tunekit() -> None:
    """It is not damaged, so it must not be put aside."""
    with pytest.raises(CheckpointVersionError, match="format version 2, but this tunekit reads versions up to 1"):
        manifests.decode(changed(format=2), "here")


# -- manifests of every age --------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "data" / "manifests"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("1_*.json")), ids=lambda path: path.stem)
def test_manifests_of_earlier_versions_stay_readable(path: Path) -> None:
    """S003-5: what the format has gained since has a default, and writing it again changes no byte."""
    data = path.read_bytes()
    found = manifests.decode(data, "here")
    assert manifests.encode(manifests.parse(data, "here")) == data
    if not path.stem.startswith("1_lineage"):
        assert (found.exact, found.parent, found.donor) == (True, None, None)


def test_the_golden_manifests_hold_what_they_did() -> None:
    def decoded(name: str) -> manifests.Manifest:
        return manifests.decode((GOLDEN / f"{name}.json").read_bytes(), "here")

    full = decoded("1_full")
    assert full.key == ("train_00007", 50, 3, True)
    assert (full.score, full.time_total_s, full.reason, full.config_digest) == (
        0.25, 12.5, "frequency", "0123456789abcdef",
    )  # fmt: skip
    assert repr(full.metrics["loss"]) == "nan"
    assert full.metrics["deep"] == {"ü": None, "$float": "x"}
    assert [(entry.name, entry.size) for entry in full.files] == [("deep/opt.bin", 5), ("model.pt", 3)]
    assert decoded("1_object_store").data == "d-1"
    assert decoded("1_empty").files == []


def test_lineage_exactness_and_environment_read_back() -> None:
    environment = manifests.environment()
    document = sealed(parent=4, donor="train_00003/checkpoint_000004", exact=False, environment=environment)
    found = manifests.decode(manifests.encode(document), "here")
    assert (found.parent, found.donor, found.exact) == (4, "train_00003/checkpoint_000004", False)
    assert found.environment == environment


@pytest.mark.parametrize("fields", [{"exact": 1}, {"parent": -1}, {"parent": "4"}, {"donor": 3}, {"environment": []}])
def test_new_fields_are_checked_as_the_old_ones_are(fields: dict[str, Any]) -> None:
    with pytest.raises(CheckpointCorruptError):
        manifests.decode(changed(**fields), "here")


def test_the_environment_names_what_is_loaded_and_loads_nothing() -> None:
    code = (
        "import sys; from tunekit.store import manifest as m; bare = m.environment();"
        "assert not {'numpy', 'torch'} & set(sys.modules), 'it loaded something';"
        "assert not {'numpy', 'torch'} & set(bare), bare;"
        "import torch; full = m.environment(); assert full['torch'] == torch.__version__;"
        "torch.set_num_threads(1); assert m.environment()['threads'] == 1;"
        "assert full['device'] in {'cpu', 'cuda'}; print(bare['tunekit'], bare['python'], bare['device'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [tunekit.__version__, platform.python_version(), "cpu"]


def test_a_strange_torch_costs_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = types.ModuleType("torch")
    strange.__version__ = "0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", strange)
    assert manifests.environment()["torch"] == "0"


def test_the_environment_tells_nothing_about_the_machine_or_the_user() -> None:
    """S003-5: it moves with the checkpoint, to other people too."""
    text = json.dumps(manifests.environment())
    assert socket.gethostname() not in text.split('"')
    assert not [part for part in text.split('"') if part.startswith(("/", "~"))]
