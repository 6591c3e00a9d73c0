"""`mailraft role` and `mailraft whoami`: who may do what, in a tenant or in the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table, say
from cli.paths import api_path

ROLES = ("cluster-admin", "tenant-admin", "help-desk", "auditor")

_cluster_wide = click.option("--cluster-wide", is_flag=True, help="A role of the cluster, not of the account's tenant.")


@click.group(cls=Group)
def role() -> None:
    """Who may administer a tenant, help its users, or read its log.

    tenant-admin: everything of the tenant. help-desk: sets passwords and lets users in, reads no mail. auditor: reads
    all but mail, changes nothing. cluster-admin: everything. An account without a role is a user.
    """


def _holder(who: str) -> dict[str, str]:
    """An account is an address; anything else names an administrator who has a certificate."""
    return {"address": who} if "@" in who else {"administrator": who}


@role.command()
@click.argument("who", metavar="ADDRESS|ADMINISTRATOR")
@click.argument("role_name", metavar="ROLE", type=click.Choice(ROLES))
@_cluster_wide
@cluster_option
def grant(who: str, role_name: str, cluster_wide: bool, cluster_dir: Path) -> None:
    """Give the account ADDRESS a ROLE, in place of the one that it has.

    An administrator who has a certificate is named as in it, and may do everything unless a role says less.
    """
    body: dict[str, Any] = {**_holder(who), "role": role_name, "cluster": cluster_wide}
    open_client(cluster_dir).change("PUT", "/v1/roles", body)
    wide = " of the cluster" if cluster_wide or "@" not in who else ""
    say(f"{who} is {role_name}{wide}")
    if "@" in who:
        say(f"to use it: mailraft token create --account {who}" + (" --cluster-wide" if cluster_wide else ""))


@role.command()
@click.argument("who", metavar="ADDRESS|ADMINISTRATOR")
@_cluster_wide
@cluster_option
def revoke(who: str, cluster_wide: bool, cluster_dir: Path) -> None:
    """Take its role from ADDRESS: its tokens may what a user may, from now on."""
    query = _holder(who) | ({"cluster": "true"} if cluster_wide else {})
    open_client(cluster_dir).change("DELETE", api_path("/v1/roles", **query))
    say(f"{who} has no role any more")


@role.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant only.")
@cluster_option
@json_option
def list_roles(tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """List who has a role."""
    path = api_path("/v1/roles", tenant=tenant)
    found = list(open_client(cluster_dir).pages(path, "roles"))
    if as_json:
        print_json({"roles": found})
        return
    rows = ((one["holder"], one["role"], one["tenant"] or "the cluster", iso_time(one["since_ms"])) for one in found)
    print_table(("who", "role", "of", "since"), rows, "no roles yet: mailraft role grant ADDRESS tenant-admin")


@click.command()
@cluster_option
@json_option
def whoami(cluster_dir: Path, as_json: bool) -> None:
    """Who the cluster takes you for, and what you may do."""
    found = open_client(cluster_dir).get("/v1/whoami")
    if as_json:
        print_json(found)
        return
    click.echo(f"name    {found['name']}")
    click.echo(f"role    {found['role']}")
    click.echo(f"of      {found['tenant'] or 'the cluster'}")
    click.echo(f"may     {', '.join(found['permissions'])}")
