"""Roles and tokens: the admin API and the command line, on a running node."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from cli import layout
from cli.client import AdminClient
from cli.main import main
from cli.output import CommandError
from cli.token_client import TokenClient
from nodes.config.http import HttpSection
from nodes.http import log as log_endpoints
from nodes.http.calls import Call
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ALICE, BOB, EVE = "alice@example.test", "bob@example.test", "eve@other.test"


def with_people(client: AdminClient) -> None:
    for tenant in ("example", "other"):
        client.change("POST", "/v1/tenants", {"name": tenant, "domains": [f"{tenant}.test"]})
    for address in (ALICE, BOB, EVE):
        client.change("POST", "/v1/accounts", {"address": address, "password": "correct horse"})


def made(client: AdminClient, **body: Any) -> Any:
    return client.change("POST", "/v1/tokens", body)


def as_token(cell: layout.Cluster, token: str) -> TokenClient:
    return TokenClient.of_folder(cell, token)


def whoami(client: AdminClient) -> tuple[str, str, str | None]:
    found = client.get("/v1/whoami")
    return found["name"], found["role"], found["tenant"]


def test_a_token_says_who_one_is_and_is_shown_once(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        assert whoami(client) == ("operator", "cluster-admin", None)
        one = made(client, name="sync", tenant="example", scopes=["accounts:*"])
        assert len(one["token"]) > 60
        assert one["token"].startswith("mrt_")
        assert whoami(as_token(cell, one["token"])) == ("sync", "tenant-admin", "example")
        (listed,) = client.get("/v1/tokens")["tokens"]
        assert listed == {name: value for name, value in one.items() if name != "token"} | {
            "used_ms": listed["used_ms"]
        }
        assert listed["used_ms"] >= listed["created_ms"] - 5000
        assert one["token"][20:] not in json.dumps(client.get("/v1/log?last=20"))
        everything = made(client)
        assert whoami(as_token(cell, everything["token"])) == (everything["id"], "cluster-admin", None)
        assert len(as_token(cell, everything["token"]).get("/v1/tenants")["tenants"]) == 2

    serving(run, cell, ask)


def test_a_token_ends_when_it_is_revoked_or_expires_or_its_account_goes(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        soon = int(time.time() * 1000) + 1500
        revoked, brief, of_bob = made(client), made(client, expires_ms=soon), made(client, account=BOB)
        clients = [as_token(cell, one["token"]) for one in (revoked, brief, of_bob)]
        assert whoami(clients[2]) == (BOB, "user", "example")
        assert whoami(clients[1])[1] == "cluster-admin"
        client.change("DELETE", f"/v1/tokens/{revoked['id']}")
        client.change("DELETE", f"/v1/accounts/{BOB}")
        time.sleep(max(0.0, soon / 1000 - time.time()) + 0.05)
        for gone in clients:
            assert "the token is wrong, has expired or was revoked" in str(refused(partial(whoami, gone)))
        assert "no token" in str(refused(lambda: client.change("DELETE", f"/v1/tokens/{revoked['id']}")))
        assert "expired already" in str(refused(lambda: made(client, expires_ms=1)))

    serving(run, cell, ask)


@pytest.mark.parametrize("change", ["", "mrt_", "mrt_" + "A" * 75, "Basic", "cut", "flipped", "elsewhere"])
def test_what_is_no_token_of_this_cell_lets_nobody_in(run: Run, cell: layout.Cluster, change: str) -> None:
    def ask(client: AdminClient) -> None:
        token = made(client)["token"]
        flipped = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
        wrong = {"cut": token[:-1], "flipped": flipped, "elsewhere": "mrt_" + "B" * 22 + token[26:]}.get(change, change)
        assert refused(partial(whoami, as_token(cell, wrong))).exit_code == 1
        assert whoami(as_token(cell, token))[1] == "cluster-admin"

    serving(run, cell, ask)


def test_an_accounts_token_has_the_role_that_it_has_at_the_moment(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        alice = as_token(cell, made(client, account=ALICE)["token"])
        assert whoami(alice) == (ALICE, "user", "example")
        client.change("PUT", "/v1/roles", {"address": ALICE, "role": "tenant-admin"})
        assert whoami(alice) == (ALICE, "tenant-admin", "example")
        client.change("PUT", "/v1/roles", {"address": ALICE, "role": "cluster-admin", "cluster": True})
        assert whoami(alice) == (ALICE, "tenant-admin", "example")  # a token of the tenant stays one
        wide = as_token(cell, made(client, account=ALICE, cluster=True)["token"])
        assert whoami(wide) == (ALICE, "cluster-admin", None)
        client.change("DELETE", f"/v1/roles?address={ALICE}&cluster=true")
        client.change("DELETE", f"/v1/roles?address={ALICE}")
        assert whoami(alice) == (ALICE, "user", "example")
        assert "token is wrong" in str(refused(partial(whoami, wide)))
        assert client.get("/v1/roles")["roles"] == []

    serving(run, cell, ask)


def test_a_tenants_administrator_gives_roles_and_tokens_of_the_tenant_and_no_more(
    run: Run, cell: layout.Cluster
) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        client.change("PUT", "/v1/roles", {"address": ALICE, "role": "tenant-admin"})
        of_other = made(client, tenant="other", name="others")
        alice = as_token(cell, made(client, account=ALICE)["token"])
        alice.change("PUT", "/v1/roles", {"address": BOB, "role": "auditor"})
        assert [(one["holder"], one["role"]) for one in alice.get("/v1/roles")["roles"]] == [
            (ALICE, "tenant-admin"),
            (BOB, "auditor"),
        ]
        bob = as_token(cell, made(alice, account=BOB)["token"])
        assert whoami(bob) == (BOB, "auditor", "example")
        assert {one["tenant"] for one in alice.get("/v1/tokens")["tokens"]} == {"example"}
        assert "no account" in str(refused(lambda: made(alice, account=EVE)))
        assert "no account" in str(refused(lambda: made(alice, account="nobody@other.test")))
        assert "no tenant" in str(refused(lambda: made(alice, tenant="other")))
        assert "no tenant" in str(refused(lambda: made(alice, tenant="nowhere")))
        assert f"no token {of_other['id']}" in str(
            refused(lambda: alice.change("DELETE", f"/v1/tokens/{of_other['id']}"))
        )
        wide = {"address": BOB, "role": "auditor", "cluster": True}
        assert "may not: it needs" in str(refused(lambda: alice.change("PUT", "/v1/roles", wide)))
        named = {"administrator": "operator", "role": "auditor"}
        assert "may not: it needs" in str(refused(lambda: alice.change("PUT", "/v1/roles", named)))
        assert "may not: it needs" in str(refused(lambda: made(bob)))
        assert "may not: it needs" in str(
            refused(
                lambda: made(as_token(cell, made(client, tenant="other", scopes=["tokens:*"])["token"]), tenant="other")
            )
        )

    serving(run, cell, ask)


def test_a_tenants_administrator_lifts_no_limit_and_sends_no_mail_past_them(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        client.change("PUT", "/v1/roles", {"address": ALICE, "role": "tenant-admin"})
        alice = as_token(cell, made(client, account=ALICE)["token"])
        policy = "/v1/tenants/example/policy"
        client.change("PUT", policy, {"set": {"tenant_messages_per_hour": 10, "spam": "inbox"}})
        for change in ({"set": {"tenant_messages_per_hour": 0}}, {"reset": ["account_sessions"]}):
            text = str(refused(partial(alice.change, "PUT", policy, change)))
            assert "limits are set by the cluster's administrators" in text
        alice.change("PUT", policy, {})
        found = client.get(policy)["policy"]
        assert (found["tenant_messages_per_hour"]["value"], found["spam"]["is_set"]) == (10, False)
        send = f"/v1/mail?sender={ALICE}&to={EVE}"
        assert "may not: it needs" in str(refused(lambda: alice.upload(send, "n1", io.BytesIO(b"Subject: x\r\n\r\nx"))))
        client.upload(send, "n1", io.BytesIO(b"Subject: x\r\n\r\nx"))
        sent = client.get("/v1/log?last=1")["records"][0]
        assert (sent["by"]["kind"], sent["events"][0]["type"]) == ("admin", "MessageDelivered")

    serving(run, cell, ask)


def test_an_administrators_certificate_may_be_given_a_lesser_role(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        spare = as_token(cell, made(client)["token"])
        client.change("PUT", "/v1/roles", {"administrator": "operator", "role": "auditor"})
        assert whoami(client) == ("operator", "auditor", None)
        assert "auditor" in str(refused(lambda: made(client)))
        spare.change("DELETE", "/v1/roles?administrator=operator")
        assert whoami(client) == ("operator", "cluster-admin", None)

    serving(run, cell, ask)


async def endless(call: Call, *_: str) -> web.StreamResponse:
    """In place of a job: lines that do not end."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(call.request)
    for _count in range(200):
        await response.write(b'{"record": {}}\n')
        await asyncio.sleep(0.05)
    return response


