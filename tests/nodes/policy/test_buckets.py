"""Token buckets: never more than they hold and an hour brings, at all nodes together."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.failures import key_of
from nodes.policy.buckets import HOUR_S, Buckets

KEY, OTHER = key_of("client", "192.0.2.1"), key_of("client", "192.0.2.2")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def taken(buckets: Buckets, key: bytes, tries: int, per_hour: int = 10) -> int:
    """How many of so many tries got a token."""
    got = 0
    for _ in range(tries):
        if buckets.wait_s(key, per_hour) == 0:
            buckets.take(key, per_hour)
            got += 1
    return got


def test_an_hours_tokens_at_once_and_then_one_after_the_other() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert taken(buckets, KEY, 20) == 10
    assert buckets.wait_s(KEY, 10) == pytest.approx(360)
    clock.now_s += 361
    assert taken(buckets, KEY, 20) == 1
    assert taken(buckets, OTHER, 20) == 10


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 900), st.integers(0, 30)), max_size=20))
def test_no_more_is_given_than_the_bucket_held_and_time_brought(per_hour: int, steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    buckets, got, began_s = Buckets(clock), 0, clock.now_s
    for pause_s, tries in steps:
        clock.now_s += pause_s
        got += taken(buckets, KEY, tries, per_hour)
        assert got <= per_hour + (clock.now_s - began_s) * per_hour / HOUR_S + 1e-6
        if tries and got < per_hour:
            assert buckets.wait_s(KEY, per_hour) == 0


def test_what_was_taken_at_one_node_is_missing_at_the_others_once() -> None:
    clock = Clock()
    here, there = Buckets(clock), Buckets(clock)
    assert taken(here, KEY, 6) == 6
    data = here.changes()
    assert data is not None
    there.merge("n1", data)
    assert taken(there, KEY, 20) == 4
    assert here.changes() is None


def test_who_went_too_far_at_several_nodes_waits_no_longer_than_others() -> None:
    clock = Clock()
    here, there = Buckets(clock), Buckets(clock)
    taken(here, KEY, 20)
    taken(there, KEY, 20)
    data = here.changes()
    assert data is not None
    there.merge("n1", data)
    assert there.wait_s(KEY, 10) == pytest.approx(360)


def test_a_rate_that_is_changed_holds_from_the_next_token_on() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert taken(buckets, KEY, 20, per_hour=10) == 10
    assert buckets.wait_s(KEY, 100) == pytest.approx(36)
    clock.now_s += 1801
    assert taken(buckets, KEY, 100, per_hour=100) == 50
    assert buckets.wait_s(KEY, 2) > 1700


def test_full_buckets_are_forgotten_and_no_more_are_kept_than_allowed() -> None:
    clock = Clock()
    buckets = Buckets(clock, most=100)
    for number in range(250):
        buckets.take(key_of("client", str(number)), 10)
    assert len(buckets) == 100
    clock.now_s += HOUR_S
    for number in range(250):
        buckets.wait_s(key_of("client", str(number)), 10)
    assert len(buckets) == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgpack.packb([(b"short", 1)]), msgpack.packb([(KEY, 0)]), msgpack.packb([(KEY, 1 << 40)])],
)
def test_what_is_no_share_of_a_bucket_is_not_taken(data: bytes) -> None:
    buckets = Buckets(Clock())
    with contextlib.suppress(ValueError):
        buckets.merge("peer", data)
    assert len(buckets) == 0
