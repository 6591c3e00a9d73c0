"""`mailraft send`: a message from the command line, delivered or queued like any other."""

from __future__ import annotations

import io
import mimetypes
import sys
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import click

from cli.client import AdminClient, Unreachable
from cli.options import cluster_option, json_option, open_client
from cli.output import CommandError, print_json, say
from cli.paths import api_path
from nodes.errors.kinds import EXIT_NOT_NOW

TIMEOUT_S = 120.0


@click.command()
@click.option("--from", "sender", required=True, metavar="ADDRESS", help="The author; of one of the cluster's domains.")
@click.option("--to", "recipients", multiple=True, required=True, metavar="ADDRESS", help="May be given several times.")
@click.option("--subject", default="", help="The subject.")
@click.option("--body", help="The text; otherwise standard input is read.")
@click.option(
    "--attach",
    "attachments",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to attach; may be given several times.",
)
@click.option(
    "--raw", is_flag=True, help="Standard input is a whole message with its header; --from and --to deliver it."
)
@cluster_option
@json_option
def send(
    sender: str,
    recipients: tuple[str, ...],
    subject: str,
    body: str | None,
    attachments: tuple[Path, ...],
    raw: bool,
    cluster_dir: Path,
    as_json: bool,
) -> None:
    """Send a message: local recipients have it when this returns, for others it is queued (mailraft queue list).

    It is signed like submitted mail where the sender's domain has DKIM keys.
    """
    if raw and (subject or body is not None or attachments):
        raise click.UsageError("--raw takes the whole message from standard input: no --subject, --body or --attach.")
    data = _raw() if raw else _composed(sender, recipients, subject, body, attachments)
    path = api_path("/v1/mail", sender=sender, to=recipients)
    client = open_client(cluster_dir, TIMEOUT_S)
    sent = client.upload(path, _ready_node(client, cluster_dir), io.BytesIO(data))
    if as_json:
        print_json(sent)
    say(f"accepted, {sent['size']} bytes for {', '.join(sent['to'])}: who is local has it, for others it is queued")
    say("what became of that: mailraft queue list")


def _ready_node(client: AdminClient, cluster_dir: Path) -> str:
    for node in client.cluster.nodes:
        try:
            if client.status(node).get("ready"):
                return node.name
        except Unreachable:
            continue
    raise CommandError("no node is ready", f"mailraft cluster status {cluster_dir}", EXIT_NOT_NOW, "unreachable")


def _ascii(domain: str) -> str | None:
    """As it stands in DNS (RFC 5890 2.3.2.1); None where it is no domain, which the node says."""
    import idna

    try:
        return idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return None


def _raw() -> bytes:
    """Standard input, its line ends made CRLF."""
    data = sys.stdin.buffer.read()
    if not data.strip():
        raise CommandError("standard input held no message", "mailraft send --raw ... < message.eml")
    return b"\r\n".join(data.replace(b"\r\n", b"\n").split(b"\n"))


def _composed(
    sender: str, recipients: tuple[str, ...], subject: str, body: str | None, attachments: tuple[Path, ...]
) -> bytes:
    international = not all(address.isascii() for address in (sender, *recipients))
    message = EmailMessage(policy=policy.SMTPUTF8 if international else policy.SMTP)  # RFC 6532 3.2
    try:
        message["From"], message["To"], message["Subject"] = sender, ", ".join(recipients), subject
    except ValueError as error:
        raise CommandError(f"this can not stand in a header: {error}") from None
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=_ascii(sender.rpartition("@")[2]))
    if body is None and sys.stdin.isatty():
        say("the text, ended by Ctrl-D:")
    message.set_content(body if body is not None else sys.stdin.read())
    for path in attachments:
        guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kind, _, subkind = guessed.partition("/")
        try:
            message.add_attachment(path.read_bytes(), maintype=kind, subtype=subkind, filename=path.name)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
    return message.as_bytes()
