"""`mailraft dkim`: the keys that outgoing mail is signed with, and the DNS records that show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import Group
from cli.jobs import progress_bar
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, counted, print_json, print_table, say
from cli.paths import api_path

if TYPE_CHECKING:
    from cli.client import AdminClient

ALGORITHMS = {"rsa": ["rsa-sha256"], "ed25519": ["ed25519-sha256"], "both": ["rsa-sha256", "ed25519-sha256"]}
DAY_MS = 86_400_000

active_option = click.option(
    "--active", is_flag=True, help="Sign with them at once, before anybody has seen their DNS records."
)


@click.group(cls=Group)
def dkim() -> None:
    """Keys that outgoing mail is signed with (DKIM), a domain at a time.

    A new key waits until its record is in DNS; the cluster looks every minute, and then signs with it.
    """


@dkim.command()
@click.argument("domain")
@click.option(
    "--algorithm", type=click.Choice(list(ALGORITHMS)), default="both", show_default=True, help="What keys are made."
)
@click.option(
    "--rsa-bits", type=click.Choice(["1024", "2048", "4096"]), default="2048", show_default=True, help="Of an RSA key."
)
@click.option("--selector", help="Its name in DNS, with one algorithm; otherwise the day.")
@active_option
@cluster_option
@json_option
def generate(
    domain: str, algorithm: str, rsa_bits: str, selector: str | None, active: bool, cluster_dir: Path, as_json: bool
) -> None:
    """Make keys for DOMAIN and print the records to put into DNS."""
    wanted: dict[str, Any] = {"algorithms": ALGORITHMS[algorithm], "rsa_bits": int(rsa_bits), "active": active}
    if selector is not None:
        wanted["selector"] = selector
    made = open_client(cluster_dir).change("POST", api_path("/v1/dkim/{}/keys", domain), wanted)
    _tell_made(made, as_json)


@dkim.command()
@click.argument("domain", required=False)
@click.option("--all", "everything", is_flag=True, help="Every domain that has keys.")
@active_option
@cluster_option
@json_option
def rotate(domain: str | None, everything: bool, active: bool, cluster_dir: Path, as_json: bool) -> None:
    """Make new keys for DOMAIN; they take over when their records are in DNS, and the old ones are retired."""
    if (domain is not None) == everything:
        raise click.UsageError("Either a DOMAIN or --all.")
    client = open_client(cluster_dir)
    if domain is not None:
        _tell_made(_rotated(client, domain, active), as_json)
        return
    domains = [one["domain"] for one in client.pages("/v1/dkim", "domains") if one["keys"]]
    made = []
    with progress_bar("new keys") as update:
        for done, name in enumerate(domains):
            update(done, len(domains))
            made.append(_rotated(client, name, active))
    if as_json:
        print_json({"domains": made})
    else:
        for key in (key for one in made for key in one["keys"]):
            click.echo(key["zone_line"])
    say(f"new keys for {counted(len(made), 'domain')}; put these into DNS, then: mailraft dkim validate DOMAIN")


def _rotated(client: AdminClient, domain: str, active: bool) -> dict[str, Any]:
    made: dict[str, Any] = client.change("POST", api_path("/v1/dkim/{}/rotate", domain), {"active": active})
    return made


@dkim.command("list")
@cluster_option
@json_option
def list_keys(cluster_dir: Path, as_json: bool) -> None:
    """List the keys of every domain."""
    domains = list(open_client(cluster_dir).pages("/v1/dkim", "domains"))
    if as_json:
        print_json({"domains": domains})
        return
    rows = [
        (one["domain"], key["selector"], key["algorithm"], key["state"], key["activated"] or key["added"])
        for one in domains
        for key in one["keys"]
    ]
    print_table(
        ("domain", "selector", "algorithm", "state", "since"), rows, "no keys yet: mailraft dkim generate DOMAIN"
    )
    for one in domains:
        if not any(key["state"] == "active" for key in one["keys"]):
            say(f"mail of {one['domain']} is not signed")


@dkim.command()
@click.argument("domain")
@cluster_option
@json_option
def show(domain: str, cluster_dir: Path, as_json: bool) -> None:
    """Show the keys of DOMAIN and when they change."""
    found = _get(cluster_dir, domain)
    if as_json:
        print_json(found)
        return
    columns = ("selector", "algorithm", "state", "added", "activated", "retired")
    rows = [tuple(key[name] or "" for name in columns) for key in found["keys"]]
    print_table(columns, rows, f"no keys yet: mailraft dkim generate {found['domain']}")
    schedule = found["schedule"]
    if schedule is None:
        say("keys change by hand alone: mailraft dkim schedule")
    else:
        say(f"new keys every {_days(schedule['every_ms'])}; old records stay for {_days(schedule['overlap_ms'])}")


@dkim.command()
@click.argument("domain")
@click.option("--every", "every_days", type=click.IntRange(1, 3650), help="Days that keys are used for.")
@click.option(
    "--overlap",
    "overlap_days",
    type=click.IntRange(1, 365),
    default=7,
    show_default=True,
    help="Days that the old keys' records are still needed for.",
)
@click.option("--off", is_flag=True, help="No rotation but by hand.")
@cluster_option
@json_option
def schedule(
    domain: str, every_days: int | None, overlap_days: int, off: bool, cluster_dir: Path, as_json: bool
) -> None:
    """Let the keys of DOMAIN change by themselves; their records are still yours to put into DNS."""
    if (every_days is None) != off:
        raise click.UsageError("Either --every DAYS or --off.")
    wanted = {"every_ms": (every_days or 0) * DAY_MS, "overlap_ms": overlap_days * DAY_MS}
    found = open_client(cluster_dir).change("PUT", api_path("/v1/dkim/{}/schedule", domain), wanted)
    if as_json:
        print_json(found)
    say(
        f"the keys of {found['domain']} change by hand alone"
        if off
        else f"the keys of {found['domain']} change every {every_days} days; mailraft dkim dns tells the new records"
    )


@dkim.command()
@click.argument("domain")
@cluster_option
@json_option
def dns(domain: str, cluster_dir: Path, as_json: bool) -> None:
    """Print the records that DOMAIN needs in DNS, as lines of a zone file."""
    found = _get(cluster_dir, domain)
    if as_json:
        print_json({"records": [{"name": key["record_name"], "value": key["record_value"]} for key in found["keys"]]})
        return
    if not found["keys"]:
        raise CommandError(f"{found['domain']} has no keys", f"mailraft dkim generate {found['domain']}")
    for key in found["keys"]:
        click.echo(key["zone_line"])


@dkim.command()
@click.argument("domain")
@cluster_option
@json_option
def validate(domain: str, cluster_dir: Path, as_json: bool) -> None:
    """Look the keys of DOMAIN up in DNS; those that wait take over. Exits 1 where a record is missing or wrong."""
    found = open_client(cluster_dir).change("POST", api_path("/v1/dkim/{}/validate", domain), {})
    if as_json:
        print_json(found)
    else:
        rows = [
            (key["selector"], key["algorithm"], key["state"], "in DNS" if key["published"] else key["problem"])
            for key in found["keys"]
        ]
        print_table(("selector", "algorithm", "state", "DNS"), rows, "no keys yet: mailraft dkim generate")
    wrong = [key["selector"] for key in found["keys"] if not key["published"]]
    if wrong or not found["keys"]:
        what = f"not in DNS as they should be: {', '.join(wrong)}" if wrong else f"{found['domain']} has no keys"
        raise CommandError(what, f"mailraft dkim dns {found['domain']} tells the records")


@dkim.command()
@click.argument("domain")
@click.argument("selector")
@click.option("--force", is_flag=True, help="Although mail is signed with it.")
@cluster_option
def delete(domain: str, selector: str, force: bool, cluster_dir: Path) -> None:
    """Delete the key SELECTOR of DOMAIN; its record can go from DNS then.

    Its private part stays in the log, sealed, until it is redacted: that writes each node's file anew, so it is a
    command of its own, best given once for many keys.
    """
    path = api_path("/v1/dkim/{}/keys/{}", domain, selector)
    open_client(cluster_dir).change("DELETE", path + ("?force=1" if force else ""))
    say(f"key {selector} of {domain} deleted")
    say(f"to erase private parts of deleted keys from the log: mailraft log redact --dkim {domain} --reason TEXT")


def _get(cluster_dir: Path, domain: str) -> dict[str, Any]:
    found: dict[str, Any] = open_client(cluster_dir).get(api_path("/v1/dkim/{}", domain))
    return found


def _tell_made(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        for key in made["keys"]:
            click.echo(key["zone_line"])
    say(f"put these into DNS; then: mailraft dkim validate {made['domain']}")


def _days(ms: int) -> str:
    return f"{ms // DAY_MS} days"
