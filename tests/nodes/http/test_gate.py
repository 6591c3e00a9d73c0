"""A flood is refused before it costs anything, and whoever else asks is answered."""

import pytest

from nodes.http.errors import ApiError
from nodes.http.gate import AT_ONCE, AT_ONCE_OF_ONE, MOST_NETWORKS, WRONG_TOKENS, Gate


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_network_has_only_so_many_requests_in_work_and_another_is_let_in() -> None:
    gate = Gate()
    working = [gate.work("2001:db8::1") for _ in range(AT_ONCE_OF_ONE)]
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
    gate = Gate()
    working = [gate.work(f"192.0.2.{number}") for number in range(AT_ONCE)]
    for one in working:
        one.__enter__()
    with pytest.raises(ApiError) as caught, gate.work("198.51.100.1"):
        pass
    assert (caught.value.status, caught.value.code, caught.value.category) == (503, "too_busy", "not_ready")


def test_wrong_tokens_of_one_network_are_soon_too_many_and_later_not() -> None:
    clock = Clock()
    gate = Gate(clock)
    for _ in range(WRONG_TOKENS + 1):
        gate.wrong_token("192.0.2.1")
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            gate.wrong_token("192.0.2.1")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "3")
    gate.wrong_token("192.0.2.2")
    clock.now_s = 3.5
    gate.wrong_token("192.0.2.1")


def test_networks_that_showed_wrong_tokens_are_forgotten_before_they_fill_the_memory() -> None:
    gate = Gate()
    for number in range(MOST_NETWORKS + 100):
        gate.wrong_token(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(gate._wrong) == MOST_NETWORKS
