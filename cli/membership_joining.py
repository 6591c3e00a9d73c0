"""A node that is added without the cluster's folder: its own is made here, with a token that the cell gives."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli import layout_changes
from cli.client import AdminClient
from cli.layout import PORTS_PER_NODE, Node
from cli.node_join import make_folder
from cli.output import CommandError, say
from nodes.tls.joining_token import JoiningToken

TOKEN_TTL_S = 600


def folder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the folder of a node is made that joins by HOST:PORT."""
    command = click.option(
        "--base-port",
        type=click.IntRange(1024, 65535 - PORTS_PER_NODE),
        default=20000,
        show_default=True,
        help="With --folder: the first port of the node.",
    )(command)
    return click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="With HOST:PORT: make the node's folder here; run it then with `mailraft node run`.",
    )(command)


def joined(client: AdminClient, name: str | None, host: str | None, folder: Path | None, base_port: int) -> Node:
    """The node whose folder this is, made where there is none yet. Raises CommandError."""
    if folder is None or host is None:
        raise click.UsageError(
            "With HOST:PORT the node's folder is made on this machine: --folder FOLDER, and --host, its address."
        )
    if (folder / "mailraft.toml").exists():
        return _there_already(client, folder)
    wanted = {"name": name or layout_changes.next_name(client.cluster), "ttl_s": TOKEN_TTL_S}
    token = JoiningToken.read(client.change("POST", "/v1/cluster/tokens", wanted)["token"])
    node = make_folder(token, folder, host, base_port)
    say(f"{node.name}: its folder is {node.folder}")
    return node


def _there_already(client: AdminClient, folder: Path) -> Node:
    """That of an earlier call."""
    try:
        document = tomllib.loads((folder / "mailraft.toml").read_text())
        own, addresses = document["node"], {**document["listen"], "raft": document["raft"]["listen"]}
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"{folder}: its mailraft.toml can not be read: {error}", "another folder") from None
    if own["cluster_id"] != client.cluster.id:
        raise CommandError(f"{folder} is of a node of another cell, {own['cluster_id']}", "another folder")
    return Node(own["name"], folder.resolve(), addresses)
