"""`mailraft mailbox`: look into a mailbox, now or as it was; bring back what was lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.jobs import progress_bar, result_of
from cli.moments import moment_argument
from cli.options import cluster_option, json_option, open_client
from cli.output import UNKNOWN, print_json, print_table, printable, say
from cli.paths import api_path
from nodes.moments import Moment


@click.group(cls=Group)
def mailbox() -> None:
    """Look into a mailbox, now or as it was; bring it back."""


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
    path = api_path("/v1/mailboxes/{}", address, **_query(as_of))
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
                (m["uid"], " ".join(m["flags"]), m["size"], m["internaldate"], m["sha256"] + _mark(m))
                for m in folder["messages"]
            )
            print_table((">uid", "flags", ">bytes", "internaldate", "sha256"), messages, "")


@mailbox.command()
@click.argument("address")
@click.option(
    "--as-of",
    "as_of",
    required=True,
    metavar="TIME|#POSITION|-2h",
    help="The moment to go back to: 2026-11-01T10:00:00Z, #12345, or -2h.",
)
@click.option("--folder", metavar="NAME", help="Only this folder, as it was called then.")
@click.option("--uid", "uids", type=click.IntRange(1), multiple=True, help="Only this message of --folder; repeatable.")
@click.option("--drop-newer", is_flag=True, help="Also remove what has arrived since; otherwise it stays.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@cluster_option
@json_option
def restore(
    address: str,
    as_of: str,
    folder: str | None,
    uids: tuple[int, ...],
    drop_newer: bool,
    dry_run: bool,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Bring the mailbox of ADDRESS, a folder or a message back to what it was.

    Folders, flags, keywords and dates come back exactly; a message that is gone gets a new UID. Look at --dry-run
    first. It is done by new events, so it can itself be undone; repeated, it does what is left.
    """
    if uids and folder is None:
        raise click.UsageError("--uid names a message of a folder: --folder NAME")
    moment = moment_argument(as_of, "--as-of")
    wanted = {"position": moment.position} if moment.at_ms is None else {"at_ms": moment.at_ms}
    body = {**wanted, "folder": folder, "uids": list(uids) or None, "drop_newer": drop_newer, "dry_run": dry_run}
    plan, changed = _restore(cluster_dir, address, body)
    if as_json:
        print_json({**plan, "changed": changed})
        return
    _print_plan(plan["plan"])
    if dry_run:
        say(f"as of {plan['as_of']} (position {plan['position']}); nothing was changed")
    else:
        say(f"{address} is as it was at {plan['as_of']}" if changed else "nothing had to be changed")


def _mark(message: dict[str, Any]) -> str:
    return "  redacted" if message.get("redacted") else ""


def _restore(cluster_dir: Path, address: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """What the node planned, and whether it changed something. Raises CommandError."""
    lines = open_client(cluster_dir).stream(api_path("/v1/mailboxes/{}/restore", address), None, body)
    plan: dict[str, Any] = {}
    last: dict[str, Any] = {}
    with progress_bar("restore") as update:
        for last in lines:
            if "plan" in last:
                plan = last
            elif "progress" in last:
                update(*last["progress"])
    again = "the same command: it does what is left"
    return plan, bool(result_of(last, "the same command once the reason is gone", again, UNKNOWN)["changed"])


def _print_plan(plan: dict[str, Any]) -> None:
    rows = []
    for one in plan["folders"]:
        what = "create" if one["create"] else f"rename from {one['rename_from']}" if one["rename_from"] else ""
        if one["keeps_name"]:
            what = f"stays {one['keeps_name']}: its name is taken"
        flags = sum(len(group["uids"]) for group in one["flags"])
        rows.append(
            (one["name"], what, len(one["bring_back"]), one["moved_back"], flags, len(one["newer"]), len(one["gone"]))
        )
    columns = ("folder", "", ">bring back", ">of them moved", ">flags", ">remove newer", ">bytes gone")
    print_table(columns, (row for row in rows if any(row[1:])), "no difference")
    deleted = sum(one["deleted"] for one in plan["folders"])
    if deleted:
        what = "message was" if deleted == 1 else "messages were"
        say(f"{deleted} {what} marked \\Deleted then, and will be: the next EXPUNGE of a mail program removes them")
    if made_since := plan.get("made_since"):  # a node of an earlier version does not tell
        say(f"made since then, and staying: {', '.join(map(printable, made_since))}")
    for verb in ("subscribe", "unsubscribe"):
        if plan[verb]:
            click.echo(f"{verb}: {', '.join(plan[verb])}")


def _query(as_of: str | None) -> dict[str, int | None]:
    if as_of is None:
        return {}
    match moment_argument(as_of, "--as-of"):
        case Moment(position=int(position)):
            return {"position": position}
        case Moment(at_ms=at_ms):
            return {"at_ms": at_ms}
