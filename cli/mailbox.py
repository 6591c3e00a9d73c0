"""`mailraft mailbox`: look into a mailbox, now or as it was."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from cli.moments import moment_argument
from cli.options import cluster_option, json_option, open_client
from cli.output import print_table
from nodes.moments import Moment


@click.group()
def mailbox() -> None:
    """Look into a mailbox, now or as it was."""


@mailbox.command()
@click.argument("address")
@click.option(
    "--as-of",
    "as_of",
    metavar="TIME|#POSITION|-2h",
    help="As it was then: 2026-11-01T10:00:00Z (UTC if no zone is given), #12345, or -2h (s, m, h, d, w).",
)
@cluster_option
@json_option
def show(address: str, as_of: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Show folders, UIDs and flags of the mailbox of ADDRESS."""
    path = f"/v1/mailboxes/{quote(address, safe='')}" + _query(as_of)
    text = open_client(cluster_dir).get_text(path)
    if as_json:
        # the node's answer is the contract; a large mailbox is tens of megabytes, not worth parsing to print
        click.echo(text)
        return
    answer = json.loads(text)
    if not answer["folders"]:
        click.echo("the mailbox had no folders then" if as_of else "the mailbox has no folders")
        return
    columns = ("folder", ">uidvalidity", ">uidnext", ">highestmodseq", ">messages")
    rows = (
        (f["name"], f["uidvalidity"], f["uidnext"], f["highestmodseq"], len(f["messages"])) for f in answer["folders"]
    )
    print_table(columns, rows, "")
    for folder in answer["folders"]:
        if folder["messages"]:
            click.echo(f"\n{folder['name']}")
            messages = (
                (m["uid"], " ".join(m["flags"]), m["size"], m["internaldate"], m["sha256"][:16])
                for m in folder["messages"]
            )
            print_table((">uid", "flags", ">bytes", "internaldate", "sha256"), messages, "")


def _query(as_of: str | None) -> str:
    if as_of is None:
        return ""
    match moment_argument(as_of, "--as-of"):
        case Moment(position=int(position)):
            return f"?position={position}"
        case Moment(at_ms=at_ms):
            return f"?at_ms={at_ms}"
