"""Files that somebody made to cost more than they are: nested or searched without end, or claiming sizes nobody has."""

from __future__ import annotations

import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import tunekit as tk
from tunekit.core.codec import decode
from tunekit.core.events import DriverStarted, Rule
from tunekit.errors import JournalCorruptError, TunekitError
from tunekit.journal.framing import seal
from tunekit.journal.header import parse_header
from tunekit.journal.holder import parse_holder
from tunekit.journal.log import Journal, read_records
from tunekit.journal.segments import segment_path
from tunekit.store import dicts
from tunekit.store import manifest as manifests

DEEP = b"[" * 100_000 + b"]" * 100_000
READERS: dict[str, Callable[[bytes], object]] = {
    "manifest": lambda data: manifests.decode(data, "here"),
    "header": lambda data: parse_header("here", data),
    "record": decode,
}


@pytest.mark.parametrize("around", [b"%s", b'{"format":1,"metrics":%s}', b'{"kind":"timer_fired","at":%s}'])
@pytest.mark.parametrize("name", READERS)
def test_json_without_end_is_damage(name: str, around: bytes) -> None:
    with pytest.raises(TunekitError):
        READERS[name](around % DEEP)


def test_a_holder_without_end_is_nobody() -> None:
    assert parse_holder(b'{"pid":%s}' % DEEP) is None


@pytest.mark.parametrize("payload", [DEEP, b'{"format":%s}' % DEEP])
def test_a_journal_without_end_is_damage_though_its_checksum_fits(tmp_path: Path, payload: bytes) -> None:
    segment_path(tmp_path, 1).write_bytes(seal([payload], 0)[0])
    with pytest.raises(JournalCorruptError):
        Journal.open(tmp_path)


def out_of_luck(config: dict[str, Any]) -> None:
    raise RuntimeError("a short text, so that nothing takes long if the pattern is searched for after all")


@pytest.mark.parametrize(
    "pattern", ["(a+)+$z", "(", "(?=" * 490 + ")" * 490, "a" * 100_000 + "b", "(?i)" + "[\0-\U0010ffff]" * 5000]
)
def test_a_planted_pattern_that_could_be_searched_for_for_ever_is_damage(tmp_path: Path, pattern: str) -> None:
    run = tk.RunConfig(name="e", storage_path=str(tmp_path), verbose=0)
    assert tk.inline(tk.Tuner(out_of_luck, run_config=run)).num_errors == 1
    records = list(read_records(tmp_path / "e" / "journal"))
    shutil.rmtree(tmp_path / "e" / "journal")
    first = records[0]
    assert isinstance(first, DriverStarted)
    settings = msgspec.structs.replace(first.settings, rules=[Rule("fine", "retry", 3), Rule(pattern, "retry", 3)])
    journal = Journal.open(tmp_path / "e" / "journal")
    journal.append([msgspec.structs.replace(first, settings=settings), *records[1:]])
    journal.close()
    with pytest.raises(JournalCorruptError, match="hint: If you trust") as caught:
        tk.Tuner.restore(tmp_path / "e", out_of_luck).get_results()
    assert len(str(caught.value)) < 1000


def bloated(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the header of the file of arrays."""
    path = folder / dicts.TENSORS
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def claim_numbers(header: dict[str, Any]) -> None:
    for entry in header.values():
        if "shape" in entry:
            entry["shape"] = [1 << 40]


def claim_bytes(header: dict[str, Any]) -> None:
    for entry in header.values():
        if "shape" in entry:
            entry.update(shape=[1 << 37], data_offsets=[0, 1 << 40])


def nest(header: dict[str, Any]) -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    header["more"] = deep


@pytest.mark.parametrize("change", [claim_numbers, claim_bytes, nest])
@pytest.mark.parametrize("value", [np.arange(8.0), torch.arange(8.0)], ids=["array", "tensor"])
def test_a_file_that_claims_terabytes_is_damage(value: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """And nothing of that size is asked for before it is found out."""
    checkpoint = tk.Checkpoint.from_dict({"weights": value})
    with checkpoint.as_directory() as folder:
        bloated(Path(folder), change)
        tracemalloc.start()
        try:
            with pytest.raises(TunekitError):
                dicts.read(Path(folder), use_pickle=False)
            assert tracemalloc.get_traced_memory()[1] < 1 << 24
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("length", [0, 1 << 20, 1 << 62, (1 << 64) - 1])
def test_a_header_that_claims_to_be_longer_than_its_file_is_damage(length: int) -> None:
    checkpoint = tk.Checkpoint.from_dict({"weights": np.arange(8.0)})
    with checkpoint.as_directory() as folder:
        path = Path(folder, dicts.TENSORS)
        path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
        with pytest.raises(TunekitError):
            dicts.read(Path(folder), use_pickle=False)
