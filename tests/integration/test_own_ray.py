"""A Ray that tunekit starts is reached from this machine alone, and by nobody without its token."""

from __future__ import annotations

import json
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import sweeps

from tunekit.runtime.executor.private_ray import private

pytestmark = [
    pytest.mark.ray,
    pytest.mark.parametrize("system", ["linux"] if sys.platform == "linux" else []),  # It reads /proc.
]

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as an address of IPv6, and ::1."""


def run(home: Path) -> list[object]:
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        out = sweeps.finish(sweeps.start("own_ray.py", HOME=str(home), RAY_TMPDIR=folder))
    return [json.loads(line) for line in out.splitlines()[-3:]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_reaches_it(tmp_path: Path, system: str) -> None:
    """Without a token there is one afterwards, in a file of the user's own; the environment is as it was."""
    listening, refuses, changed = run(tmp_path)
    assert isinstance(listening, list)
    assert len(listening) >= 1
    assert set(listening) <= LOOPBACK
    assert refuses is True
    assert changed == []
    assert mode(tmp_path / ".ray") == 0o700
    assert mode(tmp_path / ".ray" / "auth_token") == 0o600
    assert len((tmp_path / ".ray" / "auth_token").read_text()) == 64


def test_a_token_that_all_could_read_is_kept_and_closed(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir(mode=0o755)
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o644)
    with private():
        assert token.read_text() == "0123456789abcdef" * 4
        assert mode(token) == 0o600
