"""`mailraft node doctor` and `drain`: whether a machine is fit for its node, and taking a node out of service."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cli.client import Unreachable
from cli.config import config_option, read_config
from cli.options import cluster_option, json_option, open_client, token_options
from cli.output import CommandError, counted, print_json, print_table, say

MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}
LOOK_S = 0.5


@click.command()
@config_option
@click.option(
    "--cluster",
    "cluster_dir",
    type=click.Path(path_type=Path),
    metavar="DIR|HOST:PORT",
    help="Compare clocks with its nodes.",
)
@token_options
@json_option
def doctor(config_file: Path | None, cluster_dir: Path | None, as_json: bool) -> None:
    """Examine this machine for its node: disk, descriptors, ports, kernel, clock, versions, certificates.

    Run it as the node's account. Exits 1 where something is an error.
    """
    from nodes.node_doctor import examine

    found = examine(read_config(config_file).config, _clocks(cluster_dir) if cluster_dir is not None else {})
    errors = sum(one.status == "error" for one in found)
    if as_json:
        print_json({"findings": [one._asdict() for one in found]})
    else:
        rows = [(MARKS[one.status], one.area, "; ".join(filter(None, (one.text, one.advice)))) for one in found]
        print_table(("", "area", "what was found"), rows, "")
    if errors:
        raise CommandError(f"{counted(errors, 'finding')} must be mended", "what stands beside each")


def _clocks(cluster_dir: Path) -> dict[str, float]:
    """By how many seconds each node that answers is ahead of this machine."""
    client = open_client(cluster_dir).every_node()
    found = {}
    for node in client.cluster.nodes:
        before_s = time.time()
        try:
            at_s = client.status(node)["clock_ms"] / 1000
        except (Unreachable, KeyError):
            say(f"note: {node.name} does not answer")
            continue
        found[node.name] = at_s - (before_s + time.time()) / 2
    return found


@click.command()
@click.argument("name", metavar="NODE")
@cluster_option
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, 86_400), default=300.0, show_default=True,
              metavar="SECONDS", help="After that, who is still there is asked to go.")  # fmt: skip
def drain(name: str, cluster_dir: Path, timeout_s: float) -> None:
    """Take NODE out of service: it takes no new clients, hands over leadership, and ends when its clients have gone."""
    client = open_client(cluster_dir)
    node = client.node(name)
    left = client.change("POST", "/v1/drain", {"timeout_s": timeout_s}, node=name)["connections"]
    say(f"{name} takes no new clients; {counted(left, 'client')} may finish")
    deadline = time.monotonic() + timeout_s + 30
    while time.monotonic() < deadline:
        try:
            client.status(node)
        except Unreachable:
            say(f"{name} has ended")
            return
        time.sleep(LOOK_S)
    raise CommandError(f"{name} has not ended", f"mailraft cluster status {cluster_dir}")
