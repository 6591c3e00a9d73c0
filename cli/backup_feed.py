"""Where a backup grows from: the nodes of a cluster that runs, else their databases, or one that is named."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import AdminClient, Unreachable
from cli.guarded import read_in_a_child
from cli.layout import Cluster, Node
from cli.options import open_client, token_options
from cli.output import CommandError
from cli.paths import api_path
from cli.restore_source import cell_id, choose_node
from eventlog.segments import SEGMENT_BYTES

if TYPE_CHECKING:
    from eventlog.backup import Feed
    from eventlog.backup_tables import Row, TablesHead
    from eventlog.segment_frames import Read
    from eventlog.segments import SegmentHeader, SegmentRecord


def feed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--cluster or --data."""
    command = click.option(
        "--data",
        "data_dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="A node's data folder, read beside the node or without it, instead of --cluster.",
    )(command)
    return click.option(
        "--cluster",
        "cluster_dir",
        type=click.Path(path_type=Path),
        envvar="MAILRAFT_CLUSTER",
        show_envvar=True,
        metavar="DIR|HOST:PORT",
        help="Folder of the cluster; or where a node's admin API is, with a token.",
    )(token_options(command))


class ApiFeed:
    """The node of a running cluster that has the most."""

    def __init__(self, cluster: Cluster, client: AdminClient, node: Node, applied: int, most_bytes: int) -> None:
        self.cell = cluster.id
        self._most_bytes = most_bytes
        self._client = client
        self._node = node
        self._applied = applied

    def last(self) -> int:
        return self._applied

    def segment(self, first: int, last: int) -> tuple[SegmentHeader, Iterator[SegmentRecord]]:
        from eventlog.segments import read_stream

        path = api_path("/v1/log/segment", first=first, last=last, most_bytes=self._most_bytes)
        return read_stream(self._open(path), f"what {self._node.name} sent")

    @contextmanager
    def tables(self) -> Iterator[tuple[TablesHead, Iterator[Row]]]:
        from eventlog.backup_tables import read_tables

        yield read_tables(self._open("/v1/log/tables"), f"what {self._node.name} sent")

    def _open(self, path: str) -> Read:
        from eventlog.segment_frames import SegmentError

        response = self._client.open(path, self._node.name)

        def read(count: int) -> bytes:
            try:
                return response.read(count)
            except (OSError, http.client.HTTPException) as error:
                raise SegmentError(f"{self._node.name}: the node went away ({error}); run it again") from None

        return read


@contextmanager
def find_feed(
    cluster_dir: Path | None, data_dir: Path | None, most_bytes: int = SEGMENT_BYTES
) -> Iterator[tuple[Feed, bytes | None]]:
    """The log to back up, and the cluster's own key where it is there. Raises CommandError."""
    if data_dir is not None:
        with _of_database(data_dir, most_bytes) as found:
            yield found
        return
    if cluster_dir is None:
        raise click.UsageError(
            "--cluster DIR or --data DIR is missing; MAILRAFT_CLUSTER may name the cluster's folder."
        )
    client = open_client(cluster_dir).every_node()
    running = _running(client, most_bytes)
    if running is not None:
        here = (node.folder for node in client.cluster.nodes if node.is_here)
        yield running, next((key for folder in here if (key := _key_beside(folder))), None)
        return
    with _of_database(cluster_dir, most_bytes) as found:
        yield found


@contextmanager
def _of_database(place: Path, most_bytes: int) -> Iterator[tuple[Feed, bytes | None]]:
    from eventlog.backup import StoreFeed
    from eventlog.store import open_for_reading

    read_in_a_child(place)
    chosen, _ = choose_node(place)
    with open_for_reading(chosen.data) as store:
        yield StoreFeed(store, cell_id(chosen.folder), most_bytes), _key_beside(chosen.folder)


def _running(client: AdminClient, most_bytes: int) -> ApiFeed | None:
    """The feed of the node that has applied the most: whatever was acknowledged, one of them has folded."""
    cluster = client.cluster
    answering: list[tuple[int, str, Node]] = []
    for node in cluster.nodes:
        with contextlib.suppress(Unreachable):
            answering.append((client.status(node).get("applied") or 0, node.name, node))
    if not answering:
        return None
    applied, _, best = max(answering)
    return ApiFeed(cluster, client, best, applied, most_bytes)


def _key_beside(node_folder: Path) -> bytes | None:
    from cli.restore_source import read_key

    try:
        return read_key(node_folder / "cluster.key")
    except CommandError:
        return None
