"""The steps of `mailraft cluster rotate-ca` that the cell takes, and all of it where there is no cluster's folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.client import AdminClient
from cli.options import CA_FILE, open_client
from cli.output import CommandError, agree, console, say
from nodes.files import write_atomically

PATH = "/v1/cluster/authority/succession"
PATIENCE_S = 120.0
LOOK_S = 0.3

Standing = dict[str, Any]


class Wanted(NamedTuple):
    """What was said on the command line."""

    keep_old: bool
    cut_followers: bool
    yes: bool


def until_trusted(client: AdminClient) -> None:
    """Returns once every node trusts the next authority. Raises CommandError, naming those that do not."""
    _until(client, "trusts_next", "trust the next authority")


def until_renewed(client: AdminClient) -> None:
    """Returns once every node shows a certificate of the authority in force; the same."""
    _until(client, "renewed", "show a certificate of the new authority")


def retire(client: AdminClient, wanted: Wanted) -> None:
    """The authority before is trusted no more, if that is agreed to. Raises CommandError."""
    if (left := client.get(PATH)["followers"]) and not wanted.cut_followers:
        say(f"these followers have certificates of the old authority: {', '.join(left)}")
    agree("Trust the old authority no more? Who knows only that one is refused from then on.", wanted.yes)
    client.change("POST", f"{PATH}/retire", {"cut_followers": wanted.cut_followers})


def rotate_elsewhere(address: Path, wanted: Wanted) -> None:
    """By HOST:PORT alone; `--ca` names the file with what is trusted here. Raises CommandError."""
    file: Path | None = click.get_current_context().meta.get(CA_FILE)
    if file is None:
        raise click.UsageError("--ca FILE is missing: what is trusted instead of the old authority is written there.")

    def trust(standing: Standing) -> AdminClient:
        write_atomically(file, standing["authorities"].encode())
        return open_client(address)

    client = open_client(address)
    standing = client.get(PATH)
    if not standing["former"] and not standing["next"]:
        standing = client.change("POST", f"{PATH}/next")
    client = trust(standing)
    if standing["next"]:
        until_trusted(client)
        standing = client.change("POST", f"{PATH}/promote")
        say("the new authority issues from now on")
    until_renewed(client)
    say(f"every node has a certificate of it; {file} has both")
    if wanted.keep_old:
        say(f"the old one is trusted until: mailraft cluster rotate-ca {address}")
        return
    retire(client, wanted)
    trust(open_client(address).get(PATH))
    say(f"the old authority is trusted no more; {file} has the new one alone")


def _until(client: AdminClient, mark: str, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with console().status(f"until all nodes {what}"):
        while behind := [one["name"] for one in client.get(PATH)["nodes"] if not one[mark]]:
            if time.monotonic() > deadline:
                raise CommandError(
                    f"not yet: {', '.join(behind)} must {what}",
                    "start them, or take them out (mailraft cluster remove-node); then this command again",
                )
            time.sleep(LOOK_S)
