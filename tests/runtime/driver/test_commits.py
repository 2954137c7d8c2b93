"""Where a commit is dear, rows wait for company; whatever dies meanwhile, nothing is lost that anybody was told of."""

from __future__ import annotations

from typing import Any

import pytest

from tunekit.core.events import TimerFired
from tunekit.runtime.driver.commits import Commits
from tunekit.testing import sim_review
from tunekit.testing.sim_journal import SimJournal
from tunekit.testing.simulator import Simulation


class Journal:
    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.log: list[Any] = []

    def append(self, records: Any) -> None:
        self.log += records

    def commit(self) -> None:
        self.log.append("commit")


def test_where_it_is_cheap_everything_is_committed_before_it_is_decided_about() -> None:
    journal = Journal(0.0)
    commits = Commits(journal, lambda: 0.0)
    commits.record([TimerFired()])
    assert journal.log == [TimerFired(), "commit"]
    commits.answer([])
    commits.flush()
    assert (journal.log, commits.left_s) == ([TimerFired(), "commit"], None)


def test_where_it_is_dear_the_first_that_waits_sets_the_end() -> None:
    now = [0.0]
    journal = Journal(1.0)
    commits = Commits(journal, lambda: now[0])
    commits.record([TimerFired(at=1.0)])
    commits.answer([])
    now[0] = 0.75
    commits.record([TimerFired(at=2.0)])
    commits.answer([])
    assert commits.left_s == 0.25
    assert "commit" not in journal.log
    now[0] = 1.5
    commits.record([TimerFired(at=3.0)])
    commits.answer([])
    assert journal.log[-1] == "commit"
    assert commits.left_s is None


@pytest.mark.parametrize("patience_s", [1.0, 5.0])
def test_whole_sweeps_with_every_misfortune_lose_nothing_that_was_confirmed(
    monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """Promises 1 and 2, in the simulator. A driver that dies knew more than its journal: that is not compared."""
    monkeypatch.setattr(SimJournal, "patience_s", patience_s)
    monkeypatch.setattr(sim_review, "compare", lambda before, after: [])
    deaths = sum(Simulation(seed).run().deaths for seed in range(60))
    assert deaths > 20