@pytest.mark.parametrize("expires", [False, True], ids=["revoked", "expired"])
def test_a_long_answer_ends_with_an_error_line_when_its_token_does(
    run: Run, cell: layout.Cluster, monkeypatch: pytest.MonkeyPatch, expires: bool
) -> None:
    monkeypatch.setattr(log_endpoints, "stream_job", endless)

    def ask(client: AdminClient) -> None:
        one = made(client, expires_ms=int(time.time() * 1000) + 1000 if expires else None)
        lines = as_token(cell, one["token"]).stream("/v1/log/records", body={})
        assert next(lines) == {"record": {}}
        if not expires:
            threading.Timer(0.2, client.change, ("DELETE", f"/v1/tokens/{one['id']}")).start()
        *_, last = lines
        assert last["error"]["category"] == "unauthenticated"
        assert "revoked" in last["error"]["message"]

    serving(run, cell, ask)


def test_a_token_that_expires_makes_none_that_outlives_it(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        expires_ms = int(time.time() * 1000) + 3_600_000
        of: tuple[dict[str, Any], ...] = ({"tenant": "example"}, {"account": ALICE})
        for body in of:
            brief = as_token(cell, made(client, **body, expires_ms=expires_ms)["token"])
            assert "may not" in str(refused(partial(made, brief, **body)))
            assert "may not" in str(refused(partial(made, brief, **body, expires_ms=expires_ms + 1)))
            assert made(brief, **body, expires_ms=expires_ms)["expires_ms"] == expires_ms

    serving(run, cell, ask)


def test_one_needs_a_certificate_or_a_token(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=cell.folder / "ca" / "ca.pem")
        context.check_hostname = False
        host, _, port = cell.nodes[0].addresses["admin"].rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context)
        connection.request("GET", "/v1/accounts")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["detail"]

    status, message = serving(run, cell, ask)
    assert status == 401
    assert "certificate" in message
    assert "token" in message


