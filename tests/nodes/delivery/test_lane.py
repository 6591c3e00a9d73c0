"""A lane's window onto a queue's table: all that is due is found, in order, within bounded memory."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nodes.delivery import lane as lanes
from nodes.delivery.lane import SLICE, WINDOW, Lane

NOW_MS = 1_790_000_000_000
Table = dict[bytes, int]


def read_all(lane: Lane, table: Table, now_ms: int) -> None:
    """Gives the lane slices for as long as it wants them."""
    while lane.wants_slice(now_ms):
        after = lane.scan_from
        lane.read(((one, at_ms, 0) for one, at_ms in sorted(table.items()) if one > after), now_ms)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_backlog_beyond_the_window_is_taken_whole_and_read_once() -> None:
    table = {name(number): NOW_MS for number in range(1, WINDOW * 3)}
    lane = Lane("far.test", b"s" * 16, 20)
    taken: list[bytes] = []
    while table:
        read_all(lane, table, NOW_MS)
        batch = lane.take(NOW_MS, 200)
        assert batch
        assert len(lane._due) <= WINDOW
        taken += batch
        for one in batch:
            del table[one]
    assert taken == sorted(taken)
    assert len(taken) == WINDOW * 3 - 1
    assert lane.next_ms() in (0, math.inf)


def test_what_is_due_later_is_found_when_its_time_comes() -> None:
    table = {name(1): NOW_MS + 10 * lanes.LOOKAHEAD_MS, name(2): NOW_MS + 5000}
    lane = Lane("far.test", b"s" * 16, 20)
    read_all(lane, table, NOW_MS)
    assert lane.take(NOW_MS, 10) == []
    assert lane.next_ms() == NOW_MS + 5000
    assert lane.take(NOW_MS + 5000, 10) == [name(2)]
    del table[name(2)]
    assert lane.next_ms() == NOW_MS + 10 * lanes.LOOKAHEAD_MS
    read_all(lane, table, NOW_MS + 10 * lanes.LOOKAHEAD_MS)
    assert lane.take(NOW_MS + 10 * lanes.LOOKAHEAD_MS, 10) == [name(1)]


def test_the_urgent_goes_first_even_where_the_window_is_full() -> None:
    lane = Lane("far.test", b"s" * 16, 20)
    for number in range(WINDOW):
        lane.note(name(number), NOW_MS, 0, NOW_MS)
    lane.note(b"ordinary" * 2, NOW_MS, 0, NOW_MS)
    lane.note(b"urgent.." * 2, NOW_MS, 5, NOW_MS)
    assert lane.take(NOW_MS, 2) == [b"urgent.." * 2, name(0)]


def test_what_is_put_off_or_gone_is_not_taken() -> None:
    lane = Lane("far.test", b"s" * 16, 20)
    for number in range(3):
        lane.note(name(number), NOW_MS, 0, NOW_MS)
    lane.note(name(1), NOW_MS + 50, 0, NOW_MS)
    lane.forget(name(2))
    assert lane.take(NOW_MS, 10) == [name(0)]
    assert lane.take(NOW_MS + 50, 10) == [name(1)]


def test_after_a_throttle_one_message_tells_whether_the_others_may_go() -> None:
    lane = Lane("far.test", b"s" * 16, 3)
    lane.throttled(NOW_MS, 2)
    assert lane.limit == 1
    lane.succeeded()
    assert (lane.limit, lane.throttle_level) == (2, 0)
    lane.succeeded()
    lane.succeeded()
    assert lane.limit == 3


DUE = st.integers(0, 3 * lanes.LOOKAHEAD_MS)


@given(st.dictionaries(st.integers(0, 50), DUE, max_size=30), st.lists(st.tuples(st.integers(0, 50), DUE), max_size=20))
def test_whatever_is_due_is_taken_in_the_end(rows: dict[int, int], events: list[tuple[int, int]]) -> None:
    """Whether it was in the table or came as an event, before or between."""
    table = {name(number): NOW_MS + at_ms for number, at_ms in rows.items()}
    lane = Lane("far.test", b"s" * 16, 20)
    now_ms, taken = NOW_MS, set[bytes]()
    for number, at_ms in events:
        read_all(lane, table, now_ms)
        if name(number) not in taken:
            table[name(number)] = now_ms + at_ms
            lane.note(name(number), now_ms + at_ms, 0, now_ms)
        for one in lane.take(now_ms, 2):
            assert table.pop(one) <= now_ms
            taken.add(one)
        now_ms += 7000
    while table:
        read_all(lane, table, now_ms)
        wanted_ms = lane.next_ms()
        assert wanted_ms < math.inf
        now_ms = max(now_ms, int(wanted_ms))
        for one in lane.take(now_ms, SLICE):
            del table[one]
