"""Between namespaces a cut link loses packets, one way at a time, and nothing is left behind."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import namespaces
from chaos.namespaces import NAMESPACES, Namespaces
from chaos.network import CUT, NetworkError, Plan, between
from chaos.proxy import Condition
from chaos.sockets import socket_inside
from cli.layout import Node

NODES = [Node(name, Path("/"), {"raft": f"127.0.0.1:{port}"}) for name, port in (("n1", 7001), ("n2", 7002))]


@pytest.fixture
def network() -> Iterator[Namespaces]:
    if lack := namespaces.missing():
        pytest.skip(lack)
    network = Namespaces()
    network.start()
    try:
        yield network
    finally:
        network.stop()


@pytest.fixture
def plan(network: Namespaces) -> Plan:
    try:
        return network.connect(NODES)
    except NetworkError as error:
        pytest.skip(f"this system makes no namespaces: {error}")


def reaches(plan: Plan, source: str, target: str) -> bool:
    """Whether a datagram arrives, of those that are sent for some time."""
    return any(arrives(plan, source, target) for _ in range(10))


def arrives(plan: Plan, source: str, target: str) -> bool:
    """Whether one does, in good time."""
    host, _, port = plan.peers[target].rpartition(":")
    path = NAMESPACES / f"mailraft-{os.getpid()}"
    with _datagrams(f"{path}-{target}") as there, _datagrams(f"{path}-{source}") as here:
        there.bind((host, int(port)))
        there.settimeout(0.5)
        here.sendto(b"x", (host, int(port)))
        try:
            return there.recv(1) == b"x"
        except TimeoutError:
            return False


def _datagrams(namespace: str) -> socket.socket:
    return socket_inside(namespace, socket.SOCK_DGRAM)


def test_a_cut_loses_what_one_node_says_to_the_other_and_nothing_else(network: Namespaces, plan: Plan) -> None:
    assert reaches(plan, "n1", "n2")
    network.set([between("n1", "n2")], CUT)
    assert not arrives(plan, "n1", "n2")
    assert reaches(plan, "n2", "n1")
    network.heal([between("n1", "n2")])
    assert reaches(plan, "n1", "n2")


def test_a_link_that_shall_be_slow_is_an_error(network: Namespaces, plan: Plan) -> None:
    with pytest.raises(NetworkError, match="can be cut"):
        network.set([between("n1", "n2")], Condition(delay_s=1.0))


def test_no_namespace_is_left(network: Namespaces, plan: Plan) -> None:
    assert len(list(NAMESPACES.glob(f"mailraft-{os.getpid()}-*"))) == 3
    network.stop()
    assert list(NAMESPACES.glob(f"mailraft-{os.getpid()}-*")) == []
