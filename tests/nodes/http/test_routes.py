"""Routes over the admin API and the command line of a running node: set, listed without their secrets, removed."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from actors.routes import ROUTES, SetRoute, place
from actors.runtime import Context
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.main import main
from eventlog.record import By
from nodes.delivery.transport import MailTransport
from tests.nodes.delivery.outbound import attempt, only
from tests.nodes.http.one_node import Run, refused, serving
from tests.nodes.smtp.cell import Cell
from tests.peers.smtp_peer import SmtpPeer

BY_TEST = Context(By("admin", b"", "test"), "test")


@pytest.fixture
def cell(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def mailraft(cell: layout.Cluster, *arguments: str, typed: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(main, [*arguments, "--cluster", str(cell.folder)], input=typed)
    return result.exit_code, result.output


def test_a_route_is_added_listed_and_deleted_from_the_command_line(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        host = ("--host", "smart.test", "--port", "587", "--username", "me", "--password-stdin")
        code, text = mailraft(cell, "route", "add", "default", *host, typed="s3cret\n")
        assert (code, "mail for default goes through smart.test:587" in text) == (0, True), text
        assert mailraft(cell, "route", "add", "tenant example", "--pool", "bulk")[0] == 0
        assert mailraft(cell, "route", "add", "*.Example.ORG", "--host", "192.0.2.1", "--tls", "encrypt")[0] == 0
        listed = {one["for"]: one for one in client.get("/v1/routes")["routes"]}
        assert {name: (one["host"], one["port"], one["tls"], one["pool"]) for name, one in listed.items()} == {
            "default": ("smart.test", 587, "verify", ""),
            "tenant example": ("", 0, "", "bulk"),
            "*.example.org": ("192.0.2.1", 0, "encrypt", ""),
        }
        code, text = mailraft(cell, "route", "list")
        assert (code, "smart.test:587" in text, "by MX" in text, "s3cret" in text) == (0, True, True, False)
        for what in listed:
            assert mailraft(cell, "route", "delete", what)[0] == 0
        assert "no routes" in mailraft(cell, "route", "list")[1]

    serving(run, cell, ask)


WRONG: list[dict[str, Any]] = [
    {"for": "default"},
    {"for": "default", "host": "smart.test", "tls": "sometimes"},
    {"for": "default", "host": "smart.test", "tls": "may", "username": "a", "password": "b"},
    {"for": "default", "host": "smart.test", "username": "a"},
    {"for": "default", "host": "smart.test", "port": 70_000},
    {"for": "default", "host": "smart.test", "nonsense": 1},
    {"for": "tenant nobody", "host": "smart.test"},
    {"for": "not a domain", "host": "smart.test"},
]


def test_a_route_that_can_not_be_is_refused_and_none_is_made(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        for body in WRONG:
            assert refused(lambda body=body: client.change("PUT", "/v1/routes", body)).exit_code == 1, body  # type: ignore[misc]
        assert refused(lambda: client.change("DELETE", "/v1/routes/default")).hint == "mailraft route list"
        assert client.get("/v1/routes")["routes"] == []

    serving(run, cell, ask)


def test_mail_takes_the_route_with_the_password_that_only_the_cluster_can_open(tmp_path: Path) -> None:
    with SmtpPeer({"AUTH": "235 2.7.0 Welcome"}, extensions=("AUTH PLAIN",)) as peer, Cell(tmp_path) as node:

        async def scenario() -> None:
            services = node.services
            sealed = services.directory.seal(b"s3cret", place("domain:example.test"))
            command = SetRoute("domain:example.test", "127.0.0.1", peer.port, "may", "", "me", sealed)
            await services.runtime.ask(ROUTES, command, BY_TEST)
            transport = MailTransport.of(services)
            outcome = only(await transport.send(attempt()))
            await transport.stop()
            assert (outcome.status, outcome.host) == ("delivered", "[127.0.0.1]"), outcome.text

        node.call(scenario())
        assert peer.lines[1] == f"AUTH PLAIN {base64.b64encode(bytes(1) + b'me' + bytes(1) + b's3cret').decode()}"
