"""The relay does to a connection what it was told, and nothing else."""

import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.network import CUT, Network, NetworkError, between, links_across
from chaos.proxy import Condition, Way

LINK = between("n1", "n2")
SOURCES = {"n1": Path("/proc/self/cmdline").read_text().split("\0")[0], "n3": "another-process"}  # n1 is this process
PATIENCE_S = 20.0


class Echo(socketserver.ThreadingTCPServer):
    """Gives back what it gets."""

    daemon_threads = True
    allow_reuse_address = True


class EchoHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with Echo(("127.0.0.1", 0), EchoHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def client(network: Network, echo: str) -> Iterator[socket.socket]:
    """A connection through a new link of the name LINK."""
    with connect(network.relay("n2", echo, SOURCES)) as client:
        yield client


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def ask(client: socket.socket, data: bytes) -> bytes:
    """What comes back, as much as was sent; less if the connection ends."""
    client.sendall(data)
    return receive(client, len(data))


def receive(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := client.recv(size - len(found))):
        found += data
    return found


def is_silent(client: socket.socket) -> bool:
    """Nothing comes within a moment, and the connection stays."""
    client.settimeout(0.2)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE_S)
    return False


def is_turned_away(address: str) -> bool:
    """A new connection ends before it hears anything."""
    try:
        with connect(address) as client:
            return is_reset(client)
    except ConnectionResetError:
        return True


def is_reset(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_good_link_carries_bytes_unchanged(client: socket.socket) -> None:
    data = bytes(range(256)) * 4096
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert receive(client, len(data)) == data
    sender.join()


def test_the_end_of_a_stream_is_carried_too(client: socket.socket) -> None:
    assert ask(client, b"last") == b"last"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_a_cut_link_keeps_the_connection_and_loses_the_bytes(network: Network, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    network.set([LINK], CUT)
    client.sendall(b"lost")
    assert is_silent(client)
    network.heal([LINK])
    assert is_reset(client)


def test_a_connection_that_lost_nothing_goes_on_after_a_cut(network: Network, client: socket.socket) -> None:
    assert ask(client, b"before") == b"before"
    network.set([LINK], CUT)
    network.heal([LINK])
    assert ask(client, b"after") == b"after"


@pytest.mark.parametrize("cut", [Condition(forward=Way.SWALLOW), Condition(backward=Way.SWALLOW)])
def test_one_way_can_be_cut_alone(network: Network, echo: str, client: socket.socket, cut: Condition) -> None:
    ask(client, b"before")
    carried = network.carried_bytes()[LINK]
    network.set([LINK], cut)
    client.sendall(b"four")
    assert is_silent(client)
    assert network.carried_bytes()[LINK] - carried == (4 if cut.forward is Way.PASS else 0)
    network.heal([LINK])


def test_what_a_held_link_kept_arrives_when_it_heals(network: Network, client: socket.socket) -> None:
    network.set([LINK], Condition(forward=Way.HOLD))
    client.sendall(b"late")
    assert is_silent(client)
    network.heal([LINK])
    assert receive(client, 4) == b"late"


def test_a_connection_made_while_the_link_is_cut_hears_nothing(network: Network, echo: str) -> None:
    address = network.relay("n2", echo, SOURCES)
    network.set([LINK], CUT)
    with connect(address) as client:
        client.sendall(b"hello")
        assert is_silent(client)
        network.heal([LINK])
        assert is_reset(client)


def test_a_refusing_link_resets_old_and_new_connections(network: Network, echo: str) -> None:
    address = network.relay("n2", echo, SOURCES)
    with connect(address) as old:
        ask(old, b"x")
        network.set([LINK], Condition(refuse=True))
        assert is_reset(old)
        assert is_turned_away(address)
    network.heal([LINK])
    with connect(address) as again:
        assert ask(again, b"x") == b"x"


def test_a_reset_link_takes_new_connections_at_once(network: Network, echo: str) -> None:
    address = network.relay("n2", echo, SOURCES)
    with connect(address) as old:
        ask(old, b"x")
        network.reset([LINK])
        assert is_reset(old)
    with connect(address) as new:
        assert ask(new, b"x") == b"x"


def test_a_delay_holds_in_both_directions_and_keeps_the_order(network: Network, client: socket.socket) -> None:
    network.set([LINK], Condition(delay_s=0.1, jitter_s=0.1))
    began_s = time.monotonic()
    assert b"".join([ask(client, b"1"), ask(client, b"2")]) == b"12"
    assert time.monotonic() - began_s >= 0.4  # twice there and back; how much later does not matter


def test_a_narrow_link_carries_no_more_than_its_rate(network: Network, client: socket.socket) -> None:
    network.set([LINK], Condition(bytes_per_s=200_000))
    began_s = time.monotonic()
    assert ask(client, bytes(60_000)) == bytes(60_000)
    assert time.monotonic() - began_s >= 0.2


def test_a_link_to_where_nobody_listens_ends_the_connection(network: Network) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert is_turned_away(network.relay("n2", f"127.0.0.1:{unused.getsockname()[1]}", SOURCES))


def test_an_order_for_a_link_that_is_not_there_is_an_error(network: Network) -> None:
    with pytest.raises(NetworkError, match="n8>n9"):
        network.heal(["n8>n9"])


def test_a_stopped_network_obeys_no_more() -> None:
    network = Network()
    network.start()
    network.stop()
    network.stop()
    with pytest.raises(NetworkError, match="does not run"):
        network.carried_bytes()


def test_a_partition_is_every_link_between_the_two_sides() -> None:
    assert set(links_across(["n1"], ["n2", "n3"])) == {"n1>n2", "n2>n1", "n1>n3", "n3>n1"}


def test_a_link_is_that_of_the_process_which_connects(network: Network, echo: str, tmp_path: Path) -> None:
    python = tmp_path / "python"  # under the name that this process has, another one would be n1 too
    python.symlink_to(Path(sys.executable).resolve())
    address = network.relay("n2", echo, SOURCES)
    network.set([LINK], CUT)
    program = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
    program += "s.sendall(b'x'); print(s.recv(1))"
    port = address.rpartition(":")[2]
    with connect(address) as own:
        own.sendall(b"x")
        assert is_silent(own)
        command = [str(python), "-c", program, port, "another-process"]
        assert subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S).stdout == b"b'x'\n"
    carried = network.carried_bytes()
    assert (carried[LINK], carried["n3>n2"]) == (0, 2)


def test_a_process_that_is_no_source_is_carried_as_it_is(network: Network, echo: str) -> None:
    address = network.relay("n2", echo, {"n3": "another-process"})
    network.set([between("n3", "n2")], CUT)
    with connect(address) as client:
        assert ask(client, b"x") == b"x"
