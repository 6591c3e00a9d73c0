"""`mailraft policy`: how a tenant's mail is treated where that differs from the nodes' configuration."""

from __future__ import annotations

from pathlib import Path

import click

from actors.errors import NotAllowed
from actors.tenant_policy import SETTINGS, Value, check
from actors.verdicts import CHOICES
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import counted, print_json, print_table, say
from cli.paths import api_path

DMARC = "dmarc"
NAMES = (*sorted(SETTINGS), DMARC)


def _name(text: str) -> str:
    name = text.strip().replace("-", "_")
    if name not in NAMES:
        raise click.BadParameter(f"there is no setting {text}: mailraft policy show TENANT lists them")
    return name


def _setting(text: str) -> tuple[str, Value]:
    """SETTING=VALUE, checked as the log would. Raises click.BadParameter."""
    named, equals, value = text.partition("=")
    name = _name(named)
    if not equals:
        raise click.BadParameter(f"{name}: a value is missing, as in {name}={_example(name)}")
    if name == DMARC:
        return name, value  # the cell checks it
    new: Value = value if SETTINGS[name].choices or not value.isdecimal() else int(value)
    try:
        check(name, new)
    except NotAllowed as error:
        raise click.BadParameter(str(error)) from None
    return name, new


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


def _example(name: str) -> str:
    choices = CHOICES[DMARC] if name == DMARC else SETTINGS[name].choices
    return choices[0] if choices else str(max(SETTINGS[name].least, 100))


@click.group(cls=Group)
def policy() -> None:
    """How a tenant's mail is treated: greylisting, DNS lists, rates, spam, sizes, address extensions.

    What a tenant has not set is as the nodes' configuration says ([policy]). A change holds at every node at once.
    """


@policy.command()
@click.argument("tenant")
@cluster_option
@json_option
def show(tenant: str, cluster_dir: Path, as_json: bool) -> None:
    """Show what holds for the tenant TENANT, and what of it was set for it."""
    found = open_client(cluster_dir).get(_path(tenant))
    if as_json:
        print_json(found)
        return
    rows = [
        (name, one["value"], "set for it" if one["is_set"] else "as the nodes have it", one["text"])
        for name, one in found["policy"].items()
    ]
    print_table(("setting", "value", "from", "what it is"), rows, "")


@policy.command("set")
@click.argument("tenant")
@click.argument("settings", metavar="SETTING=VALUE...", nargs=-1, required=True, shell_complete=_complete)
@cluster_option
def set_policy(tenant: str, settings: tuple[str, ...], cluster_dir: Path) -> None:
    """Set how the mail of TENANT is treated; each SETTING as in spam=refuse tenant_messages_per_hour=1000."""
    wanted = dict(map(_setting, settings))
    open_client(cluster_dir).change("PUT", _path(tenant), {"set": wanted})
    for name, value in wanted.items():
        say(f"tenant {tenant}: {name} is {value}")


@policy.command()
@click.argument("tenant")
@click.argument("settings", metavar="[SETTING]...", nargs=-1, shell_complete=_complete)
@cluster_option
def reset(tenant: str, settings: tuple[str, ...], cluster_dir: Path) -> None:
    """Have each SETTING of TENANT that is named, or all, as the nodes have them again."""
    done = open_client(cluster_dir).change("PUT", _path(tenant), {"reset": [_name(one) for one in settings]})
    say(f"tenant {tenant}: {counted(len(done['reset']), 'setting')} as the nodes have it again")


def _path(tenant: str) -> str:
    return api_path("/v1/tenants/{}/policy", tenant)
