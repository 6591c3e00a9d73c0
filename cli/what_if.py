"""`mailraft log what-if`: what another rule would have changed. Changes nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from cli.jobs import progress_bar, result_of
from cli.moments import moment_argument
from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import CommandError, print_json, print_table, say

NOTE = """The rule's file is TOML, for example:

\b
[[quota]]
account = "alice@example.test"
limit = "1 GiB"                  # or "none"
\b
[[alias]]
address = "info@example.test"
targets = ["bob@example.test"]   # none: the address is nobody's
\b
[[refuse]]
recipient = "*@old.example.test"
sender = "*"

What was refused at the time left no trace in the log, so a laxer rule can not show what it would have let in."""


@click.command("what-if", epilog=NOTE)
@click.option(
    "--rule",
    "rule_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The changed rule; below is what it may say.",
)
@click.option("--since", required=True, metavar="MOMENT", help="From then: 2026-11-01T10:00:00Z, #12345, or -30d.")
@click.option("--until", metavar="MOMENT", help="Up to then, including it.")
@node_option
@cluster_option
@json_option
def what_if(rule_file: Path, since: str, until: str | None, node: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Decide what the log has since a moment again under a changed rule, and show what would have differed."""
    body = {"rule": _rule(rule_file), "selection": _selection(since, until)}
    found, result = _run(cluster_dir, body, node)
    first, last = body["selection"].get("first"), result["last"]
    if until is None and first is not None and first > last:
        raise CommandError(f"--since {since}: the log ends at {last}", "a position before that, or a time")
    if as_json:
        print_json({**result, "differences": found})
        return
    columns = (">position", "at", "what", "from", "for", "mailbox", ">bytes", "why")
    keys = ("position", "at", "what", "sender", "recipient", "account", "size", "why")
    print_table(columns, ([one[key] for key in keys] for one in found), "nothing would have differed")
    counts = ", ".join(f"{count} {what}" for what, count in result["differences"].items()) or "no difference"
    say(f"positions {result['first']} to {result['last']}: {counts}; nothing was changed")


def _rule(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}", "mailraft log what-if --help shows one") from None


def _selection(since: str, until: str | None) -> dict[str, int | None]:
    first = moment_argument(since, "--since")
    wanted: dict[str, int | None] = {"first": first.position} if first.at_ms is None else {"since_ms": first.at_ms}
    if until is not None:
        last = moment_argument(until, "--until", future=True)
        wanted |= {"last": last.position} if last.at_ms is None else {"until_ms": last.at_ms}
    return wanted


def _run(cluster_dir: Path, body: dict[str, Any], node: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The differences, and what the node says at the end. Raises CommandError."""
    found: list[dict[str, Any]] = []
    last: dict[str, Any] = {}
    with progress_bar("decide again") as update:
        for last in open_client(cluster_dir).stream("/v1/log/what-if", node, body):
            if "difference" in last:
                found.append(last["difference"])
            elif "progress" in last:
                update(*last["progress"])
    return found, result_of(last)
