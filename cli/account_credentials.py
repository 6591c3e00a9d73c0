"""`mailraft account app-password`, `totp`, `apop`, `show`: what lets somebody in beside the password, and who tried."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path
from typing import Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client, password_option, read_password
from cli.output import agree, counted, iso_time, print_json, print_table, say
from cli.paths import api_path

_FROM_NOW = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_UNIT_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def _path(address: str, *parts: str) -> str:
    return api_path("/v1/accounts/{}" + "/{}" * len(parts), address, *parts)


def expiry_ms(text: str) -> int:
    """`90d`, `12h`, `8w` from now, or a date or time (UTC if it has no zone). Raises click.BadParameter."""
    if found := _FROM_NOW.fullmatch(text):
        return int(time.time() * 1000) + int(found[1]) * _UNIT_MS[found[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a while, as in 90d, nor a date, as in 2027-01-31.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def _scopes(_ctx: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


@click.group("app-password", cls=Group)
def app_password() -> None:
    """Passwords for one program each, which need no one-time code."""


@app_password.command()
@click.argument("address")
@click.option("--name", required=True, help="What it is for, as in phone; unique in the account.")
@click.option(
    "--scope",
    "scopes",
    default="imap,pop3,smtp",
    show_default=True,
    callback=_scopes,
    help="What it may be used for, separated by commas.",
)
@click.option("--expires", type=expiry_ms, metavar="WHEN", help="As in 90d, 8w or 2027-01-31; never if not given.")
@cluster_option
@json_option
def create(address: str, name: str, scopes: list[str], expires: int | None, cluster_dir: Path, as_json: bool) -> None:
    """Make an app password for ADDRESS and show it, once."""
    body = {"name": name, "scopes": scopes, "expires_ms": expires}
    made = open_client(cluster_dir).change("POST", _path(address, "app-passwords"), body)
    if as_json:
        print_json(made)
        return
    click.echo(made["password"])
    say(f"for {', '.join(made['scopes'])}; it is not shown again")


@app_password.command("list")
@click.argument("address")
@cluster_option
@json_option
def list_app_passwords(address: str, cluster_dir: Path, as_json: bool) -> None:
    """List the app passwords of ADDRESS. When one was used is known to the day."""
    found = open_client(cluster_dir).get(_path(address, "credentials"))["app_passwords"]
    if as_json:
        print_json({"app_passwords": found})
        return
    rows = (
        (one["name"], ",".join(one["scopes"]), _time(one["created_ms"]), _time(one["expires_ms"]), _day(one["used_ms"]))
        for one in found
    )
    empty = f"no app passwords: mailraft account app-password create {address} --name NAME"
    print_table(("name", "for", "created", "expires", "used"), rows, empty)


@app_password.command()
@click.argument("address")
@click.argument("name")
@cluster_option
def revoke(address: str, name: str, cluster_dir: Path) -> None:
    """Take the app password NAME from ADDRESS: it lets nobody in any more."""
    open_client(cluster_dir).change("DELETE", _path(address, "app-passwords", name))
    say(f"app password {name} of {address} revoked")


@click.group(cls=Group)
def totp() -> None:
    """One-time codes of an authenticator app (RFC 6238), asked for on the web.

    An account that has them on is let in to IMAP, POP3 and SMTP with app passwords only.
    """


@totp.command()
@click.argument("address")
@cluster_option
@json_option
def enable(address: str, cluster_dir: Path, as_json: bool) -> None:
    """Give ADDRESS new one-time codes: shows what the app needs, and recovery codes, once.

    They are asked for from the first code on: mailraft account totp confirm ADDRESS CODE.
    """
    made = open_client(cluster_dir).change("POST", _path(address, "totp"))
    if as_json:
        print_json(made)
        return
    click.echo(f"secret    {made['secret']}")
    click.echo(f"uri       {made['uri']}")
    click.echo("recovery  " + "\n          ".join(made["recovery_codes"]))
    say(f"not in force yet: mailraft account totp confirm {address} CODE")


@totp.command()
@click.argument("address")
@click.argument("code")
@cluster_option
def confirm(address: str, code: str, cluster_dir: Path) -> None:
    """Show by a first CODE that the app works: from now on ADDRESS is asked for codes."""
    open_client(cluster_dir).change("PUT", _path(address, "totp"), {"code": code})
    say(f"one-time codes of {address} are on; mail programs need app passwords now")


@totp.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_option
def disable(address: str, yes: bool, cluster_dir: Path) -> None:
    """Ask ADDRESS for one-time codes no more."""
    client = open_client(cluster_dir)
    agree(f"Let {address} in with the password alone?", yes)
    client.change("DELETE", _path(address, "totp"))
    say(f"one-time codes of {address} are off")


@totp.command()
@click.argument("address")
@cluster_option
@json_option
def status(address: str, cluster_dir: Path, as_json: bool) -> None:
    """Whether ADDRESS is asked for one-time codes."""
    found = open_client(cluster_dir).get(_path(address, "credentials"))["totp"]
    if as_json:
        print_json(found)
        return
    click.echo(_codes_text(found))


@click.command()
@click.argument("address")
@password_option
@click.option("--remove", is_flag=True, help="Let ADDRESS in by APOP no more.")
@cluster_option
def apop(address: str, password_stdin: bool, remove: bool, cluster_dir: Path) -> None:
    """Give ADDRESS a secret for APOP (POP3), or take it away.

    It must not be a password of the account: the log keeps it so that it can be read back, sealed. The tenant must
    allow APOP: mailraft policy set TENANT pop3_apop=on.
    """
    if remove:
        open_client(cluster_dir).change("DELETE", _path(address, "apop"))
        say(f"{address} is let in by APOP no more")
        say("sealed, the secret is in the log still: mailraft log redact --apop TENANT erases what was removed")
        return
    secret = read_password(password_stdin)
    open_client(cluster_dir).change("PUT", _path(address, "apop"), {"secret": secret})
    say(f"{address} can log in by APOP")


@click.command()
@click.argument("address")
@cluster_option
@json_option
def show(address: str, cluster_dir: Path, as_json: bool) -> None:
    """What lets somebody in to ADDRESS beside the password, and what was refused."""
    found = open_client(cluster_dir).get(_path(address, "credentials"))
    if as_json:
        print_json(found)
        return
    refused = found["refused_logins"]
    last = f", the last told of at {_time(refused['last_ms'])}" if refused["last_ms"] else ""
    click.echo(f"account         {found['address']}")
    click.echo(f"one-time codes  {_codes_text(found['totp'])}")
    click.echo(f"app passwords   {', '.join(one['name'] for one in found['app_passwords']) or 'none'}")
    if found["apop"]["since_ms"]:
        counts = "" if found["apop"]["allowed"] else ", which its tenant does not allow"
        click.echo(f"APOP            a secret since {_time(found['apop']['since_ms'])}{counts}")
    click.echo(f"refused logins  {refused['attempts']}{last}")


def _codes_text(found: dict[str, Any]) -> str:
    if found["state"] == "off":
        return "off"
    if found["state"] == "unconfirmed":
        return "not confirmed yet, so not in force"
    return f"on since {_time(found['since_ms'])}, {counted(found['recovery_codes_used'], 'recovery code')} used"


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_time(at_ms)


def _day(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_time(at_ms)[:10]
