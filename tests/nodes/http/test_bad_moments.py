"""What ends, is revoked or comes in floods while somebody is in the middle of something, on a node that runs."""

from __future__ import annotations

import base64
import http.client
import json
import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from cli.token_client import TokenClient
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving
from tests.nodes.http.test_account_state import ALICE, BOB, PASSWORD, Idling, Run, deliver, imap, place, with_people

TENANT = "/v1/tenants/example"


class Session:
    """A dialogue that is logged in; `ends` gives what is said last, before the connection is closed."""

    def __init__(self, cell: layout.Cluster, kind: str, *said: str) -> None:
        self._socket = socket.create_connection(place(cell, kind), timeout=10)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        for line in said:
            self._socket.sendall(line.encode() + b"\r\n")
            while (answer := self._file.readline())[3:4] == b"-" and not answer.startswith(b"-ERR"):
                pass
            assert answer[:1] in b"+23", answer

    def ends(self) -> str:
        return b"".join(self._file.readlines()).decode().strip()


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("suspension", {"reason": "unpaid"}, "the organisation's service is suspended"),
        ("deletion", {"grace_ms": 86_400_000}, "the organisation is being deleted"),
    ],
)
def test_every_open_session_ends_with_its_tenant(
    run: Run, cell: layout.Cluster, path: str, body: dict[str, object], text: str
) -> None:
    """IMAP in IDLE, POP3, submission; a token of the tenant's lets nobody in."""

    def ask(client: AdminClient) -> None:
        with_people(client)
        token = TokenClient.of_folder(cell, client.change("POST", "/v1/tokens", {"tenant": "example"})["token"])
        plain = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()
        submission = Session(cell, "submission", "EHLO client.test", f"AUTH PLAIN {plain}")
        pop3 = Session(cell, "pop3", f"USER {BOB}", f"PASS {PASSWORD}", "STAT")
        idling = Idling(cell)
        client.change("POST", f"{TENANT}/{path}", body)
        assert idling.ends() == f"* BYE {text}\r\n".encode()
        assert submission.ends().lower() == f"421 4.7.13 {text}"
        assert pop3.ends().lower() == f"-err [sys/perm] {text}"
        assert "token is wrong" in str(refused(lambda: token.get("/v1/whoami")))
        assert text in imap(cell)

    serving(run, cell, ask)


@contextmanager
def half_sent(cell: layout.Cluster, token: str, method: str, path: str, body: bytes) -> Iterator[Callable[[], str]]:
    """A request whose body has come to the half; the rest is sent and the answer's code given when called."""
    context = ssl.create_default_context(cafile=cell.folder / "ca" / "ca.pem")
    context.check_hostname = False
    host, port = place(cell, "admin")
    with closing(http.client.HTTPSConnection(host, port, context=context, timeout=15)) as connection:
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {token}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: len(body) // 2])

        def rest() -> str:
            connection.send(body[len(body) // 2 :])
            return str(json.loads(connection.getresponse().read()).get("code", "done"))

        yield rest


def test_what_is_sent_with_a_token_that_is_revoked_meanwhile_is_not_done(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        new = json.dumps({"address": "new@example.test", "password": PASSWORD}).encode()
        mail = f"/v1/mail?sender={ALICE}&to={BOB}"
        for method, path, body in (("POST", "/v1/accounts", new), ("PUT", mail, b"Subject: x\r\n\r\n" + b"x" * 50)):
            made = client.change("POST", "/v1/tokens", {"role": "cluster-admin"})
            with half_sent(cell, made["token"], method, path, body) as rest:
                client.change("DELETE", f"/v1/tokens/{made['id']}")
                assert rest() == "unauthenticated"
        assert "new@example.test" not in [one["address"] for one in client.pages("/v1/accounts", "accounts")]
        assert client.get(f"/v1/mailboxes/{BOB}")["folders"][0]["messages"] == []

    serving(run, cell, ask)


def answer_of(client: AdminClient) -> str:
    try:
        client.get("/v1/whoami")
    except CommandError as error:
        return str(error)
    return "in"


def test_a_flood_of_the_api_keeps_neither_mail_nor_administrators_waiting(run: Run, cell: layout.Cluster) -> None:
    """As many requests as the node works on never come to their end; who has a certificate comes in nevertheless."""
    config = cell.nodes[0].config
    config.write_text(config.read_text() + "\n[http]\nrequests = 8\nrequests_per_address = 8\nreserved_requests = 2\n")

    def ask(client: AdminClient) -> None:
        with_people(client)
        token = client.change("POST", "/v1/tokens", {"role": "auditor", "cluster": True})["token"]
        flood = TokenClient.of_folder(cell, token)
        with ExitStack() as held:
            for _ in range(8):
                held.enter_context(half_sent(cell, token, "POST", "/v1/log/records", b"{}" + b" " * 100))
            while (said := answer_of(flood)) == "in":  # the last of them may not have begun
                pass
            assert "in work" in said
            client.change("POST", "/v1/accounts", {"address": "new@example.test", "password": PASSWORD})
            assert client.get("/v1/health")["status"] == "healthy"
            assert deliver(cell).startswith("250")
            assert imap(cell) == "in"
            with smtplib.SMTP(*place(cell, "submission")) as mail:
                mail.login(ALICE, PASSWORD)
                mail.sendmail(ALICE, [BOB], f"From: {ALICE}\r\n\r\nhello\r\n")

    serving(run, cell, ask)
