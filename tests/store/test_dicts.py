"""A dict as files: everything comes back as it was, the files hold nothing that runs, and damage is told."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import CheckpointCorruptError, CheckpointVersionError, SaveError
from tunekit.store import dicts
from tunekit.store.ops import Ops


def round_trip(data: dict[Any, Any], folder: Path, **options: Any) -> dict[Any, Any]:
    dicts.capture(data, "it", **options).write(folder, Ops())
    return dicts.read(folder, use_pickle=True)


def same(left: Any, right: Any) -> bool:
    """Return whether two values are alike to the bit, types included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        alike = (left.dtype, left.shape, left.stride()) == (right.dtype, right.shape, right.stride())
        return alike and left.requires_grad == right.requires_grad and _bits(left) == _bits(right)
    if isinstance(left, np.ndarray | np.generic):
        return (left.dtype, left.shape, left.strides) == (right.dtype, right.shape, right.strides) and (
            left.tobytes() == right.tobytes()
        )
    if isinstance(left, dict):
        alike = len(left) == len(right) and vars_of(left) == vars_of(right)
        pairs = zip(left.items(), right.items(), strict=False)
        return alike and all(same(a, b) and same(x, y) for (a, x), (b, y) in pairs)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) or repr(left) == repr(right) == "nan"


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def vars_of(value: Any) -> Any:
    return getattr(value, "__dict__", None)


PLAIN: dict[str, Any] = {
    "none": None,
    "bools": [True, False],
    "huge": [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 7**5000],
    "floats": [0.1, -0.0, 5e-324, math.inf, -math.inf, math.nan],
    "long": [float(number) for number in range(100)],
    "long with nan": [*map(float, range(100)), math.nan],
    "long with huge": [*range(100), 2**70],
    "text": ["", "ü", "\ud800", "\x00"],
    "bytes": [b"", b"\x00\xff" * 10, b"x" * 5000, bytearray(b"y" * 5000), bytearray()],
    "tuples": (1, (2, [3, ()])),
    "keys": {1: "a", None: 2, (1, "x"): 3, "$float": 4, "$": 5, 2.5: 6, b"k": 7, "ü": 9, np.int64(77): 10},
    "one key": {"$tuple": [1]},
    "ordered": OrderedDict([("b", 1), ("a", OrderedDict([(1, 2)]))]),
    "random": random.Random(3).getstate(),
    "numpy scalars": [np.float32(0.1), np.float64("nan"), np.int8(-3), np.bool_(1), np.complex128(1j), np.str_("é")],
    "moments": [np.datetime64("2020-02-03"), np.timedelta64(3, "ms")],
}


@pytest.mark.parametrize("key", PLAIN)
def test_plain_values_come_back_exactly(key: str, tmp_path: Path) -> None:
    back = round_trip({key: PLAIN[key]}, tmp_path, dumps=None)
    assert same(back, {key: PLAIN[key]})


ARRAYS: dict[str, Any] = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    "empty": np.empty((0, 3), np.int16),
    "zero dims": np.array(3.5),
    "bool": np.array([True, False]),
    "complex": np.array([1j, 2]),
    "text": np.array(["a", "bcd"]),
    "big endian": np.arange(3, dtype=">f4"),
    "moments": np.array(["2020-02-03", "NaT"], "M8[ns]"),
    "long double": np.arange(3, dtype=np.longdouble),
    "structured": np.zeros(2, np.dtype([("a", "<i4"), ("b", "<f8", (2,)), ("c", [("d", "S3")])])),
    "pcg": np.random.default_rng(3).bit_generator.state,
    "legacy": np.random.RandomState(3).get_state(),
}


@pytest.mark.parametrize("key", ARRAYS)
def test_arrays_come_back_exactly(key: str, tmp_path: Path) -> None:
    back = round_trip({key: ARRAYS[key]}, tmp_path, dumps=None)
    assert same(back, {key: ARRAYS[key]})


