"""`mailraft tenant show|update|suspend|resume|remove-domain|delete|undelete`: the life of one tenant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from cli.options import cluster_option, json_option, open_client
from cli.output import agree, iso_time, print_json, print_table, say, size_text
from cli.paths import api_path

_SPANS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def path_of(name: str, *rest: str) -> str:
    """Of a tenant, in the admin API."""
    return api_path("/v1/tenants/{}" + "/{}" * len(rest), name, *rest)


def span_ms(text: str) -> int:
    """A span of time as in 30d, 12h, 90m or 0s. Raises click.BadParameter."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip().lower())
    if found is None:
        raise click.BadParameter(f'{text!r} is no span of time: write it as in "30d", "12h", "90m" or "0s".')
    return int(found[1]) * _SPANS_MS[found[2]]


@click.command()
@click.argument("name")
@cluster_option
@json_option
def show(name: str, cluster_dir: Path, as_json: bool) -> None:
    """Show the tenant NAME: whether it is served, its domains, what it uses."""
    found = open_client(cluster_dir).get(path_of(name))
    if as_json:
        print_json(found)
        return
    print_table(("", ""), list(_lines(found)), "")


def _lines(found: dict[str, Any]) -> list[tuple[str, object]]:
    used = found["used"]
    lines: list[tuple[str, object]] = [
        ("name", found["name"]),
        ("id", found["id"]),
        ("title", found["title"] or None),
        ("contact", found["contact"] or None),
        ("state", _state(found)),
        ("domains", ", ".join(found["domains"]) or None),
        ("storage", size_text(used["bytes"])),
    ]
    return lines + [(what, used[what]) for what in ("messages", "accounts", "aliases", "groups")]


def _state(found: dict[str, Any]) -> str:
    if found["state"] == "active":
        return "active"
    text = f"{found['state']} since {iso_time(found['since_ms'])}"
    if found["deleted_at_ms"]:
        return f"{text}, gone for good at {iso_time(found['deleted_at_ms'])}"
    mail = "put off (4xx)" if found["mail"] == "defer" else "refused (5xx)"
    return f"{text}: {found['reason'] or 'no reason given'}; mail for it is {mail}"


@click.command()
@click.argument("name")
@click.option("--name", "new_name", metavar="NEW", help="Another name for the tenant; its domains and addresses stay.")
@click.option("--title", help="What the organisation calls itself.")
@click.option("--contact", metavar="ADDRESS", help='Who is told of quotas; "" for nobody.')
@cluster_option
@json_option
def update(
    name: str, new_name: str | None, title: str | None, contact: str | None, cluster_dir: Path, as_json: bool
) -> None:
    """Change what is said of the tenant NAME. What holds for its mail: mailraft policy set; for log-ins: tenant set."""
    given = {"name": new_name, "title": title, "contact": contact}
    body = {key: value for key, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("Nothing to change: name --name, --title or --contact.")
    changed = open_client(cluster_dir).change("PUT", path_of(name, "details"), body)
    if as_json:
        print_json(changed)
    say(f"tenant {changed['name']}: {', '.join(sorted(body))} changed")


@click.command("remove-domain")
@click.argument("name")
@click.argument("domain")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_option
@json_option
def remove_domain(name: str, domain: str, yes: bool, cluster_dir: Path, as_json: bool) -> None:
    """Take DOMAIN from the tenant NAME, with its postmaster; everything else in it must have gone before."""
    client = open_client(cluster_dir)
    agree(f"Remove {domain} from {name}, with the mailbox of its postmaster?", yes)
    client.change("DELETE", path_of(name, "domains", domain))
    if as_json:
        print_json({"tenant": name, "removed": domain})
    say(f"tenant {name} has {domain} no more")


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="For the record and for administrators; clients are not told.")
@click.option(
    "--mail",
    type=click.Choice(["defer", "refuse"]),
    default="defer",
    show_default=True,
    help="Mail for it: put off (4xx, senders try again) or refused (5xx, it goes back).",
)
@cluster_option
@json_option
def suspend(name: str, reason: str, mail: str, cluster_dir: Path, as_json: bool) -> None:
    """Serve the tenant NAME no more until it is resumed: no log-in, no session, nothing sent; nothing is lost."""
    client = open_client(cluster_dir)
    found = client.change("POST", path_of(name, "suspension"), {"mail": mail, "reason": reason})
    if as_json:
        print_json(found)
    say(f"tenant {name} is suspended; back with: mailraft tenant resume {name}")


@click.command()
@click.argument("name")
@cluster_option
@json_option
def resume(name: str, cluster_dir: Path, as_json: bool) -> None:
    """Serve the tenant NAME again; what waited in its queues is sent."""
    found = open_client(cluster_dir).change("DELETE", path_of(name, "suspension"))
    if as_json:
        print_json(found)
    say(f"tenant {name} is {found['state']}")


@click.command()
@click.argument("name")
@click.option(
    "--grace", default="30d", show_default=True, metavar="TIME", help="How long it can be undeleted; 0s: not."
)
@click.option("--reason", default="", help="For the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_option
@json_option
def delete(name: str, grace: str, reason: str, yes: bool, cluster_dir: Path, as_json: bool) -> None:
    """Delete the tenant NAME: out of service now; after the grace time its data is erased, from the log too."""
    client, grace_ms = open_client(cluster_dir), span_ms(grace)
    agree(f"Delete {name} with all its accounts and mail, for good after {grace}?", yes)
    found = client.change("POST", path_of(name, "deletion"), {"grace_ms": grace_ms, "reason": reason})
    if as_json:
        print_json(found)
    say(f"tenant {name} is out of service and gone for good at {iso_time(found['deleted_at_ms'])}")
    say(f"until then: mailraft tenant undelete {name}")


@click.command()
@click.argument("name")
@cluster_option
@json_option
def undelete(name: str, cluster_dir: Path, as_json: bool) -> None:
    """Keep the tenant NAME after all; possible until its grace time has passed."""
    found = open_client(cluster_dir).change("DELETE", path_of(name, "deletion"))
    if as_json:
        print_json(found)
    say(f"tenant {name} is {found['state']}")


COMMANDS = (show, update, remove_domain, suspend, resume, delete, undelete)
