"""`mailraft log quarantine` and `redact`: what administrators do to the log itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, agree, counted, print_json, say
from cli.paths import api_path

if TYPE_CHECKING:
    from cli.client import AdminClient

REDACT_TIMEOUT_S = 600.0  # the whole log is read to find what to erase
MOST_SHOWN = 12

reason_option = click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the log for ever.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.argument("position", type=click.IntRange(1, 10**18 - 1))
@reason_option
@yes_option
@cluster_option
@json_option
def quarantine(position: int, reason: str, yes: bool, cluster_dir: Path, as_json: bool) -> None:
    """Pass over the record at POSITION, at which the fold is stalled.

    The record stays in the log and in the chain, marked as quarantined, and has no effect, on any node and in any
    refold. Whoever proposed it is told that it was rejected.
    """
    client = open_client(cluster_dir)
    agree(f"Record {position} will have no effect, for ever. Go on?", yes)
    answer = client.change("POST", api_path("/v1/log/{}/quarantine", position), {"reason": reason})
    if as_json:
        print_json({"quarantined": position, "position": answer["position"]})
        return
    say(f"record {position} is quarantined, by the entry at {answer['position']}; the fold goes on")


@click.command()
@click.argument("position", type=click.IntRange(1, 10**18 - 1), required=False)
@click.option("--event", type=click.IntRange(0, 10**6), help="Only this event of the record; they count from 0.")
@click.option("--message", metavar="SHA256", help="A message: its content, and what every event says of it.")
@click.option("--body", metavar="SHA256", help="The content of a message alone; sender and recipients stay.")
@click.option(
    "--dkim", metavar="DOMAIN", help="The private parts, which are sealed, of its DKIM keys that are deleted."
)
@click.option("--apop", metavar="TENANT", help="Its accounts' secrets for APOP, which are sealed, that were removed.")
@click.option("--reason", metavar="TEXT", help="Why; it stays in the log for ever.")
@click.option("--dry-run", is_flag=True, help="Show what would be erased, and erase nothing.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=600, show_default=True, help="Seconds, for the disks."
)
@yes_option
@cluster_option
@json_option
def redact(
    position: int | None,
    event: int | None,
    message: str | None,
    body: str | None,
    dkim: str | None,
    apop: str | None,
    reason: str | None,
    dry_run: bool,
    wait_s: int,
    yes: bool,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Erase what the record at POSITION says of a message or a folder's name, a message by SHA-256, or deleted keys.

    The log keeps that something was erased, when, by whom and why, and its chain still verifies. It is gone from every
    node's disk when this command ends well; a node that is down erases it when it comes back. It can not be undone.
    `mailraft mailbox show` gives the SHA-256 of messages, `mailraft log tail` positions.
    """
    target = _target(position, event, message, body, dkim, apop)
    if not dry_run and not reason:
        raise CommandError("a redaction needs a reason, which stays in the log", "--reason TEXT, or --dry-run")
    client = open_client(cluster_dir, timeout_s=REDACT_TIMEOUT_S)
    found = client.change("POST", "/v1/redactions", {"target": target, "dry_run": True})
    _show(found)
    if position is not None:
        _say_what_stays(client, position)
    if dry_run:
        if as_json:
            print_json(found)
        return
    agree("This can not be undone. Go on?", yes)
    done = client.change("POST", "/v1/redactions", {"target": target, "reason": reason})
    say(f"redacted, at position {done['position']}; now each node writes its file anew")
    missing = _wait_for_disks(client, done["position"], wait_s)
    if as_json:
        print_json({**done, "not_erased": missing})
    if not done["complete"]:
        raise CommandError("it keeps coming while it is erased", "the command again, when no more of it arrives")
    if missing:
        text = "\n  ".join(["not erased yet on:", *(f"{name}: {why}" for name, why in missing.items())])
        raise CommandError(text, "they go on by themselves; `mailraft log erased` tells how far they are")
    say("its bytes are gone from the files of every node")


@click.command()
@cluster_option
@json_option
def erased(cluster_dir: Path, as_json: bool) -> None:
    """Show how far each node is with erasing what was redacted."""
    client = open_client(cluster_dir)
    found = {name: _erasure(client, name, 0, 0) for name in client.node_names}
    if as_json:
        print_json(found)
        return
    for name, status in found.items():
        click.echo(f"{name}: {_how_far(status)}")


def _target(
    position: int | None, event: int | None, message: str | None, body: str | None, dkim: str | None, apop: str | None
) -> dict[str, Any]:
    if sum(given is not None for given in (position, message, body, dkim, apop)) != 1:
        what = "one of POSITION, --message, --body, --dkim and --apop says what to erase"
        raise CommandError(what, "mailraft log redact --help")
    if event is not None and position is None:
        raise CommandError("--event names one of a record's events, so it needs a POSITION")
    if position is not None:
        return {"position": position, "event": event}
    if dkim is not None:
        return {"dkim": dkim}
    if apop is not None:
        return {"apop": apop}
    return {"message": message} if message is not None else {"body": body}


def _show(found: dict[str, Any]) -> None:
    places = sorted({part["position"] for part in (*found["events"], *found["bodies"])})
    shown = ", ".join(map(str, places[:MOST_SHOWN])) + (", ..." if len(places) > MOST_SHOWN else "")
    what = f"{counted(len(found['events']), 'event')} and {counted(len(found['bodies']), 'body')}"
    where = f"{counted(found['mailboxes'], 'mailbox')} and {counted(found['queue_items'], 'queued message')}"
    say(f"{what}, in {where}; positions {shown}")


def _say_what_stays(client: AdminClient, position: int) -> None:
    """A position names what a record says of a message; the content, which others may have too, is named apart."""
    bodies = client.get(api_path("/v1/log/{}", position))["bodies"]
    digests = [one["digest"] for one in bodies if not one.get("redacted")]
    if digests:
        say(f"the content stays: to erase that too, mailraft log redact --message {digests[0]}")


def _wait_for_disks(client: AdminClient, position: int, wait_s: float) -> dict[str, str]:
    """The nodes that have not said that the bytes are gone, each with why not."""
    deadline = time.monotonic() + wait_s
    missing = dict.fromkeys(client.node_names, "")
    while missing:
        for name in list(missing):
            left = max(0, min(5, int(deadline - time.monotonic())))
            status = _erasure(client, name, position, left)
            if status.get("erased", 0) >= position and not status.get("indexed"):
                del missing[name]
            else:
                missing[name] = _how_far(status)
        if time.monotonic() >= deadline or all("down" in why for why in missing.values()):
            break
    return missing


def _erasure(client: AdminClient, name: str, position: int, wait_s: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.get(api_path("/v1/redactions", wait_for=position, wait_s=wait_s), name)
    except CommandError as error:
        if error.code != "unreachable":  # a node that answers is not down: who asks may not know
            raise
        return {}
    return found


def _how_far(status: dict[str, Any]) -> str:
    if not status:
        return "down: it erases when it comes back"
    if status["error"]:
        return f"failed, and tries again: {status['error']}"
    if status["redacted"] <= status["erased"]:
        if status.get("indexed"):
            return "making its full-text index anew"
        return "nothing is left to erase" if status["redacted"] else "nothing was ever redacted"
    return f"writing its file anew, {status['progress']:.0%}"


CUSTODY = (quarantine, redact, erased)
