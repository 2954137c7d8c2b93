"""A bare core for event scripts; whatever a test played is replayed at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunekit.testing.events import Script


@pytest.fixture
def play() -> Iterator[Script]:
    """Play events; each step is checked against the invariants, and the whole is replayed at the end."""
    script = Script()
    yield script
    script.replay()
