"""`mailraft group`: addresses whose mail reaches every member, and names for all of them in lists of rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import counted, iso_time, print_json, print_table, say
from cli.paths import api_path


def _path(address: str) -> str:
    return api_path("/v1/groups/{}", address)


@click.group(cls=Group)
def group() -> None:
    """Addresses whose mail reaches every member; in lists of rights they are group:NAME."""


@group.command()
@click.argument("address")
@click.argument("members", nargs=-1)
@cluster_option
@json_option
def add(address: str, members: tuple[str, ...], cluster_dir: Path, as_json: bool) -> None:
    """Add the group ADDRESS; MEMBERS are accounts of the same tenant."""
    made = open_client(cluster_dir).change("POST", "/v1/groups", {"address": address, "members": list(members)})
    if as_json:
        print_json(made)
    say(f"group {made['address']} with {counted(len(made['members']), 'member')}")


@group.command()
@click.argument("address")
@cluster_option
def remove(address: str, cluster_dir: Path) -> None:
    """Remove the group ADDRESS; its members stay what they are."""
    open_client(cluster_dir).change("DELETE", _path(address))
    say(f"group {address} removed")


@group.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant only.")
@cluster_option
@json_option
def list_groups(tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """List groups."""
    path = api_path("/v1/groups", tenant=tenant)
    found = open_client(cluster_dir).by_address(path, "groups")
    if as_json:
        print_json({"groups": found})
        return
    rows = [(one["address"], one["tenant"], one["members"], iso_time(one["created_ms"])) for one in found]
    print_table(("group", "tenant", ">members", "created"), rows, "no groups yet: mailraft group add ADDRESS MEMBER...")


@group.command()
@click.argument("address")
@cluster_option
@json_option
def show(address: str, cluster_dir: Path, as_json: bool) -> None:
    """Show who is in the group ADDRESS."""
    found = open_client(cluster_dir).get(_path(address))
    if as_json:
        print_json(found)
        return
    print_table(("member",), [(one,) for one in found["members"]], "nobody is in it: mailraft group add-member")


@group.command("add-member")
@click.argument("address")
@click.argument("members", nargs=-1, required=True)
@cluster_option
@json_option
def add_member(address: str, members: tuple[str, ...], cluster_dir: Path, as_json: bool) -> None:
    """Have mail for the group ADDRESS reach MEMBERS too."""
    _change(address, {"add": list(members)}, cluster_dir, as_json)


@group.command("remove-member")
@click.argument("address")
@click.argument("members", nargs=-1, required=True)
@cluster_option
@json_option
def remove_member(address: str, members: tuple[str, ...], cluster_dir: Path, as_json: bool) -> None:
    """Take MEMBERS out of the group ADDRESS."""
    _change(address, {"remove": list(members)}, cluster_dir, as_json)


def _change(address: str, body: dict[str, Any], cluster_dir: Path, as_json: bool) -> None:
    changed = open_client(cluster_dir).change("PATCH", _path(address), body)
    if as_json:
        print_json(changed)
    say(f"group {changed['address']} has {counted(len(changed['members']), 'member')}")
