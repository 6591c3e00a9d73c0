"""The folder of a cluster on this machine: what stands where, and how it is made.

DIR/cluster.toml names the nodes and their addresses; DIR/ca, DIR/admin and DIR/n1 ... hold keys, so
they are open to their owner only. Reading a folder never changes it.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tomli_w

from cli.output import CommandError
from nodes.files import write_atomically

if TYPE_CHECKING:
    from nodes.tls.contexts import Authority

FORMAT = 1
CLUSTER_FILE = "cluster.toml"
PORTS = (
    "raft",
    "smtp",
    "submission",
    "submissions",
    "lmtp",
    "imap",
    "imaps",
    "pop3",
    "pop3s",
    "http",
    "admin",
    "region",
)
ENDPOINTS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http")
LATER = ("region",)  # what a folder of an earlier version may lack
PORTS_PER_NODE = 20
LOOPBACK = "127.0.0.1"
ELSEWHERE = Path()  # the folder of a node that is known by its address alone


class Node(NamedTuple):
    """One member: its folder and host:port by use (PORTS); which node it is to take the place of, if any."""

    name: str
    folder: Path
    addresses: dict[str, str]
    replaces: str = ""

    @property
    def is_here(self) -> bool:
        """Whether its folder may be on this machine."""
        return self.folder != ELSEWHERE

    @property
    def config(self) -> Path:
        return self.folder / "mailraft.toml"

    @property
    def pid_file(self) -> Path:
        return self.folder / "node.pid"

    @property
    def log_file(self) -> Path:
        return self.folder / "node.log"


class Cluster(NamedTuple):
    """A cluster's folder, read."""

    folder: Path
    id: str
    nodes: tuple[Node, ...]
    removed: tuple[str, ...] = ()  # names that are not used again: such a node voted once, and may turn up

    @property
    def file(self) -> Path:
        return self.folder / CLUSTER_FILE

    @property
    def lock_file(self) -> Path:
        return self.folder / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.folder / "supervisor.log"

    def node(self, name: str) -> Node:
        """The node with this name. Raises CommandError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise CommandError(f"{self.folder} has no node {name}", f"one of {', '.join(n.name for n in self.nodes)}")


def load(folder: Path) -> Cluster:
    """Reads DIR/cluster.toml. Raises CommandError."""
    file = folder / CLUSTER_FILE
    try:
        document = tomllib.loads(file.read_text())
        return _cluster(folder.resolve(), document)
    except (FileNotFoundError, NotADirectoryError):
        from cli.token_client import is_address

        if is_address(folder):
            raise CommandError(
                f"{folder} is where nodes answer, and this command needs the folder of the cluster",
                "--cluster DIR, on the machine that has it",
            ) from None
        raise CommandError(
            f"{folder} is not a cluster: it has no {CLUSTER_FILE}", f"mailraft cluster init {folder}"
        ) from None
    except OSError as error:
        raise CommandError(f"{file}: can not be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: not valid TOML: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CommandError(f"{file}: not as `mailraft cluster init` wrote it ({error})") from None


def _cluster(folder: Path, document: dict[str, Any]) -> Cluster:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}; this version reads {FORMAT}")
    nodes = tuple(
        Node(name, folder / entry["folder"], _addresses(entry), str(entry.get("replaces", "")))
        for name, entry in document["nodes"].items()
    )
    return Cluster(folder, str(document["id"]), nodes, tuple(map(str, document.get("removed", ()))))


def _addresses(entry: dict[str, Any]) -> dict[str, str]:
    return {use: str(entry[use]) for use in PORTS if use in entry or use not in LATER}


def create(folder: Path, count: int, base_port: int) -> Cluster:
    """Makes the folder of a new cluster: configuration, CA, certificates, keys. Raises CommandError."""
    try:
        _refuse_occupied(folder)
        return _write(_plan(folder.resolve(), count, base_port))
    except OSError as error:
        reason = error.strerror or error
        raise CommandError(
            f"{folder}: can not be made: {reason}", "a folder of your own, on a disk with room"
        ) from None


def _write(cluster: Cluster) -> Cluster:
    from nodes.tls import contexts as tls

    folder = cluster.folder
    key = secrets.token_hex(32).encode() + b"\n"
    for private in (folder, folder / "ca", folder / "admin"):
        private.mkdir(mode=0o700, parents=private == folder, exist_ok=True)
    authority = tls.create_authority(folder / "ca", cluster.id)
    tls.issue_admin(authority, folder / "admin", cluster.id)
    for node in cluster.nodes:
        write_node(cluster, node, authority, key)
    save(cluster)  # last: a folder is a cluster only when all of it is there
    return cluster


def write_node(cluster: Cluster, node: Node, authority: Authority, key: bytes, join: Sequence[str] = ()) -> None:
    """Everything in the folder of one node; `join`: the admin addresses from which it gets its database."""
    from nodes.tls import contexts as tls

    for private in (node.folder, node.folder / "data"):
        private.mkdir(mode=0o700, exist_ok=True)
    tls.issue_node(authority, node.folder, cluster.id, node.name, certificate_hosts(node))
    write_atomically(node.folder / "cluster.key", key, 0o600)
    write_atomically(node.config, node_toml(cluster, node, join))


def save(cluster: Cluster) -> None:
    """Writes DIR/cluster.toml; a supervisor that runs follows it."""
    write_atomically(cluster.file, _cluster_toml(cluster))


def renew(cluster: Cluster) -> None:
    """New keys and certificates for every node and the administrator, of the same CA. Raises CommandError."""
    from nodes.tls import contexts as tls

    try:
        authority = tls.load_authority(cluster.folder / "ca")
        (cluster.folder / "admin").mkdir(mode=0o700, exist_ok=True)
        tls.issue_admin(authority, cluster.folder / "admin", cluster.id)
        for node in cluster.nodes:
            tls.issue_node(authority, node.folder, cluster.id, node.name, certificate_hosts(node))
    except (OSError, ValueError) as error:
        raise CommandError(f"the CA in {cluster.folder / 'ca'} can not be used: {error}") from None


def certificate_hosts(node: Node) -> tuple[str, ...]:
    """The names under which a node's certificate is valid for mail clients."""
    return ("localhost", _hostname(node.name), LOOPBACK, "::1")


