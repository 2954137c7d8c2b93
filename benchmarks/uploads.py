"""What a checkpoint's way into a bucket costs, beside plain clients on the same server, in one run.

The server is SeaweedFS on loopback, which the tests use as well, so client, server and disk share one machine. What is
compared is the upload alone: tunekit's ``persist``, as a worker calls it, with all its retries and bookkeeping; and
obstore, once as it comes and once with as many files and parts at a time as tunekit sends. They take turns.

    python benchmarks/uploads.py [--quick] [--mb 64] [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from s3_server import BUCKET, S3Server  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

from tunekit.store import layout, open_store  # noqa: E402

NUM_FILES = 64
AT_ONCE = 8
Upload = Callable[[Path, str], None]


def make_files(folder: Path, mb: float, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        (folder / f"layer_{index:02d}").write_bytes(os.urandom(int(mb * 1e6 / count)))
    return folder


def by_tunekit(uri: str) -> Upload:
    """Return what a worker does with a folder that is ready."""
    store = open_store(uri)

    def upload(folder: Path, name: str) -> None:
        staging = layout.staging_name(name, 1, 1)
        scratch = store.scratch(staging)
        files = sorted(path.name for path in folder.iterdir())
        for file in files:
            (scratch / file).hardlink_to(folder / file)
        store.persist(staging, files)

    return upload


def one_by_one(client: obstore.store.S3Store) -> Upload:
    """Return the loop that one would write."""

    def upload(folder: Path, name: str) -> None:
        for path in sorted(folder.iterdir()):
            obstore.put(client, f"plain/{name}/{path.name}", path)

    return upload


def several_at_once(client: obstore.store.S3Store) -> Upload:
    """Return the loop of somebody in a hurry."""

    def put(name: str, path: Path) -> None:
        obstore.put(client, f"plain/{name}/{path.name}", path, chunk_size=16 << 20, max_concurrency=AT_ONCE)

    def upload(folder: Path, name: str) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda path: put(name, path), sorted(folder.iterdir())))

    return upload


def rates(ways: dict[str, Upload], folder: Path, mb: float, repeats: int) -> dict[str, float]:
    """Return the median MB/s of each way. The first turn warms everything up and does not count."""
    took: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, upload in ways.items():
            began = time.perf_counter()
            upload(folder, f"{folder.name}_{way.split(',')[0].replace(' ', '_')}_{turn:05d}")
            took[way].append(time.perf_counter() - began)
    return {way: mb / statistics.median(times[1:]) for way, times in took.items()}


def table(mb: float, found: dict[str, dict[str, float]]) -> list[str]:
    columns = list(found)
    rows = [
        f"| {mb:g} MB to a server on this machine, MB/s | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    ways = list(next(iter(found.values())))
    rows += [f"| {way} | {' | '.join(f'{found[column][way]:.0f}' for column in columns)} |" for way in ways]
    ours, *plain = ways
    share = [f"{found[column][ours] / max(found[column][way] for way in plain):.2f} x" for column in columns]
    return [*rows, f"| tunekit / the best of the others | {' | '.join(share)} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--mb", type=float, default=64.0, help="size of a checkpoint; the server has room for 6 GB")
    parser.add_argument("--repeats", type=int, default=5, help="uploads of each kind")
    options = parser.parse_args()
    mb, repeats = (16.0, 1) if options.quick else (options.mb, options.repeats)
    server = S3Server()
    try:
        os.environ.update(server.environment)
        client = server.client()
        ways = {
            "tunekit": by_tunekit(f"s3://{BUCKET}/ours"),
            "obstore, one file after the other": one_by_one(client),
            f"obstore, {AT_ONCE} files and parts at a time": several_at_once(client),
        }
        with tempfile.TemporaryDirectory() as folder:
            found = {}
            for count in (1, NUM_FILES):
                files = make_files(Path(folder, str(count)), mb, count)
                found[f"{count} file{'s' * (count > 1)}"] = rates(ways, files, mb, repeats)
        print("\n".join(table(mb, found)))
    finally:
        server.close()


if __name__ == "__main__":
    main()
