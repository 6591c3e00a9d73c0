"""How the folder of a cluster gains and loses a node. Each step can be done again after an interruption.

A name is never used again: the node that had it voted under it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from cli import layout
from cli.layout import PORTS, PORTS_PER_NODE, Cluster, Node
from cli.output import CommandError
from cli.processes import is_taken
from nodes.addresses import split_address

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")  # as eventlog/members.py takes it: it is a folder's name here
_NOT_NODES = ("admin", "ca")  # folders of the cluster itself
_NUMBERED = re.compile(r"n([1-9][0-9]{0,8})")


def next_name(cluster: Cluster) -> str:
    """n4 in a cluster that had n1 to n3."""
    used = (_NUMBERED.fullmatch(name) for name in (*(node.name for node in cluster.nodes), *cluster.removed))
    return f"n{max((int(found[1]) for found in used if found), default=0) + 1}"


def write(cluster: Cluster, name: str, host: str | None = None, replaces: str = "") -> Node:
    """Makes the folder of a new node, which cluster.toml does not name yet. Raises CommandError."""
    from nodes.tls import contexts as tls

    if not _NAME.fullmatch(name) or name in _NOT_NODES:
        what = "1 to 32 lower-case letters, digits and dashes, a letter first; not admin, not ca"
        raise CommandError(f"{name!a} can not be a node's name: {what}", next_name(cluster))
    if name in cluster.removed:
        raise CommandError(f"{name} was a node of this cell once, and a name is not used again", next_name(cluster))
    folder = cluster.folder / name
    if (folder / "data" / "data.mdb").exists():
        raise CommandError(f"{folder} has a database", "another name, or move that folder away")
    node = Node(name, folder, _addresses(cluster, host or _host(cluster)), replaces)
    grown = with_node(cluster, node)
    try:
        authority = tls.load_authority(cluster.folder / "ca")
        key = (cluster.nodes[0].folder / "cluster.key").read_bytes()
        layout.write_node(grown, node, authority, key, [one.addresses["admin"] for one in cluster.nodes])
    except (OSError, ValueError) as error:
        hint = "the machine that has the cluster's folder with ca/ca.key, and room on its disk"
        raise CommandError(f"the folder of {name} can not be made: {error}", hint) from None
    return node


def with_node(cluster: Cluster, node: Node) -> Cluster:
    """The cluster with one node more."""
    return cluster._replace(nodes=(*cluster.nodes, node))


def without_node(cluster: Cluster, name: str) -> Cluster:
    """The cluster without a node; nothing is to take its place any more."""
    left = tuple(
        node._replace(replaces="") if node.replaces == name else node for node in cluster.nodes if node.name != name
    )
    return cluster._replace(nodes=left, removed=(*cluster.removed, name))


def delete_folder(node: Node) -> None:
    """Everything that the node had. Raises CommandError."""
    try:
        shutil.rmtree(node.folder)
    except OSError as error:
        raise CommandError(f"{node.folder} could not be deleted: {error}", "delete it by hand") from None


def _host(cluster: Cluster) -> str:
    hosts = {node.addresses["raft"].rpartition(":")[0] for node in cluster.nodes}
    if len(hosts) > 1:
        raise CommandError(f"the nodes are on {len(hosts)} hosts, so it is not clear where this one is", "--host HOST")
    return hosts.pop()


def _addresses(cluster: Cluster, host: str) -> dict[str, str]:
    """The next block of ports in which nothing of this machine listens."""
    for first in _blocks(cluster):
        addresses = {use: f"{host}:{first + offset}" for offset, use in enumerate(PORTS)}
        if not any(map(is_taken, addresses.values())):
            return addresses
    raise CommandError("there is no block of free ports above those of the other nodes", "free some")


def _blocks(cluster: Cluster) -> Iterator[int]:
    used = [split_address(address)[1] for node in cluster.nodes for address in node.addresses.values()]
    top = min(split_address(node.addresses["raft"])[1] for node in cluster.nodes)
    while top <= max(used):
        top += PORTS_PER_NODE
    yield from range(top, 65536 - PORTS_PER_NODE, PORTS_PER_NODE)
