"""The documentation is executed: every snippet runs, and every block of Python is a snippet or says why it is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "doc_code").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_REGION = re.compile(r"^(?P<indent> *)# region: (?P<name>\S+)\n(?P<body>.*?)^ *# endregion$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?P<above>[^\n]*)\n+```(?:python|py|pycon)\b[^\n]*\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
_INCLUDED = re.compile(r"<!-- (?P<path>doc_code/\S+): (?P<name>\S+) -->")
_NOT_RUN = re.compile(r"<!-- not run: .{10,} -->")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


class Block(NamedTuple):
    page: Path
    line: int
    above: str
    body: str


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def regions(script: Path) -> dict[str, str]:
    """Return the marked parts of a script, less their indentation."""
    found = {}
    for region in _REGION.finditer(script.read_text()):
        lines = region["body"].splitlines(keepends=True)
        body = "".join(line.removeprefix(region["indent"]) for line in lines)
        found[region["name"]] = body.strip("\n") + "\n"
    return found


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of Python on a page, each with the line above it."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        yield Block(page, text.count("\n", 0, block.start()) + 1, block["above"], block["body"])


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


def block_id(block: Block) -> str:
    return f"{relative(block.page)}:{block.line}"


@pytest.mark.parametrize("script", SCRIPTS, ids=relative)
def test_every_snippet_runs(script: Path, tmp_path: Path) -> None:
    """As a user runs it: a process of its own, in an empty folder."""
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=block_id)
def test_every_block_is_a_snippet_or_says_why_not(block: Block) -> None:
    if _NOT_RUN.fullmatch(block.above):
        return
    included = _INCLUDED.fullmatch(block.above)
    assert included, f"{block_id(block)}: put <!-- doc_code/file.py: region --> or <!-- not run: reason --> above it"
    known = regions(ROOT / included["path"])
    assert included["name"] in known, f"{included['path']} has the regions {sorted(known)}"
    assert block.body == known[included["name"]], f"{block_id(block)} differs from {included['path']}"


def test_every_region_is_shown_somewhere() -> None:
    shown = {match.groups() for block in ALL_BLOCKS if (match := _INCLUDED.fullmatch(block.above))}
    marked = {(relative(script), name) for script in SCRIPTS for name in regions(script)}
    assert marked == shown


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    assert not [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]


def test_the_guard_sees_a_block_without_a_source(tmp_path: Path) -> None:
    """The guard itself can fail."""
    page = ROOT / "README.md"
    fake = tmp_path / "fake.md"
    fake.write_text("Text.\n\n```python\nimport tunekit\n```\n")
    (block,) = blocks(fake)
    with pytest.raises(AssertionError, match="above it"):
        test_every_block_is_a_snippet_or_says_why_not(block._replace(page=page))
