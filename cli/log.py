"""`mailraft log`: look into the event log, prove it, fold it again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import CommandError, console, print_json, print_json_line, printable, say


@click.group()
def log() -> None:
    """Look into the event log, prove it, fold it again."""


@log.command()
@click.option("-n", "--last", type=click.IntRange(0, 1000), default=20, show_default=True, help="How many records.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@node_option
@cluster_option
@json_option
def tail(last: int, follow: bool, node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Print the last records, one line each (with --json: one JSON document a line)."""
    client = open_client(cluster_dir)
    answer = client.get(f"/v1/log?last={last}", node)
    _print_records(answer["records"], as_json)
    try:
        while follow:
            answer = client.get(f"/v1/log?after={answer['position']}&wait_s=15", node)
            _print_records(answer["records"], as_json)
    except KeyboardInterrupt:
        pass  # how one ends it


@log.command()
@click.argument("position", type=click.IntRange(0, 10**18))
@node_option
@cluster_option
@json_option
def show(position: int, node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Print the record at POSITION in full."""
    record = open_client(cluster_dir).get(f"/v1/log/{position}", node)
    if as_json:
        print_json(record)
        return
    for key, value in record.items():
        if key not in ("events", "bodies", "by"):
            click.echo(f"{key:<10} {'-' if value is None else value}")
    if record["kind"] != "record":
        return
    click.echo(f"{'by':<10} {record['by']['kind']} {record['by']['id']} {record['by']['origin']}")
    for event in record["events"]:
        whose = f" of {printable(event['address'])}" if event["address"] else ""
        click.echo(f"\n{event['type']} (version {event['version']}) on {event['stream']}{whose}")
        for name, value in (event["data"] or {"data": "of a later program"}).items():
            _print_field(name, value)
    for body in record["bodies"]:
        parts = f", in {len(body['chunks'])} parts" if body["chunks"] else ""
        click.echo(f"\nbody {body['digest']}, {body['size']} bytes{parts}")


@log.command()
@node_option
@cluster_option
@json_option
def verify(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Walk the log of a node from its start and prove that nothing in it was altered."""
    report = _run(cluster_dir, "verify", node)
    if as_json:
        print_json({key: report[key] for key in ("ok", "records", "head", "first_bad")})
    if not report["ok"]:
        text = "\n  ".join([f"the log is damaged at position {report['first_bad']}:", *report["problems"]])
        raise CommandError(text, "stop this node; the others keep the cell alive. Give it a new folder to copy into")
    say(f"{report['records']} records, each as it was written; head {report['head']}")


@log.command()
@node_option
@cluster_option
@json_option
def rebuild(node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Fold a node's log from zero into fresh tables and compare them with those that it serves."""
    report = _run(cluster_dir, "rebuild", node)
    if as_json:
        print_json(report)
    if not report["equal"]:
        tables = ", ".join(report["differing"])
        raise CommandError(f"the tables are not what the log says: {tables}", "compare with another node: --node NAME")
    rate = report["events"] / report["seconds"] if report["seconds"] else 0
    say(f"{report['positions']} positions, {report['events']} events in {report['seconds']} s ({rate:.0f}/s): equal")


def _run(cluster_dir: Path, job: str, node: str | None) -> dict[str, Any]:
    from rich.progress import Progress

    lines = open_client(cluster_dir).stream(f"/v1/log/{job}", node)
    terminal = console()
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(job, total=None)
        last: dict[str, Any] = {}
        for last in lines:  # to their end: a connection that is closed before it looks like a failure to the node
            if "progress" in last:
                bar.update(task, completed=last["progress"][0], total=last["progress"][1])
    if "error" in last:
        raise CommandError(last["error"], "read the node's log")
    if "result" not in last:
        raise CommandError("the node stopped before it was done", "the command again")
    result: dict[str, Any] = last["result"]
    return result


def _print_records(records: Iterable[dict[str, Any]], as_json: bool) -> None:
    for record in records:
        if as_json:
            print_json_line(record)
        else:
            click.echo(_line(record))


def _line(record: dict[str, Any]) -> str:
    if record["kind"] != "record":
        return f"{record['position']:>10}  {record.get('at', '-')}  ({record['kind']})"
    types = ", ".join(event["type"] for event in record["events"]) or f"{len(record['bodies'])} body parts"
    about = "".join(f"  {part}" for part in _about(record["events"]))
    outcome = "" if record["outcome"] in (None, "committed") else f"  [{record['outcome']}]"
    return f"{record['position']:>10}  {record['at']}  {types}{about}{outcome}  by {record['by']['origin']}"


def _about(events: list[dict[str, Any]]) -> Iterable[str]:
    """Whom a record is about: sender, recipients and queue id of mail, the addresses of accounts and aliases."""
    known = [event for event in events if event["data"]]  # the rest is of a later program
    mail = [_envelope(event["data"]) for event in known if event["type"] in ("MessageDelivered", "MailQueued")]
    if mail:
        recipients = dict.fromkeys(recipient for one in mail for recipient in one.recipients)
        yield printable(f"<{mail[0].sender}> -> {', '.join(recipients)}")
        yield "id " + ", ".join(dict.fromkeys(one.queue_id for one in mail))
    elif addresses := dict.fromkeys(event["address"] for event in events if event["address"]):
        yield printable(", ".join(addresses))


class Envelope(NamedTuple):
    """Of mail that came; the queue id is what the client was told."""

    sender: str
    recipients: list[str]
    queue_id: str


def _envelope(data: dict[str, Any]) -> Envelope:
    if "envelope_to" in data:
        return Envelope(data["envelope_from"], [data["envelope_to"]], data["message_id"])
    return Envelope(data["sender"], data["recipients"], data["item_id"])


def _print_field(name: str, value: Any) -> None:
    """Text as it is, each of its lines on one of its own; anything else as JSON."""
    lines = value.splitlines() if isinstance(value, str) else [json.dumps(value)]
    for number, line in enumerate(lines or [""]):
        click.echo(f"  {'' if number else name:<16} {printable(line.expandtabs(4))}")
