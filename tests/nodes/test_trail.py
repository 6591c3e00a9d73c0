"""One id follows a connection over IMAP, POP3 and the admin API: in each of its lines, and in each record it makes."""

from __future__ import annotations

import contextlib
import http.client
import imaplib
import io
import json
import poplib
import re
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog

from cli import layout
from cli.client import AdminClient
from nodes import logs
from nodes.addresses import split_address
from nodes.config.node import LogSection
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, PASSWORD = "alice@example.test", "correct horse"
MESSAGE = b"From: alice@example.test\r\nSubject: followed\r\n\r\nText.\r\n"
UNKNOWN = "nobody@example.test"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the node has logged so far, down to the level debug; the cell's settings do not change where to."""
    stream = io.StringIO()
    logs.configure(LogSection(format="json", level="debug"), stream)
    monkeypatch.setattr(logs, "configure", lambda _settings: None)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def records_since(client: AdminClient, position: int, *types: str) -> list[dict[str, Any]]:
    """The records after a position, once there is an event of each of the types among them."""
    deadline_s = time.monotonic() + 30
    while True:
        found = client.get(f"/v1/log?after={position}&wait_s=1")["records"]
        if set(types) <= {event["type"] for one in found for event in one["events"]}:
            return list(found)
        assert time.monotonic() < deadline_s, found


def last_position(client: AdminClient) -> int:
    return int(client.get("/v1/log?last=1")["position"])


def one_session(found: list[dict[str, Any]], doing: str) -> str:
    """The id that stands in the cause of all of them."""
    causes = {one["cause"] for one in found}
    ids = {match[1] for one in causes if (match := re.fullmatch(rf"{doing} session ([0-9a-f]{{32}})", one))}
    assert len(ids) == 1, causes
    assert all(one.endswith(next(iter(ids))) for one in causes), causes
    return ids.pop()


def of_session(lines: list[dict[str, Any]], session: str) -> list[tuple[str, str]]:
    """The event and the account of each line of the node's own that names it."""
    return [(one["event"], one.get("account", "")) for one in lines if one.get("session") == session and "node" in one]


def test_an_imap_connection_is_followed_from_its_first_command_to_its_events(
    run: Run, cell: layout.Cluster, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    def ask(client: AdminClient) -> None:
        made = with_alice(client)
        at = split_address(cell.nodes[0].addresses["imap"])
        with imaplib.IMAP4(*at, timeout=30) as reader, imaplib.IMAP4(*at, timeout=30) as other:
            with pytest.raises(imaplib.IMAP4.error):
                reader.login(UNKNOWN, PASSWORD)
            reader.xatom("ID", '("name" "follower")')
            reader.login(ALICE, made["password"])  # of an app: that it was used is an event
            other.login(ALICE, PASSWORD)
            before = last_position(client)
            assert reader.append("INBOX", "", "", MESSAGE)[0] == "OK"
            reader.select("INBOX")
            assert reader.store("1", "+FLAGS", r"(\Flagged)")[0] == "OK"
            assert reader.select("nowhere")[0] == "NO"
            mine = records_since(client, before, "MessageAppended", "FlagsChanged")
            session = one_session(mine, "imap")
            other.select("INBOX")
            other.store("1", "-FLAGS", r"(\Flagged)")
            after = last_position(client)
        assert {one["by"]["address"] for one in mine} == {ALICE}
        used = [one for one in records_since(client, made["position"], "AppPasswordUsed") if "log-in" in one["cause"]]
        assert [one["cause"] for one in used] == [f"imap log-in session {session}"]
        told = [one for one in lines() if one.get("listener") == "imap"]
        assert len({one["session"] for one in told}) == 2  # no line of theirs is without its connection's id
        assert of_session(told, session) == [
            ("login failed", ""), ("refused", ""), ("client", ""), ("logged in", ALICE), ("refused", ALICE),
        ]  # fmt: skip
        (theirs,) = records_since(client, after - 1, "FlagsChanged")
        assert one_session([theirs], "imap") != session

    serving(run, cell, ask)


def with_alice(client: AdminClient) -> dict[str, Any]:
    client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
    client.change("POST", "/v1/accounts", {"address": ALICE, "password": PASSWORD})
    path = f"/v1/accounts/{ALICE}/app-passwords"
    made = client.change("POST", path, {"name": "phone", "scopes": ["imap", "pop3"]})
    return {"password": made["password"], "position": last_position(client)}


def test_a_pop3_connection_is_followed_to_what_it_deletes(
    run: Run, cell: layout.Cluster, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    def ask(client: AdminClient) -> None:
        made = with_alice(client)
        with imaplib.IMAP4(*split_address(cell.nodes[0].addresses["imap"]), timeout=30) as writer:
            writer.login(ALICE, PASSWORD)
            writer.append("INBOX", "", "", MESSAGE)
        before = last_position(client)
        reader = poplib.POP3(*split_address(cell.nodes[0].addresses["pop3"]), timeout=30)
        reader.user(ALICE)
        with pytest.raises(poplib.error_proto):
            reader.pass_("wrong")
        reader.user(ALICE)
        reader.pass_(made["password"])
        reader.dele(1)
        reader.quit()
        mine = records_since(client, before, "MessagesExpunged", "AppPasswordUsed")
        session = one_session([one for one in mine if one["by"]["address"] == ALICE], "pop3")
        assert of_session(lines(), session) == [("login failed", ""), ("refused", "")]

    serving(run, cell, ask)


def test_a_connection_to_the_admin_api_is_followed_to_its_events(
    run: Run, cell: layout.Cluster, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    def ask(client: AdminClient) -> None:
        token = client.change("POST", "/v1/tokens", {"name": "sync"})["token"]
        before = last_position(client)
        tls = ssl.create_default_context(cafile=str(cell.folder / "ca" / "ca.pem"))
        tls.check_hostname = False  # a node's certificate says which node it is
        host, port = split_address(cell.nodes[0].addresses["admin"])
        with contextlib.closing(http.client.HTTPSConnection(host, port, timeout=30, context=tls)) as connection:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

            def asked(body: dict[str, Any]) -> dict[str, Any]:
                connection.request("POST", "/v1/tenants", json.dumps(body), headers)
                return dict(json.loads(connection.getresponse().read()))

            problem = asked({"name": "example", "domain": "misspelt.test"})
            assert asked({"name": "example", "domains": ["example.test"]})["name"] == "example"
        mine = records_since(client, before, "TenantCreated", "ApiTokenUsed")
        session = one_session(mine, r"(?:POST /v1/tenants|token)")
        assert problem["instance"] == f"urn:mailraft:session:{session}"
        assert of_session(lines(), session) == [("refused", "sync")]

    serving(run, cell, ask)
