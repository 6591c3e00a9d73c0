"""`mailraft certificate`: what mail clients are shown, and whose certificates they may log in with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import Group
from cli.options import cluster_option, json_option, node_option, open_client
from cli.output import CommandError, console, print_json, print_table, say
from cli.paths import api_path

if TYPE_CHECKING:
    from cli.client import AdminClient

LOOK_EVERY_S = 0.3
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
    found = list(open_client(cluster_dir).pages(api_path("/v1/certificates", tenant=tenant), "certificates"))
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
    found = open_client(cluster_dir).get(api_path("/v1/certificates/{}", wanted))
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
    done = open_client(cluster_dir).change("DELETE", api_path("/v1/certificates/{}", wanted))
    say(f"{', '.join(done['names'])}: removed")


@certificate.command()
@cluster_option
@node_option
@json_option
def check(cluster_dir: Path, node: str | None, as_json: bool) -> None:
    """Examine a node's certificates and those in the log: expiry, stapling, orders that failed.

    Exits 1 where something is an error: clients are refused, or will be within a week.
    """
    found = open_client(cluster_dir).get("/v1/certificate-findings", node)
    if as_json:
        print_json(found)
    else:
        rows = [
            (one["area"], one["status"], "; ".join(filter(None, (one["text"], one["advice"]))))
            for one in found["findings"]
        ]
        print_table(("what", "", "found"), rows, "nothing was found")
    if found["worst"] == "error":
        count = sum(1 for one in found["findings"] if one["status"] == "error")
        raise CommandError(f"{count} of the findings are errors", "mend them, and ask again")


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
    open_client(cluster_dir).change("PUT", api_path("/v1/client-authorities/{}", name), body)
    say(f"{name}: its certificates log in to accounts of {tenant or 'every tenant'}")


@certificate.command("distrust-clients")
@click.argument("name")
@tenant_option
@cluster_option
def distrust_clients(name: str, tenant: str | None, cluster_dir: Path) -> None:
    """Take certificates of the authority NAME for log-ins no longer."""
    open_client(cluster_dir).change("DELETE", api_path("/v1/client-authorities/{}", name, tenant=tenant))
    say(f"{name}: nobody logs in with its certificates any more")


@certificate.command("client-authorities")
@cluster_option
@json_option
def client_authorities(cluster_dir: Path, as_json: bool) -> None:
    """List whose certificates log clients in."""
    found = list(open_client(cluster_dir).pages("/v1/client-authorities", "authorities"))
    if as_json:
        print_json({"authorities": found})
        return
    rows = [(one["name"], one["tenant"] or "every tenant", one["added"]) for one in found]
    none = "nobody logs in with a certificate: mailraft certificate trust-clients NAME FILE"
    print_table(("authority", "for accounts of", "since"), rows, none)


@certificate.command()
@click.argument("directory", metavar="URL")
@click.option("--contact", "contacts", multiple=True, metavar="ADDRESS", help="Where the authority writes to.")
@click.option("--agree", is_flag=True, help="You agree to the authority's terms of service.")
@click.option("--key-id", help="Of an account that you have with the authority, where it demands one.")
@click.option("--hmac-key-file", type=file_type, help="The file with the key to that, in base64url.")
@cluster_option
@json_option
def account(
    directory: str,
    contacts: tuple[str, ...],
    agree: bool,
    key_id: str | None,
    hmac_key_file: Path | None,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Register the cluster at the ACME authority whose directory is at URL; certificates are ordered there."""
    if not agree:
        raise CommandError("an authority asks you to agree to its terms of service", "read them; then --agree")
    if (key_id is None) != (hmac_key_file is None):
        raise click.UsageError("--key-id and --hmac-key-file belong together.")
    addresses = [one if one.startswith("mailto:") else f"mailto:{one}" for one in contacts]
    body: dict[str, Any] = {"directory": directory, "contacts": addresses, "agreed": True}
    if hmac_key_file is not None:
        body |= {"key_id": key_id, "hmac_key": _read(hmac_key_file).strip()}
    made = open_client(cluster_dir).change("PUT", "/v1/acme/account", body)
    if as_json:
        print_json(made)
    else:
        say(f"registered: {made['url']}")
        say("next: mailraft certificate order NAME ...")