def test_an_array_with_gaps_comes_back_without_them(tmp_path: Path) -> None:
    data = {
        "gaps": np.arange(10)[::2],
        "reversed": np.arange(10)[::-1],
        "spread": np.broadcast_to(np.arange(3), (2, 3)),
    }
    back = round_trip(data, tmp_path, dumps=None)
    assert all((back[key] == data[key]).all() and back[key].flags.c_contiguous for key in data)


TENSORS: dict[str, torch.Tensor] = {
    "float32": torch.randn(2, 3),
    "bfloat16": torch.randn(5).bfloat16(),
    "float8": torch.randn(4).to(torch.float8_e4m3fn),
    "complex": torch.randn(3, dtype=torch.complex128),
    "complex64": torch.randn(3, dtype=torch.complex64),
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "bool": torch.tensor([True, False]),
    "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    "zero dims": torch.tensor(3),
    "empty": torch.empty(0, 4),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.randn(3, 4).t(),
    "learning": torch.randn(3, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.randn(3)),
    "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
    "rng": torch.get_rng_state(),
}


@pytest.mark.parametrize("key", TENSORS)
@pytest.mark.parametrize("frozen", [False, True])
def test_tensors_come_back_exactly(key: str, frozen: bool, tmp_path: Path) -> None:  # noqa: FBT001
    snapshot = dicts.capture({"a": torch.ones(3, dtype=torch.int8), key: TENSORS[key]}, "it", dumps=None)
    if frozen:
        snapshot.freeze(np.empty(snapshot.num_bytes + 7, np.uint8))
    snapshot.write(tmp_path, Ops())
    back = dicts.read(tmp_path, use_pickle=False)
    assert same(back[key], TENSORS[key].resolve_conj() if key == "conjugate" else TENSORS[key])


def test_tensors_with_gaps_come_back_equal(tmp_path: Path) -> None:
    data = {"gaps": torch.arange(10)[::2], "spread": torch.arange(3).expand(2, 3), "window": torch.arange(9.0)[2:5]}
    back = round_trip(data, tmp_path, dumps=None)
    assert all(torch.equal(back[key], data[key]) for key in data)


def test_memory_that_is_shared_is_stored_once(tmp_path: Path) -> None:
    """Tied weights, as in a state dict, whose entries are new objects each time."""
    tied = torch.nn.Linear(100, 100)
    model = torch.nn.ModuleDict({"one": tied, "two": tied})
    array = np.zeros(1000)
    snapshot = dicts.capture({"model": model.state_dict(), "x": array, "y": [array, tied.weight[:50]]}, "it")
    assert snapshot.num_bytes == 4 * (10_000 + 100 + 5_000) + 8_000
    snapshot.write(tmp_path, Ops())
    back = dicts.read(tmp_path, use_pickle=False)
    assert back["x"] is back["y"][0]
    assert torch.equal(back["y"][1], tied.weight[:50])
    assert back["model"]["one.weight"] is back["model"]["two.weight"]
    model.load_state_dict(back["model"])


