"""The command line for those who have a token and no certificate: no folder of the cluster is needed.

The node is who its certificate says: a node of the cell whose CA is given, or a host name under the system's CAs.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Self

from cli.client import ANSWER_TIMEOUT_S, AdminClient
from cli.layout import ELSEWHERE, Cluster, Node
from cli.output import CommandError
from nodes.tls.links import context_of, peer_name

TOKEN_VARIABLE = "MAILRAFT_TOKEN"
MOST_TOKEN_BYTES = 4096
_ADDRESS = re.compile(r"(?:https:/{1,2})?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})/?")
_ANY_NODE = "mailraft://"


def is_address(place: Path) -> bool:
    """Whether this names no folder but host:port, or several with commas between, perhaps as a URL."""
    parts = str(place).split(",")
    return not place.exists() and all(_ADDRESS.fullmatch(part.strip()) for part in parts)


def read_token(file: Path | None) -> str | None:
    """The token in the file, or in MAILRAFT_TOKEN; None where neither is given. Raises CommandError."""
    if file is None:
        text = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not text:
            return None
    else:
        try:
            with file.open("rb") as opened:
                text = opened.read(MOST_TOKEN_BYTES).decode("ascii", "replace").strip()
        except OSError as error:
            raise CommandError(f"{file}: can not be read: {error.strerror}") from None
    if not text.isascii() or not text.isprintable() or len(text.split()) != 1:
        raise CommandError(f"{file or TOKEN_VARIABLE}: holds no token", "the line that `mailraft token create` printed")
    return text


class TokenClient(AdminClient):
    """Talks to the nodes with a token."""

    def __init__(self, cluster: Cluster, ca: Path | None, token: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._ca = ca
        self._token = token
        self._every_node: TokenClient | None = None
        super().__init__(cluster, timeout_s=timeout_s)
        self._headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def at(cls, addresses: str, ca: Path | None, token: str | None, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Self:
        """For the nodes at these addresses. Raises CommandError."""
        if token is None:
            raise CommandError(
                f"{addresses} is no folder of a cluster, so a token is needed",
                f"--token-file FILE, or {TOKEN_VARIABLE} in the environment (mailraft token create)",
            )
        found = [match for part in addresses.split(",") if (match := _ADDRESS.fullmatch(part.strip()))]
        names = [f"{match['host']}:{match['port']}" for match in found]
        nodes = tuple(Node(name, ELSEWHERE, {"admin": name}) for name in names)
        return cls(Cluster(Path(addresses), "", nodes), ca, token, timeout_s=timeout_s)

    @classmethod
    def of_folder(cls, cluster: Cluster, token: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Self:
        """For the cluster in a folder, without its administrator's certificate. Raises CommandError."""
        return cls(cluster, cluster.folder / "ca" / "ca.pem", token, timeout_s=timeout_s)

    @property
    def node_names(self) -> tuple[str, ...]:
        """Of all nodes, though one's address was given."""
        return super().node_names if self._cluster.id else self.every_node().node_names

    def node(self, name: str) -> Node:
        given = [one for one in self._cluster.nodes if one.name == name]
        return given[0] if given and not self._cluster.id else self.every_node().cluster.node(name)

    def every_node(self) -> TokenClient:
        """Every node, as the first that answers hears of them; that one where it answered."""
        if self._cluster.id:
            return self
        failure: CommandError | None = None
        for given in self._cluster.nodes if self._every_node is None else ():
            try:
                cell = self._as_seen_by(given)
            except CommandError as error:
                failure = error
                continue
            self._every_node = self._of(cell)
            break
        if self._every_node is None:
            assert failure is not None
            raise failure
        return self._every_node

    def _of(self, cluster: Cluster) -> TokenClient:
        return TokenClient(cluster, self._ca, self._token, timeout_s=self._timeout_s)

    def _as_seen_by(self, given: Node) -> Cluster:
        told = self.get("/v1/health", given.name)
        id_, removed = self.get("/v1/status", given.name)["cluster_id"], self.get("/v1/members", given.name)["removed"]
        where = {one["name"]: one["addresses"] for one in told["nodes"]}
        where[told["seen_by"]] = {**where[told["seen_by"]], **given.addresses}
        nodes = tuple(Node(name, ELSEWHERE, addresses) for name, addresses in where.items())
        return self._cluster._replace(id=id_, nodes=nodes, removed=tuple(removed))

    def _context(self, cluster: Cluster) -> ssl.SSLContext:
        context = context_of(ssl.PROTOCOL_TLS_CLIENT, ssl.TLSVersion.TLSv1_3)
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = self._ca is None  # with a cell's own CA the URI counts, not the address
        try:
            if self._ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise CommandError(f"{self._ca}: is no CA that can be used: {error}", "DIR/ca/ca.pem") from None
        return context

    def _server_name(self, node: Node) -> str | None:
        return node.addresses["admin"].rpartition(":")[0].strip("[]") if self._ca is None else None

    def _check_peer(self, secure: ssl.SSLSocket, node: Node) -> None:
        if self._ca is None:
            return
        prefix = f"{_ANY_NODE}{self._cluster.id}/node/" if self._cluster.id else _ANY_NODE
        found = peer_name(secure, prefix)
        expected = node.name if self._cluster.id else None
        if found is None or (expected is None and "/node/" not in found) or (expected not in (None, found)):
            secure.close()
            raise ConnectionRefusedError("what answers there is no node of that cell")
