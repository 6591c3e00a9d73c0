"""`mailraft directory`: accounts as an LDAP directory has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, counted, print_json, print_table, say

ANSWER_S = 600.0
MAIL = click.Choice(("accept", "defer", "refuse"))


@click.group(cls=Group)
def directory() -> None:
    """Accounts as an LDAP directory has them, in the domains that it knows."""


@directory.command()
@click.option("--dry-run", is_flag=True, help="Show what differs, and change nothing.")
@click.option(
    "--most-suspended",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="COUNT",
    help="Where more accounts than this would be suspended, do nothing at all.",
)
@click.option(
    "--mail", type=MAIL, default="accept", show_default=True, help="What becomes of mail for who is suspended."
)
@cluster_option
@json_option
def sync(dry_run: bool, most_suspended: int, mail: str, cluster_dir: Path, as_json: bool) -> None:
    """Have the accounts of the domains in [ldap] as the directory has them: add who is new, suspend who is gone or
    disabled there, open who is back, set quotas. Nothing is deleted. Exit code 1: something could not be done.
    """
    body = {"dry_run": dry_run, "most_suspended": most_suspended, "mail": mail}
    found = open_client(cluster_dir, ANSWER_S).change("POST", "/v1/directory/sync", body)
    if as_json:
        print_json(found)
    else:
        _show(found)
    refused = sum(one["outcome"] == "refused" for one in found["differences"])
    if refused:
        raise CommandError(
            f"{counted(refused, 'difference')} could not be settled", "mailraft directory sync --dry-run"
        )


def _show(found: dict[str, Any]) -> None:
    rows = [
        (one["address"], one["change"], one["refused"] or one["detail"], one["outcome"]) for one in found["differences"]
    ]
    print_table(("account", "change", "why", "outcome"), rows, "all accounts are as in the directory")
    say(f"{found['entries']} in the directory, {counted(len(rows), 'difference')}")
