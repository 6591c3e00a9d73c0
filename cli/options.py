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


def _given(_ctx: click.Context, _parameter: click.Parameter, folder: Path | None) -> Path:
    if folder is None:
        raise click.UsageError("DIR is missing: name the cluster's folder, or set MAILRAFT_CLUSTER.")
    return folder


cluster_argument = click.argument(
    "cluster_dir",
    metavar="[DIR]",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_CLUSTER",
    required=False,
    callback=_given,
)
DIR_NOTE = "DIR may be left out where the environment variable MAILRAFT_CLUSTER names it."
node_option = click.option("--node", metavar="NAME", help="Ask this node only; otherwise the first that answers.")


def size_bytes(text: str) -> int:
    """A number of bytes above 0, or one with a unit, as in the configuration. Raises click.BadParameter."""
    from pydantic import TypeAdapter, ValidationError

    from nodes.config import Size

    try:
        found = int(TypeAdapter(Size).validate_python(text))
    except ValidationError:
        found = 0
    if not 0 < found < 2**63:
        raise click.BadParameter(f'{text!r} is not a number of bytes above 0, or one with a unit, as in "50 MiB".')
    return found


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
