"""The enums that every layer shares."""

from __future__ import annotations

import msgspec
import pytest

from tunekit.types import Intent, LossCause, Mode, Outcome, TrialStatus


def test_a_stop_is_never_taken_back() -> None:
    assert max(Intent.RUN, Intent.PAUSE) is Intent.PAUSE
    assert max(Intent.STOP, Intent.PAUSE, Intent.RUN) is Intent.STOP


def test_no_status_is_both_live_and_ended() -> None:
    live = {status for status in TrialStatus if status.is_live}
    ended = {status for status in TrialStatus if status.is_ended}
    assert live == {TrialStatus.LAUNCHING, TrialStatus.RUNNING, TrialStatus.STOPPING}
    assert ended == {TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED}
    assert set(TrialStatus) - live - ended == {TrialStatus.PENDING, TrialStatus.PAUSED}


@pytest.mark.parametrize("kind", [Mode, TrialStatus, LossCause, Outcome, Intent])
def test_enums_are_journalled_by_value(kind: type[TrialStatus]) -> None:
    for member in kind:
        assert msgspec.json.decode(msgspec.json.encode(member), type=kind) is member
    assert len({member.value for member in kind}) == len(kind)


def test_the_modes_are_what_users_write() -> None:
    assert [Mode("min"), Mode("max")] == [Mode.MIN, Mode.MAX]
    with pytest.raises(ValueError, match="minimum"):
        Mode("minimum")