@certificate.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--dns", is_flag=True, help="Have the names validated over DNS (acme.dns_hook), as wildcards must be.")
@click.option("--wait", type=click.IntRange(0, 3600), default=120, show_default=True, help="Seconds to wait for it.")
@cluster_option
@json_option
def order(names: tuple[str, ...], dns: bool, wait: int, cluster_dir: Path, as_json: bool) -> None:
    """Order one certificate for NAMES (ACME) and keep it valid: renewed at two thirds of its life, or when told to."""
    client = open_client(cluster_dir)
    client.change("POST", "/v1/acme/kept", {"names": list(names), "challenge": "dns-01" if dns else "http-01"})
    _wait(client, names[0], wait, as_json)


@certificate.command()
@click.argument("name")
@click.option("--wait", type=click.IntRange(0, 3600), default=120, show_default=True, help="Seconds to wait for it.")
@cluster_option
@json_option
def renew(name: str, wait: int, cluster_dir: Path, as_json: bool) -> None:
    """Order the certificate of NAME anew, now. For one that was not ordered here: mailraft certificate add."""
    client = open_client(cluster_dir)
    before = client.change("POST", api_path("/v1/acme/kept/{}/renew", name))
    _wait(client, name, wait, as_json, before["fingerprint"])


@certificate.command()
@cluster_option
@json_option
def orders(cluster_dir: Path, as_json: bool) -> None:
    """List the certificates that are ordered and renewed by themselves, and what came of it last."""
    found = open_client(cluster_dir).whole("/v1/acme", "kept")
    if as_json:
        print_json(found)
        return
    rows = [
        (", ".join(one["names"]), one["challenge"], one["state"], one["due"], one["problem"]) for one in found["kept"]
    ]
    none = "none: mailraft certificate account URL --agree, then mailraft certificate order NAME"
    print_table(("names", "by", "state", "next", "problem"), rows, none)


@certificate.command()
@click.argument("name")
@cluster_option
def release(name: str, cluster_dir: Path) -> None:
    """Renew the certificate of NAME no more. It is shown until it is removed."""
    done = open_client(cluster_dir).change("DELETE", api_path("/v1/acme/kept/{}", name))
    say(f"{', '.join(done['names'])}: not renewed any more")


def _wait(client: AdminClient, name: str, patience_s: int, as_json: bool, before: str | None = None) -> None:
    """Until there is another certificate than before. Raises CommandError where it failed, or is not there yet."""
    deadline_s = time.monotonic() + patience_s
    with console().status(f"waiting for the authority: {name}"):
        while True:
            kept = list(client.pages("/v1/acme", "kept"))
            one = next((each for each in kept if name.lower() in each["names"]), None)
            if one is not None and (one["state"] == "failed" or one["fingerprint"] not in (None, before)):
                break
            if time.monotonic() >= deadline_s:
                raise CommandError(f"{name}: no certificate yet", "mailraft certificate orders tells how far it is")
            time.sleep(LOOK_EVERY_S)
    if as_json:
        print_json(one)
    if one["state"] == "failed":
        hint = f"mend it; it is tried again at {one['due']}, or with mailraft certificate renew {name}"
        raise CommandError(f"no certificate: {one['problem']}", hint)
    if not as_json:
        say(f"{', '.join(one['names'])}: shown from now on, renewed at {one['due']}")


def _read(file: Path) -> str:
    """Raises CommandError."""
    try:
        return file.read_text("ascii")
    except OSError as error:
        raise CommandError(f"{file}: can not be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{file}: is not in PEM form", "openssl x509 -inform DER -in FILE -out FILE.pem") from None
