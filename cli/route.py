"""`mailraft route`: other ways out than a destination's MX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client, password_option, read_password
from cli.output import print_json, print_table, say
from cli.paths import api_path


@click.group(cls=Group)
def route() -> None:
    """Other ways out than a destination's MX: smart hosts, pools of addresses.

    WHAT a route is for: a domain (example.test), every domain below one ('*.example.test'), a sender ('tenant NAME') or
    everything else (default). The destination comes before the sender, and the sender before the default.
    """


@route.command()
@click.argument("what")
@click.option("--host", default="", help="Send it to this server, whatever its MX says: a name or an address.")
@click.option("--port", type=click.IntRange(1, 65535), help="The server's port; delivery.port if not given.")
@click.option(
    "--tls",
    type=click.Choice(["may", "clear", "encrypt", "verify"]),
    help="may: if it is offered; encrypt: always; verify: and its certificate is right. With a login: verify.",
)
@click.option("--pool", default="", metavar="NAME", help="Send from this pool of addresses (delivery.sources).")
@click.option("--username", default="", help="Log in to the server; the password is asked for.")
@password_option
@cluster_option
@json_option
def add(
    what: str,
    host: str,
    port: int | None,
    tls: str | None,
    pool: str,
    username: str,
    password_stdin: bool,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Send mail for WHAT another way; a route for the same that is there is replaced."""
    if not host and not pool:
        raise click.UsageError("A route names --host, --pool, or both.")
    body: dict[str, Any] = {"for": what, "host": host, "pool": pool, "username": username}
    body |= {"port": port} if port else {}
    body |= {"tls": tls} if tls else {}
    if username:
        body["password"] = read_password(password_stdin)
    made = open_client(cluster_dir).change("PUT", "/v1/routes", body)
    if as_json:
        print_json(made)
    way = f"through {made['host']}{_port(made['port'])}" if made["host"] else "by MX"
    say(f"mail for {what} goes {way}" + (f" from the pool {pool}" if pool else ""))


@route.command("list")
@cluster_option
@json_option
def list_routes(cluster_dir: Path, as_json: bool) -> None:
    """List the routes."""
    found = list(open_client(cluster_dir).pages("/v1/routes", "routes"))
    if as_json:
        print_json({"routes": found})
        return
    rows = (
        (one["for"], f"{one['host']}{_port(one['port'])}" or "by MX", one["tls"], one["pool"], one["username"])
        for one in found
    )
    print_table(("for", "through", "TLS", "pool", "login"), rows, "no routes: all mail goes as MX records say")


@route.command()
@click.argument("what")
@cluster_option
def delete(what: str, cluster_dir: Path) -> None:
    """Delete the route for WHAT: its mail goes as the MX records say, or by a wider route."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/routes/{}", what))
    say(f"the route for {what} is deleted")


def _port(port: int) -> str:
    return f":{port}" if port else ""
