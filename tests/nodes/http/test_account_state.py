"""Accounts that are disabled or expire, on a running node: every protocol's door, and sessions that are open."""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import smtplib
import socket
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner

from cli import layout
from cli.client import AdminClient
from cli.main import main
from cli.token_client import TokenClient
from nodes.config.node import split_address
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB, PASSWORD = "alice@example.test", "bob@example.test", "correct horse"
STATE = f"/v1/accounts/{ALICE}/state"


def with_people(client: AdminClient) -> None:
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    for address in (ALICE, BOB):
        client.change("POST", "/v1/accounts", {"address": address, "password": PASSWORD})


def place(cell: layout.Cluster, kind: str) -> tuple[str, int]:
    return split_address(cell.nodes[0].addresses[kind])


def imap(cell: layout.Cluster, login: str = ALICE, password: str = PASSWORD) -> str:
    with imaplib.IMAP4(*place(cell, "imap")) as client:
        try:
            client.login(login, password)
        except imaplib.IMAP4.error as error:
            return str(error)
        return "in"


def pop3(cell: layout.Cluster, login: str = ALICE, password: str = PASSWORD) -> str:
    client = poplib.POP3(*place(cell, "pop3"))
    try:
        client.user(login)
        client.pass_(password)
    except poplib.error_proto as error:
        return str(error)
    finally:
        client.close()
    return "in"


def submit(cell: layout.Cluster, login: str = ALICE, password: str = PASSWORD) -> str:
    with smtplib.SMTP(*place(cell, "submission")) as client:
        try:
            client.login(login, password)
        except smtplib.SMTPAuthenticationError as error:
            return f"{error.smtp_code} {error.smtp_error!r}"
        return "in"


def deliver(cell: layout.Cluster, to: str = ALICE) -> str:
    with smtplib.LMTP(*place(cell, "lmtp")) as client:
        client.ehlo("mx.test")
        client.docmd("MAIL FROM:<x@remote.test>")
        code, text = client.docmd(f"RCPT TO:<{to}>")
        return f"{code} {text.decode()}"


class Idling:
    """An IMAP session in IDLE, by hand."""

    def __init__(self, cell: layout.Cluster, login: str = ALICE) -> None:
        self._socket = socket.create_connection(place(cell, "imap"), timeout=10)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._socket.sendall(f'a LOGIN {login} "{PASSWORD}"\r\nb SELECT INBOX\r\nc IDLE\r\n'.encode())
        while not self._file.readline().startswith(b"+ idling"):
            pass

    def ends(self) -> bytes:
        """What is said last, before the connection is closed."""
        *_, last = self._file.readlines()
        return last

    def goes_on(self) -> bool:
        self._socket.sendall(b"DONE\r\n")
        while not (line := self._file.readline()).startswith(b"c "):
            assert line
        return line.startswith(b"c OK")


