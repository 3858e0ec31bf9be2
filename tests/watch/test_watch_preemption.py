"""Workers that leave in time, as `watch` shows them."""

from __future__ import annotations

from distbp.watch.state import Happened


def test_a_worker_that_left_in_time_is_no_member_any_more_and_no_group_was_lost(make_event):
    text = "worker on node n2, pid 12: Ray drains its node, 25 s left"
    events = [
        make_event("started", step=0, num_steps=100),
        make_event("joined", step=0, text="worker on node n1, pid 11"),
        make_event("joined", step=0, text="worker on node n2, pid 12"),
        make_event("formed", step=0, workers=2),
        make_event("leaving", step=8, text=text),
    ]
    known = Happened().after(events)
    assert known.happenings[-1].is_trouble
    assert known.happenings[-1].text == text
    assert len(known.members) == 2
    known = known.after([make_event("left", step=9, text=text)])
    assert (known.members, known.is_formed) == (("n1 pid 11",), True)
    assert known.happenings[-1].text == f"left in time: {text}"
    assert not known.happenings[-1].is_trouble
