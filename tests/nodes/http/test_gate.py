"""A flood is refused before it costs anything, and whoever else asks is answered."""

import pytest

from nodes.config.http import HttpSection
from nodes.http.errors import ApiError
from nodes.http.gate import MOST_NETWORKS, Gate

LIMITS = HttpSection()


def limits() -> HttpSection:
    return LIMITS


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_network_has_only_so_many_requests_in_work_and_another_is_let_in() -> None:
    gate = Gate(limits)
    working = [gate.work("2001:db8::1") for _ in range(LIMITS.requests_per_address)]
    for one in working:
        one.__enter__()
    with pytest.raises(ApiError) as caught, gate.work("2001:db8::2"):
        pass
    assert (caught.value.status, caught.value.response().headers["Retry-After"]) == (429, "1")
    with gate.work("192.0.2.1"):
        pass
    working[0].__exit__(None, None, None)
    with gate.work("2001:db8::3"):
        pass


def test_a_node_works_on_only_so_many_requests() -> None:
    gate = Gate(limits)
    working = [gate.work(f"192.0.2.{number}") for number in range(LIMITS.requests)]
    for one in working:
        one.__enter__()
    with pytest.raises(ApiError) as caught, gate.work("198.51.100.1"):
        pass
    assert (caught.value.status, caught.value.code, caught.value.category) == (503, "too_busy", "not_ready")


def test_wrong_tokens_of_one_network_are_soon_too_many_and_later_not() -> None:
    clock = Clock()
    gate = Gate(limits, clock)
    for _ in range(LIMITS.wrong_tokens + 1):
        gate.wrong_token("192.0.2.1")
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            gate.wrong_token("192.0.2.1")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "3")
    gate.wrong_token("192.0.2.2")
    clock.now_s = 3.5
    gate.wrong_token("192.0.2.1")


def test_networks_that_showed_wrong_tokens_are_forgotten_before_they_fill_the_memory() -> None:
    gate = Gate(limits)
    for number in range(MOST_NETWORKS + 100):
        gate.wrong_token(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(gate._wrong) == MOST_NETWORKS


def test_a_flood_by_others_does_not_lock_out_who_shows_a_certificate_of_the_cell() -> None:
    gate = Gate(limits)
    flood = [gate.work(f"192.0.2.{number}") for number in range(LIMITS.requests)]
    for one in flood:
        one.__enter__()
    ours = [gate.work("192.0.2.1", lambda: True) for _ in range(LIMITS.reserved_requests)]
    for one in ours:
        one.__enter__()
    for refused in (gate.work("198.51.100.1"), gate.work("198.51.100.1", lambda: True)):  # the reserve ends too
        with pytest.raises(ApiError) as caught, refused:
            pass
        assert caught.value.code == "too_busy"
    ours[0].__exit__(None, None, None)
    with gate.work("192.0.2.1", lambda: True):
        pass


def test_an_administrator_at_the_address_of_a_flood_is_answered() -> None:
    gate = Gate(limits)
    flood = [gate.work("127.0.0.1") for _ in range(LIMITS.requests_per_address)]
    for one in flood:
        one.__enter__()
    with pytest.raises(ApiError), gate.work("127.0.0.1"):
        pass
    with gate.work("127.0.0.1", lambda: True):
        pass


def test_other_limits_hold_at_once() -> None:
    now = [HttpSection(requests=1)]
    gate = Gate(lambda: now[0])
    with gate.work("192.0.2.1"):
        with pytest.raises(ApiError), gate.work("192.0.2.2"):
            pass
        now[0] = HttpSection(requests=2)
        with gate.work("192.0.2.2"):
            pass
