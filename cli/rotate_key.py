"""`mailraft cluster rotate-key`: another key for the secrets on the log, at every node, while they serve."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from cli.options import DIR_NOTE, json_option, nodes_argument, open_client
from cli.output import CommandError, counted, print_json, print_table, say

PATH = "/v1/cluster-keys"
PATIENCE_S = 600.0
LOOK_S = 0.5


@click.command("rotate-key", epilog=DIR_NOTE)
@nodes_argument
@click.option("--status", is_flag=True, help="Only show the keys, and how many secrets are sealed under each.")
@click.option("--no-wait", is_flag=True, help="Do not wait until everything is sealed under the new key.")
@json_option
def rotate_key(cluster_dir: Path, status: bool, no_wait: bool, as_json: bool) -> None:
    """Seal the secrets on the log under a new key.

    Every node of DIR gets the key first; then it is used, and what is there is sealed anew. The key before is retired
    when nothing in force needs it. It stays in the nodes' files (cluster.key), for views of the past and for backups:
    take its line out of them when neither is wanted any more. A command that was interrupted is simply given again.
    """
    client = open_client(cluster_dir)
    if not status:
        _rotate(client, no_wait)
    found = client.get(PATH)
    if as_json:
        print_json(found)
        return
    rows = [(one["id"], one["state"], one["sealed"]) for one in found["keys"]]
    print_table(("key", "state", ">secrets under it"), rows, "there is none")


def _rotate(client: Any, no_wait: bool) -> None:
    for name in client.node_names:
        client.get(PATH, node=name)  # one that does not answer is found before any has another key
    key = secrets.token_hex(32)
    for name in client.node_names:
        found = client.change("POST", PATH, {"key": key}, node=name)
    id_ = found["keys"][-1]["id"]
    say(f"every node has the key {id_}")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.change("PUT", PATH, {"id": id_})
            break
        except CommandError as error:
            if "is not there yet at" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(LOOK_S)  # each says in the log that it has it
    say(f"secrets are sealed under {id_} from now on")
    if no_wait:
        return
    while (left := _left(client.get(PATH)["keys"], id_)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if left:
        what = f"{counted(left, 'secret')} or keys are not as they should be yet"
        raise CommandError(what, "mailraft cluster rotate-key --status DIR")


def _left(keys: list[dict[str, Any]], id_: str) -> int:
    """What is not done: secrets under other keys, keys that are not retired."""
    others = [one for one in keys if one["id"] != id_]
    return sum(int(one["sealed"]) + (one["state"] == "older") for one in others)
