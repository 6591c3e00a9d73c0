"""The network between nodes as Linux makes it, where root is there: each node in a network namespace of its own.

The namespaces meet at a bridge in one more of them, so that nothing outside is changed. A link is cut by giving its
source a false hardware address for its target: packets leave and arrive nowhere, acknowledgements among them, which a
relay can not do. Clients and the command line reach nodes on loopback as ever, through relays of the proxy.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaos.network import Network, NetworkError, Plan
from chaos.proxy import Condition, Way
from cli import layout
from nodes.addresses import split_address

SUBNET = "10.213.0"
PREFIX = "mailraft-"
HUB = "hub"
NAMESPACES = Path("/run/netns")
NOWHERE = "02:00:00:00:ff:ff"


def missing() -> str:
    """Why it can not be done here, "" if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "the command ip is not installed (Debian: apt-get install iproute2)"


class Namespaces(Network):
    """The same as a Network, for cuts: `stop` removes the namespaces."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}

    def connect(self, nodes: Sequence[layout.Node]) -> Plan:
        """Makes the namespaces, and relays for clients. Raises NetworkError."""
        _remove_left_behind()
        self._numbers = {node.name: number for number, node in enumerate(nodes, 1)}
        _ip("netns", "add", _space(HUB))
        _ip("-n", _space(HUB), "link", "add", "bridge", "type", "bridge")
        _ip("-n", _space(HUB), "link", "set", "bridge", "up")
        for node in nodes:
            self._add(node.name)
            for use, address in node.addresses.items():
                if use != "raft":
                    self.enter(address, str(NAMESPACES / _space(node.name)))
        addresses = {node.name: f"{self._address(node.name)}:{_port(node)}" for node in nodes}
        wrapper = {node.name: ["ip", "netns", "exec", _space(node.name)] for node in nodes}
        return Plan(addresses, addresses, wrapper)

    def set(self, links: Iterable[str], condition: Condition) -> None:
        """Cuts links, or lets them pass. Raises NetworkError for anything else."""
        if condition.refuse or condition.delay_s or condition.bytes_per_s:
            raise NetworkError("links between namespaces can be cut, and nothing else")
        for link in links:
            source, _, target = link.partition(">")
            self._lead(source, target, _hardware(self._numbers[target]) if condition.forward is Way.PASS else NOWHERE)

    def reset(self, links: Iterable[str]) -> None:
        raise NetworkError("links between namespaces can be cut, and nothing else")

    def stop(self) -> None:
        super().stop()
        _remove(str(os.getpid()))

    def _add(self, name: str) -> None:
        space, number = _space(name), self._numbers[name]
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        ends = ("address", _hardware(number), "type", "veth", "peer", "name", name, "netns", _space(HUB))
        _ip("-n", space, "link", "add", "eth0", *ends)
        _ip("-n", space, "address", "add", f"{self._address(name)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", _space(HUB), "link", "set", name, "master", "bridge", "up")
        for other in self._numbers:
            if other != name:
                self._lead(name, other, _hardware(self._numbers[other]))

    def _lead(self, source: str, target: str, hardware: str) -> None:
        entry = (self._address(target), "lladdr", hardware, "dev", "eth0", "nud", "permanent")
        _ip("-n", _space(source), "neighbour", "replace", *entry)

    def _address(self, name: str) -> str:
        return f"{SUBNET}.{self._numbers[name]}"


def _space(name: str) -> str:
    return f"{PREFIX}{os.getpid()}-{name}"


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _port(node: layout.Node) -> int:
    return split_address(node.addresses["raft"])[1]


def _remove_left_behind() -> None:
    """Namespaces of runs that were killed."""
    for space in NAMESPACES.glob(f"{PREFIX}*-*"):
        pid = space.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            _remove(pid)


def _remove(pid: str) -> None:
    for space in NAMESPACES.glob(f"{PREFIX}{pid}-*"):
        with contextlib.suppress(NetworkError):
            _ip("netns", "delete", space.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
