"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.output import CommandError

if TYPE_CHECKING:
    from cli.client import AdminClient

cluster_option = click.option(
    "--cluster",
    "cluster_dir",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_CLUSTER",
    show_envvar=True,
    metavar="DIR",
    required=True,
    help="Folder of the cluster.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
cluster_argument = click.argument(
    "cluster_dir", metavar="DIR", type=click.Path(path_type=Path), envvar="MAILRAFT_CLUSTER"
)
node_option = click.option("--node", metavar="NAME", help="Ask this node only; otherwise the first that answers.")


password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input; no prompt."
)


def read_password(from_stdin: bool) -> str:
    """The password, typed twice or read from standard input. Raises CommandError."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError(
                "standard input held no password", "printf '%s' \"$PASSWORD\" | mailraft ... --password-stdin"
            )
        return password
    if not sys.stdin.isatty():
        raise CommandError("no terminal to ask for a password", "--password-stdin")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def open_client(cluster_dir: Path) -> AdminClient:
    """An AdminClient for the cluster in this folder. Raises CommandError."""
    from cli.client import AdminClient
    from cli.layout import load

    return AdminClient(load(cluster_dir))
