"""`mailraft region`: let another cell follow this one's log, and follow another's."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import click

from cli.cluster_token import bring_authority
from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, iso_time, print_json, print_table, say
from cli.paths import api_path

DAY_MS = 86_400_000


@click.group(cls=Group)
def region() -> None:
    """Let another cell follow this one's log; follow another's.

    A replica is read-only: its home is the cell that it follows.
    """


@region.command()
@click.argument("name")
@click.option("--tenant", metavar="NAME", help="All of this tenant may be followed.")
@click.option("--account", metavar="ADDRESS", help="This mailbox alone may be followed.")
@click.option("--days", type=click.IntRange(1, 3650), default=397, show_default=True, help="How long it is valid.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write; it is a secret."
)
@cluster_option
@json_option
def grant(
    name: str, tenant: str | None, account: str | None, days: int, out: Path, cluster_dir: Path, as_json: bool
) -> None:
    """Grant the follower NAME leave to follow a tenant or a mailbox of this cluster.

    The file goes to the other cell's administrator: mailraft region follow --grant FILE.
    """
    if (tenant is None) == (account is None):
        raise click.UsageError("Either --tenant NAME or --account ADDRESS.")
    if not name or len(name) > 63 or not name.replace("-", "a").replace(".", "a").isalnum() or not name.isascii():
        raise click.BadParameter("NAME has at most 63 letters, digits, dots and dashes.")
    if out.exists():
        raise CommandError(f"{out} is there already", "another file: a grant that was handed out is not overwritten")
    document = _issue(cluster_dir, name, {"tenant": tenant} if tenant else {"account": account}, days, out)
    summary = {key: document[key] for key in ("name", "cell", "tenant_name", "address", "expires_ms")}
    if as_json:
        print_json({**summary, "file": str(out)})
    say(f"{name} may follow {document['address'] or 'the tenant ' + document['tenant_name']}")
    say(f"until {iso_time(document['expires_ms'])}; {out} is a secret: whoever has it may follow")
    say(f"next, in the other cell: mailraft region follow --grant {out} --cluster DIR")


def _issue(cluster_dir: Path, name: str, wanted: dict[str, Any], days: int, out: Path) -> dict[str, Any]:
    """The key is made here; what certifies it is the cell's authority, in its log."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from nodes.tls import contexts as tls

    client = open_client(cluster_dir)
    bring_authority(client)
    key = ec.generate_private_key(ec.SECP256R1())
    request = {"name": name, "request": tls.request_of(key, name).decode(), "days": days}
    issued = client.change("POST", "/v1/region/certificates", request)
    if not issued["endpoints"]:
        hint = "region = host:port under [listen] of each mailraft.toml and in cluster.toml, then restart"
        raise CommandError("the nodes of this cluster do not listen for followers", hint)
    fingerprint = x509.load_pem_x509_certificate(issued["certificate"].encode()).fingerprint(hashes.SHA256())
    scope = client.change("POST", "/v1/region/scope", wanted)
    expires_ms = time.time_ns() // 1_000_000 + days * DAY_MS
    transfer_key = secrets.token_hex(32)
    document = {
        "format": 1,
        "cell": issued["cell"],
        "name": name,
        **scope,
        "endpoints": issued["endpoints"],
        "authority": issued["authorities"],
        "certificate": issued["certificate"],
        "key": tls.secret_of(key).decode(),
        "transfer_key": transfer_key,
        "expires_ms": expires_ms,
    }
    partial = _write_secret(out, document)
    try:
        asked = {"name": name, "fingerprint": fingerprint.hex(), "expires_ms": expires_ms}
        ids = {"tenant": scope["tenant"], "account": scope["account"], "transfer_key": transfer_key}
        client.change("POST", "/v1/region/grants", {**asked, **ids})
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return document


def _write_secret(out: Path, document: dict[str, Any]) -> Path:
    """Beside `out`: it gets its name when the grant is committed. Raises CommandError."""
    partial = out.with_name(out.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise CommandError(f"{out}: can not be written: {error.strerror}", "another file in --out") from None
    return partial


@region.command()
@click.argument("name")
@cluster_option
def revoke(name: str, cluster_dir: Path) -> None:
    """Revoke the grant NAME: its follower is cut off at once. What it has already followed stays with it."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/region/grants/{}", name))
    say(f"{name} may not follow any more")


@region.command("grants")
@cluster_option
@json_option
def list_grants(cluster_dir: Path, as_json: bool) -> None:
    """List who may follow what of this cluster."""
    grants = list(open_client(cluster_dir).pages("/v1/region/grants", "grants"))
    if as_json:
        print_json({"grants": grants})
        return
    rows = (
        (one["name"], one["state"], one["account"] or f"tenant {one['tenant']}", iso_time(one["expires_ms"]))
        for one in grants
    )
    print_table(("grant", "state", "what", "expires"), rows, "nobody may follow: mailraft region grant NAME")


@region.command()
@click.option(
    "--grant",
    "grant_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The file that the other cell's administrator has made.",
)
@click.option("--as", "as_name", metavar="NAME", help="What it is called here; the grant's name if not given.")
@cluster_option
def follow(grant_file: Path, as_name: str | None, cluster_dir: Path) -> None:
    """Keep a read-only replica of what a grant covers. Given a new grant for the same, goes on where it ended."""
    try:
        document = json.loads(grant_file.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"{grant_file}: can not be read: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"{grant_file} is not a grant", "the file that mailraft region grant wrote")
    made = open_client(cluster_dir).change("POST", "/v1/region/follows", {**document, "as": as_name})
    say(f"following the cell {made['cell']} as {made['name']}")
    say(f"next: mailraft region status --cluster {cluster_dir}")


@region.command()
@click.argument("name")
@cluster_option
def unfollow(name: str, cluster_dir: Path) -> None:
    """Follow NAME no longer. What was followed stays, read-only; following again goes on from there."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/region/follows/{}", name))
    say(f"{name} is not followed any more")


@region.command()
@cluster_option
@json_option
def status(cluster_dir: Path, as_json: bool) -> None:
    """Show what this cluster follows, how far, and how far behind."""
    found = _status(cluster_dir)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["cell"],
            one["address"] or f"tenant {one['tenant_name'] or one['tenant']}",
            one["state"],
            one["position"],
            one["lag_records"],
            one["lag_s"],
        )
        for one in found["follows"]
    ]
    columns = ("follows", "cell", "what", "state", ">position", ">lag", ">seconds")
    print_table(columns, rows, "nothing is followed: mailraft region follow --grant FILE")
    for one in found["follows"]:
        if one["reason"]:
            colour = "red" if one["state"] in ("halted", "blocked") else "yellow"
            click.secho(f"{one['name']}: {one['reason']}", fg=colour, err=True)


def _status(cluster_dir: Path) -> dict[str, Any]:
    """From the node that pulls, which alone knows the lag; from another where it does not answer."""
    client, best = open_client(cluster_dir), None
    failure: CommandError | None = None
    for name in client.node_names:
        try:
            found: dict[str, Any] = client.whole("/v1/region/follows", "follows", name)
        except CommandError as error:
            failure = error
            continue
        best = found if best is None or found["leads"] else best
        if found["leads"]:
            break
    if best is None:
        assert failure is not None
        raise failure
    return best
