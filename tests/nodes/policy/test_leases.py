"""Tokens of the whole cell: never more than the bucket and the time bring, and nobody who may have one goes without."""

from __future__ import annotations

import asyncio
import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.failures import key_of
from nodes.policy.holdings import HOUR_S, LEASE_S
from nodes.policy.leases import Leases
from nodes.policy.rates import ACCOUNT, Due
from nodes.policy.shares import SILENT_S
from tests.nodes.policy.leasing import KEY, Network

STEPS = st.lists(
    st.tuples(st.sampled_from((0, 0.01, 0.2, 3, 40, 300)), st.integers(0, 4), st.integers(1, 20)), max_size=25
)


def drain(network: Network, name: str, per_hour: int, tries: int = 400) -> int:
    """How many tokens one node's client gets, who asks again and again."""
    before = len(network.taken)
    for _ in range(tries):
        network.ask(name, per_hour)
        network.run(0.5)
    network.run(2)
    return len(network.taken) - before


@pytest.mark.parametrize("per_hour", [1, 2, 4, 7, 100])
def test_all_of_a_bucket_can_be_had_at_one_node(per_hour: int) -> None:
    assert per_hour <= drain(Network(3), "n1", per_hour, tries=120) <= per_hour + per_hour // 60


@pytest.mark.parametrize("per_hour", [1, 2, 4, 100])
def test_clients_of_all_nodes_share_a_bucket_even_where_they_ask_at_one_moment(per_hour: int) -> None:
    network = Network(3)
    for _ in range(200):
        for name in network.names:
            network.ask(name, per_hour)
        network.run(0.5)
    assert len(network.taken) == per_hour or per_hour < len(network.taken) <= per_hour * (1 + 100 / HOUR_S) + 1
    assert network.worst_s(per_hour) <= LEASE_S


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 2000), STEPS, st.floats(0, 0.5), st.integers(0, 1 << 30))
def test_no_more_is_given_in_any_time_than_was_there_and_came_in_and_is_lent(
    count: int, per_hour: int, steps: list[tuple[float, int, int]], loss: float, seed: int
) -> None:
    network = Network(count, seed)
    network.loss = loss
    for pause_s, node, tries in steps:
        network.run(pause_s)
        for _ in range(tries):
            network.ask(network.names[node % count], per_hour)
    network.run(1)
    assert network.worst_s(per_hour) <= LEASE_S + 1e-3


@settings(deadline=None)
@given(
    st.integers(2, 5),
    st.integers(1, 2000),
    STEPS,
    st.lists(st.sampled_from(("cut", "heal", "restart", "back", "deaf")), max_size=40),
    st.integers(0, 1 << 30),
)
def test_however_the_network_is_cut_it_is_less_than_twice_and_a_restart_gives_one_share_again(
    count: int, per_hour: int, steps: list[tuple[float, int, int]], troubles: list[str], seed: int
) -> None:
    network, restarts = Network(count, seed), 0
    for number, (pause_s, node, tries) in enumerate(steps):
        name, other = network.names[node % count], network.names[(node + 1) % count]
        match troubles[number] if number < len(troubles) else "":
            case "cut":
                network.cut.add(frozenset((name, other)))
            case "heal":
                network.cut.clear()
                network.deaf = 0.0
            case "deaf":
                network.deaf = 0.7
            case "restart":
                network.start(name)
                restarts += 1
            case "back":
                network.jump(name, -1e6)
        network.run(pause_s)
        for _ in range(tries):
            network.ask(name, per_hour)
    network.run(1)
    elapsed_s = network.now_s - 1000
    allowed_s = 2 * (HOUR_S + elapsed_s) + LEASE_S + restarts * HOUR_S / 2
    assert len(network.taken) * HOUR_S / per_hour <= allowed_s + 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), STEPS, st.floats(0, 0.9), st.integers(0, 1 << 30))
def test_after_all_trouble_an_hour_brings_all_of_it_back_to_whoever_asks(
    count: int, per_hour: int, steps: list[tuple[float, int, int]], deaf: float, seed: int
) -> None:
    network = Network(count, seed)
    network.deaf = deaf
    for pause_s, node, tries in steps:
        network.run(pause_s)
        for _ in range(tries):
            network.ask(network.names[node % count], per_hour)
    network.deaf = 0.0
    network.run(HOUR_S * count + LEASE_S)
    assert drain(network, network.names[seed % count], per_hour, tries=4 * per_hour + 40) >= per_hour


def test_a_client_that_asks_all_the_time_gets_the_rate_and_no_less() -> None:
    network = Network(3)
    drain(network, "n0", 60, tries=200)
    before = len(network.taken)
    for _ in range(1800):
        network.ask("n0", 60)
        network.run(1)
    assert 28 <= len(network.taken) - before <= 30


