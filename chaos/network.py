"""The network between the nodes of a cluster, as a fault sees it: links that can be cut, slowed and reset.

All nodes are told that each other is where the proxy listens (chaos/proxy.py), which knows each connection's source; so
there is a link for each directed pair. It carries what its source says: members answer on connections of their own.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, NamedTuple, Self

from chaos.proxy import GOOD, Condition, Way
from cli import layout
from cli.supervisor import environment
from nodes.addresses import split_address

STOP_TIMEOUT_S = 5.0
CUT = Condition(forward=Way.SWALLOW, backward=Way.SWALLOW)


class NetworkError(Exception):
    """The proxy did not do what it was told, or is gone."""


class Plan(NamedTuple):
    """How nodes are to be started: where each listens for its peers, where they find it, what starts its supervisor."""

    listen: dict[str, str]
    peers: dict[str, str]
    wrapper: dict[str, list[str]]


class Network:
    """`with Network() as network:` runs the proxy; it ends with the block, or with this process."""

    def __init__(self) -> None:
        self._proxy: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        self._proxy = subprocess.Popen(
            [sys.executable, "-P", "-m", "chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for whoever started us
        )

    def stop(self) -> None:
        """Ends the proxy, and with it every connection. Safe to call twice."""
        proxy, self._proxy = self._proxy, None
        if proxy is None:
            return
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        proxy.stdin.close()
        try:
            proxy.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            proxy.kill()
            proxy.wait()
        proxy.stdout.close()

    def connect(self, nodes: Sequence[layout.Node]) -> Plan:
        """A link for each directed pair of these nodes; the configuration that they run with tells them apart."""
        configs = {node.name: str(node.config) for node in nodes}
        listen = {node.name: node.addresses["raft"] for node in nodes}
        return Plan(listen, {name: self.relay(name, address, configs) for name, address in listen.items()}, {})

    def enter(self, address: str, namespace: str) -> None:
        """Carries connections to this address to the same one inside a network namespace."""
        host, port = split_address(address)
        self._order(do="enter", host=host, port=port, namespace=namespace)

    def relay(self, target: str, address: str, sources: Mapping[str, str]) -> str:
        """Where to connect to instead of a node's address, for a link from each source; those are told from each other
        by a word of their command lines. A connection from anywhere else is carried as it is."""
        host, port = split_address(address)
        return f"127.0.0.1:{self._order(do='open', target=target, host=host, port=port, sources=dict(sources))}"

    def set(self, links: Iterable[str], condition: Condition) -> None:
        """From now on these links are so. Blocking; raises NetworkError."""
        self._order(do="set", links=list(links), condition=asdict(condition))

    def heal(self, links: Iterable[str]) -> None:
        self.set(links, GOOD)

    def reset(self, links: Iterable[str]) -> None:
        """Every connection of these links ends by RST; new ones are taken at once."""
        self._order(do="reset", links=list(links))

    def carried_bytes(self) -> dict[str, int]:
        """What each link has carried so far."""
        carried: dict[str, int] = self._order(do="carried")
        return carried

    def _order(self, **order: Any) -> Any:
        with self._turn:
            proxy = self._proxy
            if proxy is None or proxy.stdin is None or proxy.stdout is None:
                raise NetworkError("the proxy does not run")
            try:
                proxy.stdin.write(json.dumps(order) + "\n")
                proxy.stdin.flush()
                answer = json.loads(proxy.stdout.readline())
            except (OSError, ValueError) as error:
                raise NetworkError(f"the proxy is gone ({error})") from error
        if "error" in answer:
            raise NetworkError(answer["error"])
        return answer["result"]


def between(source: str, target: str) -> str:
    """The name of the link that carries what `source` says to `target`."""
    return f"{source}>{target}"


def links_across(side: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """Every link, both ways, between one side and the others."""
    others = list(others)
    for one in side:
        for other in others:
            yield between(one, other)
            yield between(other, one)
