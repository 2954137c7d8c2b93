"""A sweep in a real bucket, killed at any of its requests: ``tests/integration/request_lab.py``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import in_threads
import labs
import pytest
import request_lab

pytestmark = pytest.mark.s3


def check(moment: str, uri: str, folder: Path, stride: int) -> None:
    undisturbed, again, *rest = labs.in_two_processes(request_lab, [moment, uri], str(folder), 0, stride)
    assert undisturbed["code"] == again["code"] == 0
    for point in [undisturbed, again, *rest]:
        assert point["again"] == 0, point
        assert point["trials"] == undisturbed["trials"], point
        assert point["repeated"] <= in_threads.MAX_REPEATED, point
    killed = Counter(point["moment"] for point in rest if point["code"] == request_lab.KILLED)
    print(f"killed at {killed.total()} of {len(rest)} points: {dict(killed)}, {len(undisturbed['log'])} requests")
    assert all(point["code"] in {request_lab.KILLED, 0} for point in rest)
    # How many segments the journal has is for the system to say, and a request for one more may never come.
    assert killed.total() >= 0.75 * len(rest) > 2


def test_killed_at_a_request(s3_uri: str, tmp_path: Path) -> None:
    """Promises 1 to 3, S003-24, at one of fifty points: nothing partial is seen or left, the end is as undisturbed."""
    check("all", s3_uri, tmp_path, 53)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moment", request_lab.MOMENTS)
def test_killed_at_any_request(s3_uri: str, tmp_path: Path, moment: request_lab.Moment) -> None:
    """As above, at every request: before it is sent, after it was carried out, half-way of a deletion of many."""
    check(moment, s3_uri, tmp_path, 1)
