"""The admin API of one node: who may in, what it answers, and that its errors say what to do."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from actors.errors import NameTaken, NoSuchAccount
from chaos.cluster import free_base_port
from cli import layout
from cli.client import AdminClient
from cli.output import CommandError
from eventlog.errors import OutcomeUnknown, Rejected
from nodes import config_sources, tls
from nodes.config import split_address
from nodes.http.errors import of_exception
from nodes.server import Node

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def cell(tmp_path: Any) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def serving(run: Run, cell: layout.Cluster, ask: Callable[[AdminClient], Any]) -> Any:
    """What `ask` gives, called in a thread while the cell's node runs on this thread's loop."""

    async def session() -> Any:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            return await asyncio.to_thread(ask, AdminClient(cell))

    return run(session())


def refused(call: Callable[[], Any]) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call()
    return caught.value


def test_tenants_accounts_and_aliases_come_and_go(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["Example.TEST"]})
        made = client.change("POST", "/v1/accounts", {"address": "Alice@example.test", "password": "pw-1"})
        assert made["address"] == "alice@example.test"
        client.change("POST", "/v1/aliases", {"address": "info@example.test", "targets": ["alice@example.test"]})
        tenants = client.get("/v1/tenants")["tenants"]
        assert [(one["name"], one["domains"], one["accounts"]) for one in tenants] == [("example", ["example.test"], 2)]
        accounts = client.get("/v1/accounts")["accounts"]
        assert [(one["address"], one["has_password"]) for one in accounts] == [
            ("alice@example.test", True),
            ("postmaster@example.test", False),
        ]
        assert client.get("/v1/aliases")["aliases"][0]["targets"] == ["alice@example.test"]
        assert (
            client.change("POST", "/v1/tenants/example/domains", {"domain": "Second.test"})["domain"] == "second.test"
        )
        client.change("POST", "/v1/accounts", {"address": "alice@second.test", "password": "pw-1"})
        client.change("DELETE", "/v1/accounts/alice@second.test")
        client.change("PUT", "/v1/accounts/alice@example.test/password", {"password": "pw-2"})
        client.change("DELETE", "/v1/aliases/info@example.test")
        client.change("DELETE", "/v1/accounts/alice@example.test")
        assert len(client.get("/v1/accounts?tenant=example")["accounts"]) == 2  # the postmasters
        assert client.get("/v1/aliases")["aliases"] == []
        assert client.get("/v1/queue")["items"] == []

    serving(run, cell, ask)


def test_the_log_is_read_by_position_and_never_shows_a_sealed_secret(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        client.change("POST", "/v1/accounts", {"address": "alice@example.test", "password": "pw-1"})
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
        assert client.get("/v1/mailboxes/postmaster@example.test?position=1")["folders"] == []
        assert client.get("/v1/mailboxes/postmaster@example.test?position=2")["folders"] == now
        missing = refused(lambda: client.get("/v1/mailboxes/bob@example.test"))
        assert (str(missing), missing.hint) == ("there is no account bob@example.test", "mailraft account list")
        refused(lambda: client.get("/v1/mailboxes/postmaster@example.test?position=1&at_ms=1"))

    serving(run, cell, ask)


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/tenants", {"name": "example"}, "domains: must be a list of texts"),
        ("POST", "/v1/tenants", {"name": "", "domains": ["x.test"]}, "name: must be text of 1 to 63 characters"),
        ("POST", "/v1/tenants", ["x"], "the body must be a JSON object"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "a\nb"}, "password: must not hold NUL or a line"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "x", "quota_bytes": -1}, "quota_bytes: must be"),
        ("POST", "/v1/accounts", {"address": "a@b.test", "password": "x"}, "b.test is not one of our domains"),
        ("POST", "/v1/tenants/nobody/domains", {"domain": "b.test"}, "there is no tenant nobody"),
        ("DELETE", "/v1/accounts/a@b.test", None, "there is no account a@b.test"),
        ("DELETE", "/v1/aliases/a@b.test", None, "there is no alias a@b.test"),
        ("GET", "/v1/log?last=x", None, "last: must be a whole number from 0 to 1000"),
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


def test_a_client_without_a_certificate_is_not_let_in(run: Run, cell: layout.Cluster) -> None:
    context = ssl.create_default_context(cafile=str(cell.folder / "ca" / "ca.pem"))
    context.check_hostname = False
    assert serving(run, cell, lambda _: request_status(cell, context)) == b""


@pytest.mark.parametrize(
    ("error", "status", "category"),
    [
        (NoSuchAccount("x"), 404, "not_found"),
        (NameTaken("x"), 409, "conflict"),
        (Rejected("disk_full"), 503, "rejected"),
        (OutcomeUnknown("x"), 504, "unknown"),
    ],
)
def test_what_did_not_happen_is_told_from_what_may_have_happened(error: Exception, status: int, category: str) -> None:
    answer = of_exception(error)
    assert answer is not None
    assert (answer.status, answer.category) == (status, category)


def test_a_fault_of_our_own_is_no_answer_of_theirs() -> None:
    assert of_exception(KeyError("secret detail")) is None
