"""`mailraft cluster token`, `cluster rotate-certificates`: certificates between nodes."""

from __future__ import annotations

from pathlib import Path

import click

from cli.client import AdminClient
from cli.groups import Group
from cli.options import DIR_NOTE, AtCluster, json_option, nodes_argument, open_client
from cli.output import CommandError, iso_time, print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def token() -> None:
    """Tokens with which a node joins from a machine of its own: mailraft node join."""


@token.command(cls=AtCluster, epilog=DIR_NOTE)
@nodes_argument
@click.argument("name")
@click.option("--hours", type=click.IntRange(1, 168), default=1, show_default=True, help="How long it may be used.")
@json_option
def create(cluster_dir: Path, name: str, hours: int, as_json: bool) -> None:
    """Make a token for the node NAME, good for one use. It is a secret: who has it gets all that the cell has.

    The first time, the cell's authority (DIR/ca) is put into the log, its key sealed, so that members can issue.
    """
    client = open_client(cluster_dir)
    bring_authority(client)
    made = client.change("POST", "/v1/cluster/tokens", {"name": name, "ttl_s": hours * 3600})
    if as_json:
        print_json({"id": made["id"], "name": name, "expires_ms": made["expires_ms"], "token": made["token"]})
        return
    click.echo(made["token"])
    say(f"good for the node {name}, once, until {iso_time(made['expires_ms'])}")
    say("next, on its machine: mailraft node join FOLDER --host HOST --token-file FILE")


@token.command("list", epilog=DIR_NOTE)
@nodes_argument
@json_option
def list_tokens(cluster_dir: Path, as_json: bool) -> None:
    """List the tokens that were not used yet."""
    found = list(open_client(cluster_dir).pages("/v1/cluster/tokens", "tokens"))
    if as_json:
        print_json({"tokens": found})
        return
    rows = [(one["id"], one["name"], iso_time(one["expires_ms"])) for one in found]
    print_table(("token", "node", "until"), rows, "no tokens: mailraft cluster token create DIR NAME")


@token.command(cls=AtCluster, epilog=DIR_NOTE)
@nodes_argument
@click.argument("token_id", metavar="TOKEN")
def revoke(cluster_dir: Path, token_id: str) -> None:
    """Make the token with this id worthless."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/cluster/tokens/{}", token_id))
    say("nobody joins with it")


@click.command("rotate-certificates", epilog=DIR_NOTE)
@nodes_argument
def rotate_certificates(cluster_dir: Path) -> None:
    """Have every node make itself a new key and certificate, within a quarter of a minute; connections stay.

    Nodes do so by themselves at two thirds of a certificate's life, once the authority is in the log.
    """
    client = open_client(cluster_dir)
    bring_authority(client)
    client.change("POST", "/v1/cluster/rotate-certificates")
    say("every node that runs, or starts, makes itself a new certificate")


def bring_authority(client: AdminClient) -> None:
    """Puts the authority into the log, its key sealed, where it is not there. Raises CommandError."""
    if client.get("/v1/cluster/authority")["kept"]:
        return
    authority = client.cluster.folder / "ca"
    try:
        files = {name: (authority / f"ca.{name}").read_text() for name in ("pem", "key")}
    except OSError as error:
        text = f"the cell's authority is not in its log, and {authority} can not be read: {error.strerror}"
        raise CommandError(text, "the machine that has the cluster's folder with ca/ca.key") from None
    first = files["pem"].partition("-----END CERTIFICATE-----")
    client.change("PUT", "/v1/cluster/authority", {"certificate": f"{first[0]}{first[1]}\n", "key": files["key"]})
