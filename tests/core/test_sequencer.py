"""The logical order by itself: what waits for what, and who comes first."""

from __future__ import annotations

from tunekit.core.decisions import Stop
from tunekit.core.sequencer import Sequencer


def seated(*untils: int | None, num_slots: int = 3) -> Sequencer:
    order = Sequencer(num_slots=num_slots)
    for trial, until in enumerate(untils):
        order.sit(trial, seen=0, until=until)
    return order


def report(order: Sequencer, trial: int, *iterations: int, is_final: bool = False) -> None:
    for iteration in iterations:
        order.report(trial, iteration, is_final=is_final, value=iteration / 10)


def test_a_decision_waits_for_whoever_may_still_come_before_it() -> None:
    order = seated(2, 2)
    report(order, 1, 1, 2)
    assert order.next() is None, "trial 0 may end at its first row"
    report(order, 0, 1)
    assert order.next() is None, "its second row would come first, by its index"
    report(order, 0, 2)
    assert (order.next(), order.now) == (0, 2)
    order.seats[0].until = 8
    assert (order.next(), order.now) == (1, 2)


def test_ties_go_by_index_and_a_lower_index_need_not_wait() -> None:
    order = seated(1, 1)
    report(order, 0, 1)
    assert order.next() == 0
    order.seats[0].until = 4
    assert order.next() is None, "trial 1 comes next, and nothing is known of it"


def test_a_row_that_is_computed_again_is_none() -> None:
    order = seated(2, 4)
    order.report(0, 1, is_final=False, value=0.1)
    order.report(0, 2, is_final=False, value=0.2)
    order.report(0, 1, is_final=False, value=0.7)
    order.report(0, 2, is_final=False, value=0.8)
    assert (order.seats[0].seen, order.seats[0].value) == (2, 0.2)


def test_a_row_that_is_computed_again_says_anew_whether_it_is_the_last_one() -> None:
    """The attempt that ended there died before it had saved, and the user lets trials run on."""
    order = seated(2, None)
    order.report(0, 1, is_final=False, value=0.1)
    order.report(0, 2, is_final=True, value=0.2)
    assert not order.seats[0].is_undecided
    order.report(0, 1, is_final=True, value=0.1)
    assert order.seats[0].is_final, "only the newest row can be the last one"
    order.report(0, 2, is_final=False, value=0.8)
    assert (order.seats[0].is_undecided, order.seats[0].value) == (True, 0.2)


def test_an_end_belongs_to_the_last_row_or_to_the_one_that_did_not_come() -> None:
    order = seated(None, None)
    report(order, 0, 1)
    report(order, 0, 2, is_final=True)
    report(order, 1, 1, 2)
    order.seats[0].has_ended = order.seats[1].has_ended = True
    assert (order.next(), order.now) == (0, 2)
    order.leave(0)
    assert (order.next(), order.now) == (1, 3)


def test_all_wait_for_a_trial_that_is_being_stopped() -> None:
    order = seated(1, 1)
    report(order, 0, 1)
    report(order, 1, 1)
    assert order.next() == 0
    order.seats[0].verdict = Stop()
    assert order.next() is None
    order.seats[0].has_ended = True
    assert order.next() == 0
    order.leave(0)
    order.sit(2, seen=0, until=1)
    assert order.seats[2].start == 1
    assert order.next() == 1


def test_who_waits_for_a_decision_needs_no_worker_and_the_earliest_comes_first() -> None:
    order = seated(2, 4, 4)
    report(order, 0, 1, 2)
    report(order, 1, 1)
    assert [trial for trial in range(4) if order.needs_worker(trial)] == [1, 2]
    assert min((1, 2), key=order.place) == 2


def test_who_is_called_back_keeps_its_slot_or_waits_for_the_next() -> None:
    order = seated(4)
    order.seats[0].has_ended = True
    order.call_back(0)
    assert order.needs_worker(0)
    order.leave(0)
    order.call_back(0)
    assert order.returning == [(0, None)]
