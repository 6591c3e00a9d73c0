"""`mailraft config cluster`: settings that hold at every node of the cell, in its log."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table, say

PATH = "/v1/cluster-settings"


@click.group("cluster", cls=Group)
def cluster() -> None:
    """Settings for every node of the cell, in its log: they win over each node's file and change everywhere at once."""


@cluster.command()
@cluster_option
@json_option
def show(cluster_dir: Path, as_json: bool) -> None:
    """Show what is set for the whole cell."""
    found = open_client(cluster_dir).get(PATH)
    if as_json:
        print_json(found)
        return
    rows = [(key, _shown(one["value"]), iso_time(one["set_ms"])) for key, one in found["settings"].items()]
    print_table(("key", "value", "since"), rows, "nothing is set: each node is as its own configuration says")


@cluster.command("set")
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
@cluster_option
def set_settings(settings: tuple[str, ...], cluster_dir: Path) -> None:
    """Set keys for the whole cell, all of them or none: limits.recipients=500 policy.greylisting=true.

    A list is written with commas between. `mailraft config explain KEY` says whether a key can be set so.
    """
    wanted = dict(map(_pair, settings))
    open_client(cluster_dir).change("PUT", PATH, {"set": wanted})
    for key, value in wanted.items():
        say(f"{key} is {value} at every node")


@cluster.command()
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@cluster_option
def unset(keys: tuple[str, ...], cluster_dir: Path) -> None:
    """Have each KEY as every node's own configuration says, again."""
    open_client(cluster_dir).change("PUT", PATH, {"unset": list(keys)})
    for key in keys:
        say(f"{key} is as each node's configuration says")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise click.BadParameter(f"{text!r} must be SECTION.KEY=VALUE, as in limits.recipients=500.")
    return key.strip(), value.strip()


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
