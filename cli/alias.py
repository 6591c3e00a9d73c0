"""`mailraft alias`: addresses that lead to other addresses."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def alias() -> None:
    """Addresses that lead to other addresses."""


@alias.command()
@click.argument("address")
@click.argument("targets", nargs=-1, required=True)
@cluster_option
@json_option
def add(address: str, targets: tuple[str, ...], cluster_dir: Path, as_json: bool) -> None:
    """Lead mail for ADDRESS to TARGETS, here or elsewhere. '*@DOMAIN' takes what nobody in the domain has."""
    made = open_client(cluster_dir).change("POST", "/v1/aliases", {"address": address, "targets": list(targets)})
    if as_json:
        print_json(made)
    say(f"{made['address']} leads to {', '.join(made['targets'])}")


@alias.command("list")
@cluster_option
@json_option
def list_aliases(cluster_dir: Path, as_json: bool) -> None:
    """List aliases."""
    aliases = open_client(cluster_dir).by_address("/v1/aliases", "aliases")
    if as_json:
        print_json({"aliases": aliases})
        return
    rows = ((a["address"], ", ".join(a["targets"]), a["tenant"]) for a in aliases)
    print_table(("alias", "leads to", "tenant"), rows, "no aliases yet: mailraft alias add ADDRESS TARGET")


@alias.command()
@click.argument("address")
@cluster_option
def delete(address: str, cluster_dir: Path) -> None:
    """Delete the alias ADDRESS."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/aliases/{}", address))
    say(f"alias {address} deleted")
