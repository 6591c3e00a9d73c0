"""`mailraft quota`: what a tenant may use, what it uses, and when it is warned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from actors.errors import NotAllowed
from actors.standing import QUOTAS, check_quota
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client, size_bytes
from cli.output import print_json, print_table, say, size_text
from cli.tenant_life import path_of

NO_LIMIT = "none"


@click.group(cls=Group)
def quota() -> None:
    """What a tenant may use: storage, messages, accounts, sending. Of one account: mailraft account quota."""


@quota.command()
@click.argument("tenant")
@cluster_option
@json_option
def show(tenant: str, cluster_dir: Path, as_json: bool) -> None:
    """Show what the tenant TENANT may use, and what it uses now."""
    found = open_client(cluster_dir).get(path_of(tenant, "quotas"))
    if as_json:
        print_json(found)
        return
    rows = [
        (name, _shown(name, one["used"]), _shown(name, one["limit"]), _percent(one), one["text"])
        for name, one in found["quotas"].items()
    ]
    print_table(("quota", ">used", ">limit", ">%", "what it is"), rows, "")
    say(f"warnings at {', '.join(f'{one} %' for one in found['thresholds'])}")


def _shown(name: str, value: int | None) -> str | None:
    return None if value is None else size_text(value) if name == "storage_bytes" else str(value)


def _percent(one: dict[str, Any]) -> str | None:
    if one["limit"] is None or one["used"] is None:
        return None
    return "100" if not one["limit"] else f"{one['used'] * 100 / one['limit']:.0f}"


def _setting(text: str) -> tuple[str, int | None]:
    """QUOTA=NUMBER, a size or "none". Raises click.BadParameter."""
    named, equals, value = text.partition("=")
    name = named.strip().replace("-", "_")
    if name not in QUOTAS:
        raise click.BadParameter(f"there is no quota {named}; there are {', '.join(QUOTAS)}")
    if not equals:
        raise click.BadParameter(f"{name}: a value is missing, as in {name}=1000, or {name}=none")
    if value.lower() == NO_LIMIT:
        return name, None
    if value.isdecimal():
        number = int(value)
    elif name == "storage_bytes":
        number = size_bytes(value)
    else:
        raise click.BadParameter(f"{name}: a whole number, or none")
    try:
        check_quota(name, number)
    except NotAllowed as error:
        raise click.BadParameter(str(error)) from None
    return name, number


@quota.command("set")
@click.argument("tenant")
@click.argument("settings", metavar="[QUOTA=NUMBER|SIZE|none]...", nargs=-1)
@click.option("--warn-at", metavar="80,90,95,100", help='Percentages at which warnings are sent; "usual" for these.')
@cluster_option
@json_option
def set_quotas(tenant: str, settings: tuple[str, ...], warn_at: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Limit what TENANT may use; each QUOTA as in storage_bytes=50GiB messages=1000000 sending_per_day=5000.

    What is there stays when it is above the new limit; what would add to it is refused.
    """
    wanted = dict(map(_setting, settings))
    body: dict[str, Any] = {
        "set": {name: value for name, value in wanted.items() if value is not None},
        "reset": [name for name, value in wanted.items() if value is None],
    }
    if warn_at is not None:
        body["thresholds"] = _percents(warn_at)
    if not wanted and warn_at is None:
        raise click.UsageError("Nothing to set: name a QUOTA=NUMBER, or --warn-at.")
    changed = open_client(cluster_dir).change("PUT", path_of(tenant, "quotas"), body)
    if as_json:
        print_json(changed)
    for name, value in wanted.items():
        say(f"tenant {tenant}: {name} {'is not limited' if value is None else f'at most {value}'}")


def _percents(text: str) -> list[int]:
    if text.strip().lower() == "usual":
        return []
    parts = [one.strip().rstrip("%").strip() for one in text.split(",")]
    if not all(one.isdecimal() for one in parts):
        raise click.BadParameter('--warn-at takes percentages, as in "80,90,95,100"')
    return sorted({int(one) for one in parts})


@quota.command()
@click.argument("tenant")
@cluster_option
@json_option
def recount(tenant: str, cluster_dir: Path, as_json: bool) -> None:
    """Count what TENANT uses anew, from every mailbox, beside the sums that are kept. Exit 1: they differ."""
    found = open_client(cluster_dir).get(path_of(tenant, "usage"))
    kept, anew = found["kept"], found["recounted"]
    if as_json:
        print_json(found)
    else:
        print_table(("what", ">kept", ">recounted"), [(key, (kept or {}).get(key), anew[key]) for key in anew], "")
    if kept is None:
        say("sums are kept from the moment when a quota is first set: mailraft quota set")
    elif kept != anew:
        raise click.exceptions.Exit(1)
