"""The servers of `mailraft bench imap`: fresh cells of ours, and Dovecot, all there at the same time for turns.

Our nodes are asked at their leader first; what a full-text index says of messages is made when the benchmark asks for
it, and not beside a measurement.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.cluster import Cluster, free_base_port
from cli.bench import dovecot_peer
from cli.bench.dovecot_peer import DovecotPeer
from cli.bench.imap_client import ImapClient
from cli.bench.processor_time import cpu_seconds, with_descendants

ACCOUNT = "alice@bench.test"
CONNECTIONS_BESIDE = 300
INDEX_TIMEOUT_S = 600.0  # it takes what nobody else wants of the processors
NAMES = {1: "one node", 3: "three nodes", 5: "five nodes"}
DOVECOT = "Dovecot"
KIB = 1024


@dataclass(frozen=True)
class Server:
    """Where sessions are opened, by turns where there are several endpoints, and the processes behind."""

    name: str
    endpoints: Sequence[str]
    user: str
    password: str
    processes: Callable[[], list[int]]
    index: Callable[[], object]  # has all that is there now indexed, where there is an index

    def open(self, number: int = 0) -> ImapClient:
        """Raises ImapFailed or OSError."""
        return ImapClient(self.endpoints[number % len(self.endpoints)], self.user, self.password)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.processes())

    def memory_kib(self) -> int:
        """Of all its processes, pages that several share counted once."""
        return sum(map(_share_kib, self.processes()))


def _share_kib(process: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # it has ended
        return 0
    return int(found[1]) if found else 0


@contextmanager
def servers(sizes: Sequence[int], with_dovecot: bool, connections: int) -> Iterator[list[Server]]:
    """Dovecot first, then a cell of each size. Raises PeerError, ClusterError; nothing is left of them afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mailraft-bench."))
    try:
        with ExitStack() as running:
            found = []
            if with_dovecot:
                found.append(_dovecot(running.enter_context(DovecotPeer(free_base_port(1)))))
            for nodes in sizes:
                cluster = Cluster(folder / str(nodes), nodes, _environment(connections))
                found.append(_ours(running.enter_context(cluster), nodes))
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(connections: int) -> dict[str, str]:
    most = str(connections + CONNECTIONS_BESIDE)
    return {
        "MAILRAFT_AUTH_PLAINTEXT_WITHOUT_TLS": "loopback",
        "MAILRAFT_FULLTEXT_DELAY_S": "3600",
        "MAILRAFT_LIMITS_CONNECTIONS": most,
        "MAILRAFT_LIMITS_CONNECTIONS_PER_ADDRESS": most,
    }


def _ours(cluster: Cluster, nodes: int) -> Server:
    password = cluster.add_accounts("bench", (ACCOUNT,))
    status = cluster.status()
    ordered = sorted(status.nodes, key=lambda node: node.name != status.leader)
    return Server(
        NAMES[nodes],
        [node.endpoints["imap"] for node in ordered],
        ACCOUNT,
        password,
        lambda: [one for node in ordered for one in with_descendants(node.pid)],
        lambda: cluster.command("search", "rebuild", "--node", ordered[0].name, timeout_s=INDEX_TIMEOUT_S),
    )


def _dovecot(peer: DovecotPeer) -> Server:
    user, password = dovecot_peer.USER, dovecot_peer.PASSWORD
    return Server(DOVECOT, [peer.endpoint], user, password, peer.processes, lambda: None)
