"""`mailraft tenant`: customers of the platform and their domains."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import iso_time, print_json, print_table, say
from cli.paths import api_path
from cli.tenant_archive import export, import_
from cli.tenant_life import COMMANDS


@click.group(cls=Group)
def tenant() -> None:
    """Customers of the platform and their domains."""


for _one in (*COMMANDS, export, import_):
    tenant.add_command(_one)


_force_option = click.option(
    "--force",
    is_flag=True,
    help="Also a domain that stands below another tenant's, a public suffix, localhost or a network address.",
)


@tenant.command()
@click.argument("name")
@click.option("--domain", "domains", multiple=True, required=True, help="A domain of the tenant; may be repeated.")
@_force_option
@cluster_option
@json_option
def add(name: str, domains: tuple[str, ...], force: bool, cluster_dir: Path, as_json: bool) -> None:
    """Add the tenant NAME with its domains; each gets a postmaster account (RFC 5321 4.5.1)."""
    body = {"name": name, "domains": list(domains), "force": force}
    made = open_client(cluster_dir).change("POST", "/v1/tenants", body)
    if as_json:
        print_json(made)
    say(f"tenant {made['name']} with {', '.join(made['domains'])}")
    say(f"next: mailraft account add someone@{made['domains'][0]} --cluster {cluster_dir}")


@tenant.command("add-domain")
@click.argument("name")
@click.argument("domain")
@_force_option
@cluster_option
def add_domain(name: str, domain: str, force: bool, cluster_dir: Path) -> None:
    """Give the tenant NAME one more DOMAIN."""
    path = api_path("/v1/tenants/{}/domains", name)
    made = open_client(cluster_dir).change("POST", path, {"domain": domain, "force": force})
    say(f"tenant {name} has {made['domain']}")


@tenant.command("set")
@click.argument("name")
@click.option(
    "--time-travel/--no-time-travel",
    "time_travel",
    default=None,
    help="Whether accounts may log in to their mailboxes as they were (alice@example.test@@-2h).",
)
@click.option(
    "--password-characters",
    type=click.IntRange(8, 128),
    metavar="COUNT",
    help="How many characters passwords that are set from now on have at least; 8 if nothing was set.",
)
@cluster_option
def set_policy(name: str, time_travel: bool | None, password_characters: int | None, cluster_dir: Path) -> None:
    """Change what holds for the accounts of the tenant NAME."""
    if time_travel is None and password_characters is None:
        raise click.UsageError("Nothing to set: name --time-travel, --no-time-travel or --password-characters.")
    client, path = open_client(cluster_dir), api_path("/v1/tenants/{}", name)
    if time_travel is not None:
        client.change("PATCH", path, {"time_travel": time_travel})
        say(f"tenant {name}: log-ins to mailboxes as they were are {'allowed' if time_travel else 'refused'}")
    if password_characters is not None:
        client.change("PATCH", path, {"password_characters": password_characters})
        say(f"tenant {name}: new passwords have at least {password_characters} characters")


@tenant.command("list")
@cluster_option
@json_option
def list_tenants(cluster_dir: Path, as_json: bool) -> None:
    """List tenants and their domains."""
    tenants = list(open_client(cluster_dir).pages("/v1/tenants", "tenants"))
    if as_json:
        print_json({"tenants": tenants})
        return
    rows = (
        (t["name"], t["state"], ", ".join(t["domains"]), t["accounts"], t["time_travel"], iso_time(t["created_ms"]))
        for t in tenants
    )
    columns = ("tenant", "state", "domains", ">accounts", "time travel", "created")
    print_table(columns, rows, "no tenants yet: mailraft tenant add NAME --domain DOMAIN")
