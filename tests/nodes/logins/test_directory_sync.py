"""Accounts as a real OpenLDAP has them: `mailraft directory sync` on a running node."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import layout
from cli.client import AdminClient
from cli.main import main
from nodes.config.ldap import LdapDirectory
from nodes.logins.ldap_directory import Directory, DirectoryAway
from nodes.logins.ldap_listing import Entry, listed
from tests.nodes.http.one_node import cell as cell
from tests.nodes.http.one_node import refused, serving
from tests.peers.slapd import BASE, SERVICE, Slapd, slapd

Run = Callable[[Coroutine[Any, Any, Any]], Any]
USERS = {
    "alice": ("alice@example.test", "secret of alice"),
    "bob": ("Bob@example.test", "secret of bob"),
    "carol": ("carol@elsewhere.test", "secret of carol"),
    **{f"twin{number}": ("twins@example.test", "x") for number in (1, 2)},
}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd(tmp_path_factory.mktemp("slapd"), USERS) as running:
        yield running


def section(server: Slapd) -> dict[str, str]:
    return {
        **{"url": server.ldaps_url, "domains": "example.test", "ca_file": str(server.ca), "base": BASE},
        **{"bind_dn": SERVICE, "bind_password": f"file:{server.password_file}"},
        **{"disabled_filter": "(employeeType=left)", "quota_attribute": "employeeNumber"},
    }


def configured(cell: layout.Cluster, server: Slapd) -> layout.Cluster:
    """The node's file names the directory."""
    (node,) = cell.nodes
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in section(server).items())
    node.config.write_text(node.config.read_text() + f"\n[ldap]\n{lines}")
    return cell


def synced(client: AdminClient, **body: Any) -> list[tuple[str, str, str]]:
    found = client.change("POST", "/v1/directory/sync", body)["differences"]
    return [(one["address"], one["change"], one["outcome"]) for one in found]


def state_of(client: AdminClient, address: str) -> tuple[str, str]:
    found = client.get(f"/v1/accounts/{address}/state")
    return found["state"], found["reason"]


def addresses(client: AdminClient) -> set[str]:
    return {one["address"] for one in client.get("/v1/accounts")["accounts"]}


def test_accounts_follow_the_directory_and_the_log_says_so(run: Run, cell: layout.Cluster, server: Slapd) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        for name in ("old", "closed"):
            client.change("POST", "/v1/accounts", {"address": f"{name}@example.test", "password": "correct horse"})
        client.change("PATCH", "/v1/accounts/closed@example.test/state", {"disabled": True, "reason": "by hand"})
        server.add("closed", mail="closed@example.test")
        server.change("alice", employeeNumber="1048576")
        expected = [
            ("alice@example.test", "create"),
            ("bob@example.test", "create"),
            ("old@example.test", "suspend"),
            ("twins@example.test", "conflict"),
        ]
        before = addresses(client)
        assert synced(client, dry_run=True) == [(*one, "planned") for one in expected]
        assert addresses(client) == before
        assert "1 accounts would be suspended" in str(refused(partial(synced, client, most_suspended=0)))
        assert addresses(client) == before  # nothing is half done
        assert synced(client, mail="refuse") == [
            (*one, "refused" if one[1] == "conflict" else "done") for one in expected
        ]
        assert addresses(client) == before | {"alice@example.test", "bob@example.test"}
        assert client.get("/v1/accounts/alice@example.test")["quota_bytes"] == 1 << 20
        assert state_of(client, "old@example.test") == ("disabled", "directory: not in it")
        assert state_of(client, "closed@example.test") == ("disabled", "by hand")
        (added,) = (one for one in client.get("/v1/log?last=60")["records"] if "bob@" in json.dumps(one))
        assert added["cause"].startswith("POST /v1/directory/sync session ")
        assert added["by"]["kind"] == "admin"
        assert synced(client) == [("twins@example.test", "conflict", "refused")]

        server.add("old", mail="old@example.test")
        server.change("bob", employeeType="left")
        server.change("alice", employeeNumber="2097152")
        server.remove("twin2")
        assert synced(client) == [
            ("alice@example.test", "quota", "done"),
            ("bob@example.test", "suspend", "done"),
            ("old@example.test", "resume", "done"),
            ("twins@example.test", "create", "done"),
        ]
        assert state_of(client, "old@example.test")[0] == "open"
        assert state_of(client, "bob@example.test") == ("disabled", "directory: disabled there")
        assert synced(client) == []

        server.stop()
        assert "localhost" in str(refused(partial(synced, client)))
        assert state_of(client, "alice@example.test")[0] == "open"
        server.start()

    serving(run, configured(cell, server), ask)


def test_the_command_shows_a_table_or_json_and_fails_where_something_could_not_be_done(
    run: Run, cell: layout.Cluster, server: Slapd
) -> None:
    def ask(client: AdminClient) -> None:
        client.change("POST", "/v1/tenants", {"name": "example", "domains": ["example.test"]})
        command = ["directory", "sync", "--cluster", str(cell.folder)]
        planned = CliRunner().invoke(main, [*command, "--dry-run"])
        assert planned.exit_code == 0, planned.output
        assert "alice@example.test" in planned.output
        assert "planned" in planned.output
        done = CliRunner().invoke(main, [*command, "--json"])
        assert done.exit_code == 1
        found = json.loads(done.stdout)
        assert [one["change"] for one in found["differences"]] == ["create", "create", "conflict"]
        assert found["entries"] == 4

    serving(run, configured(cell, server), ask)


def test_a_node_without_a_directory_says_so(run: Run, cell: layout.Cluster) -> None:
    serving(run, cell, lambda client: check_none(client))


def check_none(client: AdminClient) -> None:
    assert "no directory is configured" in str(refused(partial(synced, client)))


def test_a_listing_is_whole_however_long_and_one_that_is_cut_short_is_none(server: Slapd, tmp_path: Path) -> None:
    config = LdapDirectory.model_validate({**section(server), "domains": ["example.test"]})
    for number in range(600):
        server.add(f"u{number}", mail=f"u{number}@example.test")
    found = listed(Directory(config), config)
    assert len(found) == 604
    assert Entry("u599@example.test", False, None) in found
    assert Entry("bob@example.test", False, None) in found
    server.limit_answers(100)
    with pytest.raises(DirectoryAway, match="can not be listed"):
        listed(Directory(config), config)