def test_state_of_training_comes_back_exactly(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=True)
    model(torch.randn(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 10)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    back = round_trip(state, tmp_path)
    assert same(back, state)
    assert back["model"]._metadata == model.state_dict()._metadata  # type: ignore[attr-defined]


def test_what_only_pickle_knows_is_in_a_file_of_that_name(tmp_path: Path) -> None:
    data = {"set": {1, 2}, "counter": Counter("abc"), "lists": defaultdict(list, a=[1]), "w": np.zeros(3), "z": 1j}
    assert same(round_trip(data, tmp_path), data)
    assert (tmp_path / dicts.PICKLE).exists()
    with pytest.raises(SaveError, match="can run any code"):
        dicts.read(tmp_path, use_pickle=False)


def test_keys_that_are_no_text_nor_numbers_are_left_to_pickle(tmp_path: Path) -> None:
    data = {"choices": {frozenset({1}): 2}}
    assert round_trip(data, tmp_path) == data


def test_what_holds_itself_is_left_to_pickle(tmp_path: Path) -> None:
    data: dict[str, Any] = {"w": np.zeros(3)}
    data["self"] = data
    back = round_trip(data, tmp_path)
    assert back["self"] is back
    with pytest.raises(SaveError, match="holds itself"):
        dicts.capture(data, "it", dumps=None)


@pytest.mark.parametrize("path", ["lock", "a/0/lock"])
def test_the_error_names_the_key(path: str) -> None:
    """S003-7: an unpicklable leaf."""
    inner = {"lock": threading.Lock()}
    data = inner if path == "lock" else {"ok": {1, 2}, "a": [inner]}
    with pytest.raises(SaveError, match=f"it: {path}: it cannot be pickled: cannot pickle '_thread.lock'") as caught:
        dicts.capture(data, "it")
    assert caught.value.fields["key"] == path


def test_any_reader_of_safetensors_reads_the_tensors(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    round_trip({"model": model.state_dict(), "flags": torch.tensor([True]), "half": torch.ones(3).half()}, tmp_path)
    found = safetensors.torch.load_file(tmp_path / dicts.TENSORS)
    assert set(found) == {"model/weight", "model/bias", "flags", "half"}
    assert torch.equal(found["model/weight"], model.weight)


def test_names_stay_apart(tmp_path: Path) -> None:
    data = {"a/b": np.zeros(1), "a": {"b": np.ones(1)}, "__metadata__": np.ones(2), "\ud800": np.ones(3)}
    assert same(round_trip(data, tmp_path), data)


def test_the_digests_are_those_of_the_files(tmp_path: Path) -> None:
    entries = dicts.capture({"w": np.arange(1 << 19), "s": {1}}, "it").write(tmp_path, Ops())
    assert [entry.name for entry in entries] == [dicts.DATA, dicts.TENSORS, dicts.PICKLE]
    for entry in entries:
        content = (tmp_path / entry.name).read_bytes()
        assert (entry.size, entry.xxh3_128) == (len(content), xxhash.xxh3_128_hexdigest(content))


def test_a_frozen_snapshot_does_not_see_what_happens_next(tmp_path: Path) -> None:
    weight, array, numbers, text = torch.zeros(1000), np.zeros(1000), [1, 2], bytearray(b"old" * 1000)
    data = {"w": weight, "a": array, "n": numbers, "t": text, "view": weight[::3]}
    snapshot = dicts.capture(data, "it")
    snapshot.freeze(np.empty(snapshot.num_bytes, np.uint8))
    weight += 1
    array += 1
    numbers.append(3)
    text[:] = b"new"
    data.clear()
    snapshot.write(tmp_path, Ops())
    back = dicts.read(tmp_path, use_pickle=False)
    assert not back["w"].any()
    assert not back["view"].any()
    assert not back["a"].any()
    assert (back["n"], back["t"]) == ([1, 2], b"old" * 1000)


def test_arrays_can_be_written_to_when_they_are_read(tmp_path: Path) -> None:
    back = round_trip({"w": torch.zeros(3), "a": np.zeros(3)}, tmp_path)
    back["w"].add_(1)
    back["a"] += 1
    assert (back["w"].tolist(), back["a"].tolist()) == ([1, 1, 1], [1, 1, 1])
    again = dicts.read(tmp_path, use_pickle=False)
    assert (again["w"].tolist(), again["a"].tolist()) == ([0, 0, 0], [0, 0, 0]), "the files were written to"


def test_large_states_are_read_by_several_threads(tmp_path: Path) -> None:
    data = {f"w{index}": torch.randn(1_300_000) for index in range(5)}
    data["a"] = torch.randn(3)
    assert same(round_trip(data, tmp_path), data)
    content = (tmp_path / dicts.TENSORS).read_bytes()
    (tmp_path / dicts.TENSORS).write_bytes(content[:-1])
    with pytest.raises(CheckpointCorruptError):
        dicts.read(tmp_path, use_pickle=False)


def test_torch_is_loaded_only_for_tensors(tmp_path: Path) -> None:
    round_trip({"a": np.arange(3)}, tmp_path)
    code = (
        "import sys; from pathlib import Path; from tunekit.store import dicts; "
        f"print(dicts.read(Path({str(tmp_path)!r}), use_pickle=False)['a'].sum(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"tree": {}}',
        b'{"format": 1, "tree": [1]}',
        b'{"format": 1, "tree": {"a": {"$new": 1}}}',
        b'{"format": 1, "tree": {"a": {"$tensor": {"name": "none"}}}}',
        b'{"format": 1, "tree": {"a": {"$tensor": {"name": "w", "dtype": "nn"}}}}',
        b'{"format": 1, "tree": {"a": {"$tensor": {"name": "w", "shape": [9]}}}}',
        b'{"format": 1, "tree": {"a": {"$array": {"name": "w", "shape": [-1]}}}}',
        b'{"format": 1, "tree": {"a": {"$array": {"name": "w", "order": [5]}}}}',
        b'{"format": 1, "tree": {"a": {"$array": {"name": "w", "dtype": "|O", "shape": [1]}}}}',
        b'{"format": 1, "tree": {"a": {"$scalar": ["|O", "00"]}}}',
    ],
)
def test_a_damaged_document_is_an_error(content: bytes, tmp_path: Path) -> None:
    round_trip({"w": torch.zeros(2)}, tmp_path)
    (tmp_path / dicts.DATA).write_bytes(content)
    with pytest.raises(CheckpointCorruptError):
        dicts.read(tmp_path, use_pickle=False)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_a_damaged_file_of_tensors_is_an_error_or_other_numbers(noise: bytes, start: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = bytearray(_content(folder))
        content[start : start + len(noise)] = noise
        (folder / dicts.TENSORS).write_bytes(content)
        try:
            back = dicts.read(folder, use_pickle=False)
        except CheckpointCorruptError:
            return
        assert back["w"].shape == (2,)


def _content(folder: Path) -> bytes:
    round_trip({"w": torch.zeros(2)}, folder)
    return (folder / dicts.TENSORS).read_bytes()


@pytest.mark.parametrize("length", [0, 4, 8, 40])
def test_a_file_that_was_cut_off_is_an_error(length: int, tmp_path: Path) -> None:
    content = _content(tmp_path)
    (tmp_path / dicts.TENSORS).write_bytes(content[:length])
    with pytest.raises(CheckpointCorruptError):
        dicts.read(tmp_path, use_pickle=False)


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / dicts.DATA).write_bytes(b'{"format": 2}')
    with pytest.raises(CheckpointVersionError, match="format version 2"):
        dicts.read(tmp_path, use_pickle=False)


def test_many_small_tensors_of_many_types_are_frozen_exactly(tmp_path: Path) -> None:
    """They are copied together; what lies between them, and fields of odd sizes before them, moves none of them."""
    odd = np.zeros(3, dtype=[("a", "i1"), ("b", "<f8"), ("c", "<i4")])
    chance = torch.Generator().manual_seed(1)
    data: dict[str, Any] = {"odd": odd, "bytes": b"x" * 5001}
    for number, dtype in enumerate([*_TORCH_TYPES, torch.complex64, torch.complex128]):
        for size in (0, 1, 3, 64):
            values = torch.randint(0, 2, (size,), generator=chance).to(dtype)
            data[f"{number}.{size}"] = values
            data[f"{number}.{size}.big"] = torch.randint(0, 2, (size * 300, 2), generator=chance).to(dtype).t()
    frozen = dicts.capture(data, "it", dumps=None)
    frozen.freeze(np.empty(frozen.num_bytes, np.uint8))
    plain = dicts.capture(data, "it", dumps=None)
    for name, snapshot in (("frozen", frozen), ("plain", plain)):
        (tmp_path / name).mkdir()
        snapshot.write(tmp_path / name, Ops())
        back = dicts.read(tmp_path / name, use_pickle=False)
        for key, value in data.items():
            assert same(back[key], value) or (isinstance(value, torch.Tensor) and not value.numel()), key


_TORCH_TYPES = [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16, torch.float32, torch.float64]
