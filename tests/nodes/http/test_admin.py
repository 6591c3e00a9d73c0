"""The admin API of one node: who may in, what it answers, and that its errors say what to do."""

import datetime
import smtplib
import socket
import ssl
from typing import Any

import pytest
import structlog

from actors.errors import NameTaken, NoSuchAccount
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from eventlog.errors import OutcomeUnknown, Rejected
from nodes.config import sources as config_sources
from nodes.config.node import split_address
from nodes.http.errors import of_exception
from nodes.tls import contexts as tls
from tests.nodes.http.one_node import Run, refused, serving
from tests.nodes.http.one_node import cell as cell


def test_tenants_accounts_and_aliases_come_and_go(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["Example.TEST"]})
        made = client.change("POST", "/v1/accounts", {"address": "Alice@example.test", "password": "password 1"})
        assert made["address"] == "alice@example.test"
        client.change("POST", "/v1/aliases", {"address": "info@example.test", "targets": ["alice@example.test"]})
        tenants = client.get("/v1/tenants")["tenants"]
        assert [(one["name"], one["domains"], one["accounts"]) for one in tenants] == [("example", ["example.test"], 2)]
        accounts = client.get("/v1/accounts")["accounts"]
        assert [(one["address"], one["has_password"]) for one in accounts] == [
            ("postmaster@example.test", False),
            ("alice@example.test", True),
        ]
        assert client.get("/v1/aliases")["aliases"][0]["targets"] == ["alice@example.test"]
        assert (
            client.change("POST", "/v1/tenants/example/domains", {"domain": "Second.test"})["domain"] == "second.test"
        )
        client.change("POST", "/v1/accounts", {"address": "alice@second.test", "password": "password 1"})
        client.change("DELETE", "/v1/accounts/alice@second.test")
        client.change("PUT", "/v1/accounts/alice@example.test/password", {"password": "password 2"})
        client.change("DELETE", "/v1/aliases/info@example.test")
        client.change("DELETE", "/v1/accounts/alice@example.test")
        assert len(client.get("/v1/accounts?tenant=example")["accounts"]) == 2  # the postmasters
        assert client.get("/v1/aliases")["aliases"] == []
        assert client.get("/v1/queue")["items"] == []

    serving(run, cell, ask)