def test_a_disabled_account_is_closed_at_every_door_and_opens_again(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        token = TokenClient.of_folder(cell, client.change("POST", "/v1/tokens", {"account": ALICE})["token"])
        idling, other = Idling(cell), Idling(cell, BOB)
        client.change("PATCH", STATE, {"disabled": True, "reason": "has left"})
        assert idling.ends() == b"* BYE the account is disabled\r\n"
        assert other.goes_on()
        assert "CONTACTADMIN] the account is disabled" in imap(cell)
        assert "The account is disabled" in pop3(cell)
        assert submit(cell).startswith("535 b'5.7.13 The account is disabled")
        assert "wrong" in imap(cell, password="wrong password")
        assert "disabled" not in imap(cell, password="wrong one")
        assert "token is wrong" in str(refused(lambda: token.get("/v1/whoami")))
        shown = client.get(STATE)
        assert (shown["state"], shown["reason"], shown["mail"]) == ("disabled", "has left", "accept")
        assert deliver(cell).startswith("250")
        client.change("PATCH", STATE, {"disabled": False})
        assert [door(cell) for door in (imap, pop3, submit)] == ["in", "in", "in"]
        assert token.get("/v1/whoami")["name"] == ALICE

    serving(run, cell, ask)


def test_mail_for_a_closed_account_is_taken_put_off_or_refused_as_chosen(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        answers = []
        for mail in ("accept", "defer", "refuse"):
            client.change("PATCH", STATE, {"disabled": True, "mail": mail})
            answers.append(deliver(cell)[:9])
        assert answers == ["250 2.1.5", "450 4.2.1", "550 5.2.1"]
        assert deliver(cell, BOB).startswith("250")
        client.change("PATCH", STATE, {"disabled": False})
        assert deliver(cell).startswith("250")

    serving(run, cell, ask)


def test_an_account_that_expires_ends_its_sessions_then(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        assert deliver(cell).startswith("250")
        idling = Idling(cell)
        soon_ms = int(time.time() * 1000) + 700
        client.change("PATCH", STATE, {"expires_ms": soon_ms, "mail": "refuse"})
        assert client.get(STATE)["state"] in ("open", "expired")
        assert idling.ends() == b"* BYE the account has expired\r\n"
        assert time.time() * 1000 >= soon_ms
        assert "has expired" in imap(cell)
        assert deliver(cell).startswith("550 5.2.1")
        client.change("PATCH", STATE, {"expires_ms": 0})
        assert imap(cell) == "in"

    serving(run, cell, ask)


def test_sessions_of_an_account_that_is_deleted_end(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        idling = Idling(cell)
        client.change("DELETE", f"/v1/accounts/{ALICE}")
        assert idling.ends().startswith(b"* BYE ")

    serving(run, cell, ask)


def test_a_message_that_is_under_way_when_its_account_is_disabled_is_not_sent(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        with contextlib.closing(smtplib.SMTP(*place(cell, "submission"))) as smtp:
            smtp.login(ALICE, PASSWORD)
            smtp.docmd(f"MAIL FROM:<{ALICE}>")
            smtp.docmd(f"RCPT TO:<{BOB}>")
            assert smtp.docmd("DATA")[0] == 354
            client.change("PATCH", STATE, {"disabled": True})
            smtp.send("Subject: late\r\n\r\nlate\r\n.\r\n")
            code, text = smtp.getreply()
        assert (code, text) == (550, b"5.7.13 The account is disabled")
        assert client.get(f"/v1/accounts/{BOB}")["messages"] == 0

    serving(run, cell, ask)


def test_a_password_that_must_be_changed_opens_no_mail_program_until_its_owner_has_changed_it(
    run: Run, cell: layout.Cluster
) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        app = client.change("POST", f"/v1/accounts/{ALICE}/app-passwords", {"name": "phone", "scopes": ["imap"]})
        owner = TokenClient.of_folder(cell, client.change("POST", "/v1/tokens", {"account": ALICE})["token"])
        client.change("PATCH", STATE, {"must_change_password": True})
        assert "password must be changed" in imap(cell)
        assert imap(cell, password=app["password"]) == "in"
        client.change("PUT", f"/v1/accounts/{ALICE}/password", {"password": "by the help desk"})
        assert "password must be changed" in imap(cell, password="by the help desk")
        assert "tried first" in str(
            refused(lambda: owner.change("PUT", f"/v1/accounts/{ALICE}/password", {"password": "password1"}))
        )
        owner.change("PUT", f"/v1/accounts/{ALICE}/password", {"password": "my own choice"})
        assert imap(cell, password="my own choice") == "in"
        client.change("PATCH", STATE, {"must_change_password": True})
        body = {"login": ALICE, "password": "my own choice", "client": "192.0.2.9"}
        assert "must be changed" in str(refused(lambda: client.change("POST", "/v1/login", body)))
        renewed = body | {"new_password": "another choice"}
        assert client.change("POST", "/v1/login", renewed)["address"] == ALICE
        assert imap(cell, password="another choice") == "in"
        client.change("PATCH", STATE, {"disabled": True})
        body["password"] = "another choice"
        assert "is closed" in str(refused(lambda: client.change("POST", "/v1/login", body)))

    serving(run, cell, ask)


def test_the_help_desk_lets_users_in_and_does_not_touch_those_who_may_more(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        client.change("PUT", "/v1/roles", {"address": BOB, "role": "tenant-admin"})
        token = client.change("POST", "/v1/tokens", {"tenant": "example", "role": "help-desk"})["token"]
        desk = TokenClient.of_folder(cell, token)
        desk.change("PATCH", STATE, {"disabled": True})
        desk.change("PATCH", STATE, {"disabled": False})
        desk.change("PUT", f"/v1/accounts/{ALICE}/password", {"password": "a new beginning"})
        assert imap(cell, password="a new beginning") == "in"
        path = f"/v1/accounts/{BOB}/"
        for call in (
            partial(desk.change, "PUT", path + "password", {"password": "mine now 1"}),
            partial(desk.change, "PATCH", path + "state", {"disabled": True}),
            partial(desk.change, "POST", path + "app-passwords", {"name": "x", "scopes": ["imap"]}),
        ):
            assert "needs" in str(refused(call))
        assert "accounts:write" in str(refused(lambda: desk.change("DELETE", f"/v1/accounts/{ALICE}")))

    serving(run, cell, ask)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("disable", ALICE, "--mail", "defer", "--reason", "has left"), "mail for it: defer"),
        (("enable", ALICE), "is open"),
        (("expire", ALICE, "--at", "30d"), "expires at"),
        (("expire", ALICE, "--never"), "does not expire"),
        (("require-change", ALICE), "must be changed"),
        (("require-change", ALICE, "--no-more"), "may stay"),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_the_command_line_says_what_it_did(
    run: Run, cell: layout.Cluster, arguments: tuple[str, ...], said: str
) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        result = CliRunner().invoke(main, ["account", *arguments, "--cluster", str(cell.folder)])
        assert (result.exit_code, said in result.output) == (0, True), result.output
        shown = CliRunner().invoke(main, ["account", "state", ALICE, "--cluster", str(cell.folder)])
        assert "password" in shown.output

    serving(run, cell, ask)


@pytest.mark.parametrize("role", ["user", "help-desk", "tenant-admin"])
def test_nobody_prolongs_or_opens_the_account_that_they_come_in_with(run: Run, cell: layout.Cluster, role: str) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        if role != "user":
            client.change("PUT", "/v1/roles", {"address": ALICE, "role": role})
        expires_ms = int(time.time() * 1000) + 3_600_000
        before = client.change("PATCH", STATE, {"expires_ms": expires_ms, "must_change_password": True})
        alice = TokenClient.of_folder(cell, client.change("POST", "/v1/tokens", {"account": ALICE})["token"])
        for change in ({"expires_ms": 0}, {"must_change_password": False}, {"disabled": False}, {"disabled": True}):
            assert "nobody" in str(refused(partial(alice.change, "PATCH", STATE, change)))
        assert client.get(STATE) == before

    serving(run, cell, ask)