def test_the_command_line_works_with_an_address_a_ca_and_a_token_alone(
    run: Run, cell: layout.Cluster, tmp_path: Path
) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        folder = ["--cluster", str(cell.folder)]
        token = _invoke("token", "create", "--tenant", "example", "--name", "ann", "--expires", "30d", *folder).stdout
        (tmp_path / "token").write_text(token)
        address, ca = cell.nodes[0].addresses["admin"], str(cell.folder / "ca" / "ca.pem")
        at = ["--ca", ca, "--token-file", str(tmp_path / "token")]
        for place in (address, f"https://{address}", f"127.0.0.1:1,{address}"):
            assert "tenant-admin" in _invoke("whoami", "--cluster", place, *at).stdout
        far = ["--cluster", address, *at]
        assert "tenant-admin" in _invoke("role", "grant", ALICE, "tenant-admin", *far).output
        assert ALICE in _invoke("role", "list", *far).stdout
        *_, last = _invoke("log", "export", *far).stdout.splitlines()
        assert "RoleGranted" in last
        assert "RoleGranted" in _invoke("log", "show", str(json.loads(last)["position"]), *far).stdout
        assert "needs log:read of the whole cluster" in _invoke("log", "verify", *far, fails=True).output
        assert "needs cluster:read of the whole cluster" in _invoke("search", "status", *far, fails=True).output
        assert (
            "needs cluster:read of the whole cluster" in _invoke("cluster", "status", *at, address, fails=True).output
        )
        (one,) = json.loads(_invoke("token", "list", "--json", *far).stdout)["tokens"]
        no_ca = ["--ca", str(tmp_path / "token"), "--token-file", str(tmp_path / "token")]
        assert "is no CA" in _invoke("whoami", "--cluster", address, *no_ca, fails=True).output
        assert "token is needed" in _invoke("whoami", "--cluster", address, "--ca", ca, fails=True).output
        assert "revoked" in _invoke("token", "revoke", one["id"], *folder).output
        assert "was revoked" in _invoke("whoami", *far, fails=True).output

    serving(run, cell, ask)


def _invoke(*arguments: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code != 0) == fails, result.output
    assert not fails or isinstance(result.exception, SystemExit | CommandError), result.output
    return result


def test_wrong_tokens_of_a_network_keep_no_good_one_waiting(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        good, wrong = as_token(cell, made(client)["token"]), as_token(cell, made(client)["token"][:-6] + "aaaaaa")
        said = {str(refused(partial(wrong.get, "/v1/whoami"))) for _ in range(HttpSection().wrong_tokens + 10)}
        assert len(said) == 2
        assert any("too many wrong tokens" in one for one in said)
        assert good.get("/v1/whoami")["role"] == "cluster-admin"

    serving(run, cell, ask)


def test_a_domain_below_anothers_is_given_to_who_says_that_it_is_meant(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        with_people(client)
        path, body = "/v1/tenants/other/domains", {"domain": "shop.example.test"}
        assert "below example.test" in str(refused(partial(client.change, "POST", path, body)))
        tenant = {"name": "third", "domains": ["third.test", "co.uk"]}
        assert "public suffix" in str(refused(partial(client.change, "POST", "/v1/tenants", tenant)))
        assert client.change("POST", path, {**body, "force": True}) == body
        (added,) = (one for one in client.get("/v1/log?last=5")["records"] if "shop.example.test" in json.dumps(one))
        assert added["cause"].endswith("forced")

    serving(run, cell, ask)


def test_a_node_joins_under_a_name_that_no_node_has(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        said = str(refused(partial(client.change, "POST", "/v1/cluster/tokens", {"name": "n1"})))
        assert "n1 is a node of this cell" in said

    serving(run, cell, ask)