def test_a_node_that_hears_nobody_has_its_share_and_the_others_have_the_rest_of_the_rate() -> None:
    network = Network(3)
    network.cut = {frozenset(("n0", "n1")), frozenset(("n0", "n2"))}
    network.run(SILENT_S + 2)
    assert 30 <= drain(network, "n0", 90, tries=100) <= 31
    assert network.nodes["n0"].share.part == pytest.approx(1 / 3)
    assert network.nodes["n1"].share.part + network.nodes["n2"].share.part == pytest.approx(1)
    network.cut.clear()
    network.run(3)
    assert [node.share.part for node in network.nodes.values()] == [pytest.approx(1 / 3)] * 3


def test_a_node_that_goes_down_takes_nothing_of_the_rate_with_it() -> None:
    network = Network(3)
    drain(network, "n0", 60, tries=200)
    network.cut = {frozenset(("n2", "n0")), frozenset(("n2", "n1"))}
    network.run(HOUR_S)
    assert drain(network, "n0", 60, tries=240) >= 60


def test_nobody_is_asked_while_there_is_enough_and_not_for_each_token_where_it_runs_out_quickly() -> None:
    network = Network(3)
    for _ in range(100):
        network.ask("n0", 3600)
        network.run(0.1)
    assert network.sent == 0
    for _ in range(1000):
        network.ask("n0", 36_000)  # 12,000 are here
        network.run(0.01)
    before, had = network.sent, len(network.taken)
    for _ in range(18_000):
        network.ask("n0", 36_000)
        network.run(0.02)
    assert len(network.taken) - had == 18_000
    assert network.sent - before < 18_000 / 10


def test_an_empty_bucket_is_not_asked_for_with_each_refusal() -> None:
    network = Network(3)
    drain(network, "n0", 2, tries=10)
    before = network.sent
    drain(network, "n0", 2, tries=600)
    assert network.sent - before < 300


def test_a_clock_that_is_set_back_keeps_nobody_waiting_and_one_that_is_set_forward_gives_one_share_at_most() -> None:
    network = Network(3)
    drain(network, "n0", 60, tries=150)
    network.jump("n0", -1e9)
    network.run(HOUR_S)
    assert drain(network, "n0", 60, tries=150) >= 58
    before = len(network.taken)
    network.jump("n0", 1e9)
    network.run(SILENT_S)
    assert drain(network, "n0", 60, tries=150) <= 21 + 2
    assert len(network.taken) > before


def test_what_was_lent_and_not_used_goes_back() -> None:
    network = Network(3)
    network.nodes["n0"].fetch(KEY, HOUR_S)
    network.run(2)
    assert network.nodes["n1"].wait_s(KEY, 3) > 0
    network.run(LEASE_S + 3)
    assert drain(network, "n1", 4, tries=12) == 4


def test_a_token_that_others_have_is_waited_for_and_one_that_is_here_is_not() -> None:
    async def live() -> None:
        network = Network(2)
        node = network.nodes["n0"]
        assert not node.lacking([Due(node, KEY, 100, ACCOUNT)])
        waiting = asyncio.ensure_future(node.gather(node.lacking([Due(node, KEY, 1, ACCOUNT)])))
        await asyncio.sleep(0)
        assert not waiting.done()
        network.run(2)
        await waiting
        assert node.wait_s(KEY, 1) == 0

    asyncio.run(live())


def test_what_is_forgotten_keeps_nobody_waiting_and_no_more_is_kept_than_allowed() -> None:
    done: list[int] = []
    leases = Leases("n0", lambda: ["n1"], lambda *_: True, lambda *_: None, lambda: 1.0, most=10)
    leases.merge("n1", msgpack.packb([0]))
    leases.fetch(KEY, HOUR_S, lambda: done.append(1))
    assert not done
    for number in range(20):
        leases.take(key_of("x", str(number)), 10)
    assert len(leases) == 10
    assert done == [1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([9]),
        msgpack.packb([1, 1, b"short", 1.0]),
        msgpack.packb([1, 1, KEY, 0.0]),
        msgpack.packb([1, 1, KEY, float("nan")]),
        msgpack.packb([2, 1, -1.0, 0.0]),
        msgpack.packb([3, KEY, 1e9]),
    ],
)
def test_what_is_no_message_of_leases_changes_nothing(data: bytes) -> None:
    leases = Leases("n0", lambda: ["n1"])
    leases.take(KEY, 1)
    with contextlib.suppress(ValueError):
        leases.merge("n1", data)
    assert leases.wait_s(KEY, 1) > 0
