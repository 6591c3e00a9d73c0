"""The network between the nodes of a cluster, as a fault sees it: links that can be cut, slowed and reset.

Each directed pair of nodes has a relay of its own in one proxy process (chaos/proxy.py); a node is configured with the
relays as its peers' addresses. A link carries what its source says: nodes answer on a connection of their own.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from chaos.proxy import GOOD, Condition, Way
from cli.supervisor import environment
from nodes.config import split_address

STOP_TIMEOUT_S = 5.0
CUT = Condition(forward=Way.SWALLOW, backward=Way.SWALLOW)


class NetworkError(Exception):
    """The proxy did not do what it was told, or is gone."""


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

    def relay(self, link: str, target: str) -> str:
        """Opens the link `link`, which leads to `target`; the address to connect to instead."""
        host, port = split_address(target)
        return f"127.0.0.1:{self._order(do='open', link=link, host=host, port=port)}"

    def relay_peers(self, source: str, addresses: Mapping[str, str]) -> dict[str, str]:
        """What node `source` is to take for its peers' addresses: a relay for each but itself."""
        return {
            name: address if name == source else self.relay(between(source, name), address)
            for name, address in addresses.items()
        }

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
