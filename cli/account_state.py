"""`mailraft account disable`, `enable`, `expire`, `require-change`, `state`: whether somebody can come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.account_credentials import expiry_ms
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, say
from cli.paths import api_path

MAIL = click.Choice(("accept", "defer", "refuse"))
_mail_option = click.option(
    "--mail", type=MAIL, default="accept", show_default=True, help="What becomes of mail for it meanwhile."
)


def _change(cluster_dir: Path, address: str, **body: Any) -> dict[str, Any]:
    path = api_path("/v1/accounts/{}/state", address)
    found: dict[str, Any] = open_client(cluster_dir).change("PATCH", path, body)
    return found


@click.command()
@click.argument("address")
@_mail_option
@click.option("--reason", default="", metavar="TEXT", help="For the audit trail; the owner is not told.")
@cluster_option
def disable(address: str, mail: str, reason: str, cluster_dir: Path) -> None:
    """Let nobody in to ADDRESS any more, on any node; sessions that are open end."""
    _change(cluster_dir, address, disabled=True, mail=mail, reason=reason)
    say(f"{address} is disabled; mail for it: {mail}")


@click.command()
@click.argument("address")
@cluster_option
def enable(address: str, cluster_dir: Path) -> None:
    """Let the owner of ADDRESS in again."""
    found = _change(cluster_dir, address, disabled=False)
    say(f"{address} is {found['state']}")


@click.command()
@click.argument("address")
@click.option("--at", "at_ms", type=expiry_ms, metavar="WHEN", help="As in 30d, 8w or 2027-01-31.")
@click.option("--never", is_flag=True, help="It does not expire any more.")
@_mail_option
@cluster_option
def expire(address: str, at_ms: int | None, never: bool, mail: str, cluster_dir: Path) -> None:
    """Let nobody in to ADDRESS from a moment on, by the clock of each node."""
    if (at_ms is None) != never:
        raise click.UsageError("When? --at WHEN, or --never.")
    _change(cluster_dir, address, expires_ms=at_ms or 0, mail=mail)
    say(f"{address} does not expire" if at_ms is None else f"{address} expires at {iso_time(at_ms)}")


@click.command("require-change")
@click.argument("address")
@click.option("--no-more", is_flag=True, help="The password may stay as it is.")
@cluster_option
def require_change(address: str, no_more: bool, cluster_dir: Path) -> None:
    """Have the owner of ADDRESS change the password; until then it opens no mail program."""
    _change(cluster_dir, address, must_change_password=not no_more)
    say(f"the password of {address} " + ("may stay" if no_more else "must be changed"))


@click.command()
@click.argument("address")
@cluster_option
@json_option
def state(address: str, cluster_dir: Path, as_json: bool) -> None:
    """Whether somebody can come in to ADDRESS."""
    found = open_client(cluster_dir).get(api_path("/v1/accounts/{}/state", address))
    if as_json:
        print_json(found)
        return
    since = f" since {iso_time(found['since_ms'])}" if found["state"] == "disabled" else ""
    click.echo(f"state     {found['state']}{since}" + (f" ({found['reason']})" if found["reason"] else ""))
    click.echo(f"mail      {found['mail']}")
    click.echo(f"expires   {iso_time(found['expires_ms']) if found['expires_ms'] else 'never'}")
    click.echo(f"password  {'must be changed' if found['must_change_password'] else 'may stay'}")
