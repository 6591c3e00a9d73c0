"""Counting together: what nodes tell each other adds up, fades, and stays bounded."""

import msgpack
import pytest

from nodes import failures
from nodes.failures import SharedCounts, key_of

KEY, OTHER = key_of("pair", "192.0.2.1", "alice"), key_of("login", "alice")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def told(source: SharedCounts) -> bytes:
    data = source.changes()
    assert data is not None
    return data


def test_parts_of_a_key_do_not_run_together() -> None:
    assert key_of("a", "bc", "d") != key_of("a", "b", "cd")


def test_counts_of_all_nodes_add_up_and_a_later_one_replaces_what_it_said_before() -> None:
    clock = Clock()
    here, there = SharedCounts(60, clock), SharedCounts(60, clock)
    assert [here.add(KEY), here.add(KEY)] == [1, 2]
    there.add(KEY)
    there.merge("n1", told(here))
    assert there.count(KEY) == 3
    here.add(KEY)
    there.merge("n1", told(here))
    assert there.count(KEY) == 4


def test_what_is_older_than_the_window_counts_nothing_wherever_it_was_counted() -> None:
    clock = Clock()
    here, there = SharedCounts(60, clock), SharedCounts(60, clock)
    here.add(KEY)
    clock.now_s += 40
    there.merge("n1", told(here))
    assert there.count(KEY) == 1
    clock.now_s += 21
    assert (here.count(KEY), there.count(KEY)) == (0, 0)
    assert here.add(KEY) == 1


def test_what_is_cleared_is_cleared_everywhere() -> None:
    here, there = SharedCounts(60), SharedCounts(60)
    here.add(KEY)
    there.merge("n1", told(here))
    there.clear(KEY)
    here.merge("n2", told(there))
    assert (here.count(KEY), there.count(KEY)) == (0, 0)


def test_a_node_that_starts_later_is_told_what_it_missed() -> None:
    here, late = SharedCounts(60), SharedCounts(60)
    for _ in range(3):
        here.add(KEY)
    here.add(OTHER)
    told(here)
    for _ in range(2):  # nothing has changed since
        late.merge("n1", here.changes() or msgpack.packb([]))
    assert (late.count(KEY), late.count(OTHER)) == (3, 1)


def test_where_nothing_happens_nothing_is_told() -> None:
    counts = SharedCounts(60)
    assert counts.changes() is None


def test_what_is_told_at_once_and_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "REMEMBERED", 3000)
    counts = SharedCounts(60)
    for number in range(4000):
        counts.add(key_of("login", str(number)))
    assert len(counts) == 3000
    assert len(told(counts)) < 64 * 1024


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb([[b"short", 1, 1]]),
        msgpack.packb([[KEY, -1, 1]]),
        msgpack.packb([[KEY, 1 << 40, 1]]),
        msgpack.packb([[KEY, 1, -5]]),
        msgpack.packb([[KEY, "1", 1]]),
        msgpack.packb([[KEY, 1]]),
        msgpack.packb([[b"k" * 16, 1, 1]] * 5000),
    ],
)
def test_nonsense_of_a_peer_is_refused(data: bytes) -> None:
    counts = SharedCounts(60)
    with pytest.raises((ValueError, TypeError, msgpack.UnpackException)):
        counts.merge("n1", data)
    assert counts.count(KEY) == 0
