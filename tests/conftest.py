"""What all tests share: hypothesis profiles, the number of kills, a server for S3, and heads of Ray."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Iterator

import pytest
import sweeps
from hypothesis import HealthCheck, Phase, settings
from s3_server import BUCKET, S3Server

settings.register_profile("dev", deadline=None, print_blob=True)
# Two shared cores: examples are few and the same at each run, so that a red test is red for a reason. What fails is
# shown as it was drawn: to make it smaller can take longer than a test may.
settings.register_profile(
    "ci", deadline=None, print_blob=True, derandomize=True, max_examples=50, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile(
    "nightly", deadline=None, print_blob=True, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Thousands of tests and all that they import stay to the end. To look through them again and again for garbage takes a
# quarter of the time in which they are read.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=5, help="how many kills each chaos test makes")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How many times a chaos test kills."""
    return int(request.config.getoption("--kills"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server on loopback, started when the first test asks for it."""
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray head with two CPUs, whose like takes seconds to start, for sweeps that come and go one after the other."""
    with sweeps.ray_head() as address:
        yield address


@pytest.fixture(scope="session")
def ray_address_s3(s3_server: S3Server) -> Iterator[str]:
    """The same, whose workers find the S3 server: they get their environment from it."""
    with sweeps.ray_head(environment=s3_server.environment) as address:
        yield address


@pytest.fixture
def s3_uri(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty folder on the S3 server; the environment leads there, also that of child processes."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
