"""What an operator changes holds in every worker at once: who may come in, whose a connection is, limits, certificates.

One node with two workers; each test opens clients until it has one in each of them.
"""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from chaos.cluster import Cluster
from cli.client import AdminClient
from cli.layout import load
from tests.nodes.workers.processes import holder, lives, wait_for
from tests.nodes.workers.site import ALICE, TLS, Site, message, refuses
from tests.peers import certificates

BOB, CAROL, DAVE, EVE = "bob@example.test", "carol@example.test", "dave@example.test", "eve@other.test"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("obeying") / "cluster"
    with Cluster(folder, 1, {"MAILRAFT_NODE_WORKERS": "2", "MAILRAFT_LIMITS__AUTH_DELAY_S": "0"}) as cluster:
        password = cluster.add_accounts("example", (ALICE,))
        client = AdminClient(load(folder))
        client.change("POST", "/v1/tenants", {"name": "other", "domains": ["other.test"]})
        for address in (BOB, CAROL, DAVE, EVE):
            client.change("POST", "/v1/accounts", {"address": address, "password": password})
        yield Site(cluster, password)


@pytest.fixture(scope="module")
def admin(site: Site) -> AdminClient:
    return AdminClient(load(site.cluster.folder))


def said_last(client: imaplib.IMAP4) -> bytes:
    """Of a session that is to end: what it is told."""
    said = b""
    while line := client.readline():
        said = line
    return said


def gone(client: smtplib.SMTP) -> bool:
    """Whether the server ends a session that would go on: with 421 at a command, or before it."""
    try:
        return client.noop()[0] == 421
    except (smtplib.SMTPServerDisconnected, OSError):
        return True


def refusal(site: Site, login: str, password: str = "") -> str:
    """What IMAP says to a log-in in each worker, which must be one and the same; "" where it lets in."""

    def try_it() -> imaplib.IMAP4:
        client = imaplib.IMAP4_SSL(*site.address("imaps"), timeout=20, ssl_context=TLS)
        try:
            client.login(login, password or site.password)
        except imaplib.IMAP4.error as error:
            client.said = str(error)  # type: ignore[attr-defined]
        return client

    clients = site.in_each_worker(try_it)
    said = {getattr(one, "said", "") for one in clients}
    for one in clients:
        one.shutdown()
    assert len(said) == 1
    return str(said.pop())


def test_sessions_end_in_every_worker_when_their_tenant_is_suspended_and_others_go_on(
    site: Site, admin: AdminClient
) -> None:
    theirs, ours = site.in_each_worker(partial(site.idle, EVE)), site.in_each_worker(site.idle)
    admin.change("POST", "/v1/tenants/other/suspension", {"mail": "defer", "reason": "a test"})
    assert all(said_last(client).startswith(b"* BYE") for client in theirs)
    assert "suspended" in refusal(site, EVE).lower()
    for client in site.in_each_worker(site.smtp):
        client.ehlo()
        client.mail("x@example.org")
        assert client.rcpt(EVE)[0] // 100 == 4
        client.quit()
    admin.change("DELETE", "/v1/tenants/other/suspension")
    assert refusal(site, EVE) == ""
    for client in ours:
        client.send(b"DONE\r\n")
        assert client.readline().startswith(b"i OK")
        client.shutdown()


@pytest.mark.parametrize(
    ("address", "end"),
    [
        (BOB, lambda admin: admin.change("PATCH", f"/v1/accounts/{BOB}/state", {"disabled": True})),
        (CAROL, lambda admin: admin.change("DELETE", f"/v1/accounts/{CAROL}")),
    ],
)
def test_sessions_end_in_every_worker_when_their_account_is_disabled_or_deleted(
    site: Site, admin: AdminClient, address: str, end: Callable[[AdminClient], object]
) -> None:
    idle = site.in_each_worker(partial(site.idle, address))
    submitting = site.in_each_worker(site.submission)
    for client in submitting:
        client.login(address, site.password)
    end(admin)
    assert all(said_last(client).startswith(b"* BYE") for client in idle)
    assert [gone(client) for client in submitting] == [True, True]
    assert refusal(site, address)


def test_a_password_that_is_taken_away_lets_nobody_in_at_any_worker_from_then_on(
    site: Site, admin: AdminClient
) -> None:
    made = admin.change("POST", f"/v1/accounts/{DAVE}/app-passwords", {"name": "phone", "scopes": ["imap"]})
    assert refusal(site, DAVE, made["password"]) == ""
    assert refusal(site, DAVE) == ""
    admin.change("DELETE", f"/v1/accounts/{DAVE}/app-passwords/phone")
    assert refusal(site, DAVE, made["password"])
    admin.change("PUT", f"/v1/accounts/{DAVE}/password", {"password": "another password"})
    assert refusal(site, DAVE)
    assert refusal(site, DAVE, "another password") == ""


