"""`mailraft token`: make, list and revoke tokens of the admin API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.account_credentials import expiry_ms
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table, say
from cli.paths import api_path
from cli.role import ROLES


@click.group(cls=Group)
def token() -> None:
    """Tokens that let programs and people use the admin API and this command.

    Who has one needs no folder of the cluster: mailraft --cluster HOST:PORT --ca ca.pem --token-file FILE, or the
    variables MAILRAFT_CLUSTER, MAILRAFT_CA and MAILRAFT_TOKEN.
    """


def _scopes(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


@token.command()
@click.option("--name", metavar="TEXT", help="What it is for.")
@click.option("--role", "role_name", type=click.Choice(ROLES), help="What it may; tenant-admin if a tenant is given.")
@click.option(
    "--scope", "scopes", multiple=True, callback=_scopes, metavar="SCOPE,...", help="Narrower: accounts:read, *:read."
)
@click.option("--tenant", metavar="NAME", help="For this tenant; for the whole cluster if not given.")
@click.option("--account", metavar="ADDRESS", help="Speaks for this account, with the role that it has.")
@click.option("--cluster-wide", is_flag=True, help="With the role that the account has of the cluster.")
@click.option("--expires", type=expiry_ms, metavar="WHEN", help="As in 30d, 8w or 2027-01-31; never if not given.")
@cluster_option
@json_option
def create(
    name: str | None,
    role_name: str | None,
    scopes: list[str],
    tenant: str | None,
    account: str | None,
    cluster_wide: bool,
    expires: int | None,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Make a token and print it, once."""
    body: dict[str, Any] = {"name": name or "", "role": role_name, "tenant": tenant, "account": account}
    body |= {"scopes": scopes, "expires_ms": expires, "cluster": cluster_wide}
    made = open_client(cluster_dir).change("POST", "/v1/tokens", body)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    what = made["account"] or made["role"]
    until = f", until {iso_time(made['expires_ms'])}" if made["expires_ms"] else ""
    say(f"{made['id']}: {what} of {made['tenant'] or 'the cluster'}{until}; it is not shown again")


@token.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant only.")
@cluster_option
@json_option
def list_tokens(tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """List tokens. When one was used is exact for the node that is asked, to the day for the others."""
    path = api_path("/v1/tokens", tenant=tenant)
    found = list(open_client(cluster_dir).pages(path, "tokens"))
    if as_json:
        print_json({"tokens": found})
        return
    rows = (
        (
            one["id"],
            one["name"],
            one["account"] or one["role"],
            one["tenant"] or "the cluster",
            ",".join(one["scopes"]) or "all of the role",
            _time(one["expires_ms"]),
            _time(one["used_ms"]),
        )
        for one in found
    )
    columns = ("id", "name", "as", "of", "scopes", "expires", "used")
    print_table(columns, rows, "no tokens: mailraft token create --tenant NAME")


@token.command()
@click.argument("token_id", metavar="ID")
@cluster_option
def revoke(token_id: str, cluster_dir: Path) -> None:
    """Revoke the token ID: it lets nobody in any more, and what it asks for at the moment ends."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/tokens/{}", token_id))
    say(f"token {token_id} revoked")


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_time(at_ms)
