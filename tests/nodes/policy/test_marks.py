"""What nodes know together: told in any order and often, forgotten in time, bounded."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.failures import key_of
from nodes.policy.marks import Mark, Marks

KEY, OTHER = key_of("attempt", "a"), key_of("attempt", "b")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def told(source: Marks) -> bytes:
    data = source.changes()
    assert data is not None
    return data


def test_the_first_time_stays_and_the_last_time_moves() -> None:
    clock = Clock()
    marks = Marks(60, 10, clock)
    assert marks.age_s(KEY) is None
    marks.note(KEY)
    clock.now_s += 20
    marks.note(KEY)
    clock.now_s += 5
    assert (marks.age_s(KEY), marks.quiet_s(KEY)) == (25, 5)
    assert marks.get(KEY) == Mark(1000, 1020, 2)


def test_what_is_not_seen_for_long_is_forgotten() -> None:
    clock = Clock()
    marks = Marks(60, 10, clock)
    marks.note(KEY)
    clock.now_s += 60
    assert marks.age_s(KEY) == 60
    clock.now_s += 0.001
    assert marks.age_s(KEY) is None
    assert len(marks) == 0


def test_what_another_node_tells_is_known_here_with_its_age() -> None:
    clock = Clock()
    here, there = Marks(60, 10, clock), Marks(60, 10, clock)
    there.note(KEY)
    clock.now_s += 10
    here.note(KEY)
    here.merge("n2", told(there))
    assert here.get(KEY) == Mark(1000, 1010, 1)


def test_a_node_that_starts_again_learns_from_the_others_what_it_had_told_them() -> None:
    clock = Clock()
    killed, other, again = Marks(60, 10, clock), Marks(60, 10, clock), Marks(60, 10, clock)
    killed.note(KEY)
    other.merge("n1", told(killed))
    assert other.changes() is None  # the round begins with the next
    clock.now_s += 30
    again.merge("n2", told(other))
    assert again.age_s(KEY) == 30


def test_nodes_that_tell_each_other_what_they_know_come_to_an_end() -> None:
    """Each message takes a while; what is told of what was told must not keep a mark alive."""
    clock = Clock()
    nodes = [Marks(60, 10, clock), Marks(60, 10, clock)]
    nodes[0].note(KEY)
    for step in range(200):
        data = nodes[step % 2].changes()
        clock.now_s += 0.5
        if data is not None:
            nodes[1 - step % 2].merge("peer", data)
    assert nodes[0].get(KEY) is None
    assert nodes[1].get(KEY) is None


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=6))
def test_neither_order_nor_repetition_matters(order: list[int], repeated: list[int]) -> None:
    clock = Clock()
    messages = []
    for age_s in (40, 30, 20, 10):
        source = Marks(60, 10, clock)
        clock.now_s = 1000.0 - age_s
        source.note(KEY)
        clock.now_s = 1000.0
        messages.append(told(source))
    here = Marks(60, 10, clock)
    for number in [*repeated, *order]:
        here.merge("peer", messages[number])
    assert here.get(KEY) == Mark(960, 990, 1)


def test_the_table_holds_so_many_and_drops_what_was_seen_longest_ago() -> None:
    marks = Marks(60, 100, Clock())
    for number in range(250):
        marks.note(key_of("attempt", str(number)))
    assert len(marks) == 100
    assert marks.age_s(key_of("attempt", "249")) is not None
    assert marks.age_s(key_of("attempt", "149")) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([(b"short", 1, 1, 1)]),
        msgpack.packb([(KEY, 1, 2, 1)]),
        msgpack.packb([(KEY, 1, -1, 1)]),
        msgpack.packb([(KEY, 1, 1, 0)]),
        msgpack.packb([(KEY, 1 << 50, 1, 1)]),
        msgpack.packb([(KEY, 1, 1, 1)] * 2000),
    ],
)
def test_what_is_no_mark_is_not_taken(data: bytes) -> None:
    marks = Marks(60, 10, Clock())
    with contextlib.suppress(ValueError):
        marks.merge("peer", data)
    assert len(marks) == 0
