"""`mailraft queue`: mail that waits to be sent elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table


@click.group(cls=Group)
def queue() -> None:
    """Mail that waits to be sent elsewhere."""


@queue.command("list")
@cluster_option
@json_option
def list_queue(cluster_dir: Path, as_json: bool) -> None:
    """List the messages that wait, by destination domain."""
    items = open_client(cluster_dir).get("/v1/queue")["items"]
    if as_json:
        print_json({"items": items})
        return
    rows = (
        (
            item["domain"],
            item["sender"] or "<>",
            _recipients(item),
            item["size"],
            _time(item["next_ms"]),
            item["held_by"],
            item["id"],
        )
        for item in items
    )
    print_table(("domain", "from", "to", ">bytes", "next attempt", "held by", "id"), rows, "the queue is empty")


def _recipients(item: dict[str, list[dict[str, str]]]) -> str:
    return ", ".join(recipient["address"] for recipient in item["recipients"])


def _time(at_ms: int | None) -> str | None:
    return iso_time(at_ms) if at_ms else None
