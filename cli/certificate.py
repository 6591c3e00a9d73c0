"""`mailraft certificate`: what mail clients are shown, and whose certificates they may log in with."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, print_json, print_table, say

COLOURS = {"expired": "red", "expiring": "yellow"}

file_type = click.Path(path_type=Path, dir_okay=False)
tenant_option = click.option("--tenant", metavar="NAME", help="Of this tenant alone.")
wanted_argument = click.argument("wanted", metavar="NAME|FINGERPRINT")


@click.group(cls=Group)
def certificate() -> None:
    """Certificates that mail clients are shown, by the server name that they ask for (SNI).

    They are in the log, their keys sealed: every node shows a new one at once, and no connection is dropped.
    """


@certificate.command()
@click.argument("chain", type=file_type)
@click.argument("key", type=file_type)
@click.option("--name", "names", multiple=True, help="A host name that it must cover; may be given several times.")
@tenant_option
@cluster_option
@json_option
def add(chain: Path, key: Path, names: tuple[str, ...], tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """Add the certificate of the file CHAIN (leaf first, then intermediates) with the key of the file KEY.

    It is checked first: dates, order, missing intermediates, the key, names. It takes the place of those whose names it
    covers.
    """
    body: dict[str, Any] = {"chain": _read(chain), "key": _read(key), "names": list(names)}
    if tenant is not None:
        body["tenant"] = tenant
    made = open_client(cluster_dir).change("POST", "/v1/certificates", body)
    if as_json:
        print_json(made)
    else:
        say(f"{', '.join(made['names'])}: shown from now on, until {made['not_after']}")


@certificate.command("list")
@tenant_option
@cluster_option
@json_option
def list_certificates(tenant: str | None, cluster_dir: Path, as_json: bool) -> None:
    """List the certificates of the log, and when they expire."""
    query = f"?tenant={quote(tenant, safe='')}" if tenant else ""
    found = open_client(cluster_dir).get(f"/v1/certificates{query}")["certificates"]
    if as_json:
        print_json({"certificates": found})
        return
    rows = [
        (one["names"][0], len(one["names"]), one["tenant"], one["source"], one["days_left"], one["fingerprint"][:16])
        for one in found
    ]
    none = "no certificates: the file's is shown (tls.server_certificate); mailraft certificate add CHAIN KEY"
    print_table(("name", ">names", "tenant", "source", ">days", "fingerprint"), rows, none)
    for one in found:
        if one["state"] in COLOURS:
            text = f"{', '.join(one['names'])}: {one['state']}, {one['not_after']}"
            click.secho(text, fg=COLOURS[one["state"]], err=True)


@certificate.command()
@wanted_argument
@cluster_option
@json_option
def show(wanted: str, cluster_dir: Path, as_json: bool) -> None:
    """Show the certificate that clients of a host name are shown, or the one of a fingerprint, with its chain."""
    found = open_client(cluster_dir).get(f"/v1/certificates/{quote(wanted, safe='')}")
    if as_json:
        print_json(found)
        return
    for key in ("fingerprint", "tenant", "source", "not_before", "not_after", "days_left", "state"):
        click.echo(f"{key.replace('_', ' '):12} {'' if found[key] is None else found[key]}")
    click.echo(f"{'names':12} {', '.join(found['names'])}\n")
    click.echo(found["chain"], nl=False)


@certificate.command()
@wanted_argument
@cluster_option
def remove(wanted: str, cluster_dir: Path) -> None:
    """Show a certificate no longer: clients see an older one for the name, or the file's."""
    done = open_client(cluster_dir).change("DELETE", f"/v1/certificates/{quote(wanted, safe='')}")
    say(f"{', '.join(done['names'])}: removed")


@certificate.command("trust-clients")
@click.argument("name")
@click.argument("file", type=file_type)
@tenant_option
@cluster_option
def trust_clients(name: str, file: Path, tenant: str | None, cluster_dir: Path) -> None:
    """Let clients log in (SASL EXTERNAL) with certificates of the authorities in FILE, called NAME here.

    The e-mail address of such a certificate is the account's. With --tenant, of that tenant's accounts only.
    """
    body = {"certificates": _read(file), "tenant": tenant}
    open_client(cluster_dir).change("PUT", f"/v1/client-authorities/{quote(name, safe='')}", body)
    say(f"{name}: its certificates log in to accounts of {tenant or 'every tenant'}")


@certificate.command("distrust-clients")
@click.argument("name")
@tenant_option
@cluster_option
def distrust_clients(name: str, tenant: str | None, cluster_dir: Path) -> None:
    """Take certificates of the authority NAME for log-ins no longer."""
    query = f"?tenant={quote(tenant, safe='')}" if tenant else ""
    open_client(cluster_dir).change("DELETE", f"/v1/client-authorities/{quote(name, safe='')}{query}")
    say(f"{name}: nobody logs in with its certificates any more")


@certificate.command("client-authorities")
@cluster_option
@json_option
def client_authorities(cluster_dir: Path, as_json: bool) -> None:
    """List whose certificates log clients in."""
    found = open_client(cluster_dir).get("/v1/client-authorities")["authorities"]
    if as_json:
        print_json({"authorities": found})
        return
    rows = [(one["name"], one["tenant"] or "every tenant", one["added"]) for one in found]
    none = "nobody logs in with a certificate: mailraft certificate trust-clients NAME FILE"
    print_table(("authority", "for accounts of", "since"), rows, none)


def _read(file: Path) -> str:
    """Raises CommandError."""
    try:
        return file.read_text("ascii")
    except OSError as error:
        raise CommandError(f"{file}: can not be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: is not in PEM form", "openssl x509 -inform DER -in FILE -out FILE.pem") from None
