"""`mailraft cluster health`: whether mail flows, what is amiss, and what the parts of a node are."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from cli.client import AdminClient
from cli.options import DIR_NOTE, json_option, nodes_argument, open_client
from cli.output import CommandError, print_json, print_table, say, size_text

ANSWER_TIMEOUT_S = 5.0


@click.command(epilog=DIR_NOTE)
@nodes_argument
@click.option("--parts", is_flag=True, help="Also the parts of the node that answers, and what each is for.")
@json_option
def health(cluster_dir: Path, parts: bool, as_json: bool) -> None:
    """Show how the whole cluster does. Exits 0 where it is healthy, 1 where it is degraded or critical.

    Every node is asked what it hears of the others; shown is what the one says that knows the newest leader.
    """
    found = with_silent(*_ask(open_client(cluster_dir, ANSWER_TIMEOUT_S)))
    if as_json:
        print_json(found)
    else:
        _show(found, parts)
    if found["status"] != "healthy":
        raise CommandError(f"the cluster is {found['status']}: {found['means']}", "what stands under problems")


def _ask(client: AdminClient) -> tuple[dict[str, Any], dict[str, str]]:
    """What the node with the best view says, and why others say nothing. Raises CommandError where none answers."""

    def ask(name: str) -> dict[str, Any] | str:
        try:
            answer: dict[str, Any] = json.loads(client.get_text("/v1/health", name))
            return answer
        except CommandError as error:
            return str(error).rpartition(f"{name}: ")[2]

    names = client.node_names
    with ThreadPoolExecutor(len(names)) as threads:
        answers = dict(zip(names, threads.map(ask, names), strict=True))
    views = [one for one in answers.values() if not isinstance(one, str)]
    silent = {name: why for name, why in answers.items() if isinstance(why, str)}
    if not views:
        text = "\n  ".join(["no node says how it does:", *(f"{name}: {why}" for name, why in silent.items())])
        raise CommandError(text, f"mailraft cluster status {client.cluster.folder}")
    return max(views, key=lambda one: (one["quorum"]["has"], one["leader"] is not None, one["term"])), silent


def with_silent(found: dict[str, Any], silent: dict[str, str]) -> dict[str, Any]:
    """What was found, and that these nodes did not answer: the others notice only after some seconds."""
    problems = found["problems"] + [f"{name}: it does not answer: {why}" for name, why in silent.items()]
    found = found | {"problems": problems, "no_answer": silent}
    if silent and found["status"] == "healthy":
        found |= {"status": "degraded", "means": "mail flows"}
    return found


def _show(found: dict[str, Any], parts: bool) -> None:
    columns = ("node", "role", ">term", ">lag", ">disk free", ">clock", "ready", "down")
    print_table(columns, (_row(one) for one in found["nodes"]), "no nodes")
    quorum = found["quorum"]
    click.echo(f"\nquorum: {quorum['heard']} of {quorum['voters']} voters are heard of, {quorum['needed']} are needed")
    for problem in found["problems"]:
        click.echo(f"problem: {problem}")
    if parts:
        click.echo()
        rows = [(one["name"], one["standing"], "critical" if one["critical"] else "degraded",
                 ", ".join(one["needs"]), one["reason"] or one["without_it"]) for one in found["parts"]]  # fmt: skip
        named = (f"part of {found['seen_by']}", "is", "without it", "needs", "what happens then")
        print_table(named, rows, "")
    say(f"{found['status']}: {found['means']}")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    if not one["heard"]:
        return (one["name"], "not heard of", *[None] * 6)
    off_s = one["clock_off_s"]
    return (
        one["name"],
        one["role"] if one["voter"] else "learner",
        one["term"],
        one["lag"],
        size_text(one["disk_free_bytes"]),
        "" if off_s is None else f"{off_s:+z.1f} s",
        one["ready"],
        ", ".join(one["down"]),
    )
