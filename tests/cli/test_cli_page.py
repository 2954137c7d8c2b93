"""The commands in docs/cli.md are run, one after another in one folder, and print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

from experiments import built

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
_BLOCK = re.compile(r"(?P<above>[^\n]*)\n```console\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
_STATUS = re.compile(r"# exits with (\d)$")
_NUMBER = re.compile(r"\d+(?:\.\d+)? (?=kB|bytes)")
"""Sizes change with the versions that a manifest names."""


def commands() -> list[tuple[str, str]]:
    """Return (command, output) for everything on the page that is run."""
    found: list[tuple[str, str]] = []
    for block in _BLOCK.finditer(PAGE.read_text()):
        if block["above"].startswith("<!-- not run: "):
            continue
        for part in block["body"].split("$ ")[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def test_the_page_is_true(tmp_path: Path) -> None:
    built(tmp_path / "sweeps" / "walk")
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "COLUMNS": "80"}
    assert len(commands()) > 8
    for command, output in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        status = _STATUS.search(command)
        assert done.returncode == (int(status[1]) if status else 0), f"{command}\n{done.stdout}{done.stderr}"
        said = done.stdout.replace(str(tmp_path), "/data")
        assert _NUMBER.sub("# ", said) == _NUMBER.sub("# ", output), command
