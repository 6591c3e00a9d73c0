"""`mailraft search`: the nodes' full-text indexes, which make searches of texts quick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import Group
from cli.jobs import progress_bar
from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import FAILED, CommandError, counted, print_json, print_table, say

if TYPE_CHECKING:
    from cli.client import AdminClient, NothingDone

POLL_S = 0.3


@click.group(cls=Group)
def search() -> None:
    """The full-text indexes of the nodes; searches are answered without them too, only slower."""


@search.command()
@node_option
@cluster_option
@json_option
def status(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Show how far each node's index is behind its log, and how much is in it."""
    client = open_client(cluster_dir)
    found = {name: _status(client, name) for name in (client.node_names if node is None else (node,))}
    if as_json:
        print_json(found)
        return
    rows = [
        (name, one["state"], one["position"], one["log"], one["messages"], one["error"] or "-")
        if one
        else (name, "down", "-", "-", "-", "-")
        for name, one in found.items()
    ]
    print_table(("node", "index", ">indexed to", ">log ends at", ">messages", "error"), rows, "there is no node")


@search.command()
@node_option
@cluster_option
@json_option
def rebuild(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Make the indexes anew, one node after the other, while searches go on with the old ones.

    A node that can not be asked does not keep the others from theirs; it is named at the end.
    """
    from cli.client import NothingDone

    client = open_client(cluster_dir)
    done: dict[str, dict[str, Any]] = {}
    left: list[NothingDone] = []
    for name in client.node_names if node is None else (node,):
        try:
            client.change("POST", "/v1/search/rebuild", node=name)
        except NothingDone as error:
            left.append(error)
            continue
        done[name] = _rebuilt(client, name)
        if not as_json:
            say(f"{name}: {counted(done[name]['messages'], 'message')} indexed anew")
    if as_json:
        print_json(done)
    if left:
        text = "\n  ".join(["the indexes of the others are as they were:", *map(str, left)])
        raise CommandError(text, "mailraft search rebuild --node NAME, once it answers", FAILED, left[0].code)


def _rebuilt(client: AdminClient, name: str) -> dict[str, Any]:
    """The status when it is done. Raises CommandError."""
    with progress_bar(name) as update:
        while True:
            found: dict[str, Any] = client.get("/v1/search", name)
            if found["state"] == "failed":
                raise CommandError(f"{name}: {found['error']}", "it is tried again; mailraft search status tells")
            if found["state"] != "rebuilding":
                return found
            update(found["done"], found["total"])
            time.sleep(POLL_S)


def _status(client: AdminClient, name: str) -> dict[str, Any]:
    from cli.client import NothingDone

    try:
        found: dict[str, Any] = client.get("/v1/search", name)
    except NothingDone:  # a node that answers is not down: who asks may not know
        return {}
    return found