def _hostname(name: str) -> str:
    return f"{name}.localhost"  # a name under .localhost is this machine (RFC 6761 6.3)


def _refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is a file", "another name for the cluster's folder")
    if folder.is_dir() and any(folder.iterdir()):
        if (folder / CLUSTER_FILE).exists():
            raise CommandError(f"{folder} is a cluster already", f"mailraft cluster up {folder}")
        raise CommandError(f"{folder} is not empty", "an empty folder, or one that does not exist yet")
    parent = next(part for part in (folder, *folder.resolve().parents) if part.is_dir())
    if not os.access(parent, os.W_OK):
        raise CommandError(f"{parent} can not be written to", "a folder of your own")


def _plan(folder: Path, count: int, base_port: int) -> Cluster:
    nodes = []
    for index in range(count):
        first = base_port + index * PORTS_PER_NODE
        addresses = {use: f"{LOOPBACK}:{first + offset}" for offset, use in enumerate(PORTS)}
        nodes.append(Node(f"n{index + 1}", folder / f"n{index + 1}", addresses))
    return Cluster(folder, f"cell-{secrets.token_hex(6)}", tuple(nodes))


def _cluster_toml(cluster: Cluster) -> bytes:
    document: dict[str, Any] = {"format": FORMAT, "id": cluster.id}
    if cluster.removed:
        document["removed"] = list(cluster.removed)
    nodes = {
        node.name: {
            "folder": str(node.folder.relative_to(cluster.folder)),
            **node.addresses,
            **({"replaces": node.replaces} if node.replaces else {}),
        }
        for node in cluster.nodes
    }
    return tomli_w.dumps(document | {"nodes": nodes}).encode()


def node_toml(cluster: Cluster, node: Node, join: Sequence[str]) -> bytes:
    """The configuration of a node among those that the cluster names."""
    listen = {use: address for use, address in node.addresses.items() if use != "raft"}
    document = {
        "node": {
            "name": node.name,
            "cluster_id": cluster.id,
            "hostname": _hostname(node.name),
            "data_dir": "data",
            "pid_file": node.pid_file.name,
        },
        "raft": {
            "listen": node.addresses["raft"],
            "peers": {member.name: member.addresses["raft"] for member in cluster.nodes},
            **({"join": list(join)} if join else {}),
        },
        "listen": listen,
        "tls": {"ca": "ca.pem", "certificate": "node.pem", "key": "node.key"},
        "secrets": {"cluster_key_file": "cluster.key"},
        # the whole cluster is on this machine: its clients all have one address, and no network is between
        "limits": {"connections_per_address": 2000},
        "auth": {"plaintext_without_tls": "loopback"},
    }
    head = "# Written by `mailraft cluster init`; every key is explained in docs/reference/configuration.md\n"
    return (head + tomli_w.dumps(document)).encode()