def test_a_tenants_listener_and_names_let_its_accounts_alone_in_at_every_worker(site: Site, admin: AdminClient) -> None:
    def pop3_lets_in(login: str) -> set[bool]:
        def try_it() -> poplib.POP3:
            client = poplib.POP3_SSL(*site.address("pop3s"), timeout=20, context=TLS)
            client.user(login)
            try:
                client.pass_(site.password)
            except poplib.error_proto:
                client.refused = True  # type: ignore[attr-defined]
            return client

        clients = site.in_each_worker(try_it)
        for one in clients:
            one.close()
        return {not hasattr(one, "refused") for one in clients}

    def imap_at(host: str, login: str) -> set[bool]:
        def try_it() -> imaplib.IMAP4:
            client = NamedImap(host, site.address("imaps"))
            try:
                client.login(login, site.password)
            except imaplib.IMAP4.error:
                client.refused = True  # type: ignore[attr-defined]
            return client

        clients = site.in_each_worker(try_it)
        for one in clients:
            one.shutdown()
        return {not hasattr(one, "refused") for one in clients}

    site.configure("tenants", pop3s="other")
    wait_for(lambda: pop3_lets_in(ALICE) == {False})
    assert pop3_lets_in(EVE) == {True}
    site.configure("tenants", pop3s=None)
    admin.change("PUT", "/v1/tenants/other/policy", {"set": {"own_names": "on"}})
    assert imap_at("imap.other.test", ALICE) == {False}
    assert imap_at("imap.other.test", EVE) == {True}
    assert imap_at("mail.hosting.test", ALICE) == {True}


class NamedImap(imaplib.IMAP4):
    """Asks for a host name in TLS, wherever it connects to."""

    def __init__(self, server_name: str, address: tuple[str, int]) -> None:
        self.server_name = server_name
        super().__init__(*address, timeout=20)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        plain = socket.create_connection((self.host, self.port), timeout)
        return TLS.wrap_socket(plain, server_hostname=self.server_name)


def test_certificates_of_the_log_and_of_files_change_in_every_worker_under_clients_that_idle(
    site: Site, admin: AdminClient
) -> None:
    def shown(name: str) -> set[bytes]:
        clients = site.in_each_worker(lambda: NamedImap(name, site.address("imaps")))
        found = {client.sock.getpeercert(binary_form=True) for client in clients}
        for client in clients:
            client.shutdown()
        return found

    idle = site.in_each_worker(site.idle)
    root, folder = certificates.authority("Root"), site.cluster.folder / "n1"
    for _ in range(2):
        pair = certificates.server("mail.example.test", issuer=root)
        chain = {"chain": (pair.pem + root.pem).decode(), "key": pair.key_pem.decode(), "names": []}
        admin.change("POST", "/v1/certificates", chain)
        assert shown("mail.example.test") == {pair.der}
    server = certificates.server("any.test")
    (folder / "server.key").write_bytes(server.key_pem)
    (folder / "server.pem").write_bytes(server.pem)
    before = shown("unknown.test")
    site.cluster.command("cluster", "renew", str(site.cluster.folder))
    site.cluster.command("node", "reload")
    wait_for(lambda: len(now := shown("unknown.test")) == 1 and now != before)
    with site.smtp() as client:
        client.sendmail("x@example.org", [ALICE], message("under-idle"))
    for reader in idle:
        assert reader.readline().endswith(b" EXISTS\r\n")
        reader.shutdown()


def test_a_rate_is_one_for_all_workers(site: Site) -> None:
    def taken(client: smtplib.SMTP_SSL, most: int) -> int:
        for number in range(most):
            try:
                client.sendmail(DAVE, [ALICE], message("rated"))
            except smtplib.SMTPException as refused:
                return number if "of this account for now" in str(refused) else -1
        return most

    def logged_in() -> smtplib.SMTP_SSL:
        client = site.submission()
        client.login(DAVE, "another password")
        return client

    site.configure("policy", account_messages_per_hour=8)
    first, second = site.in_each_worker(logged_in)
    assert taken(first, 5) == 5
    assert taken(second, 9) == 3
    assert taken(first, 9) == 0
    site.configure("policy", account_messages_per_hour=0)
    for client in (first, second):
        client.quit()


def test_a_node_is_drained_when_the_clients_of_all_its_workers_have_gone(site: Site, admin: AdminClient) -> None:
    pid, workers = site.pid, site.workers
    readers = site.in_each_worker(site.imap)
    wait_for(lambda: admin.status(admin.cluster.nodes[0])["connections"] == 2)
    assert admin.change("POST", "/v1/drain", {"timeout_s": 60})["connections"] == 2
    wait_for(lambda: refuses(site.address("smtp")))
    for reader in readers:
        assert reader.append("INBOX", "", "", message("while draining").encode())[0] == "OK"
        assert holder(reader.sock, workers)
    readers[0].logout()
    assert lives(pid)
    assert readers[1].noop()[0] == "OK"
    readers[1].logout()
    wait_for(lambda: not any(map(lives, [pid, *workers])))
    wait_for(lambda: site.cluster.status().all_ready and site.pid != pid)
    assert site.subjects().count("while") == 2
