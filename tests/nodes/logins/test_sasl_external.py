"""Logging in with a client's certificate, at every door, with Python's own clients."""

from __future__ import annotations

import base64
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.logins.sasl import Done
from nodes.logins.sasl_external import External
from nodes.tls.certificates import CertificateAdmin
from tests.nodes.logins.test_sasl_peers import ALICE, BOB, Door
from tests.nodes.logins.test_sasl_peers import door as door
from tests.nodes.smtp.cell import ADMIN
from tests.peers import certificates
from tests.peers.certificates import Pair

STAFF, STRANGER = certificates.authority("Staff"), certificates.authority("Stranger")
KINDS = ("imaps", "pop3s", "submissions")


@pytest.fixture
def trusting(door: Door) -> Iterator[CertificateAdmin]:
    """Certificates of STAFF log in to accounts of the tenant."""
    admin = CertificateAdmin(door.cell.services)
    door.cell.call(admin.trust("example", "staff", STAFF.pem, ADMIN))
    yield admin
    door.cell.call(admin.distrust("example", "staff", ADMIN))


class Client:
    """A connection that shows a certificate to a name of the tenant's domain."""

    def __init__(self, door: Door, folder: Path, pair: Pair | None) -> None:
        self._door = door
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(door.ca)
        self.context.check_hostname = False
        if pair is not None:
            file = folder / "client.pem"
            file.write_bytes(pair.pem + pair.key_pem)
            self.context.load_cert_chain(file)

    def offered(self) -> bool:
        """Whether IMAP lists EXTERNAL."""
        client = _Imap(self._door.port("imaps"), self.context)
        found = "AUTH=EXTERNAL" in client.capabilities
        client.shutdown()
        return found

    def log_in(self, kind: str, login: str = "") -> bool:
        """Whether EXTERNAL lets it in, as the certificate's account or as one that it names."""
        initial = base64.b64encode(login.encode()).decode() or "="
        port = self._door.port(kind)
        if kind == "imaps":
            client = _Imap(port, self.context)
            try:
                return client.authenticate("EXTERNAL", lambda _: login.encode())[0] == "OK"
            except imaplib.IMAP4.error:
                return False
            finally:
                client.shutdown()
        if kind == "pop3s":
            pop = _Pop("127.0.0.1", port, context=self.context, timeout=20)
            try:
                return pop._shortcmd(f"AUTH EXTERNAL {initial}").startswith(b"+OK")  # type: ignore[attr-defined,no-any-return]
            except poplib.error_proto:
                return False
            finally:
                pop.close()
        with _Smtp("127.0.0.1", port, context=self.context, timeout=20) as smtp:
            smtp.ehlo()
            return smtp.docmd("AUTH", f"EXTERNAL {initial}")[0] == 235


class _Imap(imaplib.IMAP4_SSL):
    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__("localhost", port, ssl_context=_named(context))


class _Pop(poplib.POP3_SSL):
    def __init__(self, host: str, port: int, *, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, context=_named(context), timeout=timeout)


class _Smtp(smtplib.SMTP_SSL):
    def __init__(self, host: str, port: int, *, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, context=_named(context), timeout=timeout)


def _named(context: ssl.SSLContext) -> ssl.SSLContext:
    """Asks for a name of the tenant, wherever it is connected to."""
    plain = context.wrap_socket
    if plain.__name__ != "named":

        def named(sock: object, *arguments: object, **more: object) -> ssl.SSLSocket:
            return plain(sock, *arguments, **(more | {"server_hostname": "mail.example.test"}))  # type: ignore[arg-type]

        context.wrap_socket = named  # type: ignore[method-assign]
    return context


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_logs_in_as_the_account_that_it_names(
    door: Door, trusting: CertificateAdmin, tmp_path: Path, kind: str
) -> None:
    client = Client(door, tmp_path, certificates.client(ALICE, STAFF))
    assert client.log_in(kind)
    assert client.log_in(kind, ALICE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_logs_in_as_nobody_else(
    door: Door, trusting: CertificateAdmin, tmp_path: Path, kind: str
) -> None:
    assert not Client(door, tmp_path, certificates.client(ALICE, STAFF)).log_in(kind, BOB)
    assert not Client(door, tmp_path, certificates.client("nobody@example.test", STAFF)).log_in(kind)


def test_external_is_offered_to_who_has_shown_a_certificate_and_to_nobody_else(
    door: Door, trusting: CertificateAdmin, tmp_path: Path
) -> None:
    assert Client(door, tmp_path, certificates.client(ALICE, STAFF)).offered()
    assert not Client(door, tmp_path, None).offered()
    assert not Client(door, tmp_path, certificates.client("alice@elsewhere.test", STAFF)).offered()
    assert not Client(door, tmp_path, None).log_in("imaps", ALICE)


def test_a_certificate_of_a_stranger_is_not_taken(door: Door, trusting: CertificateAdmin, tmp_path: Path) -> None:
    """The client is told which authorities count, and keeps its certificate; or the handshake ends."""
    client = Client(door, tmp_path, certificates.client(ALICE, STRANGER))
    with pytest.raises((ssl.SSLError, ConnectionError, imaplib.IMAP4.abort)):
        client.log_in("imaps")


def test_an_authority_that_is_trusted_no_more_logs_in_nobody(
    door: Door, trusting: CertificateAdmin, tmp_path: Path
) -> None:
    client = Client(door, tmp_path, certificates.client(ALICE, STAFF))
    assert client.log_in("imaps")
    door.cell.call(trusting.distrust("example", "staff", ADMIN))
    assert not client.log_in("imaps")


def test_a_client_whose_certificate_has_several_accounts_names_one() -> None:
    several = External(("a@example.test", "b@example.test"))
    assert not isinstance(several.step(b""), Done)
    assert isinstance(several.step(b"a@example.test"), Done)
