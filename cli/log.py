"""`mailraft log`: look into the event log, prove it, fold it again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import CommandError, console, print_json, print_json_line, say


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
@click.argument("position", type=click.IntRange(1))
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
        click.echo(f"\n{event['type']} (version {event['version']}) on {event['stream']}")
        for name, value in (event["data"] or {"data": "of a later program"}).items():
            click.echo(f"  {name:<16} {value if isinstance(value, str) else json.dumps(value)}")
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
        for line in lines:
            if "progress" in line:
                bar.update(task, completed=line["progress"][0], total=line["progress"][1])
            elif "error" in line:
                raise CommandError(line["error"], "read the node's log")
            else:
                result: dict[str, Any] = line["result"]
                return result
    raise CommandError("the node stopped before it was done", "the command again")


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
    outcome = "" if record["outcome"] in (None, "committed") else f"  [{record['outcome']}]"
    return f"{record['position']:>10}  {record['at']}  {types}{outcome}  by {record['by']['origin']}"
