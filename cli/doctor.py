"""`mailraft doctor DOMAIN`: examines what others see of a domain, and says what to put into DNS."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, console, print_json, print_table
from cli.paths import api_path

TIMEOUT_S = 120.0
MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@click.command()
@click.argument("domain")
@cluster_option
@json_option
def doctor(domain: str, cluster_dir: Path, as_json: bool) -> None:
    """Examine the mail of DOMAIN as the internet sees it: MX, SPF, DKIM, DMARC, MTA-STS, TLS-RPT, DANE, names, ports.

    Exits 1 where something is an error: mail is lost, refused or taken for spam.
    """
    client = open_client(cluster_dir, TIMEOUT_S)
    with console().status(f"asking DNS and the hosts of {domain}"):
        found = client.get(api_path("/v1/doctor/{}", domain))
    if as_json:
        print_json(found)
    else:
        rows = [(MARKS[one["status"]], one["area"], _text(one)) for one in found["findings"]]
        print_table(("", "area", "what was found"), rows, "nothing was found")
        records = [record for one in found["findings"] for record in one["records"]]
        if records:
            click.echo("\nto put into DNS:\n")
            for record in dict.fromkeys(records):
                click.echo(record)
        files = {file["where"]: file["text"] for one in found["findings"] for file in one["files"]}
        for where, text in files.items():
            click.echo(f"\nto put at {where}:\n\n{text}", nl=False)
    if found["worst"] == "error":
        count = sum(1 for one in found["findings"] if one["status"] == "error")
        raise CommandError(f"{count} of the findings on {found['domain']} are errors", "mend them, and ask again")


def _text(finding: dict[str, str]) -> str:
    return f"{finding['text']}; {finding['advice']}" if finding["advice"] else finding["text"]
