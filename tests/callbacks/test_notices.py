"""What the core has to say is logged once."""

from __future__ import annotations

import pytest

from tunekit.callbacks.notices import Notices
from tunekit.testing.events import Script, capacity, driver, saved


def test_each_notice_is_logged_once_in_each_run(caplog: pytest.LogCaptureFixture) -> None:
    play, notices = Script(), Notices()
    play.begin(num_trials=1, max_experiment_bytes=5)
    for _ in range(2):
        play(*saved(0, 1, size=9))
        notices.observe([], play.experiment.state)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "tunekit")
    assert "the checkpoints take 9 bytes, more than max_experiment_bytes=5" in record.getMessage()
    play(driver(2, num_trials=1, max_experiment_bytes=5))
    again = Notices()
    again.observe([], play.experiment.state)
    play(capacity(1))
    again.observe([], play.experiment.state)
    assert len(caplog.records) == 2
