"""`mailraft account`: add, list and delete accounts; set passwords and quotas."""

from __future__ import annotations

from pathlib import Path

import click

from cli.account_credentials import apop, app_password, show, totp
from cli.account_import import import_accounts
from cli.account_state import disable, enable, expire, require_change, state
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client, password_option, read_password, size_bytes
from cli.output import agree, iso_time, print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def account() -> None:
    """Add, list and delete accounts; set passwords and quotas."""


for _more in (apop, import_accounts, app_password, disable, enable, expire, require_change, show, state, totp):
    account.add_command(_more)


@account.command()
@click.argument("address")
@password_option
@click.option(
    "--quota", "quota_bytes", type=size_bytes, metavar="SIZE", help='Most that the mailbox may hold, as in "2 GiB".'
)
@cluster_option
@json_option
def add(address: str, password_stdin: bool, quota_bytes: int | None, cluster_dir: Path, as_json: bool) -> None:
    """Add the account ADDRESS with a password and a mailbox."""
    client = open_client(cluster_dir)
    body = {"address": address, "password": read_password(password_stdin), "quota_bytes": quota_bytes}
    made = client.change("POST", "/v1/accounts", body)
    if as_json:
        print_json(made)
    say(f"account {made['address']}")


@account.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant only.")
@cluster_option
@json_option
def list_accounts(tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """List accounts."""
    path = api_path("/v1/accounts", tenant=tenant)
    accounts = open_client(cluster_dir).by_address(path, "accounts")
    if as_json:
        print_json({"accounts": accounts})
        return
    rows = (
        (a["address"], a["tenant"], a["messages"], a["bytes"], a["quota_bytes"], iso_time(a["created_ms"]))
        for a in accounts
    )
    columns = ("address", "tenant", ">messages", ">bytes", ">quota", "created")
    print_table(columns, rows, "no accounts yet: mailraft account add ADDRESS")


@account.command()
@click.argument("address")
@password_option
@cluster_option
def passwd(address: str, password_stdin: bool, cluster_dir: Path) -> None:
    """Set the password of ADDRESS."""
    client = open_client(cluster_dir)
    body = {"password": read_password(password_stdin)}
    client.change("PUT", api_path("/v1/accounts/{}/password", address), body)
    say(f"password of {address} set")


@account.command()
@click.argument("address")
@click.argument("size", metavar="SIZE|none")
@click.option("--messages", type=click.IntRange(min=1), help="Most messages, too; no limit without it.")
@cluster_option
def quota(address: str, size: str, messages: int | None, cluster_dir: Path) -> None:
    """Limit what the mailbox of ADDRESS may hold to SIZE, as in "2 GiB"; none: no limit.

    What is in a mailbox stays when it is above the new limit; mail for it is refused until there is room.
    """
    limit = None if size.lower() == "none" else size_bytes(size)
    path = api_path("/v1/accounts/{}/quota", address)
    answer = open_client(cluster_dir).change("PUT", path, {"quota_bytes": limit, "quota_messages": messages})
    room = "as much as there is room for" if limit is None else f"{limit} bytes"
    say(f"{answer['address']} may hold {room}" + ("" if messages is None else f" in at most {messages} messages"))


@account.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_option
def delete(address: str, yes: bool, cluster_dir: Path) -> None:
    """Delete the account ADDRESS; its mail is reachable no more."""
    client = open_client(cluster_dir)
    agree(f"Delete {address} and its mailbox?", yes)
    client.change("DELETE", api_path("/v1/accounts/{}", address))
    say(f"account {address} deleted")
