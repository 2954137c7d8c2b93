"""What all tests share: hypothesis profiles and the number of kills."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None, print_blob=True)
# Two shared cores: examples are few and the same at each run, so that a red test is red for a reason.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, max_examples=50)
settings.register_profile(
    "nightly", deadline=None, print_blob=True, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="how many kills each chaos test makes")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How many times a chaos test kills."""
    return int(request.config.getoption("--kills"))
