"""Connections that are one tenant's: by the host name that TLS asks for, or by the listener."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from actors.passwords import PasswordActor
from cli import layout
from cli.client import AdminClient
from nodes.config.node import split_address
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, EVE, PASSWORD = "alice@example.test", "eve@other.test", "correct horse"
KINDS = ("imaps", "pop3s", "submissions")


def with_people(client: AdminClient, *bound: str) -> None:
    for tenant in ("example", "other"):
        client.change("POST", "/v1/tenants", {"name": tenant, "domains": [f"{tenant}.test"]})
    for address in (ALICE, EVE):
        client.change("POST", "/v1/accounts", {"address": address, "password": PASSWORD})
    for tenant in bound:
        client.change("PUT", f"/v1/tenants/{tenant}/policy", {"set": {"own_names": "on"}})


def log_in(cell: layout.Cluster, kind: str, host: str, login: str, password: str = PASSWORD) -> str:
    """What a client that asked for `host` is told."""
    named = _Named(ssl.PROTOCOL_TLS_CLIENT)
    named.check_hostname = False
    named.verify_mode = ssl.CERT_NONE
    named.host = host
    at = split_address(cell.nodes[0].addresses[kind])
    try:
        match kind:
            case "imaps":
                with imaplib.IMAP4_SSL(*at, ssl_context=named) as imap:
                    imap.login(login, password)
            case "pop3s":
                pop3 = poplib.POP3_SSL(*at, context=named)
                pop3.user(login)
                pop3.pass_(password)
                pop3.quit()
            case _:
                with smtplib.SMTP_SSL(*at, context=named) as smtp:
                    smtp.login(login, password)
    except (imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPAuthenticationError) as error:
        return str(error)
    return "in"


class _Named(ssl.SSLContext):
    """A context that asks for this name, wherever it connects to."""

    host = ""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*arguments, **options | {"server_hostname": self.host})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the thread that hashes was asked for, in order."""
    asked: list[str] = []
    before = PasswordActor.on_receive

    def on_receive(self: PasswordActor, message: Any) -> Any:
        asked.append(type(message).__name__)
        return before(self, message)

    monkeypatch.setattr(PasswordActor, "on_receive", on_receive)
    return asked


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenants_own_name_lets_its_accounts_alone_in(
    run: Run, cell: layout.Cluster, counted: list[str], kind: str
) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client, "example")
        enter = partial(log_in, cell, kind)
        assert enter("imap.example.test", ALICE) == "in"
        assert enter("example.test", ALICE) == "in"
        answers, work = [], []
        for login, password in ((ALICE, "wrong"), ("nobody@other.test", PASSWORD), (EVE, PASSWORD)):
            counted.clear()
            answers.append(enter("imap.example.test", login, password))
            work.append(list(counted))
        assert answers[0] == answers[1] == answers[2] != "in"
        assert work[0] == work[1] == work[2] != []
        assert enter("imap.other.test", ALICE) == "in"  # who did not ask for it has none
        assert enter("mail.hosting.test", EVE) == "in"

    serving(run, cell, ask)


@pytest.mark.parametrize("named", ["example", "nowhere"])
def test_a_listener_of_a_tenant_lets_its_accounts_alone_in(run: Run, cell: layout.Cluster, named: str) -> None:
    with cell.nodes[0].config.open("a") as file:
        file.write(f'\n[tenants]\nimaps = "{named}"\n')

    def ask(client: AdminClient) -> None:
        with_people(client)
        found = [log_in(cell, "imaps", "any.test", login) for login in (ALICE, EVE)]
        assert [one == "in" for one in found] == [named == "example", False]
        assert log_in(cell, "pop3s", "any.test", EVE) == "in"

    serving(run, cell, ask)
