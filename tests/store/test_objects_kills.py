"""SIGKILL at random moments of saving to a real S3 server."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from tunekit.store import CheckpointIO, open_store

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

TRIAL = "train_00007"
SAVER = f"""
import itertools, os, sys
from tunekit.store import CheckpointIO, open_store

io, first = CheckpointIO(open_store(sys.argv[1], create=False)), int(sys.argv[2])
io.visible("{TRIAL}")
print("ready", flush=True)
for iteration in itertools.count(first):
    folder = io.begin("{TRIAL}", iteration, 1)
    for name, size in [("small", 100), ("middle", 300_000), ("large", 9_000_000 if iteration % 3 == 0 else 0)]:
        (folder / name).write_bytes(os.urandom(size))
    manifest = io.seal("{TRIAL}", iteration, 1, metadata={{}})
    io.publish("{TRIAL}", iteration, 1, manifest)
    print("published", iteration, flush=True)
    if iteration > first + 1:
        io.delete("{TRIAL}", iteration - 2, 1)
        print("deleted", iteration - 2, flush=True)
"""


def test_kills_leave_nothing_damaged_and_lose_the_save_in_flight(s3_uri: str, kills: int) -> None:
    """At most the save in flight is lost; what is visible is whole; what is left over is swept. S003-12."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, first, saved = random.Random(seed), 1, 0
    io = CheckpointIO(open_store(s3_uri))
    for _ in range(kills):
        acknowledged, deleted = killed(s3_uri, first, chance.randrange(8), chance.uniform(0.0, 0.06))
        settle(io)
        visible = {iteration for iteration, _ in io.visible(TRIAL)}
        assert acknowledged - deleted - {max(acknowledged, default=0) - 2} <= visible
        assert max(visible, default=0) <= max(acknowledged, default=first - 1) + 1
        for iteration in visible:
            io.verify(TRIAL, iteration)
        io.sweep()
        assert {iteration for iteration, _ in io.visible(TRIAL)} == visible
        assert io.sweep() == []
        first = max({first, *visible}) + 1
        saved += len(acknowledged)
        for iteration in visible:
            io.delete(TRIAL, iteration, 1)
    assert saved
    assert io.store.sizes("") == {}


def settle(io: CheckpointIO) -> None:
    """Wait until the server has done what the dead had asked for: a request that was sent outlives its sender."""
    before: dict[str, int] = {}
    while (now := io.store.sizes("") | io.store.sizes(".staging")) != before:
        before = now
        time.sleep(0.1)


def killed(uri: str, first: int, num_lines: int, after_s: float) -> tuple[set[int], set[int]]:
    """Let a process save until it is killed after some lines and seconds; return what it published and deleted."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, uri, str(first)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        text = [process.stdout.readline() for _ in range(num_lines)]
        time.sleep(after_s)
        process.kill()
        lines = [line.split() for line in [*text, *process.stdout]]
    assert process.returncode == -signal.SIGKILL, "it died of something else"
    said = [{int(line[1]) for line in lines if line[0] == word} for word in ("published", "deleted")]
    return said[0], said[1]