def test_the_log_is_read_by_position_and_never_shows_a_sealed_secret(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": "alice@example.test", "password": "password 1"})
        tail = client.get("/v1/log?last=1")
        shown = client.get(f"/v1/log/{tail['position']}")
        assert shown == tail["records"][0]
        assert (shown["outcome"], shown["by"]["kind"]) == ("committed", "admin")
        password = next(event for event in shown["events"] if event["type"] == "PasswordSet")
        assert password["data"]["sealed"] == "(sealed)"
        after = client.get(f"/v1/log?after={tail['position']}&wait_s=1")
        assert (after["records"], after["position"]) == ([], tail["position"])
        missing = refused(lambda: client.get("/v1/log/999"))
        assert "the log has no position 999" in str(missing)
        assert missing.hint == f"the log goes from 1 to {tail['position']}"

    serving(run, cell, ask)


def test_proof_and_refold_report_progress_and_a_result(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        *progress, verified = client.stream("/v1/log/verify")
        assert progress[-1]["progress"][0] == progress[-1]["progress"][1]
        assert verified["result"]["ok"] is True
        assert len(verified["result"]["head"]) == 64
        *_, rebuilt = client.stream("/v1/log/rebuild")
        assert rebuilt["result"]["equal"] is True
        assert rebuilt["result"]["events"] >= 5

    serving(run, cell, ask)


def test_a_mailbox_is_shown_now_and_as_it_was(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        now = client.get("/v1/mailboxes/postmaster@example.test")["folders"]
        assert [folder["name"] for folder in now] == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
        assert set(now[0]) == {"name", "uidvalidity", "uidnext", "highestmodseq", "messages"}
        early = refused(lambda: client.get("/v1/mailboxes/postmaster@example.test?position=1"))
        assert str(early) == "there was no account postmaster@example.test then"
        assert client.get("/v1/mailboxes/postmaster@example.test?position=4")["folders"] == now
        missing = refused(lambda: client.get("/v1/mailboxes/bob@example.test"))
        assert (str(missing), missing.hint) == ("there is no account bob@example.test", "mailraft account list")
        refused(lambda: client.get("/v1/mailboxes/postmaster@example.test?position=1&at_ms=1"))

    serving(run, cell, ask)


def test_an_event_names_the_address_that_it_is_about_and_shows_trace_headers_as_text(
    run: Run, cell: layout.Cluster
) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": "alice@example.test", "password": "password 1"})
        host, port = split_address(cell.nodes[0].addresses["smtp"])
        with smtplib.SMTP(host, port, timeout=10) as smtp:
            smtp.sendmail("bob@sender.test", ["alice@example.test"], "Subject: one\r\n\r\nbody\r\n")
        delivery = client.get("/v1/log?last=1")["records"][0]["events"][0]
        client.change("PUT", "/v1/accounts/alice@example.test/password", {"password": "password 2"})
        client.change("DELETE", "/v1/accounts/alice@example.test")
        records = client.get("/v1/log?last=1000")["records"]
        events = [event for record in records if record["kind"] == "record" for event in record["events"]]
        events = [event for event in events if event["type"] != "RequestCarriedOut"]
        found = [(event["type"], event["address"]) for event in events if event["address"] != "postmaster@example.test"]
        assert found[:2] == [("FeatureLevelRaised", None), ("MembersChanged", None)]
        assert found[2:] == [
            *(("NameClaimed", None), ("TenantRegistered", None), ("TenantCreated", None), ("UsageCounted", None)),
            ("NameClaimed", None),
            *(("DomainAdded", None), ("NameClaimed", None), ("NameClaimed", None)),
            *(("AccountAdded", "alice@example.test"), ("MailboxOpened", "alice@example.test")),
            *(("PasswordSet", "alice@example.test"), ("MessageDelivered", "alice@example.test")),
            *(("PasswordSet", "alice@example.test"), ("MessagesExpunged", "alice@example.test")),
            *(("MailboxClosed", "alice@example.test"), ("AccountDeleted", "alice@example.test")),
            ("NameReleased", None),
        ]
        assert delivery["address"] == "alice@example.test"  # and it is not in the data: looked up by its stream
        assert delivery["data"]["trace"].startswith("Return-Path: <bob@sender.test>\r\nReceived: from ")
        assert f" id {delivery['data']['message_id']}" in delivery["data"]["trace"]

    serving(run, cell, ask)


def position_of(client: AdminClient) -> int:
    return int(client.get("/v1/log?last=1")["position"])


def test_an_address_means_the_account_that_held_it_then(run: Run, cell: layout.Cluster) -> None:
    """Alice is deleted, her address is an alias for a while, then another account: each is found at its own time."""

    def ask(client: AdminClient) -> None:
        shown = "/v1/mailboxes/Alice@example.test?"
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        account = {"address": "alice@example.test", "password": "password 1"}
        client.change("POST", "/v1/accounts", account)
        host, port = split_address(cell.nodes[0].addresses["smtp"])
        with smtplib.SMTP(host, port, timeout=10) as smtp:
            smtp.sendmail("bob@sender.test", ["alice@example.test"], "Subject: one\r\n\r\nbody\r\n")
        first, first_ms = position_of(client), client.get("/v1/log?last=1")["records"][0]["at"]
        old = client.get("/v1/mailboxes/alice@example.test")["folders"]
        client.change("DELETE", "/v1/accounts/alice@example.test")
        gone = position_of(client)
        assert client.get(f"{shown}position={first}")["folders"] == old
        at_ms = int(datetime.datetime.fromisoformat(first_ms).timestamp() * 1000)
        assert client.get(f"{shown}at_ms={at_ms}")["folders"] == old
        assert str(refused(lambda: client.get(f"{shown}position={gone}"))).startswith("there was no account alice@")
        client.change("POST", "/v1/aliases", {"address": "alice@example.test", "targets": ["postmaster@example.test"]})
        alias = position_of(client)
        client.change("DELETE", "/v1/aliases/alice@example.test")
        client.change("POST", "/v1/accounts", account)
        assert "was an alias then" in str(refused(lambda: client.get(f"{shown}position={alias}")))
        assert client.get(f"{shown}position={first}")["folders"] == old
        now = client.get("/v1/mailboxes/alice@example.test")["folders"]
        assert now != old
        assert client.get(f"{shown}position={position_of(client)}")["folders"] == now

    serving(run, cell, ask)


@pytest.mark.parametrize("position", [0, 999999])
def test_a_position_that_the_log_does_not_have_is_no_moment(run: Run, cell: layout.Cluster, position: int) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        for path in (f"/v1/mailboxes/postmaster@example.test?position={position}", f"/v1/log/{position}"):
            error = refused(lambda path=path: client.get(path))  # type: ignore[misc]
            assert str(error) == f"the log has no position {position}"
            assert error.hint == f"the log goes from 1 to {position_of(client)}"

    serving(run, cell, ask)


@pytest.mark.parametrize("path", ["POST /v1/log/verify", "GET /v1/mailboxes/postmaster@example.test?position=2"])
def test_a_client_that_goes_away_is_no_error_in_the_node_s_log(run: Run, cell: layout.Cluster, path: str) -> None:
    admin = cell.folder / "admin"
    context = tls.admin_client_context(cell.folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")

    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        address = split_address(cell.nodes[0].addresses["admin"])
        with socket.create_connection(address, timeout=5) as plain, context.wrap_socket(plain) as secure:
            secure.sendall(f"{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert list(client.stream("/v1/log/verify"))[-1]["result"]["ok"] is True  # the first is done by then, too

    with structlog.testing.capture_logs() as said:
        serving(run, cell, ask)
    assert [line for line in said if line["log_level"] in ("error", "warning")] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/tenants", {"name": "example"}, "domains: is missing"),
        ("POST", "/v1/tenants", {"name": "", "domains": ["x.test"]}, "name: must be text of at least 1 characters"),
        ("POST", "/v1/tenants", ["x"], "the body: must be an object"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "a\nb"}, "password: must not hold NUL or a line"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "x", "quota_bytes": -1}, "quota_bytes: must be"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "x"}, "b.test is not one of our domains"),
        ("POST", "/v1/tenants/nobody/domains", {"domain": "b.test"}, "there is no tenant nobody"),
        ("DELETE", "/v1/accounts/a@b.test", None, "there is no account a@b.test"),
        ("PUT", "/v1/accounts/a@b.test/quota", {}, "quota_bytes: is missing"),
        ("PUT", "/v1/accounts/a@b.test/quota", {"quota_bytes": 0}, "quota_bytes: must be above 0"),
        ("PUT", "/v1/accounts/a@b.test/quota", {"quota_bytes": 2**64}, "quota_bytes: must be"),
        ("PUT", "/v1/accounts/a@b.test/quota", {"quota_bytes": None}, "there is no account a@b.test"),
        ("POST", "/v1/aliases", {"address": "a@b.test", "targets": ["a@b.test"]}, "b.test is not one of our domains"),
        ("DELETE", "/v1/aliases/a@b.test", None, "there is no alias a@b.test"),
        ("GET", "/v1/log?last=x", None, "last: must be a whole number"),
        ("GET", "/v1/nothing", None, "GET /v1/nothing: Not Found"),
        ("PATCH", "/v1/tenants", None, "PATCH /v1/tenants: Method Not Allowed"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    run: Run, cell: layout.Cluster, method: str, path: str, body: Any, said: str
) -> None:
    def ask(client: AdminClient) -> CommandError:
        return refused(lambda: client.get(path) if method == "GET" else client.change(method, path, body))

    error = serving(run, cell, ask)
    assert said in str(error)
    assert error.exit_code == 1


def request_status(cell: layout.Cluster, context: ssl.SSLContext) -> bytes:
    """The first bytes of the answer to GET /v1/status; none where TLS refuses."""
    address = split_address(cell.nodes[0].addresses["admin"])
    try:
        with socket.create_connection(address, timeout=5) as plain, context.wrap_socket(plain) as secure:
            secure.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return secure.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_a_node_certificate_does_not_open_the_admin_api(run: Run, cell: layout.Cluster) -> None:
    node = config_sources.load(cell.nodes[0].config, {})
    context = tls.admin_client_context(node.tls.ca, node.tls.certificate, node.tls.key)
    answer = serving(run, cell, lambda _: request_status(cell, context))
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"needs an administrator's certificate" in answer


def test_an_administrator_of_another_cell_is_not_let_in(run: Run, cell: layout.Cluster, tmp_path: Any) -> None:
    other = layout.create(tmp_path / "other", 1, 20000)
    admin = other.folder / "admin"
    context = tls.admin_client_context(cell.folder / "ca" / "ca.pem", admin / "admin.pem", admin / "admin.key")
    assert serving(run, cell, lambda _: request_status(cell, context)) == b""


def test_a_client_without_certificate_and_token_is_told_what_it_needs(run: Run, cell: layout.Cluster) -> None:
    context = ssl.create_default_context(cafile=str(cell.folder / "ca" / "ca.pem"))
    context.check_hostname = False
    answer = serving(run, cell, lambda _: request_status(cell, context))
    assert answer.startswith(b"HTTP/1.1 401")
    assert b'WWW-Authenticate: Bearer realm="mailraft"' in answer
    assert b'"code": "unauthenticated"' in answer


@pytest.mark.parametrize(
    ("error", "status", "category"),
    [
        (NoSuchAccount("x"), 404, "not_found"),
        (NameTaken("x"), 409, "conflict"),
        (Rejected("disk_full"), 503, "rejected"),
        (Rejected("is_a_member", "n2 is a member"), 409, "refused"),
        (OutcomeUnknown("x"), 504, "unknown"),
    ],
)
def test_what_did_not_happen_is_told_from_what_may_have_happened(error: Exception, status: int, category: str) -> None:
    answer = of_exception(error)
    assert answer is not None
    assert (answer.status, answer.category) == (status, category)


def test_a_fault_of_our_own_is_no_answer_of_theirs() -> None:
    assert of_exception(KeyError("secret detail")) is None


def test_a_moment_beyond_the_last_date_is_refused_as_one(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": "alice@example.test", "password": "password 1"})
        place, at_ms = "/v1/mailboxes/alice@example.test", 2**63 - 2
        restored = refused(lambda: client.change("POST", f"{place}/restore", {"at_ms": at_ms, "dry_run": True}))
        shown = refused(lambda: client.get(f"{place}?at_ms={at_ms}"))
        assert ["at_ms" in str(error) for error in (restored, shown)] == [True, True], (restored, shown)

    serving(run, cell, ask)
